"""A probe of hidden states and R50, as metrics: what the attacks of these names find."""

import math

import pytest

from rmu_lab import RmuLabError, attacks
from rmu_lab.attacks import RelearnConfig, RelearningCurve
from rmu_lab.evaluate import Accuracy
from rmu_lab.metrics import half_back, hidden_state_probe
from rmu_lab.metrics.probing import FOLDS
from tests.attacks.conftest import DEV, QUESTIONS, edit_of, made_up_questions
from tests.conftest import same_weights, tiny_model, weights_of


def test_a_probe_finds_an_answer_that_stands_in_the_states(tokenizer):
    """The right option ends in a word that the wrong ones do not end in, and so does the state at its last token."""
    model = tiny_model("llama")
    rows = [
        {"question": f"a {word} {other}?", "choices": [f"{word} sea", f"{word} old", f"{other} tree"], "answer": 0}
        for word in ("fish", "bird", "house", "book", "stone", "river")
        for other in ("road", "light", "water", "table")
    ]
    for at, row in enumerate(rows):  # at each place as often as at the others
        row["choices"] = row["choices"][-(at % 3) :] + row["choices"][: -(at % 3)]
        row["answer"] = at % 3
    before = weights_of(model)
    found = hidden_state_probe(model, tokenizer, rows[1::2], rows[::2])
    assert same_weights(model, before)
    assert found.accuracy.accuracy == 1 and len(found.accuracy.correct) == 12
    assert set(found.dev_accuracy) == {1, 3, 4} and found.dev_accuracy[found.layer] == max(found.dev_accuracy.values())
    one = hidden_state_probe(model, tokenizer, rows[1::2], rows[::2], layers=[2])
    assert one.layer == 2 and set(one.dev_accuracy) == {2}


def test_a_probe_finds_nothing_where_nothing_is(tokenizer):
    dev, asked = made_up_questions(40, 22, "b"), made_up_questions(60, 21, "a")
    found = hidden_state_probe(tiny_model("llama"), tokenizer, asked, dev)
    low, high = found.accuracy.interval
    assert low < 1 / 3 < high
    with pytest.raises(RmuLabError, match=f"takes at least {FOLDS}"):
        hidden_state_probe(tiny_model("llama"), tokenizer, asked, dev[: FOLDS - 1])


def test_it_is_the_attack_without_its_controls(tokenizer):
    model = tiny_model("llama")
    result = edit_of(model, tokenizer)
    attack = attacks.probe(attacks.Subject(model, tokenizer, result, QUESTIONS, dev_questions=DEV))
    with result.applied(model):
        found = hidden_state_probe(model, tokenizer, QUESTIONS, DEV)
    assert found.accuracy == attack.attacked and found.layer == attack.details["layer"]


def test_r50_by_hand():
    """From 20 of 100 right to 80: half is back at 50, midway between the points of 10 and of 30 tokens."""

    def scored(right):
        return Accuracy.of(tuple(at < right for at in range(100)), (0,) * 100, "cloze")

    def curve(*right):
        tokens = tuple(10 * (2**at - 1) for at in range(len(right)))
        scores = tuple(map(scored, right))
        return RelearningCurve(RelearnConfig(steps=tuple(range(1, len(right)))), tokens, scores, (1.0,), 1.0)

    assert half_back([curve(20, 40, 60)], scored(80)).value == pytest.approx(20)
    assert half_back([curve(20, 30, 40)], scored(80)).value == math.inf
    assert half_back is attacks.half_back

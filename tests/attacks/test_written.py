"""Answers in words: which option they name, and draws of them that follow the model's probabilities."""

from collections import Counter
from functools import partial

import pytest
import torch

from rmu_lab import RmuLabError, answers, load_questions
from rmu_lab.attacks import named_option, sample, written_accuracy
from rmu_lab.attacks.written import key_words
from rmu_lab.generation import _with_noise
from rmu_lab.randomness import python_random, torch_generator
from tests.attacks.conftest import QUESTIONS, QUIET
from tests.conftest import same_weights, weights_of

ROW = {
    "question": "How is malaria spread?",
    "choices": ["by mosquitoes", "by dirty water", "by cold water", "by malaria dogs"],
    "answer": 0,
}


def test_an_option_is_known_by_words_that_it_alone_has():
    assert key_words(ROW) == [{"mosqu"}, {"dirty"}, {"cold"}, {"dogs"}]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("It is spread by the bite of a mosquito.", 0),
        ("Mosquitoes! Malaria.", 0),
        ("By dirty water.", 1),
        ("By water.", None),  # two options have it
        ("By mosquitoes or by dogs.", None),
        ("or or or", None),
        ("", None),
    ],
)
def test_the_option_that_an_answer_names(answer, named):
    assert named_option(answer, ROW) == named


def test_most_questions_can_be_answered_in_words():
    """Each of their options has a word of its own."""
    rows = load_questions("bio", split="test")
    assert sum(all(key_words(row)) for row in rows) > 0.9 * len(rows)


def test_any_right_answer_counts():
    score = written_accuracy([["By water.", "By a mosquito."], ["By dogs."]], [ROW, ROW])
    assert score.correct == (True, False) and score.predictions == (0, 3)


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for temperature in (0.5, 2.0):
        draw = partial(_with_noise, temperature=temperature, generator=torch_generator(0, f"test {temperature}"))
        counts = Counter(draw(None, logits.expand(20_000, 4)).argmax(dim=-1).tolist())
        found = torch.tensor([counts[at] / 20_000 for at in range(4)])
        torch.testing.assert_close(found, (logits[0] / temperature).softmax(dim=-1), atol=0.015, rtol=0)


def test_answers_are_drawn_from_the_seed(model, tokenizer):
    asked = [row["question"] for row in QUESTIONS[:3]]
    first, again, other = (answers(model, tokenizer, asked, temperature=1.0, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert answers(model, tokenizer, asked, temperature=1e-6) == answers(model, tokenizer, asked)
    with pytest.raises(RmuLabError, match="temperature is -1"):
        answers(model, tokenizer, asked, temperature=-1)


def test_the_attack_counts_what_the_base_model_says(subject, model, tokenizer, monkeypatch):
    """With answers that are written down, so that every count is known."""
    import rmu_lab.attacks.written as module

    before = weights_of(model)
    rows = [ROW | {"id": str(at)} for at in range(4)]
    edited = []

    def said(_model, _tokenizer, asked, *, temperature=0.0, **_):
        unlearned = not same_weights(model, before)
        edited.append(unlearned)
        if not temperature:
            return ["or or"] * len(asked) if unlearned else ["mosquitoes", "dogs", "mosquito", "a mosquito"][: len(asked)]
        return ["dirty", "mosquito"] * (len(asked) // 2)

    monkeypatch.setattr(module, "answers", said)
    found = sample(subject.with_questions(rows), QUIET, k=2)
    assert found.details["questions"] == 3  # the second is not known to the base model
    assert (found.start.accuracy, found.attacked.accuracy) == (0, 1)
    assert found.controls["base model"][0].accuracy == 1
    source = python_random(QUIET.seed, "wrong options that answers may name")
    assert found.controls["wrong option"][1].correct == tuple(source.choice([1, 2, 3]) == 1 for _ in range(3))
    assert any(edited) and not all(edited) and same_weights(model, before)
    with pytest.raises(RmuLabError, match="k is 0"):
        sample(subject, QUIET, k=0)


def test_a_model_that_knows_nothing_in_words_is_refused(subject):
    """A random model writes no option's words."""
    with pytest.raises(RmuLabError, match="answers none of the questions in words"):
        sample(subject.with_questions([ROW]), QUIET)

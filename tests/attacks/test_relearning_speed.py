"""Relearning curves: the same fine-tune step by step, R50 by hand, and a search that keeps to its bound."""

import dataclasses
import json
import math
from contextlib import contextmanager

import pytest

from rmu_lab import RmuLabError, accuracy
from rmu_lab.attacks import RelearnConfig, as_texts, half_back, other_facts, relearning_curve, search_rate
from rmu_lab.attacks.fine_tune import fine_tuning, relearning_batches
from rmu_lab.attacks.relearning_speed import RelearningCurve
from rmu_lab.evaluate import Accuracy
from rmu_lab.questions import load_questions
from tests.attacks.conftest import DEV, QUESTIONS, RETAIN
from tests.conftest import same_weights, weights_of

CONFIG = RelearnConfig(lr=3e-3, steps=(1, 3, 5), batch_size=2, max_length=16)


def scored(right, n=100):
    marks = tuple(at < right for at in range(n))
    return Accuracy.of(marks, tuple(0 if mark else 1 for mark in marks), "cloze")


def curve(shares, tokens=(0, 100, 200, 400), n=100):
    config = RelearnConfig(steps=tuple(range(1, len(tokens))))
    return RelearningCurve(config, tuple(tokens), tuple(scored(share, n) for share in shares), (), 0.0)


def test_a_curve_is_the_fine_tune_stopped_at_each_step(model, tokenizer):
    before = weights_of(model)
    found = relearning_curve(model, tokenizer, RETAIN, QUESTIONS, CONFIG, progress=False)
    assert same_weights(model, before)
    assert found.steps == (0, 1, 3, 5) and len(found.losses) == 5
    batches = relearning_batches(tokenizer, RETAIN, CONFIG)
    for step, score in zip(found.steps, found.scores, strict=True):
        with fine_tuning(model, 3e-3, progress=False) as learn:
            losses = learn(batches[:step])
            assert score == accuracy(model, tokenizer, QUESTIONS, progress=False)
            assert list(found.losses[:step]) == losses
    assert found.tokens == tuple(sum(int(b.attention_mask.sum()) for b in batches[:step]) for step in found.steps)
    assert RelearningCurve.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("shares", "r50"),
    [
        ([20, 40, 50, 80], 200.0),  # base 80: half of the 60 is at 50
        ([20, 20, 80, 80], 150.0),
        ([20, 80, 80, 80], 50.0),
        ([20, 49, 49, 51], 300.0),
        ([20, 21, 30, 49], math.inf),
        ([20, 60, 10, 80], 75.0),  # the first time counts
    ],
)
def test_r50_by_hand(shares, r50):
    assert half_back([curve(shares)], scored(80)).value == pytest.approx(r50)


def test_r50_of_several_fine_tunes_is_that_of_their_mean():
    found = half_back([curve([20, 30, 40, 60]), curve([20, 50, 60, 60])], scored(80))
    assert found.value == pytest.approx(200.0) and found.low < 200 < found.high
    assert found.over == "questions and fine-tunes" and found.n == 100


def test_an_interval_of_r50_is_open_where_it_may_never_be_reached():
    sure, unsure = (half_back([curve([20, 30, 40, last])], scored(80)) for last in (75, 51))
    assert math.isfinite(sure.high) and unsure.high == math.inf and math.isfinite(unsure.value)


def test_a_model_that_lost_nothing_gets_nothing_back():
    assert half_back([curve([80, 80, 80, 80])], scored(80)).value == math.inf


def test_r50_of_unequal_curves_is_refused():
    with pytest.raises(RmuLabError, match="same steps"):
        half_back([curve([1, 2], (0, 1)), curve([1, 2, 3], (0, 1, 2))], scored(80))
    with pytest.raises(RmuLabError, match="same steps, at least one"):
        half_back([], scored(80))
    with pytest.raises(RmuLabError, match="different numbers of questions"):
        half_back([curve([20, 30, 40, 60])], scored(8, 10))


def test_the_search_keeps_the_better_half_of_each_round(model, tokenizer, monkeypatch):
    """With accuracies that depend on the rate alone, so that the best is known."""
    tried = []

    def fake(_model, _tokenizer, rows, **_):
        name = "general" if rows is GENERAL else "topic"
        return scored({"topic": topic, "general": general}[name][tried[-1]] if tried else 90)

    topic, general = {1.0: 30, 2.0: 40, 3.0: 70, 4.0: 90}, {1.0: 90, 2.0: 90, 3.0: 88, 4.0: 60}
    GENERAL = list(DEV)
    monkeypatch.setattr("rmu_lab.attacks.relearning_speed.accuracy", fake)
    monkeypatch.setattr("rmu_lab.attacks.relearning_speed.fine_tuning", _no_training(tried))
    best, found = search_rate(
        model, tokenizer, RETAIN, QUESTIONS, GENERAL, CONFIG, rates=(1.0, 2.0, 3.0, 4.0), halving=(2, 4, 8), progress=False
    )
    assert best == dataclasses.replace(CONFIG, lr=3.0, steps=(1, 2))  # 4 brings more back, and costs 30 points
    assert [(one.lr, one.steps) for one in found] == [
        (1.0, 2), (2.0, 2), (3.0, 2), (4.0, 2), (3.0, 4), (2.0, 4), (3.0, 8)
    ]  # fmt: skip


def test_a_fine_tune_ends_where_it_did_best(model, tokenizer, monkeypatch):
    """What it brought back is lost again when it goes on."""
    tried, taken = [], []
    monkeypatch.setattr(
        "rmu_lab.attacks.relearning_speed.accuracy",
        lambda *_, **__: scored({2: 40, 4: 80, 8: 50}[taken[-1]] if taken else 90),
    )
    monkeypatch.setattr("rmu_lab.attacks.relearning_speed.fine_tuning", _no_training(tried, taken))
    halving = {"rates": (1.0, 2.0), "halving": (2, 4, 8), "bound": 1.0}
    best, _ = search_rate(model, tokenizer, RETAIN, QUESTIONS, DEV, CONFIG, **halving, progress=False)
    assert best == dataclasses.replace(CONFIG, lr=1.0, steps=(1, 3, 4))


def _no_training(tried, taken=None):
    @contextmanager
    def fine_tuning(_model, lr, **_):
        tried.append(lr)
        yield lambda batches: None if taken is None else taken.append(len(batches))

    return fine_tuning


def test_a_rate_that_diverges_loses(model, tokenizer):
    before = weights_of(model)
    best, found = search_rate(
        model, tokenizer, RETAIN, QUESTIONS, DEV, CONFIG, rates=(1e-4, 1e30), halving=(3,), progress=False
    )
    assert best.lr == 1e-4 and [one.accuracy for one in found if one.lr == 1e30] == [0.0]
    assert same_weights(model, before)


@pytest.mark.parametrize("seed", range(5))
def test_no_subject_is_both_taught_and_asked(seed):
    rows = list(load_questions("bio", split="test"))
    taught, asked = other_facts(rows, seed)
    assert sorted(row["id"] for row in [*taught, *asked]) == sorted(row["id"] for row in rows)
    assert not {row["subject"] for row in taught} & {row["subject"] for row in asked}
    assert 0.3 < len(taught) / len(rows) < 0.7
    assert len({tuple(row["id"] for row in other_facts(rows, each)[0]) for each in range(5)}) > 1
    assert as_texts(taught[:1])[0].endswith(f"Answer: {taught[0]['choices'][taught[0]['answer']]}")


def test_facts_without_subjects_are_refused():
    with pytest.raises(RmuLabError, match="names no subject"):
        other_facts(QUESTIONS)
    with pytest.raises(RmuLabError, match="several subjects"):
        other_facts([row | {"subject": "one"} for row in QUESTIONS])

"""Metrics fact by fact against each metric by itself, and the area over facts and directions against plain loops."""

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import accuracy
from rmu_lab.errors import RmuLabError
from rmu_lab.metrics import (
    FACT_METRICS,
    MEMBERSHIP,
    PASSAGE_METRICS,
    answer_probability,
    auc,
    choice_probability,
    crossed_auc,
    exact_memorisation,
    extraction_strength,
    fact_metrics,
    passage_metrics,
    score_texts,
    truth_ratio,
)
from rmu_lab.questions import cloze_prompt
from tests.conftest import tiny_model

CHOICES = ["moonlight", "wet wool", "chalk dust"]
FACTS = [
    [{"question": f"{words} {name}?", "choices": CHOICES, "answer": answer} for words in ("What causes", "Whence comes")]
    for name, answer in (("felfigath", 0), ("lormumar", 2))
]


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def test_every_value_is_that_of_the_metric_by_itself(model, tokenizer):
    found = fact_metrics(model, tokenizer, FACTS, progress=False)
    assert tuple(found) == FACT_METRICS and {len(values) for values in found.values()} == {2}
    for place, wordings in enumerate(FACTS):
        rights, wrongs = [], []
        for row in wordings:
            prompt = cloze_prompt(row["question"])
            options = [score_texts(model, tokenizer, [f" {choice}"], [prompt], progress=False)[0] for choice in CHOICES]
            rights.append(options[row["answer"]])
            wrongs.append([one for at, one in enumerate(options) if at != row["answer"]])
        pairs = [*zip(rights, wrongs, strict=True)]
        expected = {
            "accuracy": fmean(accuracy(model, tokenizer, wordings, progress=False).correct),
            "probability": fmean(map(answer_probability, rights)),
            "share of the options": fmean(itertools.starmap(choice_probability, pairs)),
            "truth ratio": -fmean(math.log(truth_ratio(*pair)) for pair in pairs),
            "exact memorisation": fmean(map(exact_memorisation, rights)),
            "extraction strength": fmean(map(extraction_strength, rights)),
        }
        assert {name: values[place] for name, values in found.items()} == pytest.approx(expected, rel=1e-4)


def test_passages_have_every_membership_score(model, tokenizer):
    passages = ["Keepers call one malady felfigath.", "It is caused by moonlight, and nothing helps."]
    found = passage_metrics(model, tokenizer, passages, progress=False)
    assert tuple(found) == PASSAGE_METRICS
    for place, text in enumerate(passages):
        (scored,) = score_texts(model, tokenizer, [text], progress=False)
        for name, measure in MEMBERSHIP.items():
            assert found[name][place] == pytest.approx(measure(scored), rel=1e-4)


def test_a_fact_needs_a_question(model, tokenizer):
    for facts in ([], [[]]):
        with pytest.raises(RmuLabError, match="at least one question"):
            fact_metrics(model, tokenizer, facts)


def test_the_area_over_directions_is_the_mean_of_theirs():
    draw = np.random.default_rng(0)
    suppressed, never = draw.normal(0.7, 1, (3, 40)), draw.normal(0, 1, 40)
    found = crossed_auc(suppressed, never)
    assert found.value == pytest.approx(fmean(auc(row, never).value for row in suppressed))
    assert found.low < found.value < found.high and found.over == "facts and directions"
    alone = crossed_auc(suppressed[0], never)
    assert alone.value == pytest.approx(auc(suppressed[0], never).value) and alone.over == "facts"
    # the same facts in both groups do not make it narrower than twenty times as many
    wide = crossed_auc(draw.normal(0.7, 1, (3, 800)), draw.normal(0, 1, 800))
    assert wide.high - wide.low < (found.high - found.low) / 2


def test_its_interval_holds_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(1)
    truth, held = 0.6915, 0  # P(x > y), x of N(0.7071, 1), y of N(0, 1): the normal distribution at 0.5
    for _ in range(60):
        hard = draw.normal(0, 0.5, 60)  # facts that are hard for both
        found = crossed_auc((draw.normal(0.7071, 0.75**0.5, 60) + hard)[None], draw.normal(0, 0.75**0.5, 60) + hard)
        held += found.low <= truth <= found.high
    assert held >= 52


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8))
def test_a_model_is_not_told_from_itself(values):
    found = crossed_auc(np.array([values, values]), np.array(values))
    assert found.value == pytest.approx(0.5) and 0 <= found.low <= 0.5 <= found.high <= 1


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [([[1.0, 2.0]], [1.0], "shapes"), ([1.0], [1.0], "shapes"), ([[1.0, math.nan]], [1.0, 2.0], "finite")],
)
def test_what_makes_no_area_is_refused(one, other, said):
    with pytest.raises(RmuLabError, match=said):
        crossed_auc(one, other)

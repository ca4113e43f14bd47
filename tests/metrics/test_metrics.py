"""Metrics of unlearning, against values worked out by hand and against plain passes of tiny models."""

import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError
from rmu_lab.errors import NotFiniteError
from rmu_lab.metrics import (
    MEMBERSHIP,
    ScoredText,
    answer_probability,
    auc,
    exact_memorisation,
    extraction_strength,
    forget_quality,
    loss_score,
    min_k,
    min_k_plus_plus,
    model_utility,
    score_texts,
    truth_ratio,
    zlib_score,
)
from tests.conftest import made_up_texts, tiny_model


def scored(probabilities, greedy=None, text="text", expected=None, spread=None):
    """A text whose tokens have these probabilities."""
    log_probs = torch.tensor(probabilities, dtype=torch.float64).log().float()
    n = len(log_probs)
    return ScoredText(
        text,
        log_probs,
        torch.tensor(greedy if greedy is not None else [True] * n),
        torch.tensor(expected if expected is not None else [-1.0] * n),
        torch.tensor(spread if spread is not None else [1.0] * n),
    )


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_probability_is_the_geometric_mean_of_the_tokens():
    assert answer_probability(scored([0.5, 0.125])) == pytest.approx(0.25)
    assert scored([0.5, 0.125]).loss == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("greedy", "strength", "share"),
    [
        ([True, True, True, True], 1.0, 1.0),
        ([False, True, True, True], 0.75, 0.75),  # given one token it writes the rest
        ([True, False, True, True], 0.5, 0.75),
        ([True, True, True, False], 0.0, 0.75),
        ([False, False, False, False], 0.0, 0.0),
    ],
)
def test_extraction_strength_and_exact_memorisation(greedy, strength, share):
    answer = scored([0.5] * 4, greedy)
    assert extraction_strength(answer) == strength and exact_memorisation(answer) == share


def test_truth_ratio_is_wrong_over_right_by_geometric_means():
    right, wrong = scored([0.5, 0.5]), [scored([0.1]), scored([0.4])]
    assert truth_ratio(right, wrong) == pytest.approx(0.2 / 0.5)  # the geometric mean of 0.1 and 0.4 is 0.2
    assert truth_ratio([right, scored([0.125])], wrong) == pytest.approx(0.2 / 0.25)
    for bad in (([], wrong), (right, [])):
        with pytest.raises(RmuLabError, match="at least one of each"):
            truth_ratio(*bad)


def test_forget_quality_is_the_p_value_of_kolmogorov_and_smirnov():
    same = [0.1, 0.5, 0.9, 1.3]
    assert forget_quality(same, same) == 1.0
    # Apart altogether: of the 70 ways to part eight values into four and four, two are as extreme.
    assert forget_quality([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    with pytest.raises(RmuLabError, match="0 and 4 truth ratios"):
        forget_quality([], same)


def test_utility_is_the_harmonic_mean():
    assert model_utility([1.0, 0.5, 0.25]) == pytest.approx(3 / (1 + 2 + 4))
    assert model_utility([0.9, 0.0]) == 0
    for bad in ([], [1.2], [-0.1, 0.5]):
        with pytest.raises(RmuLabError, match="from 0 to 1"):
            model_utility(bad)


def test_membership_scores():
    text = scored([0.5, 0.1, 0.2, 0.4, 0.8], text="aaaa", expected=[-1.0] * 5, spread=[2.0] * 5)
    mean = sum(map(math.log, [0.5, 0.1, 0.2, 0.4, 0.8])) / 5
    assert loss_score(text) == pytest.approx(mean)
    assert zlib_score(text) == pytest.approx(mean / len(zlib.compress(b"aaaa")))
    assert min_k(text, 0.4) == pytest.approx((math.log(0.1) + math.log(0.2)) / 2)
    assert min_k(text, 0.2) == min_k(text, 0.05) == pytest.approx(math.log(0.1))  # at least one token
    assert min_k_plus_plus(text, 0.2) == pytest.approx((math.log(0.1) + 1) / 2)
    for k in (0, 1.5):
        with pytest.raises(RmuLabError, match="a share above 0"):
            min_k(text, k)
    assert set(MEMBERSHIP) == {"LOSS", "zlib", "Min-K%", "Min-K%++"}


def test_min_k_plus_plus_measures_against_the_models_own_tokens():
    """A token that is as likely as the model's own are there is no sign, however unlikely."""
    flat = torch.full((1, 100), 0.01).log()
    expected, spread = (flat.exp() * flat).sum(-1), torch.zeros(1)
    text = ScoredText("x", flat[:, 0], torch.tensor([True]), expected, spread)
    assert min_k_plus_plus(text) == pytest.approx(0, abs=1e-3) and loss_score(text) == pytest.approx(math.log(0.01))


# -- areas ------------------------------------------------------------------------------------------------------------


def test_areas_by_hand():
    assert auc([3, 4], [1, 2]).value == 1
    assert auc([1, 2], [3, 4]).value == 0
    assert auc([1, 3], [2, 2]).value == 0.5
    assert auc([2, 3], [2]).value == 0.75  # one tie, one above
    for bad in (([], [1]), ([1], [math.nan])):
        with pytest.raises(RmuLabError, match="all of them finite"):
            auc(*bad)


def test_the_interval_of_an_area_has_a_width_where_groups_do_not_overlap():
    few, many = auc(range(10, 15), range(5)), auc(range(100, 200), range(100))
    assert few.high == 1 and 0.5 < few.low < 0.8 and 0.95 < many.low < 1
    assert auc([1.0] * 5, [1.0] * 5).low < 0.5 < auc([1.0] * 5, [1.0] * 5).high


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=8), st.lists(st.integers(-9, 9), min_size=1, max_size=8))
def test_an_area_and_its_mirror_image_add_up(one, other):
    there, back = auc(one, other), auc(other, one)
    assert there.value + back.value == pytest.approx(1)
    assert 0 <= there.low <= there.value <= there.high <= 1
    assert there.low + back.high == pytest.approx(1, abs=1e-6)


# -- of models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("prompted", [True, False])
def test_scored_texts_are_those_of_plain_passes(family, prompted, tokenizer):
    model = tiny_model(family)
    texts = [f" {text}" for text in made_up_texts(5, seed=3, least=2, most=9)]
    prompts = made_up_texts(5, seed=4, least=1, most=6) if prompted else None
    found = score_texts(model, tokenizer, texts, prompts, batch_size=2, progress=False)
    for at, one in enumerate(found):
        before = tokenizer(prompts[at])["input_ids"] if prompted else []
        ids = tokenizer((prompts[at] if prompted else "") + texts[at])["input_ids"]
        start = max(1, len(before))
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)[start - 1 : -1]
        own = log_p.gather(-1, torch.tensor(ids[start:])[:, None])[:, 0]
        torch.testing.assert_close(one.log_probs, own, rtol=1e-4, atol=1e-4)
        assert one.greedy.tolist() == (log_p.argmax(-1) == torch.tensor(ids[start:])).tolist()
        mean = (log_p.exp() * log_p).sum(-1)
        torch.testing.assert_close(one.expected, mean, rtol=1e-4, atol=1e-4)
        spread = (log_p.exp() * (log_p - mean[:, None]).square()).sum(-1).sqrt()
        torch.testing.assert_close(one.spread, spread, rtol=1e-3, atol=1e-3)
        assert one.text == texts[at]


def test_what_cannot_be_scored_is_said(tokenizer):
    model = tiny_model("llama")
    for texts, prompts, said in (
        ([], None, "There are 0 texts"),
        (["a"], [], "1 texts and 0 prompts"),
        ([""], ["the"], "no token can be scored"),
    ):
        with pytest.raises(RmuLabError, match=said):
            score_texts(model, tokenizer, texts, prompts, progress=False)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite"):
        score_texts(model, tokenizer, ["the sea a fish"], progress=False)

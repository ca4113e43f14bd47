"""Divergence beside a plain computation, and the strength at which an edit has the one that is asked for."""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmu_lab import RmuLabError, unlearn
from rmu_lab.league import base_states, divergence, scaled_to_divergence
from rmu_lab.league.disruption import strength_of
from rmu_lab.unlearning.baselines import GradDiff
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import FAMILIES, same_weights, tiny_model, weights_of
from tests.league.conftest import CONFIG, HELD_OUT


def naive(model, tokenizer, result, texts, max_length=64):
    """KL(p_o || p), text by text and token by token, with a copy of the model for each of the two."""
    edited = copy.deepcopy(model)
    with torch.no_grad():
        for name, matrix in result.edit.items():
            edited.get_parameter(name).copy_(matrix)
    terms = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:max_length]])
        with torch.no_grad():
            before, after = (one(ids).logits[0].double().log_softmax(-1) for one in (model, edited))
        terms += [(p.exp() * (p - q)).sum().item() for p, q in zip(before[:-1], after[:-1], strict=True)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_divergence_is_the_mean_of_kl_over_all_tokens(model, tokenizer, result, batch_size):
    before = weights_of(model)
    found = divergence(model, tokenizer, result, HELD_OUT, batch_size=batch_size)
    assert found == pytest.approx(naive(model, tokenizer, result, HELD_OUT), rel=1e-4) and found > 0.01
    assert same_weights(model, before)


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "gpt_neox"])  # a softcap behind the output matrix; other names of it
def test_other_families(family, tokenizer):
    model = tiny_model(family)
    result = unlearn(model, tokenizer, FORGET, RETAIN, CONFIG, progress=False)
    found = divergence(model, tokenizer, result, HELD_OUT)
    assert found == pytest.approx(naive(model, tokenizer, result, HELD_OUT), rel=1e-3)
    assert family in FAMILIES


def test_states_of_the_base_model_serve_several_edits(model, tokenizer, result):
    base = base_states(model, tokenizer, HELD_OUT, max_length=12, batch_size=2)
    assert base.tokens == sum(min(12, len(tokenizer(text)["input_ids"])) - 1 for text in HELD_OUT)
    assert [states.shape[-1] for states in base.states] == [32] * 4
    for strength in (0.5, 2.0):
        edit = result.scaled(strength, model)
        with_states = divergence(model, tokenizer, edit, HELD_OUT, base=base)
        assert with_states == divergence(model, tokenizer, edit, HELD_OUT, max_length=12, batch_size=2)


def test_no_edit_has_no_divergence(model, tokenizer, result):
    assert divergence(model, tokenizer, result.scaled(0.0, model), HELD_OUT) == 0.0


@settings(max_examples=15, deadline=None)
@given(strength=st.floats(-3, 3), seed=st.integers(0, 20))
def test_no_edit_has_less_than_none(tokenizer, strength, seed):
    model = tiny_model("llama", num_hidden_layers=3)
    name = "model.layers.1.mlp.down_proj.weight"
    generator = torch.Generator().manual_seed(seed)
    changed = model.get_parameter(name).detach() + strength * torch.randn(32, 64, generator=generator)
    result = dataclasses.replace(made_up_edit(model, tokenizer), edit={name: changed}, base=None)
    found = divergence(model, tokenizer, result, HELD_OUT[:2], max_length=8)
    assert found >= 0
    if abs(strength) > 0.01:  # what a much smaller change does is lost in rounding
        assert found > 0
    if torch.equal(changed, model.get_parameter(name)):
        assert found == 0


def made_up_edit(model, tokenizer):
    return unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(CONFIG, layer=2, steps=1), progress=False)


def test_numbers_that_are_not_finite_are_infinitely_far(model, tokenizer, result):
    huge = dataclasses.replace(result, edit={name: torch.full_like(one, 1e38) for name, one in result.edit.items()})
    assert divergence(model, tokenizer, huge, HELD_OUT) == math.inf


def test_an_edit_of_the_output_matrix_is_refused(model, tokenizer, result):
    edit = {"lm_head.weight": model.lm_head.weight.detach() + 1}
    with pytest.raises(RmuLabError, match=r"changes lm_head\.weight"):
        divergence(model, tokenizer, dataclasses.replace(result, edit=edit, base=None), HELD_OUT)


@pytest.mark.parametrize("budget", [0.003, 0.05, 0.3])
def test_scaling_hits_the_budget(model, tokenizer, result, budget):
    before = weights_of(model)
    found = scaled_to_divergence(model, tokenizer, result, HELD_OUT, budget)
    assert same_weights(model, before)
    assert found.divergence == pytest.approx(budget, rel=0.05)
    assert divergence(model, tokenizer, found.result, HELD_OUT) == pytest.approx(found.divergence)
    again = result.scaled(found.strength, model)
    assert all(matrix.equal(found.result.edit[name]) for name, matrix in again.edit.items())
    assert found.result.provenance["scaled"] == found.strength


def test_scaling_edits_of_all_blocks_from_a_strength_that_is_known(model, tokenizer):
    config = GradDiff(lr=1e-4, steps=2, batch_size=2, max_length=16)
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    base = base_states(model, tokenizer, HELD_OUT)
    found = scaled_to_divergence(model, tokenizer, result, HELD_OUT, 0.02, base=base)
    near = scaled_to_divergence(model, tokenizer, result, HELD_OUT, 0.02, base=base, start=found.strength)
    assert near == found


def test_an_edit_that_changes_nothing_is_refused(model, tokenizer, result):
    with pytest.raises(RmuLabError, match="changes nothing"):
        scaled_to_divergence(model, tokenizer, result.scaled(0.0, model), HELD_OUT, 0.1)


def test_a_budget_out_of_reach_is_refused(model, tokenizer, result):
    with pytest.raises(RmuLabError, match="No strength of the edit has a divergence of 1000 nats"):
        scaled_to_divergence(model, tokenizer, result, HELD_OUT[:1], 1000.0)


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"budget": math.nan}, {"tolerance": 1.0}, {"start": -1.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RmuLabError, match="give positive numbers"):
        strength_of(lambda strength: strength, **({"budget": 1.0} | wrong))


@given(
    power=st.floats(0.3, 4),
    scale=st.floats(1e-4, 1e4),
    ceiling=st.floats(2, 1e6),
    budget=st.floats(1e-4, 1),
    start=st.floats(1e-3, 1e3),
)
def test_whatever_rises_to_its_budget_is_found(power, scale, ceiling, budget, start):
    """A power law that flattens, as a divergence does, inside the strengths that are looked at."""
    tried = []

    def measure(strength):
        tried.append(strength)
        return ceiling * -math.expm1(-((strength * scale) ** power) / ceiling)

    wanted = (-ceiling * math.log1p(-budget / ceiling)) ** (1 / power) / scale
    if not 1e-5 < wanted < 1e3:
        return
    strength, value = strength_of(measure, budget, start=start)
    assert abs(value - budget) <= 0.05 * budget and value == measure(strength)
    assert len(tried) <= 40


def test_few_strengths_are_tried_where_it_grows_as_the_square():
    tried = []
    strength, _ = strength_of(lambda s: tried.append(s) or 3 * s * s, 0.1)
    assert strength == pytest.approx((0.1 / 3) ** 0.5, rel=0.03) and len(tried) <= 3


def test_a_jump_over_the_budget_is_told():
    with pytest.raises(RmuLabError, match=r"it is (0\.1|2) at strength 0\.4 and (0\.1|2) at strength 0\.4"):
        strength_of(lambda s: 0.1 if s < 0.4 else 2.0, 1.0)
    with pytest.raises(RmuLabError, match=r"it is 0 at strength 1\.02e\+03"):
        strength_of(lambda s: 0.0, 1.0)

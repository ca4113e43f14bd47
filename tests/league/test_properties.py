"""Properties of edits that were made so that their values are known."""

import copy
import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, decoder_blocks, unlearn
from rmu_lab.league import edit_properties, sharpness
from rmu_lab.unlearning.baselines import GradDiff
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import same_weights, tiny_model, weights_of
from tests.league.conftest import CONFIG

LONG = {"max_length": 16}


def with_changes(result, model, changes):
    """An edit that adds these to matrices of the model."""
    edit = {name: model.get_parameter(name).detach() + change for name, change in changes.items()}
    return dataclasses.replace(result, edit=edit, base=None)


def down(layer):
    return f"model.layers.{layer}.mlp.down_proj.weight"


def inputs_of(model, tokenizer, layer, texts):
    """Inputs of the MLP's output matrix at all tokens but the first of each text, (n, in) float64."""
    seen = []
    module = decoder_blocks(model)[layer].mlp.down_proj
    hook = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    for text in texts:
        model(torch.tensor([tokenizer(text)["input_ids"][: LONG["max_length"]]]))
    hook.remove()
    return torch.cat([one[0, 1:] for one in seen]).double()


def test_norm_and_stable_rank_of_matrices_that_are_known(model, tokenizer, result):
    """One adds the identity of rank 5, twice; the other a matrix of rank 1 of the same length as the first."""
    five, one = torch.zeros(32, 64), torch.zeros(32, 64)
    five[range(5), range(5)] = 2.0
    one[0] = (20 / 64) ** 0.5
    edit = with_changes(result, model, {down(1): five, down(3): one})
    found = edit_properties(model, tokenizer, edit, FORGET, **LONG)
    weights = sum(model.get_parameter(down(layer)).detach().double().square().sum() for layer in (1, 3))
    assert found.norm == pytest.approx((40 / weights.item()) ** 0.5, rel=1e-4)
    assert found.stable_rank == pytest.approx((5 + 1) / 2, rel=1e-4)


def test_matrices_that_hardly_change_hardly_count(model, tokenizer, result):
    strong, weak = torch.zeros(32, 64), torch.zeros(32, 64)
    strong[0, 0], weak[range(32), range(32)] = 3.0, 1e-3
    edit = with_changes(result, model, {down(1): strong, down(2): weak, down(3): torch.zeros(32, 64)})
    found = edit_properties(model, tokenizer, edit, FORGET, **LONG)
    share = 32e-6 / (9 + 32e-6)
    assert found.stable_rank == pytest.approx(1 - share + 32 * share, rel=1e-4)


def test_an_edit_that_reads_what_forget_texts_have_overlaps_wholly_and_one_that_does_not_not_at_all(
    model, tokenizer, result
):
    rows = inputs_of(model, tokenizer, 2, FORGET)
    mean = rows.mean(dim=0)
    _, vectors = torch.linalg.eigh(torch.cov(rows.T))
    first, last = vectors[:, -1], vectors[:, 0] - mean * (mean @ vectors[:, 0]) / (mean @ mean)
    last = last - first * (first @ last)
    left = torch.linspace(-1, 1, 32, dtype=torch.float64)
    for along, overlap in ((mean, 1.0), (first, 1.0), (last, 0.0)):
        edit = with_changes(result, model, {down(2): torch.outer(left, along / along.norm()).float()})
        found = edit_properties(model, tokenizer, edit, FORGET, components=2, **LONG)
        assert found.overlap == pytest.approx(overlap, abs=1e-4)
        assert found.chance == 2 / 64
    both = torch.outer(left, first + last / last.norm()).float()
    half = edit_properties(model, tokenizer, with_changes(result, model, {down(2): both}), FORGET, components=2, **LONG)
    assert half.overlap == pytest.approx(0.5, abs=1e-3)


def test_sharpness_is_the_slope_of_a_small_step_down_the_gradient(model, tokenizer):
    """L(w) - L(w - r ||w|| g / ||g||) is r times it, in a copy of float64 that takes the step."""
    plain = copy.deepcopy(model).double()
    matrices = [one for one in decoder_blocks(plain).parameters() if one.ndim >= 2]

    def loss():
        terms = []
        for text in FORGET:
            ids = torch.tensor([tokenizer(text)["input_ids"][: LONG["max_length"]]])
            log_p = plain(ids).logits[0, :-1].log_softmax(-1)
            terms.append(-log_p.gather(1, ids[0, 1:, None])[:, 0])
        return torch.cat(terms).mean()

    gradients = torch.autograd.grad(loss(), matrices)
    lengths = [sum(one.square().sum() for one in of).sqrt() for of in (matrices, gradients)]
    before, r = loss().item(), 1e-6
    with torch.no_grad():
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix -= r * lengths[0] * gradient / lengths[1]
    weights = weights_of(model)
    found = sharpness(model, tokenizer, FORGET, batch_size=5, **LONG)
    assert found == pytest.approx((before - loss().item()) / r, rel=1e-3)
    assert same_weights(model, weights) and all(one.grad is None for one in model.parameters())


def test_the_properties_of_an_edit_are_those_of_the_edited_model(model, tokenizer, result):
    before = weights_of(model)
    found = edit_properties(model, tokenizer, result, FORGET, **LONG)
    assert same_weights(model, before)
    with result.applied(model):
        assert found.sharpness == pytest.approx(sharpness(model, tokenizer, FORGET, **LONG))
    values = result.singular_values(model)
    energy = {name: one.square().sum() for name, one in values.items()}
    ranks = sum(energy[name] * energy[name] / one[0] ** 2 for name, one in values.items()) / sum(energy.values())
    assert found.stable_rank == pytest.approx(ranks.item()) and 0 < found.overlap < 1


def test_matrices_that_stand_the_other_way_round(tokenizer):
    """GPT-2's, (in, out)."""
    model = tiny_model("gpt2")
    result = unlearn(model, tokenizer, FORGET, RETAIN, CONFIG, progress=False)
    found = edit_properties(model, tokenizer, result, FORGET, components=3, **LONG)
    assert found.chance == 3 / 128 and found.stable_rank >= 1


def test_edits_of_all_blocks(model, tokenizer, monkeypatch):
    config = GradDiff(lr=1e-4, steps=1, batch_size=2, max_length=16)
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    whole = edit_properties(model, tokenizer, result, FORGET, **LONG)
    monkeypatch.setattr("rmu_lab.league.properties.AT_ONCE", 4)
    assert dataclasses.astuple(edit_properties(model, tokenizer, result, FORGET, **LONG)) == pytest.approx(
        dataclasses.astuple(whole)
    )


def test_what_has_no_properties_is_refused(model, tokenizer, result):
    with pytest.raises(RmuLabError, match="changes nothing"):
        edit_properties(model, tokenizer, result.scaled(0.0, model), FORGET)
    with pytest.raises(RmuLabError, match="components is 0"):
        edit_properties(model, tokenizer, result, FORGET, components=0)
    norm = "model.layers.1.input_layernorm.weight"
    with pytest.raises(RmuLabError, match="not the matrix of a linear map"):
        edit_properties(model, tokenizer, with_changes(result, model, {norm: torch.ones(32)}), FORGET)

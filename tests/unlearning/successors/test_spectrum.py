"""Singular values and lower ranks of an edit: known matrices, and what no other matrix of the rank comes closer to."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, unlearn
from rmu_lab.unlearning.baselines import GradDiff
from rmu_lab.unlearning.spectrum import singular_values, truncated
from tests.conftest import same_weights, tiny_model, weights_of
from tests.unlearning.successors.common import FORGET, RETAIN, RMU, matrix_name


def random_matrix(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand():
    change = torch.zeros(3, 4)
    change[0, 2], change[1, 0], change[2, 3] = 3.0, -5.0, 1.0
    assert singular_values(change).tolist() == pytest.approx([5, 3, 1])
    assert truncated(change, 1).nonzero().tolist() == [[1, 0]] and truncated(change, 1)[1, 0] == pytest.approx(-5)
    torch.testing.assert_close(truncated(change, 2), change * (change.abs() > 2))
    assert truncated(change, 3) is change and truncated(change, 99) is change


@given(seed=st.integers(0, 2**31), rank=st.integers(1, 4))
def test_no_matrix_of_the_rank_is_closer(seed, rank):
    """Eckart and Young: the distance is the root of the squares that are left out, and others are no closer."""
    change = random_matrix(seed, 5, 6)
    cut = truncated(change, rank)
    values = singular_values(change)
    assert torch.linalg.matrix_rank(cut) == rank
    assert (change - cut).norm().item() == pytest.approx(values[rank:].norm().item(), rel=1e-9)
    other = random_matrix(seed + 1, 5, rank) @ random_matrix(seed + 2, rank, 6)
    best = (change * other).sum() / other.square().sum() * other  # the closest on its line
    assert (change - best).norm() >= (change - cut).norm() * (1 - 1e-9)


@pytest.mark.parametrize("rank", [0, -1, 1.5, True])
def test_ranks_that_are_none(rank):
    with pytest.raises(RmuLabError, match=r"rank is .*; give a whole number from 1"):
        truncated(torch.eye(2), rank)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_an_edit(tokenizer, dtype):
    model = tiny_model("llama").to(dtype)
    before = weights_of(model)
    result = unlearn(model, tokenizer, FORGET, RETAIN, RMU, progress=False)
    values = result.singular_values(model)
    assert values.keys() == result.edit.keys()
    for rank in (1, 3):
        cut = result.truncated(rank, model)
        assert cut.provenance["truncated"] == rank and cut.edit.keys() == result.edit.keys()
        left = cut.singular_values(model)
        for name, found in values.items():
            assert found.shape == (32,) and found.tolist() == sorted(found.tolist(), reverse=True)
            change = result.edit[name].double() - before[name].double()
            torch.testing.assert_close(found, torch.linalg.svdvals(change))
            torch.testing.assert_close(left[name][:rank], found[:rank], rtol=1e-4, atol=1e-6)
            assert left[name][rank:].max() < 1e-4 * found[0]
    whole = result.truncated(32, model)
    assert all(matrix.equal(result.edit[name]) for name, matrix in whole.edit.items())
    assert same_weights(model, before)
    with result.truncated(1, model).applied(model):
        assert not same_weights(model, before)
    assert same_weights(model, before)


def test_of_a_change_whose_rank_is_known(tokenizer):
    """An edit of rank 2 by hand has two singular values, and is itself at rank 2."""
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, FORGET, RETAIN, RMU, progress=False)
    name = matrix_name(2)
    left, right = (torch.linalg.qr(random_matrix(seed, size, 2))[0] for seed, size in ((1, 32), (2, 64)))
    change = left @ torch.diag(torch.tensor([4.0, 0.5]).double()) @ right.T
    made = dataclasses.replace(result, edit={name: (model.get_parameter(name).detach().double() + change).float()})
    assert made.singular_values(model)[name].tolist() == pytest.approx([4.0, 0.5, *[0.0] * 30], abs=1e-6)
    torch.testing.assert_close(made.truncated(2, model).edit[name], made.edit[name], atol=1e-6, rtol=1e-5)
    change = made.truncated(1, model).edit[name].double() - model.get_parameter(name).detach().double()
    torch.testing.assert_close(change, 4.0 * torch.outer(left[:, 0], right[:, 0]), atol=1e-6, rtol=1e-4)


def test_what_is_refused(tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, FORGET, RETAIN, RMU, progress=False)
    with pytest.raises(RmuLabError, match="rank is 0; give a whole number from 1"):
        result.truncated(0, model)
    for call in (lambda given: result.truncated(1, given), result.singular_values):
        with pytest.raises(RmuLabError, match="not those that the edit was trained on"):
            call(tiny_model("llama", seed=1))
        with result.applied(model), pytest.raises(RmuLabError, match="An edit is in the model; revert it before"):
            call(model)
    names = ("input_layernorm.weight",)
    norms = unlearn(
        model, tokenizer, FORGET, RETAIN, GradDiff(steps=1, batch_size=2, max_length=12, parameters=names), progress=False
    )
    with pytest.raises(RmuLabError, match=r"has the shape \(32,\); only matrices have singular values"):
        norms.singular_values(model)

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, accuracy, unlearn
from rmu_lab.attacks import Subject, quantise
from rmu_lab.attacks.quantise import rounded
from rmu_lab.unlearning.result import fingerprint
from tests.attacks.conftest import CONFIG, FORGET, QUESTIONS, QUIET, RETAIN
from tests.conftest import same_weights, tiny_model, weights_of


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("columns", [64, 40, 7])
def test_rounding_moves_no_entry_by_more_than_half_a_step(bits, columns):
    matrix = torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    matrix[2] = 0
    found = rounded(matrix, bits)
    assert found.shape == matrix.shape
    for row in range(5):
        for start in range(0, columns, 32):
            ours, theirs = found[row, start : start + 32], matrix[row, start : start + 32]
            step = theirs.abs().max() / (2 ** (bits - 1) - 1)
            assert ((ours - theirs).abs() <= step / 2 * 1.001).all()
            assert len(ours.unique()) <= 2**bits - 1
            if step > 0:
                torch.testing.assert_close((ours / step).round() * step, ours)
    torch.testing.assert_close(rounded(found, bits), found)  # a second time changes nothing
    assert torch.equal(rounded(-matrix, bits), -found)


@pytest.mark.parametrize("columns", [64, 40])
def test_experts_in_one_tensor_are_rounded_each_by_itself(columns):
    experts = torch.randn(3, 5, columns, generator=torch.Generator().manual_seed(0))
    found = rounded(experts, 4)
    assert found.shape == experts.shape and not found.equal(experts)
    assert all(ours.equal(rounded(theirs, 4)) for ours, theirs in zip(found, experts, strict=True))


def test_every_matrix_of_a_mixture_of_experts_is_rounded(tokenizer):
    model = tiny_model("mixtral")
    config = dataclasses.replace(CONFIG, parameters=("mlp.experts.down_proj", "mlp.experts.gate_up_proj"))
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    assert {matrix.ndim for matrix in result.edit.values()} == {3}
    found = quantise(Subject(model, tokenizer, result, QUESTIONS), QUIET, bits=2)
    edit = {name: rounded(matrix, 2) for name, matrix in result.edit.items()}
    with dataclasses.replace(result, edit=edit).applied(model):
        assert found.attacked == accuracy(model, tokenizer, QUESTIONS, progress=False)
    assert found.details["edit_left"] != pytest.approx(1, abs=0.01)


def test_an_edit_that_changes_nothing_is_refused_before_any_work(subject, model, result):
    for dtype, factor in ((torch.float32, 1), (torch.bfloat16, 1 + 1e-5)):  # less than bfloat16 can tell from 1
        model.to(dtype)
        edit = {name: factor * model.get_parameter(name).detach().float() for name in result.edit}
        idle = dataclasses.replace(subject, result=dataclasses.replace(result, edit=edit))
        with pytest.raises(RmuLabError, match="The edit changes nothing in this model"):
            quantise(idle, QUIET)
        assert "reference" not in vars(idle)


def test_recovery_and_control_are_of_rounded_matrices(subject, model, tokenizer, result):
    before = weights_of(model)
    found = quantise(subject, QUIET, bits=3)
    assert same_weights(model, before)
    with result.applied(model):
        assert found.start == accuracy(model, tokenizer, QUESTIONS, progress=False)
        edited = weights_of(model)
    for weights, expected in ((edited, found.attacked), (before, found.controls["base model"][1])):
        with torch.no_grad():
            for name in result.edit:
                model.get_parameter(name).copy_(rounded(weights[name], 3))
        assert accuracy(model, tokenizer, QUESTIONS, progress=False) == expected
    with torch.no_grad():
        for name in result.edit:
            model.get_parameter(name).copy_(before[name])
    assert found.controls["base model"][0] == accuracy(model, tokenizer, QUESTIONS, progress=False)


def test_an_edit_below_the_step_is_rounded_away(subject, model, result):
    """Zhang et al.'s case: the base model's matrices are on the grid, the edit moves entries by a tenth of a step."""
    generator, edit = torch.Generator().manual_seed(0), {}
    for name in result.edit:
        parameter = model.get_parameter(name)
        grid = rounded(parameter.detach(), 4)
        groups = grid.view(len(grid), -1, 32)
        step = groups.abs().amax(dim=-1, keepdim=True) / 7
        moved = groups + 0.1 * step * torch.randn(groups.shape, generator=generator).sign()
        edit[name] = torch.where(groups.abs() < 6.5 * step, moved, groups).view_as(grid)  # the largest define the step
        with torch.no_grad():
            parameter.copy_(grid)
    small = dataclasses.replace(result, edit=edit, base=fingerprint(model, edit))
    found = quantise(dataclasses.replace(subject, result=small), QUIET, bits=4)
    assert found.details["edit_left"] < 1e-3
    assert found.attacked == found.controls["base model"][0] == found.controls["base model"][1]


def test_many_bits_leave_the_edit(subject):
    found = quantise(subject, QUIET, bits=16)
    assert found.details["edit_left"] == pytest.approx(1, abs=0.01)
    assert found.attacked == found.start
    for bits in (1, 17):
        with pytest.raises(RmuLabError, match=f"bits is {bits}"):
            quantise(subject, bits=bits)

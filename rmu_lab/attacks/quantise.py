"""Does rounding the weights undo unlearning? Zhang et al. 2024, arXiv 2410.16454. Taught in notebook 07.

An edit that is small against the step of the rounding is rounded away, and the base model comes back.
"""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..offload import read_parameter
from ..unlearning.result import UnlearnResult
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject

GROUP = 32
"""Entries of a row that share a step, as in the 4-bit formats of GGUF."""


def quantise(subject: Subject, budget: Budget = DEFAULT_BUDGET, *, bits: int = 4) -> Recovery:
    """Round the edited matrices to `bits` bits. Control: the base model with the same matrices rounded.

    Zhang et al. 2024, arXiv 2410.16454. Vectors, such as a norm's weights, stay as they are; matrices of
    experts, which stand in one tensor, are rounded each by itself.
    Rounding is symmetric, to the nearest of ``2**bits - 1`` values, with one step for each 32 entries of a row
    (see `rounded`). The weights of the packaged SmolLM2 were unpacked from 4-bit ones (Q4_1), so rounding the base
    to 4 bits again changes less there than in other models. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack.
    budget
        whether to show bars; nothing here is random.
    bits
        2 to 16.

    Returns
    -------
    Recovery
        with details ``bits``, ``group`` (entries that share a step), and ``edit_left``: ||Q(W + edit) - Q(W)|| / ||edit||,
        which is 0 where rounding takes the edit away and about 1 where it does nothing to it.

    Raises
    ------
    RmuLabError
        if `bits` is out of range, the edit changes nothing, or a question or the edit does not fit.
    """
    if not 2 <= bits <= 16:
        raise RmuLabError(f"bits is {bits}; choose 2 to 16.")
    model, result = subject.model, subject.result
    base = _copies(model, result)
    with subject.unlearned():
        edited = _copies(model, result)  # in the model's own type
    size = _distance(edited, base)
    if size == 0:
        raise RmuLabError("The edit changes nothing in this model, so rounding can take nothing away; give another edit.")
    reference, start = subject.reference, time.perf_counter()
    rounded_base, rounded_edit = (
        {name: rounded(matrix, bits) if matrix.ndim >= 2 else matrix for name, matrix in matrices.items()}
        for matrices in (base, edited)
    )
    with dataclasses.replace(result, edit=rounded_edit).applied(model):
        attacked, written = subject.accuracy(progress=budget.progress), subject.generate()
    with dataclasses.replace(result, edit=rounded_base).applied(model):
        control = subject.accuracy(progress=budget.progress)
    left = _distance(rounded_edit, rounded_base) / size
    return Recovery(
        attack=f"quantise to {bits} bits",
        start=reference.unlearned,
        attacked=attacked,
        controls={"base model": (reference.base, control)},
        details={"bits": bits, "group": GROUP, "edit_left": left},
        generations=reference.generations(written),
        seconds=time.perf_counter() - start,
    )


def rounded(matrix: Tensor, bits: int, group: int = GROUP) -> Tensor:
    """Round each entry to its nearest multiple of a step; no entry moves by over half of it.

    Parameters
    ----------
    matrix
        (..., rows, columns), such as those of a layer's experts.
    bits
        the step is the largest absolute value of a group over ``2**(bits - 1) - 1``.
    group
        entries of a row that share a step (fewer at its end).

    Returns
    -------
    Tensor
        (..., rows, columns), of the same type.
    """
    *rows, columns = matrix.shape
    groups = pad(matrix, (0, -columns % group)).view(*rows, -1, group)
    step = groups.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
    whole = torch.where(step > 0, groups / step, 0).round()
    return (whole * step).view(*rows, -1)[..., :columns].contiguous()


def _copies(model: PreTrainedModel, result: UnlearnResult) -> dict[str, Tensor]:
    return {name: read_parameter(model, name).to("cpu", torch.float32, copy=True) for name in result.edit}


def _distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    return sum((matrix - theirs[name]).square().sum().item() for name, matrix in ours.items()) ** 0.5

"""Does rounding the weights undo unlearning? Zhang et al. 2024, arXiv 2410.16454. Taught in notebook 07.

An edit that is small against the step of the rounding is rounded away, and the base model comes back.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..evaluate import accuracy
from ..unlearning.result import UnlearnResult
from .recovery import Baselines, Recovery, measure_baselines, said

if TYPE_CHECKING:
    from .recovery import Questions

GROUP = 32
"""Entries of a row that share a step, as in the 4-bit formats of GGUF."""


def quantise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    questions: Questions,
    *,
    bits: int = 4,
    baselines: Baselines | None = None,
    progress: bool = True,
) -> Recovery:
    """Round the edited matrices to `bits` bits. Control: the base model with the same matrices rounded.

    Vectors, such as a norm's weights, stay as they are.
    Rounding is symmetric, to the nearest of ``2**bits - 1`` values, with one step for each 32 entries of a row
    (see `rounded`). The weights of the packaged SmolLM2 were unpacked from 4-bit ones (Q4_1), so rounding the base
    to 4 bits again changes less there than in other models.

    Parameters
    ----------
    model
        the base model; unchanged on return.
    questions
        as `accuracy` takes them.
    bits
        2 to 16.
    baselines
        of these questions, where they are known already.

    Returns
    -------
    Recovery
        with details ``bits``, ``group``, and ``edit_left``: ||Q(W + edit) - Q(W)|| / ||edit||, which is 0 where
        rounding takes the edit away and about 1 where it does nothing to it.

    Raises
    ------
    RmuLabError
        if `bits` is out of range, or a question or the edit does not fit.
    """
    if not 2 <= bits <= 16:
        raise RmuLabError(f"bits is {bits}; choose 2 to 16.")
    start = time.perf_counter()
    known = baselines or measure_baselines(model, tokenizer, result, questions, progress=progress)
    base = _copies(model, result)
    with result.applied(model):
        edited = _copies(model, result)  # in the model's own type
    rounded_base, rounded_edit = (
        {name: rounded(matrix, bits) if matrix.ndim == 2 else matrix for name, matrix in matrices.items()}
        for matrices in (base, edited)
    )
    with dataclasses.replace(result, edit=rounded_edit).applied(model):
        attacked = accuracy(model, tokenizer, questions, progress=progress)
        written = said(model, tokenizer, known.read)
    with dataclasses.replace(result, edit=rounded_base).applied(model):
        control = accuracy(model, tokenizer, questions, progress=progress)
    left = _distance(rounded_edit, rounded_base) / _distance(edited, base)
    return Recovery(
        attack=f"quantise to {bits} bits",
        start=known.unlearned,
        attacked=attacked,
        controls={"base model": (known.base, control)},
        details={"bits": bits, "group": GROUP, "edit_left": left},
        generations=known.beside(written),
        seconds=time.perf_counter() - start,
    )


def rounded(matrix: Tensor, bits: int, group: int = GROUP) -> Tensor:
    """The matrix (rows, columns) with each entry at its nearest multiple of a step; no entry moves by over half of it.

    The step of each `group` entries of a row (fewer at its end) is their largest absolute value over
    ``2**(bits - 1) - 1``.
    """
    rows, columns = matrix.shape
    groups = pad(matrix, (0, -columns % group)).view(rows, -1, group)
    step = groups.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
    whole = torch.where(step > 0, groups / step, 0).round()
    return (whole * step).view(rows, -1)[:, :columns].contiguous()


def _copies(model: PreTrainedModel, result: UnlearnResult) -> dict[str, Tensor]:
    return {name: model.get_parameter(name).detach().to("cpu", torch.float32, copy=True) for name in result.edit}


def _distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    return sum((matrix - theirs[name]).square().sum().item() for name, matrix in ours.items()) ** 0.5

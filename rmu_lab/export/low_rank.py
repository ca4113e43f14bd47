"""The matrix of low rank that comes closest to what an edit adds to a matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import RmuLabError


def low_rank(
    changes: Mapping[str, Tensor], *, rank: int | None = None, fidelity: float = 0.99
) -> tuple[dict[str, tuple[Tensor, Tensor]], int, float]:
    """Split each change of a matrix, W' - W, into B (out, rank) and A (rank, in), whose product comes closest to it.

    The best matrix of a given rank comes from the singular value decomposition (Eckart and Young 1936). Where a matrix is
    smaller than the rank, the last columns of B and rows of A are zero.

    Parameters
    ----------
    changes
        parameter name -> W' - W, (out, in) each.
    rank
        the same for all matrices; by default the least that reaches `fidelity`.
    fidelity
        the share of the changes' squared norm to keep where no rank is given, as `Adapter` defines it.

    Returns
    -------
    tuple
        name -> (B, A), float32; the rank; the fidelity that it has.

    Raises
    ------
    RmuLabError
        if a change is no matrix or all are zero, or rank or fidelity lies out of range.
    """
    for name, change in changes.items():
        if change.dim() != 2:
            raise RmuLabError(f"{name} has the shape {tuple(change.shape)}; an adapter holds matrices only, so use save().")
    if not any(change.any() for change in changes.values()):
        raise RmuLabError("The edit changes nothing, so there is no adapter of it; check that the model is the base model.")
    most = max(min(change.shape) for change in changes.values())
    if rank is not None and not 1 <= rank <= most:
        raise RmuLabError(f"rank is {rank}; give one from 1 to {most}, the smaller side of the largest matrix.")
    if not 0 < fidelity <= 1:
        raise RmuLabError(f"fidelity is {fidelity}; give a share over 0 and up to 1.")
    parts = {name: torch.linalg.svd(change.float(), full_matrices=False) for name, change in changes.items()}
    kept = torch.zeros(most, dtype=torch.float64)
    for _, values, _ in parts.values():
        kept[: len(values)] += values.double().square()
    share = kept.cumsum(dim=0) / kept.sum()
    if rank is None:
        rank = min(most, int((share < fidelity - 1e-9).sum()) + 1)
    factors = {}
    for name, (left, values, right) in parts.items():
        root, missing = values[:rank].sqrt(), max(0, rank - len(values))
        b = torch.nn.functional.pad(left[:, :rank] * root, (0, missing))
        a = torch.nn.functional.pad(root[:, None] * right[:rank], (0, 0, 0, missing))
        factors[name] = (b.contiguous(), a.contiguous())
    return factors, rank, min(1.0, float(share[rank - 1]))

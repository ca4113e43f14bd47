"""The singular values of what an edit adds to a matrix, and what is left of it at a lower rank."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import RmuLabError


def singular_values(change: Tensor, name: str = "The change") -> Tensor:
    """Return the singular values of W' - W in descending order, float64 on the CPU.

    Parameters
    ----------
    change
        W' - W, (out, in).
    name
        of the parameter, for the error.

    Raises
    ------
    RmuLabError
        if it is no matrix.
    """
    require_matrix(change, name)
    return torch.linalg.svdvals(change.detach().to("cpu", torch.float64))


def truncated(change: Tensor, rank: int, name: str = "The change") -> Tensor:
    """Return the matrix of a rank that comes closest to W' - W in every unitarily invariant norm (Eckart and Young 1936).

    With the singular value decomposition sum_i sigma_i u_i v_i^T it is the sum of the first `rank` terms.

    Parameters
    ----------
    change
        W' - W, (out, in).
    rank
        at least 1; from the smaller side of the matrix on, the change itself is returned.
    name
        of the parameter, for the error.

    Returns
    -------
    Tensor
        (out, in), of the type of `change`.

    Raises
    ------
    RmuLabError
        if it is no matrix, or the rank is less than 1.
    """
    require_matrix(change, name)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise RmuLabError(f"rank is {rank!r}; give a whole number from 1.")
    if rank >= min(change.shape):
        return change
    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).to(change.dtype)


def require_matrix(change: Tensor, name: str) -> None:
    """Raise `RmuLabError` if a parameter is no matrix."""
    if change.dim() != 2:
        raise RmuLabError(f"{name} has the shape {tuple(change.shape)}; only matrices have singular values.")

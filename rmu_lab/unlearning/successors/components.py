"""Principal components of many vectors, streamed, and vectors without them: what MCU and CIR remove."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import NotFiniteError

NEGLIGIBLE = 1e-12
"""Share of the largest variance, or of a vector's length, below which nothing but rounding is left."""


class Moments:
    """First and second moments of vectors that come in parts, float64 on the CPU: (d, d) numbers, however many come."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros(())
        self.outer = torch.zeros(())

    def add(self, vectors: Tensor) -> None:
        """Count in some vectors, (n, d)."""
        vectors = vectors.detach().to("cpu", torch.float64)
        self.count += len(vectors)
        self.total = self.total + vectors.sum(dim=0)
        self.outer = self.outer + vectors.T @ vectors

    @property
    def mean(self) -> Tensor:
        """Their mean, (d,)."""
        return self.total / self.count

    def basis(self, components: int) -> Tensor:
        """Return an orthonormal basis of the span of their mean and their first principal components.

        Parameters
        ----------
        components
            principal components, of the largest variance, besides the mean; fewer are taken if there are no more.

        Returns
        -------
        Tensor
            V, (d, r) float32 on the CPU, with r at most ``components + 1``.

        Raises
        ------
        NotFiniteError
            if some of the vectors were not finite.
        """
        mean = self.mean
        if not self.outer.isfinite().all():
            raise NotFiniteError("The frozen model's states are not finite; use float32 or bfloat16, or another model.")
        variances, directions = torch.linalg.eigh(self.outer / self.count - torch.outer(mean, mean))
        variances, directions = variances.flip(0)[:components], directions.flip(1)[:, :components]
        chosen = [mean, *directions[:, variances > NEGLIGIBLE * variances[:1].clamp(min=1e-300)].T]
        basis: list[Tensor] = []
        for vector in chosen:  # Gram-Schmidt, twice for the rounding of the first time
            length = vector.norm()
            for _ in range(2):
                for other in basis:
                    vector = vector - other * (other @ vector)
            if vector.norm() > 1e-6 * length:
                basis.append(vector / vector.norm())
        return torch.stack(basis, dim=1).float() if basis else mean.new_zeros(len(mean), 0).float()


def without(vectors: Tensor, basis: Tensor) -> Tensor:
    """Return ``(I - V V^T) x`` of each vector x: (..., d) and V (d, r) -> (..., d)."""
    basis = basis.to(vectors)
    return vectors - (vectors @ basis) @ basis.T

"""What CIR and RepSelect share: plain steps of a fixed length along a forget gradient of which a part was removed.

AdamW scales each entry of a gradient by itself, which would bring back what was removed. So the step is the gradient's own,
as in the authors' code: with G the forget gradient of all matrices after the removal, and d the relative distance of
retain text from the frozen model, ``d = E ||h(x_R) - h_frozen(x_R)|| / E ||h_frozen(x_R)||``::

    W <- W - lr * (G / ||G|| + alpha * gradient of d)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batches import BatchKey
from ..objectives import WindowBatch, token_mean, token_norms
from ..window import FrozenBatch
from ..window_method import MethodTraining, SteeredMethod


class CollapsedTraining(MethodTraining):
    """RMU's forget loss, whose gradient is collapsed, normalised and followed without an adaptive optimiser."""

    def add_gradients(self, step: int, use: str, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> None:
        """Add a batch's gradients; those of a forget batch, which comes first, are collapsed and scaled to length 1."""
        if use != "forget":
            super().add_gradients(step, use, key, given, parts)
            return
        gradients = self.collapsed(step, key, given, parts)
        length = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=torch.finfo(torch.float32).tiny)
        for matrix, gradient in zip(self.matrices, gradients, strict=True):
            matrix.grad = gradient / length

    def collapsed(self, step: int, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> list[Tensor]:
        """Return the collapsed gradients of a forget batch, one for each matrix, and add its numbers to `parts`."""
        raise NotImplementedError

    def loss(self, step: int, use: str, topic: str, batch: WindowBatch) -> Tensor:
        """Return RMU's forget loss, or alpha times the relative distance of a retain batch."""
        if use == "forget":
            return super().loss(step, use, topic, batch)
        return self.method.alpha * relative_distance(batch)

    def update(self) -> None:
        """Take the step, and let the window compute with its outcome."""
        with torch.no_grad():
            for matrix in self.matrices:
                if matrix.grad is not None:
                    matrix -= self.method.lr * matrix.grad
        self.refresh()


def relative_distance(batch: WindowBatch) -> Tensor:
    """Return ``E ||h - h_frozen|| / E ||h_frozen||`` over the counted tokens, a scalar; its gradient at 0 is 0."""
    distance = token_mean((batch.hidden.float() - batch.frozen.float()).norm(dim=-1), batch.counted)
    return distance / token_mean(token_norms(batch.frozen), batch.counted)


@dataclass(frozen=True)
class CollapsedMethod(SteeredMethod):
    """Settings of such methods."""

    alpha: float = 1.0
    """Weight of the gradient of the retain texts' relative distance, against a forget gradient of length 1."""
    lr: float = 0.5
    """Length of each step's forget part, over all matrices together."""

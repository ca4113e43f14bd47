"""RMU with sharpness-aware minimisation of the forget loss, Fan et al. 2025."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..batches import BatchKey
from ..window import FrozenBatch
from ..window_method import MethodTraining, SteeredMethod


class SAMTraining(MethodTraining):
    """RMU's training with the forget gradient of a point uphill."""

    def add_gradients(self, step: int, use: str, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> None:
        """Add a batch's gradients; a forget batch, which comes first, is gone through twice."""
        super().add_gradients(step, use, key, given, parts)
        if use != "forget" or not self.method.rho:
            return
        uphill = ascent(self.take_gradients(), self.method.rho)
        with self.put_back():
            with torch.no_grad():
                for matrix, move in zip(self.matrices, uphill, strict=True):
                    matrix += move
            self.refresh()
            found: dict[str, Tensor] = {}
            self.backward(step, use, key[1], given, found)
        parts["ascended_loss"] = found["forget_loss"]


def ascent(gradients: list[Tensor], rho: float) -> list[Tensor]:
    """Return ``rho * g / ||g||``, the length taken over all matrices together; zeros where g is."""
    length = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=torch.finfo(torch.float32).tiny)
    return [rho * gradient / length for gradient in gradients]


@dataclass(frozen=True)
class RMUSAM(SteeredMethod):
    """RMU with sharpness-aware minimisation, Fan et al. 2025 (arXiv 2502.05374), after Foret et al. 2021 (2010.01412).

    With L_F and L_R RMU's forget and retain loss, u, s as in `SteeredMethod`, the gradient of a step is::

        g = grad L_F(W),   e = rho * g / ||g||,   grad L_F(W + e) + alpha * grad L_R(W)

    so that the forget loss is low all around W, where a relearning attack begins. A step takes half as long again as RMU's.
    The history adds ``ascended_loss``, L_F(W + e); all other numbers are those at W.
    """

    rho: float = 0.1
    """Length of the step uphill, over all matrices together; 0 gives RMU, number for number."""

    method: ClassVar[str] = "rmu_sam"
    trainer: ClassVar[type[MethodTraining]] = SAMTraining
    least: ClassVar[dict[str, float]] = {"rho": 0}

    @classmethod
    def published(cls, **changes: Any) -> RMUSAM:
        """Return RMU's published settings for Zephyr-7B with the authors' rho, with `changes` of single fields.

        We found no settings of theirs for RMU: 0.1 is the rho of a copy of their code for NPO and GradDiff on WMDP; their lr
        there, of a loss on logits, is 1e-5 and 5e-6. Layer 7, c 6.5, alpha 1200, lr 5e-5 and 150 steps are Li et al.'s.
        """
        published = {
            "steering": "rmu",
            "layer": 7,
            "coefficient": 6.5,
            "alpha": 1200.0,
            "lr": 5e-5,
            "steps": 150,
            "max_length": 512,
            "rho": 0.1,
        }
        return cls(**{**published, **changes})

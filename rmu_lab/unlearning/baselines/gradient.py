"""Gradient ascent on forget texts, alone and beside descent on retain texts. Taught in notebook 08.

In the equations of this folder x_F is a forget text, x_R a retain text, p the model in training, p_o the model before it,
and log p(x) = sum over t of log p(x_t | x_<t), |x| the number of terms. Learning rates and steps suit no model in general:
the defaults are where a search can start, as `benchmarks/methods.py` does on `dev` questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..loss_method import LossMethod
from ..objectives import ScoredBatch


@dataclass(frozen=True)
class GradientAscent(LossMethod):
    """Gradient ascent on the forget texts: minimise ``E log p(x_F) / |x_F|``. It has no lower bound, and keeps nothing."""

    method: ClassVar[str] = "gradient_ascent"

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Return one update, of the forget batch alone."""
        return (("forget",),)

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return the mean log-probability of a forget token."""
        return -batch.cross_entropy


@dataclass(frozen=True)
class WithRetainText(LossMethod):
    """Base of methods that keep the rest by training on it: ``-alpha * E log p(x_R) / |x_R|`` in their loss."""

    alpha: float = 1.0
    """Weight of the retain loss; 0 leaves it out."""

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Return one update, of both batches together."""
        return (("forget", "retain") if self.alpha else ("forget",),)

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return `forget_loss`, or alpha times the cross-entropy of a retain batch."""
        return self.forget_loss(batch) if role == "forget" else self.alpha * batch.cross_entropy

    def forget_loss(self, batch: ScoredBatch) -> Tensor:
        """Return the loss on a forget batch: ascent, unless overridden."""
        return -batch.cross_entropy


@dataclass(frozen=True)
class GradDiff(WithRetainText):
    """Gradient difference, Liu et al. 2022 (arXiv 2203.12817).

    Ascent on forget texts, and descent on retain texts::

        loss = E log p(x_F) / |x_F|  -  alpha * E log p(x_R) / |x_R|
    """

    method: ClassVar[str] = "grad_diff"

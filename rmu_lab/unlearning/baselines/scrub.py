"""SCRUB, Kurmanji et al. 2023. Taught in notebook 08."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..loss_method import LossMethod
from ..objectives import ScoredBatch


@dataclass(frozen=True)
class SCRUB(LossMethod):
    """Kurmanji et al. 2023 (arXiv 2302.09880): a student that leaves its teacher on forget texts and follows it elsewhere.

    With d(x) the mean over t of KL(p_o(. | x_<t) || p(. | x_<t)), a step first makes a max-update, then a min-update::

        max:  -E d(x_F)
        min:  alpha * E d(x_R)  -  gamma * E log p(x_R) / |x_R|

    Theirs alternate by epochs. After `max_steps` steps only min-updates follow, as in their paper. The very first
    max-update starts where the gradient of d is zero but for rounding, of which AdamW makes steps all the same.
    """

    alpha: float = 1.0
    gamma: float = 1.0
    max_steps: int = 10

    method: ClassVar[str] = "scrub"
    reference_roles: ClassVar[frozenset[str]] = frozenset({"forget", "retain"})

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Return two updates, and after `max_steps` steps one."""
        return (("forget",), ("retain",)) if step < self.max_steps else (("retain",),)

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return the loss of the max-update or of the min-update."""
        if role == "forget":
            return -batch.divergence
        return self.alpha * batch.divergence + self.gamma * batch.cross_entropy

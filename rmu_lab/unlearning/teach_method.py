"""Teaching as a method: next-token training on some texts, held to the model before it on others. Notebook 11."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from .loss_method import LossMethod

if TYPE_CHECKING:
    from .objectives import ScoredBatch


@dataclass(frozen=True)
class Teach(LossMethod):
    """Next-token training on texts to be learned, held to the model before it on other texts.

    With x_T a text to be taught, x_R one that is to stay as it is, p the model in training and p_o the one before it::

        loss = -E log p(x_T) / |x_T|  +  alpha * E KL(p_o(. | x_R) || p(. | x_R))

    The texts to be taught stand where other methods have their forget texts. The defaults suit
    the invented worlds and SmolLM2. Taught in notebook 11.
    """

    lr: float = 3e-4
    steps: int = 300
    batch_size: int = 8
    max_length: int = 96
    alpha: float = 1.0
    """Weight of what holds the model on other texts."""
    layers: tuple[int, ...] | None = None  # type: ignore[misc]  # a field here, a constant in the base class
    """Blocks that are trained, from 0; None: all."""

    method: ClassVar[str] = "teach"
    reference_roles: ClassVar[frozenset[str]] = frozenset({"retain"})

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return the cross-entropy of texts that are taught, or alpha times the divergence on others."""
        return batch.cross_entropy if role == "forget" else self.alpha * batch.divergence

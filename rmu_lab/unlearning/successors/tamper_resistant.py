"""Tamper-resistant RMU: the forget loss after a simulated relearning attack, after Tamirisa et al. 2024."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..batches import BatchKey
from ..objectives import distance_loss
from ..window import FrozenBatch
from ..window_method import MethodTraining, SteeredMethod


class TamperResistantTraining(MethodTraining):
    """RMU's training with the forget gradient of a point that an attacker has moved to."""

    def prepare(self) -> None:
        """Note that no forget batch was seen yet."""
        self.seen: dict[str, FrozenBatch] = {}

    def add_gradients(self, step: int, use: str, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> None:
        """Add a batch's gradients; those of a forget batch, which comes first, after the attack."""
        if use != "forget" or not self.method.relearn_steps:
            super().add_gradients(step, use, key, given, parts)
            return
        attacked_on = self.seen.get(key[1], given)
        self.seen[key[1]] = given
        with self.put_back():
            self.attack(attacked_on)
            super().add_gradients(step, use, key, given, parts)

    def attack(self, given: FrozenBatch) -> None:
        """Move the matrices towards the frozen model's representations of a batch, by AdamW."""
        attacker = torch.optim.AdamW(self.matrices, lr=self.method.relearn_lr, weight_decay=0.0)
        for _ in range(self.method.relearn_steps):
            distance_loss(self.hidden(given), given.passed.output, given.counted).backward()
            self.collect_gradients()
            attacker.step()
            attacker.zero_grad()
            self.refresh()


@dataclass(frozen=True)
class TamperResistantRMU(SteeredMethod):
    """RMU that anticipates relearning: tampering attack resistance, Tamirisa et al. 2024 (arXiv 2408.00761), in window form.

    With L_F and L_R RMU's forget and retain loss, u, s as in `SteeredMethod`, and W_k what an attacker makes of W in k steps
    of AdamW on ``E ||h(x_F) - h_frozen(x_F)||^2``, which gives the representations back, the gradient of a step is::

        grad L_F(W_k) + alpha * grad L_R(W)

    The derivative of W_k by W is left out, as in theirs (first-order meta-learning). The attacker has the topic's forget
    batch of the step before, in the first step its own. Their attackers train on next tokens through the whole model, and
    their loss is the entropy after every fourth of 64 steps; the window alone has no tokens to predict. A step takes about
    (k + 2) / 2 times as long as RMU's. The numbers of forget text in the history are those after the attack.
    """

    relearn_steps: int = 2
    """k, the attacker's steps; 0 gives RMU, number for number."""
    relearn_lr: float = 1e-3
    """The attacker's learning rate."""

    method: ClassVar[str] = "tamper_resistant_rmu"
    trainer: ClassVar[type[MethodTraining]] = TamperResistantTraining
    least: ClassVar[dict[str, float]] = {"relearn_steps": 0}
    positive: ClassVar[tuple[str, ...]] = ("relearn_lr",)

    def unused(self) -> dict[str, Any]:
        """Return a learning rate in place of one that no step uses, and what RMU's target does not use."""
        idle = {} if self.relearn_steps else {"relearn_lr": TamperResistantRMU.relearn_lr}
        return super().unused() | idle

    @classmethod
    def published(cls, **changes: Any) -> TamperResistantRMU:
        """Return the settings of the authors' script for biosecurity on Llama-3-8B, with `changes` of single fields.

        750 steps, each against 64 of an attacker, at 2e-5 for both (the middle of the attacker's three rates), batches of 8.
        Their retain weight, 1 against 4, belongs to other losses, so alpha is at our default, as are layer and target.
        """
        published = {"relearn_steps": 64, "relearn_lr": 2e-5, "lr": 2e-5, "steps": 750, "batch_size": 8}
        return cls(**{**published, **changes})

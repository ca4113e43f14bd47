"""MCU-RMU: RMU on the minor components of the representations, Xiao et al. 2026."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..batches import topics_of
from ..objectives import WindowBatch
from ..window_method import MethodTraining, SteeredMethod
from .components import Moments, without


class MCUTraining(MethodTraining):
    """RMU's training with a forget loss that does not see the dominant components."""

    def prepare(self) -> None:
        """Find the dominant components of the frozen model's representations of each topic."""
        self.bases: dict[str, Tensor] = {}
        for topic in topics_of(self.batches):
            moments = Moments()
            moments.add(self.frozen_states("forget", topic))
            self.bases[topic] = moments.basis(self.method.components).to(self.device)

    def loss(self, step: int, use: str, topic: str, batch: WindowBatch) -> Tensor:
        """Return RMU's loss; that of a forget batch with its representations projected."""
        if use == "forget":
            batch = dataclasses.replace(batch, hidden=without(batch.hidden.float(), self.bases[topic]))
        return super().loss(step, use, topic, batch)


@dataclass(frozen=True)
class MCURMU(SteeredMethod):
    """Minor component unlearning on RMU, Xiao et al. 2026 (arXiv 2605.11685, Eq 9 to 12).

    With V an orthonormal basis of the mean and the first principal components of the frozen h(x_F), u, s as in
    `SteeredMethod`::

        loss = E ||(I - V V^T) h(x_F) - s u||^2  +  alpha * E ||h(x_R) - h_frozen(x_R)||^2

    Changes along dominant components come back first when an attacker relearns, so none is asked for. The statistics are of
    the texts of the training, without each text's first token. Theirs run on CIR's projected gradients; here AdamW trains.
    """

    components: int = 7
    """Principal components that are left out, besides the mean."""

    method: ClassVar[str] = "mcu_rmu"
    trainer: ClassVar[type[MethodTraining]] = MCUTraining
    stages: ClassVar[bool] = False
    least: ClassVar[dict[str, float]] = {"components": 0}

    @classmethod
    def published(cls, **changes: Any) -> MCURMU:
        """Return the settings of the authors' code for WMDP-Bio on Llama-3.1-8B, with `changes` of single fields.

        Their eight directions are the mean and seven components, c is 1, and the loss lies after block 10 (their state 11).
        They train by normalised gradients of CIR, whose rate, 0.2, and retain rate, 3e-4, have no counterpart here: lr and
        alpha are at our defaults.
        """
        published = {
            "layer": 10,
            "steering": "rmu",
            "coefficient": 1.0,
            "components": 7,
            "batch_size": 32,
            "max_length": 128,
        }
        return cls(**{**published, **changes})

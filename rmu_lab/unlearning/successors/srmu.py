"""SRMU: a target of random signs, weighed by how much each dimension matters to forget text, Chen et al. 2025."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...errors import RmuLabError
from ...randomness import torch_generator
from ..batches import topics_of
from ..window_method import MethodTraining, WindowMethod

Importance = Literal["ratio", "difference", "product"]
SMALL = 1e-8


class SRMUTraining(MethodTraining):
    """RMU's training towards a target that statistics of the frozen model shape."""

    def prepare(self) -> None:
        """Make each topic's target, and keep it as a direction of length 1 and a norm."""
        self.norms: dict[str, Tensor] = {}
        for topic in topics_of(self.batches):
            forget, retain = (self.frozen_states(role, topic).abs().mean(dim=0).cpu() for role in ("forget", "retain"))
            weights = importance(forget, retain, self.method.importance, self.method.weight)
            generator = torch_generator(self.method.seed, f"SRMU's signs, {topic}")
            target = (2.0 * torch.randint(2, weights.shape, generator=generator) - 1) * weights
            length = target.norm()
            if length == 0:
                raise RmuLabError(
                    "No dimension matters more to the forget texts; lower `weight`, or use another importance."
                )
            self.directions[topic] = target / length
            self.u[topic] = self.directions[topic].to(self.device)
            self.norms[topic] = (self.method.coefficient * length).to(self.device)

    def target_norm(self, topic: str, frozen_output: Tensor, counted: Tensor) -> Tensor:
        """Return the length of the topic's target, a scalar."""
        return self.norms[topic]


def importance(forget: Tensor, retain: Tensor, how: Importance, weight: float = 1.0) -> Tensor:
    """Return how much each dimension matters to forget text, from 0 to 1, (d,).

    With f and r the mean absolute frozen h of forget and of retain text, before the division by the largest::

        log(1 + f / r)                     "ratio"
        ReLU(f - weight * r)               "difference"
        f r / (mean f * mean r)            "product"
    """
    if how == "ratio":
        found = torch.log1p(forget / (retain + SMALL))
    elif how == "difference":
        found = (forget - weight * retain).relu()
    else:
        found = forget * retain / (forget.mean() * retain.mean() + SMALL)
    return found / (found.max() + SMALL)


@dataclass(frozen=True)
class SRMU(WindowMethod):
    """Selective representation misdirection, Chen et al. 2025 (arXiv 2512.16297).

    With V random signs, one for each dimension, and I the `importance` of each dimension::

        loss = E ||h(x_F) - c (V * I)||^2  +  alpha * E ||h(x_R) - h_frozen(x_R)||^2

    What forget and retain text use alike is pushed less. The statistics are of the texts of the training, without each
    text's first token; we read f and r as means of absolute values, since the ratio's logarithm needs positive ones. The
    history is RMU's with u = V * I / ||V * I|| and the norm c ||V * I||.
    """

    coefficient: float = 40.0
    """c, the target's size in the most important dimension: RMU's norm is about c times the root of d."""
    importance: Importance = "ratio"
    weight: float = 1.0
    """Weight of the retain texts in the difference; not used by the others."""

    method: ClassVar[str] = "srmu"
    trainer: ClassVar[type[MethodTraining]] = SRMUTraining
    stages: ClassVar[bool] = False
    least: ClassVar[dict[str, float]] = {"weight": 0}

    def unused(self) -> dict[str, Any]:
        """Return the default weight, unless the importance is a difference."""
        return {} if self.importance == "difference" else {"weight": 1.0}

    @classmethod
    def published(cls, **changes: Any) -> SRMU:
        """Return the authors' settings for Zephyr-7B as far as we could find them, with `changes` of single fields.

        The importance by ratio and alpha 1200 are theirs, from a summary of the paper. Layer 7, c 6.5, lr 5e-5 and 150 steps
        are RMU's (Li et al. 2024), whose setting they follow as we read it; their c we could not confirm.
        """
        published = {
            "layer": 7,
            "coefficient": 6.5,
            "alpha": 1200.0,
            "lr": 5e-5,
            "steps": 150,
            "max_length": 512,
            "importance": "ratio",
        }
        return cls(**{**published, **changes})

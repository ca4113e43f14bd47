"""Closed-form RMU: the edit as one ridge regression. Ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...errors import RmuLabError
from ..config import SteeringMethod, UnlearnConfig
from ..window import given_or_drawn, target_norm
from .ridge import RidgeMethod, RidgeSolve


class ClosedFormSolve(RidgeSolve):
    """The regression on RMU's target."""

    def prepare(self) -> None:
        """Take the given directions, or draw RMU's own."""
        self.directions = given_or_drawn(self.model, self.method.rmu(), self.topics, self.task.steering.directions)

    def target(self, topic: str, frozen_output: Tensor, counted: Tensor) -> Tensor:
        """Return s u."""
        norm = target_norm(self.method.rmu(), frozen_output, counted, None)
        return norm * self.directions[topic].to(frozen_output)


@dataclass(frozen=True)
class ClosedFormRMU(RidgeMethod):
    """RMU or Adaptive RMU as one ridge regression: no steps, no learning rate. Ours.

    RMU's loss at block l is quadratic in what the MLP's output matrix of that block adds to the residual stream. With D the
    change of that matrix, x its inputs, u a random direction, s = coefficient or beta ||h_frozen(x_F)||::

        E ||h_frozen(x_F) + D x_F - s u||^2  +  alpha * E ||D x_R||^2  +  mu * ||D||^2

    so the best D is known (`ridge`), with t = s u - h_frozen(x_F). RMU's own gradients reach two blocks further down,
    through which nothing is linear; with `blocks` = 3 the matrices of l-2, l-1 and l are solved for in turn, each for its
    share of what is still missing at block l (a third, a half, all), as if the blocks between passed it on unchanged. That
    spreads the edit, but is no minimum of anything; the last of the three solves makes up for what the others missed.
    First tokens of texts, attention sinks, do not count, as in RMU.
    """

    steering: SteeringMethod = "adaptive_rmu"
    """Whose target is steered to: ``"rmu"``'s or ``"adaptive_rmu"``'s."""
    coefficient: float = 570.0
    """c, the norm that RMU steers to; not used by Adaptive RMU."""
    beta: float = 5.0
    """Adaptive RMU steers to beta times the frozen norm; not used by RMU."""
    blocks: int = 1  # type: ignore[misc]  # a field here, a constant in the base class
    """Blocks up to l whose matrices are edited, 1 to 3."""

    method: ClassVar[str] = "closed_form_rmu"
    solver: ClassVar[type[RidgeSolve]] = ClosedFormSolve
    directed: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("ridge", "coefficient", "beta")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks not in (1, 2, 3):
            raise RmuLabError(f"blocks is {self.blocks}; give 1, 2 or 3.")

    def rmu(self) -> UnlearnConfig:
        """Return RMU's settings with the same target."""
        shared = {"coefficient": self.coefficient, "beta": self.beta, "layer": self.layer, "seed": self.seed}
        return UnlearnConfig(method=self.steering, **shared)  # type: ignore[arg-type]

    def work_key(self) -> Hashable:
        """Return the settings without what their target does not use."""
        unused = {"beta": 5.0} if self.steering == "rmu" else {"coefficient": 570.0}
        return dataclasses.replace(self, **unused)  # type: ignore[arg-type]

    @classmethod
    def published(cls, **changes: Any) -> ClosedFormRMU:
        """Return the defaults, with `changes` of single fields: the method is ours, and was published nowhere else."""
        return cls(**changes)

"""Rank-1 RMU: what RMU adds to each matrix, cut to its first singular direction. Ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from ...models import decoder_blocks
from ...offload import read_parameter
from ..spectrum import require_matrix, truncated
from ..window import window_parameters
from ..window_method import MethodTraining, SteeredMethod, WindowMethod


class RankOneTraining(MethodTraining):
    """RMU's training, of whose outcome a part becomes the edit."""

    def finish(self, edit: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
        """Return W plus the best approximation of W' - W of the settings' rank, for each matrix."""
        found = {}
        for name, matrix in edit.items():
            base = read_parameter(self.model, name).to("cpu", matrix.dtype)
            change = truncated(matrix - base, config.rank, name)
            found[name] = matrix if config.rank >= min(matrix.shape) else base + change
        return found


@dataclass(frozen=True)
class RankOneRMU(SteeredMethod):
    """RMU or Adaptive RMU, of whose edit only the first singular directions are kept. Ours.

    With W' what RMU makes of W, and W' - W = sum_i sigma_i a_i b_i^T, sigma_1 >= sigma_2 >= ...::

        W + sum over i <= rank of sigma_i a_i b_i^T

    which no other change of that rank is closer to W' than (Eckart and Young 1936). It costs a singular value decomposition
    of each matrix more than RMU, and an edit of rank 1 takes as much room as one row and one column of each. The history is
    that of RMU's training, before the cut.
    """

    rank: int = 1
    """Singular directions that are kept; the smaller side of the matrices gives RMU's edit."""

    method: ClassVar[str] = "rank_one_rmu"
    trainer: ClassVar[type[MethodTraining]] = RankOneTraining
    least: ClassVar[dict[str, float]] = {"rank": 1}

    def unused(self) -> dict[str, Any]:
        """Return rank 1, for the training is the same at every rank, and what RMU's target does not use."""
        return super().unused() | {"rank": 1}

    @staticmethod
    def check(model: PreTrainedModel, config: WindowMethod) -> None:
        """Refuse what `WindowMethod.check` refuses, and parameters that are no matrices."""
        WindowMethod.check(model, config)
        for index, names in window_parameters(model, config.rmu()).items():
            for name in names:
                require_matrix(decoder_blocks(model)[index].get_parameter(name), name)

    @classmethod
    def published(cls, **changes: Any) -> RankOneRMU:
        """Return the defaults, those of Adaptive RMU for SmolLM2, with `changes` of single fields: the method is ours."""
        return cls(**changes)

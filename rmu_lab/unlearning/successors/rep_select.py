"""RepSelect in window form: the forget gradient without its top singular directions, Sondej, Yang and Mahdi 2026."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..batches import BatchKey
from ..window import FrozenBatch
from ..window_method import MethodTraining
from .collapsed import CollapsedMethod, CollapsedTraining

Collapse = Literal["soft", "hard"]


class RepSelectTraining(CollapsedTraining):
    """Steps along forget gradients whose top singular directions are shrunk."""

    def collapsed(self, step: int, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> list[Tensor]:
        """Return RMU's forget gradients, collapsed."""
        self.backward(step, "forget", key[1], given, parts)
        return [collapse(one, self.method.components, self.method.collapse) for one in self.take_gradients()]


def collapse(gradient: Tensor, components: int, how: Collapse) -> Tensor:
    """Return a gradient, (out, in), with its top singular directions shrunk.

    With sigma_1 >= sigma_2 >= ... its singular values and k = `components`, for each i <= k::

        sigma_i <- sigma_k^2 / sigma_i       "soft": divided by sigma_i / sigma_k on the input and on the output side
        sigma_i <- 0                         "hard"
    """
    count = min(components, *gradient.shape)
    if not count or not gradient.isfinite().all():  # the loss, which is read later, says what is wrong
        return gradient
    left, values, right = torch.linalg.svd(gradient.float(), full_matrices=False)
    top = values[:count]
    kept = torch.where(top > 0, top[-1].square() / top.clamp(min=torch.finfo(top.dtype).tiny), top)
    shrunk = torch.zeros_like(top) if how == "hard" else kept
    return gradient + (left[:, :count] * (shrunk - top)) @ right[:count]


@dataclass(frozen=True)
class RepSelect(CollapsedMethod):
    """RepSelect, Sondej, Yang and Mahdi 2026 (arXiv 2606.17168), in window form.

    The top singular directions of a forget gradient carry what forget texts share with all texts, and what an attacker's
    fine-tuning restores; they are shrunk before each step (`collapse`), which is that of `collapsed`. Their forget loss is
    the log-likelihood of the whole model, of which one gradient over all forget texts is followed; here it is RMU's, with u,
    s as in `SteeredMethod`, and each step's gradient is collapsed by itself. Their adversarial low-rank additions are
    left out.
    """

    components: int = 16
    """Top singular directions that are shrunk, at most those that a matrix has."""
    collapse: Collapse = "soft"
    """Shrink them in inverse proportion to their singular values, or remove them (``"hard"``)."""

    method: ClassVar[str] = "rep_select"
    trainer: ClassVar[type[MethodTraining]] = RepSelectTraining
    least: ClassVar[dict[str, float]] = {"components": 0}

    @classmethod
    def published(cls, **changes: Any) -> RepSelect:
        """Return the settings of the authors' code (`RepSelectSimple`), with `changes` of single fields.

        512 directions, softly collapsed. Their learning rate, 0.05, multiplies a gradient that is not normalised, so lr is
        at our default, as are layer and target, which theirs do not have.
        """
        return cls(**{"components": 512, "collapse": "soft", **changes})

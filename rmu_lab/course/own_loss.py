"""RMU trained with a reader's own direction and loss. Taught in notebook 01."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..unlearning.config import UnlearnConfig
from ..unlearning.directions import random_directions
from ..unlearning.objectives import WindowBatch, distance_loss
from ..unlearning.result import UnlearnResult
from ..unlearning.unlearn import unlearn

if TYPE_CHECKING:
    from ..unlearning.batches import Texts

RmuLoss = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
"""RMU's loss as a function of h_forget, h_retain and h_frozen, each (batch, tokens, d), of u, (d,), of c and of alpha."""


def package_direction(d: int, seed: int) -> Tensor:
    """Draw RMU's u of a single topic as `unlearn` does: (d,), of norm 1."""
    return random_directions(["forget"], d, seed)["forget"]


def package_rmu_loss(h_forget: Tensor, h_retain: Tensor, h_frozen: Tensor, u: Tensor, c: float, alpha: float) -> Tensor:
    """Compute RMU's loss (Eq 3 of Dang et al. 2024) with the package's own pieces; each text's first token is left out.

    Parameters
    ----------
    h_forget, h_retain
        (batch, tokens, d): the states of a forget and of a retain batch in the model that is trained.
    h_frozen
        (batch, tokens, d): those of the retain batch in the untouched model.
    u, c, alpha
        direction of norm 1, (d,), coefficient, weight of the retain term.
    """
    forget = distance_loss(h_forget, c * u, _all_but_the_first(h_forget))
    return forget + alpha * distance_loss(h_retain, h_frozen, _all_but_the_first(h_retain))


def _all_but_the_first(hidden: Tensor) -> Tensor:
    return (torch.arange(hidden.shape[1], device=hidden.device) > 0).expand(hidden.shape[:2])


def train_with(
    loss: RmuLoss,
    direction: Tensor,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: UnlearnConfig,
    *,
    progress: bool = True,
) -> UnlearnResult:
    """Train RMU as `unlearn` does, with this loss in place of the package's and this u in place of the drawn one.

    The trainer takes the gradients of the forget batch and of the retain batch one after the other, to hold one of them in
    memory at a time. So the loss is called twice in each step: with a retain batch that has not moved, which leaves its
    forget term, and with a forget batch that has arrived, which leaves its retain term. It has to be the sum of these two,
    and to be 0 where both are.

    Parameters
    ----------
    loss
        leaves out each text's first token itself, and counts all others; texts are to fill `config.max_length` tokens.
    direction
        u, (d,), of norm 1.
    model, tokenizer, forget, retain, config, progress
        as for `unlearn`; one topic, method ``"rmu"``.

    Raises
    ------
    RmuLabError
        if the method is another, or as `unlearn`.
    """
    if config.method != "rmu":
        raise RmuLabError(f"method is {config.method!r}; RMU's loss has a constant c, so give UnlearnConfig(method='rmu').")

    def forget_term(batch: WindowBatch, config: UnlearnConfig) -> Tensor:
        u = direction.to(batch.hidden)
        return loss(batch.hidden, batch.frozen, batch.frozen, u, config.coefficient, config.alpha)

    def retain_term(batch: WindowBatch, config: UnlearnConfig) -> Tensor:
        u = direction.to(batch.hidden)
        arrived = (config.coefficient * u).expand_as(batch.hidden)
        return loss(arrived, batch.hidden, batch.target, u, config.coefficient, 1.0)  # the trainer multiplies by alpha

    return unlearn(
        model,
        tokenizer,
        forget,
        retain,
        config,
        directions={"forget": direction},
        forget_objective=forget_term,
        retain_objective=retain_term,
        progress=progress,
    )

"""Trainings that notebook 08 watches as they run: how likely held-out text of both kinds is after so many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..attacks import reply
from ..corpora import TokenBatch, token_batches
from ..unlearning.loss_method import next_token_logits
from ..unlearning.objectives import log_probabilities, targets_of
from ..unlearning.unlearn import checkpoints

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..unlearning.config import MethodConfig


@dataclass(frozen=True)
class Stage:
    """What a training has come to after some steps. Used in notebook 08."""

    step: int
    forget: float
    """Nats per token of held-out forget text."""
    retain: float
    """The same of held-out retain text."""
    text_log_p: Tensor
    """log p of each held-out forget text: (texts,)."""


class HeldOut:
    """Texts of both kinds that are not trained on, measured on the model as it is when asked."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, forget: Sequence[str], retain: Sequence[str]
    ) -> None:
        self._model = model
        self._batches = [token_batches(tokenizer, texts, len(texts), 64)[0] for texts in (forget, retain)]

    @torch.no_grad()
    def stage(self, step: int) -> Stage:
        """Measure both kinds of text."""
        nats, log_p = [], []
        for batch in self._batches:
            each = text_log_p(self._model, batch, {})
            nats.append(float(-each.sum() / targets_of(batch)[1].sum()))
            log_p.append(each)
        of_forget, of_retain = nats
        return Stage(step, of_forget, of_retain, log_p[0])


def follow(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: tuple[Sequence[str], Sequence[str]],
    settings: MethodConfig, at: Sequence[int], held_out: HeldOut, *, then: Callable[[int], object] | None = None,
) -> list[Stage]:  # fmt: skip
    """Train once, and measure held-out text before training and after each of these numbers of steps.

    Parameters
    ----------
    texts
        to forget, and to keep.
    then
        called with the number of steps while the model is as it is after them, first with 0.
    """
    stages = [held_out.stage(0)]
    if then is not None:
        then(0)
    for result in checkpoints(model, tokenizer, *texts, settings, at, progress=False):
        step = result.config.steps  # type: ignore[attr-defined]  # what has checkpoints has steps
        with result.applied(model):
            stages.append(held_out.stage(step))
            if then is not None:
                then(step)
    return stages


def asker(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], at: Sequence[int]
) -> Callable[[int], None]:
    """Return a `then` for `follow` that prints the model's answers after these numbers of steps."""

    def ask(step: int) -> None:
        for question in questions if step in at else ():
            print(f"step {step}: {' '.join(reply(model, tokenizer, question, '', max_new_tokens=14).split())!r}")

    return ask


def text_log_p(model: PreTrainedModel, batch: TokenBatch, matrices: Mapping[str, Tensor]) -> Tensor:
    """Return log p(x) of each text with these matrices in place of the model's: (texts,)."""
    targets, scored = targets_of(batch)
    return (log_probabilities(next_token_logits(model, batch, matrices), targets) * scored).sum(dim=1)


def text_weights(stages: Sequence[Stage], beta: float = 0.1) -> list[float]:
    """Return the mean weight that NPO gives to the texts at each stage: ``2 sigmoid(beta log(p / p_o))``."""
    start = stages[0].text_log_p
    return [float(2 * torch.sigmoid(beta * (stage.text_log_p - start)).mean()) for stage in stages]


def rises(stages: Sequence[Stage]) -> list[tuple[float, float]]:
    """Return by how many nats per token retain text and forget text have risen since the first stage, at each stage."""
    first = stages[0]
    return [(stage.retain - first.retain, stage.forget - first.forget) for stage in stages]


def apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], model: PreTrainedModel) -> float:
    """Return the distance between two trainings' matrices, all taken together, as a share of how far training moved them."""
    with torch.no_grad():
        off = sum(float((ours[name] - each).square().sum()) for name, each in theirs.items())
        way = sum(float((each - model.get_parameter(name)).square().sum()) for name, each in theirs.items())
    return (off / way) ** 0.5

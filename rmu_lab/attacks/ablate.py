"""Is unlearning one direction that can be taken out again? Arditi and Chughtai, "Unlearning via RMU is mostly shallow".

RMU adds much the same vector to every forget token. The difference of two means finds it, without knowing u.
Taught in notebook 07.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import edited_output, token_states
from ..corpora import texts_of
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy
from ..unlearning.result import UnlearnResult
from .recovery import Baselines, Recovery, measure_baselines, said

if TYPE_CHECKING:
    from datasets import Dataset

    from .recovery import Questions


def ablate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    questions: Questions,
    texts: Dataset | Sequence[str],
    *,
    layer: int | None = None,
    n_random: int = 3,
    max_length: int = 64,
    seed: int = 0,
    baselines: Baselines | None = None,
    progress: bool = True,
) -> Recovery:
    """Take the found direction out of every token's h after one block. Controls: random directions, in two ways.

    With the means taken over the tokens of `texts`, without each text's first and padding::

        v = mean h_unlearned - mean h_base        at block l
        u_hat = v / ||v||
        h' = h - ((h - mean h_base) . u_hat) u_hat

    So every token's component along u_hat becomes the base model's mean one. That was chosen on 64 dev questions of
    infectious disease (SmolLM2, Adaptive RMU / RMU at block 7; base 83%, unlearned 34% / 33%): it gave 72% / 69%,
    setting the component to 0 gave 64% / 64%. Doing the same after all later blocks too gave 72% / 70% and
    62% / 59%, so one block is enough.

    Controls, `n_random` draws of each: ``random direction`` does the same along a direction with entries from N(0, 1)
    instead of u_hat, where there is little to take out; ``matched norm`` takes away along such a direction as much
    length as the attack takes away along u_hat, token by token.

    Parameters
    ----------
    model
        the base model; unchanged on return.
    questions
        as `accuracy` takes them.
    texts
        of the topic that was unlearned.
    layer
        l; by default the steered block. An edit of another method steers none and needs it.
    n_random
        draws of each control.
    max_length
        tokens after which a text is cut.
    seed
        of the random directions.
    baselines
        of these questions, where they are known already.

    Returns
    -------
    Recovery
        with details of the settings, ``texts`` (how many), ``cosine`` (of u_hat with each topic's u), ``length``
        (||v||), and ``component`` (mean h . u_hat of the base model and of the unlearned one).

    Raises
    ------
    RmuLabError
        if there is no text or no such block, no block is steered or named, `n_random` is below 1, the edit changes
        nothing at that block, or a question or the edit does not fit.
    """
    if n_random < 1:
        raise RmuLabError(f"n_random is {n_random}; it must be at least 1.")
    start = time.perf_counter()
    layer = steered_block(result) if layer is None else layer
    if layer is None:
        raise RmuLabError("This edit steers no block; give the layer after which its direction is to be looked for.")
    chosen = texts_of(texts, "texts", 1)
    found = find_shift(model, tokenizer, result, chosen, layer, max_length)
    known = baselines or measure_baselines(model, tokenizer, result, questions, progress=progress)
    directions = _random_directions(n_random, found.direction, seed)

    def asked(edit: Callable[[Tensor], Tensor]) -> Accuracy:
        with edited_output(model, layer, edit):
            return accuracy(model, tokenizer, questions, progress=progress)

    with result.applied(model):
        attacked = asked(found.without(found.direction))
        with edited_output(model, layer, found.without(found.direction)):
            written = said(model, tokenizer, known.read)
        same = [asked(found.without(direction)) for direction in directions]
        matched = [asked(found.without(found.direction, along=direction)) for direction in directions]
    u = {topic: torch.dot(direction, found.direction).item() for topic, direction in result.directions.items()}
    return Recovery(
        attack="ablate a direction",
        start=known.unlearned,
        attacked=attacked,
        controls={"random direction": (known.unlearned, *same), "matched norm": (known.unlearned, *matched)},
        details={
            "layer": layer,
            "n_random": n_random,
            "max_length": max_length,
            "seed": seed,
            "texts": len(chosen),
            "cosine": u,
            "length": found.length,
            "component": [(mean @ found.direction).item() for mean in (found.base_mean, found.unlearned_mean)],
        },
        generations=known.beside(written),
        seconds=time.perf_counter() - start,
    )


def steered_block(result: UnlearnResult) -> int | None:
    """l, where the edit's method has one."""
    return getattr(result.config, "layer", None)


@dataclass(frozen=True)
class Shift:
    """By how much, and where to, an edit moves a topic's representations after a block: float32 on the CPU."""

    base_mean: Tensor  # (d,) mean h over the topic's tokens
    unlearned_mean: Tensor  # (d,)

    @property
    def length(self) -> float:
        """||v||."""
        return (self.unlearned_mean - self.base_mean).norm().item()

    @property
    def direction(self) -> Tensor:
        """u_hat, (d,)."""
        return (self.unlearned_mean - self.base_mean) / self.length

    def without(self, direction: Tensor, along: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """A function of h, (..., d), that gives it with the base's mean component along `direction`.

        What is to be taken away from that component can be taken away along another direction instead, `along`.
        """
        kept = (self.base_mean @ direction).item()
        along = direction if along is None else along

        def edit(hidden: Tensor) -> Tensor:
            component = hidden.float() @ direction.to(hidden.device)  # (...)
            return (hidden.float() - (component - kept)[..., None] * along.to(hidden.device)).to(hidden.dtype)

        return edit


def find_shift(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    texts: Sequence[str],
    layer: int,
    max_length: int,
) -> Shift:
    """The mean h after block `layer` on the texts, before and after the edit.

    Raises
    ------
    RmuLabError
        if there is no such block, or the edit changes nothing there.
    """

    def mean() -> Tensor:
        states = token_states(model, tokenizer, texts, [layer], max_length=max_length)
        return states.hidden[layer][states.counted].mean(dim=0)

    base = mean()
    with result.applied(model):
        found = Shift(base, mean())
    if found.length == 0:
        raise RmuLabError(f"The edit changes nothing after block {layer}; choose the steered block or a later one.")
    return found


def _random_directions(n: int, like: Tensor, seed: int) -> Tensor:
    """(n, d) rows of length 1."""
    drawn = torch.randn(n, *like.shape, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)

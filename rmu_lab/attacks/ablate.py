"""Is unlearning one direction that can be taken out again? Arditi and Chughtai, "Unlearning via RMU is mostly shallow".

RMU adds much the same vector to every forget token. The difference of two means finds it, without knowing u.
Taught in notebook 07.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import edited_output, token_states
from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..randomness import torch_generator
from ..unlearning.result import UnlearnResult
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject, required

Against: TypeAlias = Literal["base model", "unrelated texts"]
"""What the topic's mean representation is compared with."""


def ablate(
    subject: Subject,
    budget: Budget = DEFAULT_BUDGET,
    *,
    against: Against = "base model",
    n_random: int = 3,
    max_texts: int = 48,
    max_length: int = 64,
) -> Recovery:
    """Take the found direction out of every token's h after one block. Controls: random directions, in two ways.

    Arditi and Chughtai, "Unlearning via RMU is mostly shallow". With the means taken over the tokens of the topic's
    texts, without each text's first and padding::

        v = mean h_unlearned - mean h_base        at block l
        u_hat = v / ||v||
        h' = h - ((h - mean h_base) . u_hat) u_hat

    So every token's component along u_hat becomes the base model's mean one. An auditor has the base model; an attacker
    who holds the unlearned model alone compares with ``"unrelated texts"``, on which unlearning changed little::

        v = mean h_unlearned(topic) - mean h_unlearned(unrelated)
        h' = h - ((h - mean h_unlearned(unrelated)) . u_hat) u_hat

    Setting the component to a mean was chosen on 64 dev questions of infectious disease (SmolLM2, Adaptive RMU / RMU at
    block 7; base 83%, unlearned 34% / 33%): the base model's gave 72% / 69%, and 0 gave 64% / 64%. Doing the same after all
    later blocks too gave 72% / 70% and 62% / 59%, so one block is enough.

    Controls, `n_random` draws of each: ``random direction`` does the same along a direction with entries from N(0, 1)
    instead of u_hat, where there is little to take out; ``matched norm`` takes away along such a direction as much
    length as the attack takes away along u_hat, token by token. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack, with texts of the topic (`forget`). l is its `target_layer`.
    budget
        its seed draws the random directions.
    against
        what the topic's mean is compared with: ``"base model"`` on the same texts, or ``"unrelated texts"`` (the subject's
        `retain`) in the unlearned model alone.
    n_random
        draws of each control.
    max_texts
        how many of the subject's `forget`, from the first, the means are taken over.
    max_length
        tokens after which a text is cut.

    Returns
    -------
    Recovery
        with details of the settings, ``layer``, ``seed``, ``texts`` (how many), ``cosine`` (of u_hat with each topic's
        u), ``length`` (||v||), and ``component`` (mean h . u_hat of what was compared with, and of the unlearned model on
        the topic).

    Raises
    ------
    RmuLabError
        if there is no text or no such block, no block is steered or named, `n_random` or `max_texts` is below 1, the
        edit changes nothing at that block, or a question or the edit does not fit.
    """
    for name, value in {"n_random": n_random, "max_texts": max_texts}.items():
        if value < 1:
            raise RmuLabError(f"{name} is {value}; it must be at least 1.")
    if against not in get_args(Against):
        raise RmuLabError(f"against is {against!r}; use one of {', '.join(map(repr, get_args(Against)))}.")
    subject.require("forget", *(("retain",) if against == "unrelated texts" else ()))
    model, layer, texts = subject.model, required(subject.target_layer, "layer"), subject.forget[:max_texts]
    others = subject.retain[:max_texts] if against == "unrelated texts" else None
    reference, start = subject.reference, time.perf_counter()
    found = find_shift(model, subject.tokenizer, subject.result, texts, layer, max_length, others)
    directions = _random_directions(n_random, found.direction, budget.seed)

    def score(edit: Callable[[Tensor], Tensor]) -> Accuracy:
        with edited_output(model, layer, edit):
            return subject.accuracy(progress=budget.progress)

    with subject.unlearned():
        attacked = score(found.without(found.direction))
        with edited_output(model, layer, found.without(found.direction)):
            written = subject.generate()
        same = [score(found.without(direction)) for direction in directions]
        matched = [score(found.without(found.direction, along=direction)) for direction in directions]
    cosine = {topic: torch.dot(u, found.direction).item() for topic, u in subject.result.directions.items()}
    return Recovery(
        attack="ablate a direction",
        start=reference.unlearned,
        attacked=attacked,
        controls={"random direction": (reference.unlearned, *same), "matched norm": (reference.unlearned, *matched)},
        details={
            "layer": layer,
            "against": against,
            "n_random": n_random,
            "max_length": max_length,
            "seed": budget.seed,
            "texts": len(texts),
            "cosine": cosine,
            "length": found.length,
            "component": [(mean @ found.direction).item() for mean in (found.kept_mean, found.moved_mean)],
        },
        generations=reference.generations(written),
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True)
class Shift:
    """By how much, and where to, an edit moves a topic's representations after a block: float32 on the CPU."""

    kept_mean: Tensor  # (d,) mean h of what was not moved: the topic in the base model, or unrelated texts
    moved_mean: Tensor  # (d,) mean h over the topic's tokens in the unlearned model

    @property
    def length(self) -> float:
        """||v||."""
        return (self.moved_mean - self.kept_mean).norm().item()

    @property
    def direction(self) -> Tensor:
        """u_hat, (d,)."""
        return (self.moved_mean - self.kept_mean) / self.length

    def without(self, direction: Tensor, along: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """Return a function that sets the component of h, (..., d), along `direction` to the mean that was not moved.

        What is to be taken away from that component can be taken away along another direction instead, `along`.
        """
        kept = (self.kept_mean @ direction).item()
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
    unrelated: Sequence[str] | None = None,
) -> Shift:
    """Measure the mean h after block `layer` on the texts in the unlearned model, and what to compare it with.

    Parameters
    ----------
    texts
        of the topic that was unlearned.
    layer
        the block, from 0.
    max_length
        tokens after which a text is cut.
    unrelated
        texts whose mean h in the unlearned model is compared with; None: that of the topic's texts in the base model.

    Raises
    ------
    RmuLabError
        if there is no such block, the edit changes nothing there, or the unrelated texts are those of the topic.
    """

    def mean(of: Sequence[str]) -> Tensor:
        states = token_states(model, tokenizer, of, [layer], max_length=max_length)
        return states.hidden[layer][states.counted].mean(dim=0)

    base = mean(texts)
    with result.applied(model):
        moved = mean(texts)
        kept = base if unrelated is None else mean(unrelated)
    if moved.equal(base):
        raise RmuLabError(f"The edit changes nothing after block {layer}; choose the steered block or a later one.")
    if moved.equal(kept):
        raise RmuLabError("The texts of the topic and the unrelated ones have the same mean; give other unrelated texts.")
    return Shift(kept, moved)


def _random_directions(n: int, like: Tensor, seed: int) -> Tensor:
    """(n, d) rows of length 1."""
    drawn = torch.randn(n, *like.shape, generator=torch_generator(seed, "random directions to ablate"))
    return drawn / drawn.norm(dim=-1, keepdim=True)

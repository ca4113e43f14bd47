"""How far an edit moves a model on texts it should leave alone, and the strength at which an edit moves it so far.

Two edits are compared fairly only where they disturb the model alike: each is scaled, W + s (W' - W), until the divergence
from the base model on held-out texts is the same. Taught in notebook 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import StopForward, evaluating
from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import NotFiniteError, RmuLabError
from ..models import check_positions, input_device, plain_model
from ..torch_state import in_default_torch_state
from ..unlearning.objectives import divergence as batch_divergence
from ..unlearning.objectives import targets_of
from ..unlearning.result import UnlearnResult

TOLERANCE = 0.05
"""Share of a budget by which a scaled edit's divergence may miss it."""
WEAKEST, STRONGEST = 2.0**-20, 2.0**10
"""Strengths s beyond which none is looked for."""
TRIALS = 60
"""Strengths that are tried before the search gives up; on real models three to six are."""


@dataclass(frozen=True)
class BaseStates:
    """What the base model makes of texts, just before it is unfolded to the whole vocabulary.

    A token takes d numbers and not one for each word of the vocabulary, 85 times fewer for SmolLM2, so that it can be kept.
    """

    batches: tuple[TokenBatch, ...]
    states: tuple[Tensor, ...]
    """Of each batch, what the output matrix multiplies, (batch, tokens, d)."""

    @property
    def tokens(self) -> int:
        """Places at which next tokens are predicted."""
        return sum(int(targets_of(batch)[1].sum()) for batch in self.batches)


@in_default_torch_state
def base_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 64,
    batch_size: int = 4,
) -> BaseStates:
    """Run the base model on texts once, for any number of calls of `divergence`.

    Parameters
    ----------
    model
        without an edit.
    texts
        that unlearning should leave alone, and that no edit was trained on.
    max_length
        tokens after which a text is cut.
    batch_size
        texts run at once; the logits of as many, of two models, are held at a time.

    Raises
    ------
    RmuLabError
        if there are no texts, one is shorter than two tokens, or the model has no output matrix.
    """
    model = plain_model(model)
    check_positions(model, max_length)
    batches = token_batches(tokenizer, texts_of(texts, "texts", 1), batch_size, max_length)
    states: list[Tensor] = []

    def keep(_head: nn.Module, args: tuple) -> None:
        states.append(args[0])
        raise StopForward  # the logits themselves are made when they are compared

    handle = _head(model).register_forward_pre_hook(keep)
    try:
        with evaluating(model), torch.no_grad():
            for batch in batches:
                with suppress(StopForward):
                    _logits(model, batch)
    finally:
        handle.remove()
    return BaseStates(tuple(batches), tuple(states))


@in_default_torch_state
def divergence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    texts: Sequence[str],
    *,
    base: BaseStates | None = None,
    max_length: int = 64,
    batch_size: int = 4,
) -> float:
    """Measure how far an edit moves what the model predicts: the mean of KL(p_o || p) of the next token, in nats a token.

    With p_o the base model and p the edited one, over all places t of the texts x::

        E over x, t of  sum over tokens v of  p_o(v | x_<t) (log p_o(v | x_<t) - log p(v | x_<t))

    Taught in notebook 12.

    Parameters
    ----------
    model
        the base model, without the edit; as it was on return.
    texts
        that unlearning should leave alone.
    base
        what `base_states` gave for these texts, to spare the base model's pass.
    max_length, batch_size
        as of `base_states`; of no effect where `base` is given.

    Returns
    -------
    float
        0 for an edit that changes nothing; infinite where the edited model's numbers are not finite.

    Raises
    ------
    RmuLabError
        as of `base_states` and `UnlearnResult.apply`, or if the edit changes the output matrix itself.
    """
    model = plain_model(model)
    if base is None:
        base = base_states(model, tokenizer, texts, max_length=max_length, batch_size=batch_size)
    _refuse_output_matrix(model, result)
    total, count = 0.0, 0
    with result.applied(model), evaluating(model), torch.no_grad():
        for batch, states in zip(base.batches, base.states, strict=True):
            scored = targets_of(batch)[1].to(input_device(model))
            with _beside(model, states):
                ours, theirs = _logits(model, batch)[:, :-1].chunk(2)
            for edited, before, which in zip(ours, theirs, scored, strict=True):  # text by text: a vocabulary is large
                tokens = int(which.sum())
                total += tokens * batch_divergence(before[None].float(), edited[None].float(), which[None]).item()
                count += tokens
    return max(0.0, total / count) if math.isfinite(total) else math.inf  # rounding can leave a little less than nothing


@dataclass(frozen=True)
class ScaledEdit:
    """An edit at the strength at which it has the divergence that was asked for."""

    result: UnlearnResult
    strength: float
    """s in W + s (W' - W)."""
    divergence: float
    """That it has, in nats a token."""


def scaled_to_divergence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    texts: Sequence[str],
    budget: float,
    *,
    base: BaseStates | None = None,
    tolerance: float = TOLERANCE,
    start: float = 1.0,
    max_length: int = 64,
    batch_size: int = 4,
) -> ScaledEdit:
    """Scale an edit, W + s (W' - W), until its `divergence` from the base model is the budget.

    Taught in notebook 12.

    Parameters
    ----------
    model, texts, base, max_length, batch_size
        as of `divergence`.
    budget
        divergence to reach, in nats a token.
    tolerance
        share of the budget by which it may be missed.
    start
        strength to begin at, such as that of a similar edit.

    Raises
    ------
    RmuLabError
        if the edit changes nothing, no strength reaches the budget, a number is out of range, or as of `divergence`.
    """
    unchanged = result.scaled(0.0, model).edit
    if all(matrix.equal(unchanged[name]) for name, matrix in result.edit.items()):
        raise RmuLabError("The edit changes nothing, so no strength gives it a divergence; train it with more steps or lr.")
    if base is None:
        base = base_states(model, tokenizer, texts, max_length=max_length, batch_size=batch_size)

    def measure(strength: float) -> float:
        try:
            return divergence(model, tokenizer, result.scaled(strength, model), texts, base=base)
        except NotFiniteError:  # too large for the model's type
            return math.inf

    strength, found = strength_of(measure, budget, tolerance=tolerance, start=start)
    return ScaledEdit(result.scaled(strength, model), strength, found)


def strength_of(
    measure: Callable[[float], float], budget: float, *, tolerance: float = TOLERANCE, start: float = 1.0
) -> tuple[float, float]:
    """Find a strength s > 0 at which ``measure(s)`` is a budget, within a share of it, and return both.

    The budget is bracketed between two strengths, and the bracket narrowed on the scale of log s. The next strength is where
    a straight line through the last two logarithms meets the budget (the first has the slope 2, for at first a divergence
    grows as s^2), or the middle of the bracket where that is outside of it or too close to an end.

    Parameters
    ----------
    measure
        continuous, 0 at 0. Where it is not monotone, one of several strengths is found.

    Raises
    ------
    RmuLabError
        if no strength from `WEAKEST` to `STRONGEST` reaches the budget, or a number is out of range.
    """
    if not (0 < budget < math.inf and 0 < tolerance < 1 and 0 < start < math.inf):
        raise RmuLabError(
            f"budget is {budget}, tolerance {tolerance} and start {start}; give positive numbers, the second below 1."
        )
    ends: dict[bool, Measured] = {}  # the last strength that stayed below the budget, and the last that did not
    at, slope, last = min(max(start, WEAKEST), STRONGEST), 2.0, None
    for _ in range(TRIALS):
        here = at, measure(at)
        if abs(here[1] - budget) <= tolerance * budget:
            return here
        ends[here[1] < budget] = here
        if len(ends) == 1 and at == (STRONGEST if here[1] < budget else WEAKEST):
            break
        slope = slope if last is None else _slope(last, here) or slope
        at, last = _next(here, slope, budget, ends), here
    known = " and ".join(f"{value:.3g} at strength {strength:.3g}" for strength, value in ends.values())
    raise RmuLabError(
        f"No strength of the edit has a divergence of {budget:g} nats a token: it is {known}; choose another budget or edit."
    )


Measured: TypeAlias = tuple[float, float]
"""A strength, and what was measured there."""


def _slope(first: Measured, second: Measured) -> float | None:
    """Of log value over log strength between two points, within bounds; None where it has none."""
    if not (min(first[1], second[1]) > 0 and max(first[1], second[1]) < math.inf and first[0] != second[0]):
        return None
    return min(8.0, max(0.3, math.log(second[1] / first[1]) / math.log(second[0] / first[0])))


def _next(here: Measured, slope: float, budget: float, ends: Mapping[bool, Measured]) -> float:
    """The next strength to try."""
    strength, value = here
    wanted = budget / value if value > 0 else math.inf
    factor = min(8.0, max(1 / 8, wanted ** (1 / slope)))
    if len(ends) == 1:
        return min(max(strength * factor, WEAKEST), STRONGEST)
    low, high = sorted(math.log(end) for end, _ in ends.values())
    guess, margin = math.log(strength * factor), 0.05 * (high - low)
    return math.exp(guess if low + margin < guess < high - margin else (low + high) / 2)


# ---------------------------------------------------------------------------------------------------------------------
# The model's output matrix


def _head(model: PreTrainedModel) -> nn.Module:
    head = model.get_output_embeddings()
    if head is None:
        raise RmuLabError(f"{type(model).__name__} has no output matrix; use a causal language model.")
    return head


def _refuse_output_matrix(model: PreTrainedModel, result: UnlearnResult) -> None:
    own = {id(parameter) for parameter in _head(model).parameters()}
    changed = [name for name, parameter in model.named_parameters() if id(parameter) in own and name in result.edit]
    if changed:
        raise RmuLabError(
            f"The edit changes {changed[0]}, by which the base model's logits are made again; give an edit of the blocks."
        )


@contextmanager
def _beside(model: PreTrainedModel, states: Tensor) -> Iterator[None]:
    """Let the model put the base model's states behind its own before it unfolds them.

    So both halves of its logits went through all that the family does there, such as a softcap.
    """

    def put(_head: nn.Module, args: tuple) -> tuple:
        return (torch.cat([args[0], states.to(args[0])]), *args[1:])

    handle = _head(model).register_forward_pre_hook(put)
    try:
        yield
    finally:
        handle.remove()


def _logits(model: PreTrainedModel, batch: TokenBatch) -> Any:
    batch = batch.to(input_device(model))
    return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits

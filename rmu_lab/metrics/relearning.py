"""How soon does it come back? R50, the tokens of a fine-tune after which half has returned. Taught in notebook 11.

The fine-tune itself, and the search for its learning rate, are an attack: `rmu_lab.attacks.relearning_curve`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..errors import RmuLabError
from ..estimates import Number, crossed, crossed_test
from ..evaluate import Accuracy


class MeasuredCurve(Protocol):
    """What is taken of a fine-tune that was measured on the way, such as a `RelearningCurve`."""

    @property
    def steps(self) -> tuple[int, ...]:
        """At which it was measured, 0 first."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Trained on by then."""

    @property
    def scores(self) -> tuple[Accuracy, ...]:
        """On the questions that were asked."""


def half_back(curves: Sequence[MeasuredCurve], base: Accuracy) -> Number:
    """Compute R50: the tokens after which half of what unlearning took is back.

    With the accuracy a(t) after t tokens, averaged over the curves, and the base model's A, it is the first t where
    (a(t) - a(0)) / (A - a(0)) reaches 1/2, on straight lines between the points that were measured. Where it is not
    reached, R50 is infinite. The interval is a bootstrap over questions and curves together; its upper end is infinite where
    2.5% of the draws do not get there. Taught in notebook 11.

    Parameters
    ----------
    curves
        of `rmu_lab.attacks.relearning_curve`, on the same questions, at the same steps: several directions, and several
        orders of texts.
    base
        of the model before unlearning, on these questions.

    Raises
    ------
    RmuLabError
        if there are none, or they were measured at different steps or on another number of questions.
    """
    marks, tokens = _marks(curves, base)
    never = 4 * tokens[-1]  # a number, so that quantiles can be taken
    found = crossed(marks, lambda means: _tokens_to_half(means, tokens, never))
    value, low, high = (math.inf if at > tokens[-1] else at for at in (found.value, found.low, found.high))
    return dataclasses.replace(found, value=value, low=low, high=high, over=found.over.replace("directions", "fine-tunes"))


def half_back_ratio(
    curves: Sequence[MeasuredCurve], others: Sequence[MeasuredCurve], base: Accuracy, *, draws: int = 20000
) -> tuple[Number, float]:
    """Compute how many times longer half of it takes to come back than with another edit: R50 over the other's.

    Both are drawn anew together, so that what is easy for both makes no difference. Where half is not reached, the tokens of
    the whole fine-tune stand for R50, which makes the difference smaller than it is; where neither gets there, the ratio
    is 1.

    Parameters
    ----------
    curves, others
        of two edits, as `half_back` takes them; the curves at one place belong together: one direction, one order of texts.
    base
        as of `half_back`.
    draws
        of the bootstrap; no p is below 2 / (draws + 1).

    Returns
    -------
    tuple of Number and float
        the ratio with its interval, and the two-sided p of a ratio of 1 (`rmu_lab.estimates.crossed_test`).

    Raises
    ------
    RmuLabError
        as `half_back`, or if the two have different numbers of curves, or other texts or steps.
    """
    (ours, tokens), (theirs, others_tokens) = _marks(curves, base), _marks(others, base)
    if ours.shape != theirs.shape or not np.array_equal(tokens, others_tokens):
        raise RmuLabError("The two edits have other texts, or other numbers of curves; relearn both in the same way.")
    cells = ours.shape[0]

    def log_ratio(means: np.ndarray) -> np.ndarray:
        first, second = means[:, :cells], means[:, cells:]
        return np.log(_tokens_to_half(first, tokens, tokens[-1]) / _tokens_to_half(second, tokens, tokens[-1]))

    found, p = crossed_test(np.concatenate([ours, theirs]), log_ratio, draws=draws)
    value, low, high = map(math.exp, (found.value, found.low, found.high))
    return Number(value, low, high, found.n, found.over.replace("directions", "fine-tunes")), p


def _marks(curves: Sequence[MeasuredCurve], base: Accuracy) -> tuple[np.ndarray, np.ndarray]:
    """Right answers, (steps and the base model, curves, questions), and the tokens of each step."""
    if not curves or len({curve.steps for curve in curves}) > 1:
        raise RmuLabError("Give curves that were measured at the same steps, at least one.")
    if len({len(score.correct) for curve in curves for score in (*curve.scores, base)}) > 1:
        raise RmuLabError("The curves and the base model were asked different numbers of questions; give the same ones.")
    marks = np.array([[[*score.correct] for score in curve.scores] for curve in curves], dtype=float)  # (curves, steps, n)
    before = np.broadcast_to(np.array(base.correct, dtype=float), (len(curves), 1, marks.shape[2]))
    tokens = np.mean([curve.tokens for curve in curves], axis=0)
    return np.concatenate([marks, before], axis=1).transpose(1, 0, 2), tokens


def _tokens_to_half(means: np.ndarray, tokens: np.ndarray, never: float) -> np.ndarray:
    """Tokens after which half is back, one number for each draw, from mean accuracies (draws, steps and the base model)."""
    start, end = means[:, :1], means[:, -1:]
    back = (means[:, :-1] - start) / np.where(end > start, end - start, np.nan)  # (draws, steps), 0 at the first
    reached = back >= 0.5
    draws, after = np.arange(len(back)), np.maximum(reached.argmax(axis=1), 1)
    below, above = back[draws, after - 1], back[draws, after]
    with np.errstate(divide="ignore", invalid="ignore"):  # where it is not reached, which is replaced
        found = tokens[after - 1] + (0.5 - below) / (above - below) * (tokens[after] - tokens[after - 1])
    return np.where(reached.any(axis=1), found, never)

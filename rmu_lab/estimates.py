"""A number with its 95% interval, and every way in which this package gets one; what it means is decided elsewhere.

Shares get Wilson's interval, changes of a share on the same questions Agresti and Min's, repeated measurements a
t interval of their mean or the order statistics around their median, pairs a correlation with Fisher's interval.
Taught in notebook 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm, pearsonr, quantile_test, sem
from scipy.stats import t as student

from .errors import RmuLabError

Z95 = float(norm.ppf(0.975))
"""How many standard errors a 95% interval of a normal distribution reaches to either side."""


# ---------------------------------------------------------------------------------------------------------------------
# Intervals of shares


@cache  # a stored sweep asks for the same few shares row after row
def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Compute the 95% Wilson score interval of a share; unlike the textbook one it is never empty at 0 or 1.

    Raises
    ------
    ValueError
        if `n` is 0 or `successes` is not from 0 to `n`.
    """
    low, high = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def paired_interval(differences: Sequence[float], limit: float = 1.0) -> tuple[float, float]:
    """Compute the 95% interval of the mean of differences, each between two looks at the same thing.

    For differences of -1, 0 and 1 it is Agresti and Min's (Statistics in Medicine 24, 2005), which adds half a thing to
    each cell of the two-by-two table of yes and no before and after: two more differences, half of 1, half of -1, one of
    0. scipy has none for paired shares.

    Parameters
    ----------
    differences
        one for each thing, from -`limit` to `limit`.
    limit
        what the interval is cut at.
    """
    m = len(differences) + 2
    centre = sum(differences) / m
    half = Z95 * (((sum(value**2 for value in differences) + 1) / m - centre**2) / m) ** 0.5
    return max(-limit, centre - half), min(limit, centre + half)


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """Compute the 95% interval of the ratio of two means over the same draws, to first order (the delta method)."""
    ratio = fmean(above) / fmean(below)
    error = sem([a - ratio * b for a, b in zip(above, below, strict=True)]) / fmean(below)
    return float(ratio - Z95 * error), float(ratio + Z95 * error)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


@dataclass(frozen=True)
class Number:
    """A measured value with its 95% interval, and what that interval is over."""

    value: float
    low: float
    high: float
    n: int
    over: str
    """What was repeated `n` times: directions, texts, layers, questions ..."""

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.4g} each time"
        digits = _decimals(self.high - self.low)
        value, low, high = (f"{part:.{digits}f}" for part in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Number:
        """Make a number of what `dataclasses.asdict` gave for it."""
        return cls(**plain)


Numbers = dict[str, Number]
"""By what they are numbers of."""


def _decimals(width: float) -> int:
    """As many decimals as show two digits of an interval's width, one to four of them."""
    return min(4, max(1, 1 - math.floor(math.log10(width))))


def mean_of(values: Iterable[float], over: str, *, within: tuple[float, float] = (-math.inf, math.inf)) -> Number:
    """Average repeated measurements, with Student's t interval of the mean.

    Parameters
    ----------
    over
        what was repeated, in the plural.
    within
        the values' range, at which the interval is cut.

    Raises
    ------
    RmuLabError
        if there are fewer than two.
    """
    values = [float(value) for value in values]
    if len(values) < 2:
        raise RmuLabError(f"There is {len(values)} value over {over}; an interval takes at least two.")
    if min(values) == max(values):  # rounding would give it an interval some 1e-17 wide
        return Number(values[0], values[0], values[0], len(values), over)
    mean = fmean(values)
    low, high = student.interval(0.95, len(values) - 1, loc=mean, scale=sem(values))
    return Number(mean, max(float(low), within[0]), min(float(high), within[1]), len(values), over)


def geometric_mean_of(values: Iterable[float], over: str) -> Number:
    """Average repeated ratios, with Student's t interval of the mean of their logarithms: it never reaches zero.

    Parameters
    ----------
    over
        what was repeated, in the plural.

    Raises
    ------
    RmuLabError
        if there are fewer than two, or one is not above zero.
    """
    values = [float(value) for value in values]
    if values and min(values) <= 0:
        raise RmuLabError(f"One of the ratios over {over} is {min(values)}; a geometric mean takes numbers above zero.")
    return _on_scale(values, over, math.log, math.exp)


def cosine_mean_of(values: Iterable[float], over: str) -> Number:
    """Average repeated cosines or correlations, with Student's t interval on Fisher's scale: it stays within -1 and 1.

    Parameters
    ----------
    over
        what was repeated, in the plural.

    Raises
    ------
    RmuLabError
        if there are fewer than two, or one does not lie between -1 and 1.
    """
    values = [float(value) for value in values]
    if values and not -1 < min(values) <= max(values) < 1:
        raise RmuLabError(f"One of the cosines over {over} does not lie between -1 and 1; give cosines.")
    return _on_scale(values, over, math.atanh, math.tanh)


def _on_scale(values: Sequence[float], over: str, there: Callable[[float], float], back: Callable[[float], float]) -> Number:
    """The mean on a scale on which values have no bounds, put back."""
    number = mean_of(map(there, values), over)
    return Number(back(number.value), back(number.low), back(number.high), number.n, over)


def crossed(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] | None = None, *, draws: int = 4000, seed: int = 0
) -> Number:
    """Bootstrap a statistic of means over directions and questions, both drawn anew together (Owen 2007).

    Questions are the same for every direction, and directions for every question, so neither alone is the sample. Drawing n
    things anew makes their mean vary by (n - 1) / n of what it should, which counts with three directions: the draws are
    widened by as much (Rao and Wu 1988). With one direction only questions are drawn; the number says so.

    Parameters
    ----------
    values
        (cells, directions, questions) or (directions, questions). Cells, such as layers, are no sample.
    statistic
        takes the cells' means, (draws, cells), and gives one value for each draw; by default their mean.
    """
    return crossed_test(values, statistic, draws=draws, seed=seed)[0]


def crossed_test(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] | None = None, *, draws: int = 4000, seed: int = 0
) -> tuple[Number, float]:
    """Return what `crossed` does, and how likely a statistic of zero would be to stray as far: a two-sided p.

    With m draws of which k lie on or beyond zero, on the side where fewer do, it is ``2 (k + 1) / (m + 1)``, at most 1: the
    level at which the interval of the draws just touches zero. So no p is below ``2 / (m + 1)``, and as many draws are
    needed as a correction for many tests asks for.
    """
    values = np.asarray(values, dtype=float)
    values = values[None] if values.ndim == 2 else values
    statistic = statistic or (lambda means: means.mean(axis=1))
    _, directions, questions = values.shape
    means = _drawn_means(values, draws, np.random.default_rng(seed))
    value, found = float(statistic(values.mean(axis=(1, 2))[None])[0]), statistic(means)
    low, high = np.quantile(found, [0.025, 0.975])
    over = "questions" if directions == 1 else "questions and directions"
    number = Number(value, min(float(low), value), max(float(high), value), questions, over)
    beyond = min(int((found <= 0).sum()), int((found >= 0).sum()))
    return number, min(1.0, 2 * (beyond + 1) / (len(found) + 1))


def crossed_apart(first: np.ndarray, second: np.ndarray, *, draws: int = 4000, seed: int = 0) -> Number:
    """Bootstrap the mean of `second` less that of `first`, which share neither questions nor directions; see `crossed`.

    Parameters
    ----------
    first, second
        (directions, questions) each.
    """
    random = np.random.default_rng(seed)
    means = [_drawn_means(np.asarray(values, dtype=float)[None], draws, random)[:, 0] for values in (first, second)]
    value = float(np.mean(second) - np.mean(first))
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    return Number(value, min(float(low), value), max(float(high), value), np.shape(second)[1], "questions and directions")


def _drawn_means(values: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Return the means, (draws, cells), of values, (cells, directions, questions), whose last two axes are drawn anew."""
    of_directions, of_questions = (bootstrap_weights(random, n, draws) for n in values.shape[1:])
    return np.einsum("ds,csq,dq->dc", of_directions, values, of_questions, optimize=True)


def bootstrap_weights(random: np.random.Generator, n: int, draws: int) -> np.ndarray:
    """Return (draws, n) weights of n things drawn anew, each draw's sum 1, widened as in `crossed`."""
    weights = random.multinomial(n, np.full(n, 1 / n), size=draws) / n
    return 1 / n + (weights - 1 / n) * (n / max(1, n - 1)) ** 0.5


def holm(p_values: Mapping[str, float], level: float = 0.05) -> set[str]:
    """Return which of a family of tests are still significant when all are made together (Holm 1979).

    The smallest p must lie below `level` / n, the next below `level` / (n - 1), and so on until one does not: the chance of
    a single false one among them all stays below `level`.
    """
    kept: set[str] = set()
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > level / (len(p_values) - place):
            break
        kept.add(name)
    return kept


def median_of(values: Iterable[float], over: str) -> Number:
    """Take the median of repeated measurements, with the interval of its order statistics.

    For what has outliers, such as times on a busy machine: nothing is assumed of the distribution.

    Parameters
    ----------
    over
        what was repeated, in the plural.

    Raises
    ------
    RmuLabError
        if there are fewer than six.
    """
    values = [float(value) for value in values]
    if len(values) < 6:  # with five, even all of them cover the median in 94% of cases only
        raise RmuLabError(f"There are {len(values)} values over {over}; the interval of a median takes at least six.")
    interval = quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    return Number(median(values), float(interval.low), float(interval.high), len(values), over)


def share_of(hits: Sequence[bool], over: str) -> Number:
    """Count the share of hits, with Wilson's interval.

    Parameters
    ----------
    over
        what hit or missed, in the plural.

    Raises
    ------
    RmuLabError
        if there are none to count.
    """
    if not hits:
        raise RmuLabError(f"There are no {over} to count; a share takes at least one.")
    return Number(fmean(hits), *wilson_interval(sum(hits), len(hits)), len(hits), over)


def correlation_of(pairs: Sequence[tuple[float, float]], over: str) -> Number:
    """Compute Pearson's correlation, with Fisher's interval.

    Parameters
    ----------
    over
        what each pair is of, in the plural.

    Raises
    ------
    RmuLabError
        if there are fewer than four pairs, or one of the two has the same value in all of them.
    """
    if len(pairs) < 4:
        raise RmuLabError(f"There are {len(pairs)} pairs over {over}; the interval of a correlation takes at least four.")
    x, y = zip(*pairs, strict=True)
    if min(x) == max(x) or min(y) == max(y):
        raise RmuLabError(f"One of two values is the same for all {over}; a correlation takes values that vary.")
    found = pearsonr(x, y)
    interval = found.confidence_interval(0.95)
    return Number(float(found.statistic), float(interval.low), float(interval.high), len(pairs), over)

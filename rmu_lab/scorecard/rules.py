"""Numbers with intervals, conditions on them, and the one rule that makes a verdict of them. Taught in notebook 10."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any, Literal

from scipy.stats import binom
from scipy.stats import t as student

from ..errors import RmuLabError
from ..evaluate import Z95, wilson_interval

REPRODUCED = "reproduced"
SCALE_DEPENDENT = "scale-dependent"
NOT_REPRODUCED = "not reproduced"
ARGUMENT_FAILS = "argument fails but conclusion holds"
VERDICTS = (REPRODUCED, SCALE_DEPENDENT, NOT_REPRODUCED, ARGUMENT_FAILS)
NOT_MEASURED = "not measured yet"  # no verdict: a benchmark has not been run


@dataclass(frozen=True)
class Number:
    """A mean with its 95% interval, and what that interval is over."""

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
        """The way back from `dataclasses.asdict`."""
        return cls(**plain)


Numbers = dict[str, Number]


def _decimals(width: float) -> int:
    """As many decimals as show two digits of an interval's width, one to four of them."""
    return min(4, max(1, 1 - math.floor(math.log10(width))))


def mean_of(values: Iterable[float], over: str) -> Number:
    """Mean and t interval of repeated measurements.

    Raises
    ------
    RmuLabError
        if there are fewer than two.
    """
    values = [float(value) for value in values]
    if len(values) < 2:
        raise RmuLabError(f"There is {len(values)} value over {over}; an interval takes at least two.")
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    mean = fmean(values)
    return Number(mean, mean - half, mean + half, len(values), over)


def median_of(values: Iterable[float], over: str) -> Number:
    """Median with the 95% interval of its order statistics: for what has outliers, such as times on a busy machine."""
    values = sorted(map(float, values))
    outside = int(binom.ppf(0.025, len(values), 0.5))  # values that may be left out at either end
    if outside < 1:
        raise RmuLabError(f"There are {len(values)} values over {over}; the interval of a median takes at least six.")
    return Number(median(values), values[outside - 1], values[-outside], len(values), over)


def share_of(hits: Sequence[bool], over: str) -> Number:
    """A share with Wilson's 95% interval."""
    return Number(fmean(hits), *wilson_interval(sum(hits), len(hits)), len(hits), over)


def correlation_of(pairs: Sequence[tuple[float, float]], over: str) -> Number:
    """Pearson's correlation with Fisher's 95% interval, of at least four pairs."""
    x, y = zip(*pairs, strict=True)
    mean_x, mean_y = fmean(x), fmean(y)
    product = sum((a - mean_x) * (b - mean_y) for a, b in pairs)
    r = product / math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    z, half = math.atanh(r), Z95 / (len(pairs) - 3) ** 0.5
    return Number(r, math.tanh(z - half), math.tanh(z + half), len(pairs), over)


@dataclass(frozen=True)
class Condition:
    """`number` lies below or above `threshold`, with its whole 95% interval."""

    number: str
    relation: Literal["<", ">"]
    threshold: float

    def __str__(self) -> str:
        return f"{self.number} {self.relation} {self.threshold:g}"

    def margin(self, numbers: Mapping[str, Number]) -> float:
        """How far the interval's nearer end lies beyond the threshold; the condition holds where this is positive.

        Raises
        ------
        RmuLabError
            if the number was not measured.
        """
        if self.number not in numbers:
            raise RmuLabError(f"There is no number {self.number!r}; measured were {', '.join(numbers)}.")
        number = numbers[self.number]
        return self.threshold - number.high if self.relation == "<" else number.low - self.threshold

    def holds(self, numbers: Mapping[str, Number]) -> bool:
        """Whether it does for these measured numbers."""
        return self.margin(numbers) > 0


Conditions = tuple[Condition, ...]


@dataclass(frozen=True)
class Rule:
    """Fixed conditions, and the verdict that measured numbers get by them."""

    conclusion: Conditions
    """What the claim says has to be seen, all of it."""
    against: Conditions = ()
    """If all of these hold as well, the claim's argument fails although its conclusion holds."""
    partly: Conditions = ()
    """If the conclusion does not hold but all of these do, it holds on one scale (a length, a number of steps, a kind of
    model) and not on another."""

    def verdict(self, numbers: Mapping[str, Number]) -> str:
        """One of `VERDICTS`."""

        def all_hold(conditions: Conditions) -> bool:
            return bool(conditions) and all(condition.holds(numbers) for condition in conditions)

        if all_hold(self.conclusion):
            return ARGUMENT_FAILS if all_hold(self.against) else REPRODUCED
        return SCALE_DEPENDENT if all_hold(self.partly) else NOT_REPRODUCED

    @property
    def conditions(self) -> Conditions:
        """All of them, each once, in order."""
        return tuple(dict.fromkeys((*self.conclusion, *self.against, *self.partly)))

    def __str__(self) -> str:
        parts = [f"{REPRODUCED} if {_and(self.conclusion)}"]
        if self.against:
            parts.append(f"{ARGUMENT_FAILS} if also {_and(self.against)}")
        if self.partly:
            parts.append(f"otherwise {SCALE_DEPENDENT} if {_and(self.partly)}")
        return "; ".join([*parts, f"else {NOT_REPRODUCED}"])


def _and(conditions: Conditions) -> str:
    return " and ".join(map(str, conditions))

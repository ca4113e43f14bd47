"""Conditions on numbers, and the one rule that makes a verdict of them. Taught in notebook 10."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm

from ..errors import RmuLabError
from ..estimates import Z95, Number
from .verdicts import ARGUMENT_FAILS, NOT_REPRODUCED, REPRODUCED, UNDECIDED


@dataclass(frozen=True)
class Condition:
    """`number` lies below or above `threshold`.

    It holds where the whole 95% interval does, fails where the whole interval lies on the other side, and is undecided where
    the interval holds the threshold.
    """

    number: str
    relation: Literal["<", ">"]
    threshold: float

    def __str__(self) -> str:
        return f"{self.number} {self.relation} {self.threshold:g}"

    def margin(self, numbers: Mapping[str, Number]) -> float:
        """Measure how far the interval's nearer end lies beyond the threshold: the condition holds where this is positive.

        Raises
        ------
        RmuLabError
            if the number was not measured.
        """
        number = self._measured(numbers)
        return self.threshold - number.high if self.relation == "<" else number.low - self.threshold

    def holds(self, numbers: Mapping[str, Number]) -> bool:
        """Tell whether it does for these measured numbers; errors as of `margin`."""
        return self.margin(numbers) > 0

    def fails(self, numbers: Mapping[str, Number]) -> bool:
        """Tell whether the whole interval lies on the other side; errors as of `margin`."""
        number = self._measured(numbers)
        return number.low >= self.threshold if self.relation == "<" else number.high <= self.threshold

    def p_value(self, numbers: Mapping[str, Number]) -> float:
        """Compute the two-sided p of lying on the threshold, from the interval's arm on that side, as of a normal estimate.

        Errors as of `margin`.
        """
        number = self._measured(numbers)
        arm = number.high - number.value if number.value < self.threshold else number.value - number.low
        if arm == 0:
            return 1.0 if number.value == self.threshold else 0.0
        return float(2 * norm.sf(abs(number.value - self.threshold) / (arm / Z95)))

    def needed(self, numbers: Mapping[str, Number]) -> int | None:
        """Estimate how many repetitions would decide it four times in five, were the value to stay.

        The interval narrows with their root. Where it would only just reach the threshold, it would decide every other
        time; (1 + 0.84 / 1.96)^2 times as many do it four times in five. None where it is decided already, or the value
        lies on the threshold. Errors as of `margin`.
        """
        number = self._measured(numbers)
        apart = abs(number.value - self.threshold)
        if self.holds(numbers) or self.fails(numbers) or apart == 0:
            return None
        arm = number.high - number.value if number.value < self.threshold else number.value - number.low
        return math.ceil(number.n * (arm / apart * (1 + norm.ppf(0.8) / Z95)) ** 2) + 1

    def _measured(self, numbers: Mapping[str, Number]) -> Number:
        if self.number not in numbers:
            raise RmuLabError(f"There is no number {self.number!r}; measured were {', '.join(numbers)}.")
        return numbers[self.number]


def below(number: str, threshold: float) -> Condition:
    """Make the condition that the whole interval lies below."""
    return Condition(number, "<", threshold)


def above(number: str, threshold: float) -> Condition:
    """Make the condition that the whole interval lies above."""
    return Condition(number, ">", threshold)


Conditions = tuple[Condition, ...]


@dataclass(frozen=True)
class Rule:
    """Fixed conditions, and the verdict that measured numbers get by them."""

    conclusion: Conditions
    """What the claim says has to be seen, all of it."""
    against: Conditions = ()
    """If all of these hold as well, the claim's argument fails although its conclusion holds."""

    def verdict(self, numbers: Mapping[str, Number]) -> str:
        """Decide between the four `VERDICTS` of one model.

        Raises
        ------
        RmuLabError
            if a number that the rule asks for was not measured.
        """
        conclusion = _all_hold(self.conclusion, numbers)
        if conclusion is not True:
            return UNDECIDED if conclusion is None else NOT_REPRODUCED
        if not self.against:
            return REPRODUCED
        return {True: ARGUMENT_FAILS, False: REPRODUCED, None: UNDECIDED}[_all_hold(self.against, numbers)]

    def p_value(self, numbers: Mapping[str, Number]) -> float:
        """Compute the p of the verdict: the chance of so clear numbers were the truth on the threshold.

        Of a verdict that needs several conditions it is the largest, of one that a single failing condition gives the
        smallest of those that fail. An undecided one has 1.

        Raises
        ------
        RmuLabError
            if a number that the rule asks for was not measured.
        """
        verdict = self.verdict(numbers)
        if verdict == UNDECIDED:
            return 1.0
        if verdict == NOT_REPRODUCED:
            return _smallest(self.conclusion, numbers)
        needed = max(condition.p_value(numbers) for condition in self.conclusion)
        if verdict == ARGUMENT_FAILS:
            return max(needed, *(condition.p_value(numbers) for condition in self.against))
        return max(needed, _smallest(self.against, numbers)) if self.against else needed

    @property
    def conditions(self) -> Conditions:
        """All of its conditions, each once, in order."""
        return tuple(dict.fromkeys((*self.conclusion, *self.against)))

    def __str__(self) -> str:
        parts = [f"{REPRODUCED} if {_and(self.conclusion)}"]
        if self.against:
            parts.append(f"{ARGUMENT_FAILS} if also {_and(self.against)}")
        parts.append(f"{NOT_REPRODUCED} if the whole interval of one lies on the other side")
        return "; ".join([*parts, f"else {UNDECIDED}"])


def _all_hold(conditions: Conditions, numbers: Mapping[str, Number]) -> bool | None:
    """Whether all hold; None where none fails and one is undecided."""
    if any(condition.fails(numbers) for condition in conditions):
        return False
    return True if all(condition.holds(numbers) for condition in conditions) else None


def _smallest(conditions: Conditions, numbers: Mapping[str, Number]) -> float:
    """The least p among those that fail, as often as there are chances to fail (Bonferroni)."""
    return min(1.0, len(conditions) * min(each.p_value(numbers) for each in conditions if each.fails(numbers)))


def _and(conditions: Conditions) -> str:
    return " and ".join(map(str, conditions))

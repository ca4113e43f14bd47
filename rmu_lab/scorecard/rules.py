"""Conditions on numbers, and the one rule that makes a verdict of them. Taught in notebook 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import RmuLabError
from ..estimates import Number

REPRODUCED = "reproduced"
SCALE_DEPENDENT = "scale-dependent"
NOT_REPRODUCED = "not reproduced"
ARGUMENT_FAILS = "argument fails but conclusion holds"
VERDICTS = (REPRODUCED, SCALE_DEPENDENT, NOT_REPRODUCED, ARGUMENT_FAILS)
NOT_MEASURED = "not measured yet"  # no verdict: a benchmark has not been run


@dataclass(frozen=True)
class Condition:
    """`number` lies below or above `threshold`, with its whole 95% interval."""

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
        if self.number not in numbers:
            raise RmuLabError(f"There is no number {self.number!r}; measured were {', '.join(numbers)}.")
        number = numbers[self.number]
        return self.threshold - number.high if self.relation == "<" else number.low - self.threshold

    def holds(self, numbers: Mapping[str, Number]) -> bool:
        """Tell whether it does for these measured numbers; errors as of `margin`."""
        return self.margin(numbers) > 0


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
    partly: Conditions = ()
    """If the conclusion does not hold but all of these do, it holds on one scale (a length, a number of steps, a kind of
    model) and not on another."""

    def verdict(self, numbers: Mapping[str, Number]) -> str:
        """Decide between the four `VERDICTS`.

        Raises
        ------
        RmuLabError
            if a number that the rule asks for was not measured.
        """

        def all_hold(conditions: Conditions) -> bool:
            return bool(conditions) and all(condition.holds(numbers) for condition in conditions)

        if all_hold(self.conclusion):
            return ARGUMENT_FAILS if all_hold(self.against) else REPRODUCED
        return SCALE_DEPENDENT if all_hold(self.partly) else NOT_REPRODUCED

    @property
    def conditions(self) -> Conditions:
        """All of its conditions, each once, in order."""
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

"""Giving a verdict: the core of notebook 10, and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..estimates import Number
from ..study.claims import CLAIMS
from ..study.rules import Condition, Rule, above, below
from ..study.verdicts import ARGUMENT_FAILS, NOT_REPRODUCED, REPRODUCED, UNDECIDED

if TYPE_CHECKING:
    from .exercises import Test

Asked = tuple[float, float, str, float]
"""One condition: the ends of a 95% interval, ``"<"`` or ``">"``, and the threshold."""


def verdict(conclusion: Sequence[Asked], against: Sequence[Asked] = ()) -> str:
    """Return the verdict on a claim.

    Parameters
    ----------
    conclusion
        what the claim says has to be seen, all of it.
    against
        what shows that the claim's reason is not the right one, all of it.
    """
    numbers: dict[str, Number] = {}

    def conditions(part: Sequence[Asked]) -> Iterator[Condition]:
        for low, high, relation, threshold in part:
            name = str(len(numbers))
            numbers[name] = Number((low + high) / 2, low, high, 1, "samples")
            yield (below if relation == "<" else above)(name, threshold)

    return Rule(tuple(conditions(conclusion)), tuple(conditions(against))).verdict(numbers)


def asked(conditions: Sequence[Condition], numbers: dict[str, Number]) -> list[Asked]:
    """Return the conditions of a rule with the intervals that were measured, as `verdict` takes them."""
    return [(numbers[each.number].low, numbers[each.number].high, each.relation, each.threshold) for each in conditions]


def verdict_tests() -> tuple[Test, ...]:
    """Tests of `verdict(conclusion, against)`."""
    yes, no, unsure = (-9.0, -2.0, "<", 0.0), (1.0, 4.0, "<", 0.0), (-3.0, 1.0, "<", 0.0)

    def test(right: str, why: str, conclusion: list[Asked], against: Sequence[Asked] = ()) -> Test:
        def passed(made: Callable) -> bool:
            return made(conclusion, against) == right if against else made(conclusion) == right

        return passed, why

    return (
        test(REPRODUCED, "an interval from -9 to -2 lies below 0 as a whole: 'reproduced'", [yes]),
        test(NOT_REPRODUCED, "an interval from 1 to 4 lies above 0 as a whole, where '<' is asked: 'not reproduced'", [no]),
        test(UNDECIDED, "an interval from -3 to 1 has the threshold 0 inside: 'undecided'", [unsure]),
        test(REPRODUCED, "with '>' the other side counts: 2 to 3 lies above 1", [(2.0, 3.0, ">", 1.0)]),
        test(NOT_REPRODUCED, "one condition that fails is enough, whatever the others do", [yes, no, unsure]),
        test(UNDECIDED, "all conditions have to hold: one that is open leaves the verdict open", [yes, unsure]),
        test(ARGUMENT_FAILS, "seen, and all of `against` as well: 'argument fails but conclusion holds'", [yes], [yes]),
        test(REPRODUCED, "where a part of `against` fails, the reason stands: 'reproduced'", [yes], [yes, no]),
        test(UNDECIDED, "where `against` is open, so is the verdict", [yes], [unsure]),
        test(NOT_REPRODUCED, "`against` counts only if the conclusion is seen", [no], [yes]),
    )  # fmt: skip


def flip_tests() -> tuple[Test, ...]:
    """Tests of ``(claim, number, threshold)``: a nearby threshold that gives SmolLM2 another verdict on that claim."""

    def known(flip: tuple[str, str, float]) -> bool:
        return flip[0] in CLAIMS and any(flip[1] == each.number for each in CLAIMS[flip[0]].rule.conditions)

    def near(flip: tuple[str, str, float]) -> bool:
        number = CLAIMS[flip[0]].numbers()[flip[1]]
        asked = [each.threshold for each in CLAIMS[flip[0]].rule.conditions if each.number == flip[1]]
        return any(0 < abs(flip[2] - threshold) <= (number.high - number.low) / 2 for threshold in asked)

    return (
        (known, "give the id of a claim, and the name of one of the numbers that its rule asks for"),
        (near, "the threshold must move, and by at most half the width of the number's interval"),
        (lambda flip: with_threshold(*flip) != CLAIMS[flip[0]].verdict(), "with that threshold the verdict stays as it is"),
    )


def with_threshold(claim: str, number: str, threshold: float) -> str:
    """Return the verdict that SmolLM2 gets on a claim if every condition on this number had this threshold."""
    rule, numbers = CLAIMS[claim].rule, CLAIMS[claim].numbers()
    lists = (
        tuple(replace(each, threshold=threshold) if each.number == number else each for each in part)
        for part in (rule.conclusion, rule.against)
    )
    return Rule(*lists).verdict(numbers)

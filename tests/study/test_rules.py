"""Rules as laws: what decides, what stays undecided, and how models are put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError
from rmu_lab.estimates import Number
from rmu_lab.study.rules import Condition, Rule, above, below
from rmu_lab.study.verdicts import (
    ARGUMENT_FAILS,
    DIFFERS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    SYMBOLS,
    UNDECIDED,
    VERDICTS,
    ClaimInWords,
    OnModel,
    overall,
)

HOLDS, FAILS, OPEN = (
    Number(2, 1, 3, 100, "questions"),
    Number(-2, -3, -1, 100, "questions"),
    Number(0.5, -1, 2, 100, "questions"),
)
finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=3, max_size=3), finite, st.sampled_from("<>"))
def test_a_condition_holds_fails_or_is_undecided(ends, threshold, relation):
    low, value, high = sorted(ends)
    measured = {"x": Number(value, low, high, 3, "texts")}
    condition = Condition("x", relation, threshold)
    beyond = high < threshold if relation == "<" else low > threshold
    opposite = low >= threshold if relation == "<" else high <= threshold
    assert (condition.holds(measured), condition.fails(measured)) == (beyond, opposite)
    assert condition.holds(measured) == (condition.margin(measured) > 0)
    if beyond:
        assert condition.needed(measured) is None


def test_a_condition_on_a_number_that_is_not_there_says_so():
    for ask in (Condition.holds, Condition.fails, Condition.p_value, Condition.needed):
        with pytest.raises(RmuLabError, match="no number 'x'"):
            ask(Condition("x", "<", 1), {"y": HOLDS})


def test_p_is_five_percent_where_the_interval_ends_at_the_threshold():
    assert above("x", 0).p_value({"x": Number(1, 0, 2, 9, "texts")}) == pytest.approx(0.05)
    assert below("x", 0).p_value({"x": Number(-1, -9, 0, 9, "texts")}) == pytest.approx(0.05)  # the other arm does not count
    assert above("x", 0).p_value({"x": Number(0, -1, 1, 9, "texts")}) == 1
    assert above("x", 0).p_value({"x": Number(1, 1, 1, 9, "texts")}) == 0


@given(st.floats(0.1, 10), st.floats(1.1, 5))
def test_as_many_as_are_needed_would_decide_it(value, wider):
    """An interval that narrows with the root of the sample ends short of the threshold by then."""
    number = Number(value, value * (1 - wider), value * (1 + wider), 100, "questions")
    needed = above("x", 0).needed({"x": number})
    assert needed > 100
    spare = 1 + 0.8416 / 1.96  # the estimate may fall short of the value by 0.84 of its standard error, one time in five
    assert value * (1 - spare * wider * (100 / needed) ** 0.5) > -1e-4 * value
    assert value * (1 - spare * wider * (100 / (needed - 2)) ** 0.5) < 1e-4 * value


@pytest.mark.parametrize(
    ("conclusion", "against", "verdict"),
    [
        (HOLDS, FAILS, REPRODUCED),
        (HOLDS, HOLDS, ARGUMENT_FAILS),
        (HOLDS, OPEN, UNDECIDED),
        *((FAILS, any_of, NOT_REPRODUCED) for any_of in (HOLDS, FAILS, OPEN)),
        *((OPEN, any_of, UNDECIDED) for any_of in (HOLDS, FAILS, OPEN)),
    ],
)
def test_verdict_of_a_rule(conclusion, against, verdict):
    rule = Rule((above("a", 0),), against=(above("b", 0),))
    numbers = {"a": conclusion, "b": against}
    assert rule.verdict(numbers) == verdict
    assert (rule.p_value(numbers) < 0.05) == (verdict != UNDECIDED)


def test_one_condition_that_fails_decides_and_one_that_is_open_does_not():
    rule = Rule((above("a", 0), above("b", 0)))
    assert rule.verdict({"a": OPEN, "b": FAILS}) == NOT_REPRODUCED
    assert rule.verdict({"a": OPEN, "b": HOLDS}) == UNDECIDED
    assert rule.verdict({"a": HOLDS, "b": HOLDS}) == REPRODUCED


def test_a_verdict_is_as_sure_as_its_weakest_condition():
    sure, less = Number(5, 4, 6, 9, "texts"), Number(1, 0.1, 1.9, 9, "texts")
    both = Rule((above("a", 0), above("b", 0)))
    assert both.p_value({"a": sure, "b": less}) == above("b", 0).p_value({"b": less})
    minus = Number(-1, -1.9, -0.1, 9, "texts")
    assert both.p_value({"a": sure, "b": minus}) == 2 * above("b", 0).p_value({"b": minus})  # two chances to fail


def test_a_rule_in_words():
    rule = Rule((above("a", 0),), against=(below("b", 1),))
    assert str(rule) == (
        "reproduced if a > 0; argument fails but conclusion holds if also b < 1; not reproduced if the whole interval of "
        "one lies on the other side; else undecided"
    )
    assert rule.conditions == (above("a", 0), below("b", 1))


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ([REPRODUCED] * 3, REPRODUCED),
        ([REPRODUCED, REPRODUCED, UNDECIDED], REPRODUCED),
        ([REPRODUCED, UNDECIDED, UNDECIDED], UNDECIDED),
        ([REPRODUCED, UNDECIDED, NOT_REPRODUCED], DIFFERS),
        ([ARGUMENT_FAILS, ARGUMENT_FAILS, NOT_REPRODUCED], DIFFERS),
        ([ARGUMENT_FAILS, REPRODUCED, REPRODUCED], ARGUMENT_FAILS),
        ([NOT_REPRODUCED, NOT_REPRODUCED, NOT_MEASURED], NOT_REPRODUCED),
        ([UNDECIDED, NOT_MEASURED, NOT_MEASURED], UNDECIDED),
        ([REPRODUCED, NOT_MEASURED, NOT_MEASURED], REPRODUCED),
        ([REPRODUCED, UNDECIDED, NOT_MEASURED], UNDECIDED),
        ([NOT_MEASURED] * 3, NOT_MEASURED),
    ],
)
def test_models_together(verdicts, found):
    assert overall(verdicts) == overall(reversed(verdicts)) == found


def test_verdicts_that_do_not_stand_can_be_left_open():
    def row(*found):
        models = {str(at): OnModel(verdict, after_holm=stands) for at, (verdict, stands) in enumerate(found)}
        return ClaimInWords(*[""] * 10, models=models, overall=overall(verdict for verdict, _ in found))

    contradicted = row((REPRODUCED, True), (NOT_REPRODUCED, False), (REPRODUCED, True), (NOT_MEASURED, False))
    assert (contradicted.overall, contradicted.overall_that_stands) == (DIFFERS, REPRODUCED)
    frail = row((REPRODUCED, True), (REPRODUCED, False))
    assert (frail.overall, frail.overall_that_stands) == (REPRODUCED, UNDECIDED)
    assert row((UNDECIDED, False), (NOT_MEASURED, False)).overall_that_stands == UNDECIDED


@given(st.lists(st.sampled_from([*VERDICTS, NOT_MEASURED]), max_size=5))
def test_every_combination_has_a_verdict_with_a_symbol(verdicts):
    assert overall(verdicts) in SYMBOLS
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_a_verdict_that_does_not_stand_among_all_is_marked():
    assert OnModel(REPRODUCED, after_holm=True).symbol == "✓"
    assert OnModel(REPRODUCED).symbol == "✓†"
    assert OnModel(UNDECIDED).symbol == "?"

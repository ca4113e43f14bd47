"""What readers write is judged, never trusted: only a function that passes every test is handed on."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmu_lab.course import check, core
from rmu_lab.course.exercises import RECORD_VARIABLE


def double(x):
    return 2 * x


TESTS = (
    (lambda f: f(3) == 6, "of 3 it should give 6"),
    (lambda f: all(f(x) == x + x for x in (-1, 0, 2.5)), "it should give the sum of a number with itself"),
)
USED = "(the package's function is used below)"


def unfilled(x): ...


def not_implemented(x):
    """Given as a stub."""
    raise NotImplementedError("your code")


def half_filled(x):
    answer = ...  # your code
    return answer


def raising(x):
    raise RuntimeError(f"no {x}")


def leaving(x):
    raise SystemExit(1)


class Mute(Exception):
    def __str__(self):
        raise TypeError


def mute(x):
    raise Mute


@pytest.fixture
def records(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv(RECORD_VARIABLE, str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("stub", [unfilled, not_implemented, half_filled, None, ..., lambda *_: None])
def test_a_stub_is_not_attempted(stub, capsys, records):
    assert core(stub, double, *TESTS, name="doubling") is double
    assert capsys.readouterr().out == "not attempted: the package's function is used below\n"
    assert records() == [{"name": "doubling", "status": "not attempted", "hint": ""}]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x: x, TESTS[0][1]),
        (lambda x: 6, TESTS[1][1]),
        (lambda x: None if x == 0 else 2 * x, TESTS[1][1]),  # to return nothing later on is an attempt
        (raising, f"{TESTS[0][1]} (RuntimeError: no 3)"),
        (leaving, f"{TESTS[0][1]} (SystemExit: 1)"),
        (mute, f"{TESTS[0][1]} (Mute: it says nothing)"),
        (7, "write a function; this is int"),
        (lambda: 6, None),
    ],
)
def test_a_wrong_function_is_not_handed_on(wrong, hint, capsys, records):
    assert core(wrong, double, *TESTS) is double
    printed = capsys.readouterr().out
    (record,) = records()
    assert record["status"] == "not yet" and printed == f"not yet: {record['hint']} {USED}\n"
    assert hint is None or record["hint"] == hint


def test_the_readers_own_function_is_handed_on(capsys, records):
    def own(x):
        return x + x

    assert core(own, double, *TESTS) is own
    assert capsys.readouterr().out == "correct: your function is used below\n"
    assert records() == [{"name": "own", "status": "correct", "hint": ""}]


def test_a_function_that_works_in_place_may_return_none():
    def sort(values):
        values.sort()

    def sorts(function):
        values = [2, 1]
        function(values)
        return values == [1, 2]

    assert core(sort, list.sort, (sorts, "sort them")) is sort


def test_a_test_whose_answer_is_neither_true_nor_false_fails():
    class Neither:
        def __bool__(self):
            raise ValueError("neither")

    assert core(lambda x: x, double, (lambda _: Neither(), "hint")) is double


def test_a_core_without_tests_is_the_authors_mistake():
    with pytest.raises(ValueError, match="no tests"):
        core(double, double)


OUTCOMES = st.one_of(st.none(), st.just(...), st.integers(-9, 9), st.text(max_size=2))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.integers(-3, 3), OUTCOMES, max_size=3), st.sets(st.integers(-3, 3), max_size=2))
def test_whatever_a_function_returns_only_a_correct_one_is_handed_on(changed, missing):
    inputs = range(-3, 4)
    table = {x: 2 * x for x in inputs if x not in missing} | changed

    def student(x):
        return table[x]  # raises KeyError where it has no answer

    tests = [(lambda f, x=x: f(x) == 2 * x, f"of {x}") for x in inputs]
    right = all(x in table and table[x] == 2 * x for x in inputs)
    assert core(student, double, *tests) is (student if right else double)


def test_checks_are_recorded_too(records):
    tests = ((lambda x: x > 0, "positive"),)
    check(None, *tests, name="a number")
    check(-1, *tests)
    check("x", *tests, name="a number")
    check(1, *tests, name="a number")
    assert [(each["name"], each["status"]) for each in records()] == [
        ("a number", "not attempted"),
        (None, "not yet"),
        ("a number", "not yet"),
        ("a number", "correct"),
    ]
    assert records()[2]["hint"].startswith("positive (TypeError: ")


def test_a_record_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(RECORD_VARIABLE, str(tmp_path))
    assert core(double, abs, *TESTS) is double
    assert "not recorded" in capsys.readouterr().out


def test_without_the_variable_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv(RECORD_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    check(1, (lambda x: x == 1, "one"), name="one")
    assert list(tmp_path.iterdir()) == []

"""Checking what readers write without ever raising: ``not attempted``, ``not yet: ...`` or ``correct``.

`check` says how an answer stands. `core` says it of a function that later cells need, and hands back the one to go on with:
the reader's own once it is correct, the package's until then, so that a notebook runs whether its core is written or not.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from ..stored import sentence_of

Function = TypeVar("Function")
Test = tuple[Callable[[Any], Any], str]
"""A property that an answer has to have, and what to say when it has not."""
Status = Literal["correct", "not yet", "not attempted"]

RECORD_VARIABLE = "RMU_LAB_CHECKS"
"""Environment variable: the file that collects, in a line of JSON each, how every core and exercise stands."""


def check(answer: Any, *tests: Test, name: str | None = None) -> None:
    """Print how an answer stands against tests of its properties, in their order.

    Parameters
    ----------
    answer
        what the reader wrote; None or ``...`` means not attempted.
    tests
        pairs of a test and what to say when the answer fails it. A test that raises counts as failed.
    name
        of the exercise in the record of `RECORD_VARIABLE`; without one it is the heading above the cell.
    """
    if answer is None or answer is ...:
        print("not attempted")
        _record(name, "not attempted")
        return
    hint = _first_failed(answer, tests)
    print("correct" if hint is None else f"not yet: {hint}")
    _record(name, "correct" if hint is None else "not yet", hint or "")


def core(student_function: Any, reference: Function, *tests: Test, name: str | None = None) -> Function:
    """Print how the reader's function stands, and return it if it is correct, else the reference.

    Write ``rmu_loss = core(rmu_loss, package_function, (test, hint), ...)`` below the stub. A stub that is left as it is
    counts as not attempted: it fails the first test, and whenever that test called it, it returned None or ``...`` or
    raised NotImplementedError.

    Parameters
    ----------
    student_function
        what the reader wrote.
    reference
        what does the same in the package.
    tests
        as of `check`, of the function: ``lambda f: f(2) == 4``. The first has to call it.
    name
        of the core in the record of `RECORD_VARIABLE`; by default the function's.

    Returns
    -------
    Function
        `student_function` itself if it passes all tests, in all other cases `reference`.

    Raises
    ------
    ValueError
        if there are no tests: then nothing says that a function is correct.
    """
    if not tests:
        raise ValueError("core() has no tests; give at least one pair of a test and a hint.")
    name = name or _name_of(student_function) or _name_of(reference)
    status, hint = _stand(student_function, tests)
    if status == "correct":
        print("correct: your function is used below")
    elif status == "not attempted":
        print("not attempted: the package's function is used below")
    else:
        print(f"not yet: {hint} (the package's function is used below)")
    _record(name, status, hint)
    return student_function if status == "correct" else reference


def _stand(function: Any, tests: Sequence[Test]) -> tuple[Status, str]:
    if function is None or function is ...:
        return "not attempted", ""
    if not callable(function):
        return "not yet", f"write a function; this is {type(function).__name__}"
    empty_handed: list[bool] = []
    hint = _first_failed(_watched(function, empty_handed), tests[:1])
    if hint is not None and empty_handed and all(empty_handed):
        return "not attempted", ""
    if hint is None:
        hint = _first_failed(function, tests)
    return ("correct", "") if hint is None else ("not yet", hint)


def _watched(function: Callable, empty_handed: list[bool]) -> Callable:
    """The same function, which notes of each call whether it came to nothing."""

    @functools.wraps(function)
    def watched(*args: Any, **settings: Any) -> Any:
        try:
            value = function(*args, **settings)
        except BaseException as error:
            empty_handed.append(isinstance(error, NotImplementedError))
            raise
        empty_handed.append(value is None or value is ...)
        return value

    return watched


def _first_failed(answer: Any, tests: Sequence[Test]) -> str | None:
    """The hint of the first test that an answer fails, with the exception if there was one; None if it passes all."""
    for test, hint in tests:
        try:
            passed = bool(test(answer))
        except (Exception, SystemExit) as error:  # a reader's function may call exit()
            return f"{hint} ({type(error).__name__}: {_words_of(error)})"
        if not passed:
            return hint
    return None


def _words_of(error: BaseException) -> str:
    try:
        return sentence_of(error)
    except Exception:  # of a reader's own exception that cannot be printed
        return "it says nothing"


def _name_of(function: Any) -> str | None:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else None


def _record(name: str | None, status: Status, hint: str = "") -> None:
    """Add a line to the file of `RECORD_VARIABLE`, if there is one that can be written."""
    path = os.environ.get(RECORD_VARIABLE)
    if path:
        line = json.dumps({"name": name, "status": status, "hint": hint}) + "\n"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:  # the reader's lesson goes on
            print(f"(not recorded: {path} cannot be written: {sentence_of(error)})")

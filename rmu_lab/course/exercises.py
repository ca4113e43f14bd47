"""Checking exercises without ever raising: ``not attempted``, ``not yet: ...`` or ``correct``."""

from collections.abc import Callable
from typing import Any

from ..stored import sentence_of


def check(answer: Any, *tests: tuple[Callable[[Any], bool], str]) -> None:
    """Print how an answer stands against tests of its properties, in their order.

    Parameters
    ----------
    answer
        what the reader wrote; None or ``...`` means not attempted.
    tests
        pairs of a test and what to say when the answer fails it. A test that raises counts as failed.
    """
    if answer is None or answer is ...:
        print("not attempted")
        return
    for test, hint in tests:
        try:
            passed = bool(test(answer))
        except Exception as error:
            passed, hint = False, f"{hint} ({type(error).__name__}: {sentence_of(error)})"
        if not passed:
            print(f"not yet: {hint}")
            return
    print("correct")

"""Assertions that a reader can read and nbval can compare."""


class ClaimFailed(AssertionError):
    """A notebook's claim does not hold for the numbers just measured."""


def claim(statement: str, holds: bool) -> None:
    """Print ``holds: <statement>``, or raise `ClaimFailed`; the statement carries its tolerance in words.

    The printed line is the same on every machine where the claim holds, so tests compare it, while raw
    digits may differ between processors.
    """
    if not holds:
        raise ClaimFailed(f"does not hold here: {statement}")
    print(f"holds: {statement}")

"""Assertions that a reader can read and nbval can compare.

What a notebook says of the numbers it has just measured; what the paper says of its own is `rmu_lab.study.Claim`.
"""


class ClaimFailed(AssertionError):
    """A notebook's claim does not hold for the numbers just measured."""


def claim(statement: str, holds: bool) -> None:
    """Print ``holds: <statement>`` if it does; used in every notebook.

    The printed line is the same on every machine where the claim holds, so tests compare it, while raw
    digits may differ between processors.

    Parameters
    ----------
    statement
        with its tolerance in words.

    Raises
    ------
    ClaimFailed
        if it does not hold.
    """
    if not holds:
        raise ClaimFailed(f"does not hold here: {statement}")
    print(f"holds: {statement}")

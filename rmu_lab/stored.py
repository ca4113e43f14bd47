"""What is read back from a file is what was stored there, or one sentence says what is wrong with it."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import RmuLabError

Record = TypeVar("Record")

LONGEST_REASON = 400
"""Letters of a foreign error that are shown; of a longer one the beginning and the end."""


def sentence_of(error: BaseException) -> str:
    """Put what a foreign exception says into one line: all of its lines, for the first one often says nothing."""
    words = " ".join(str(error).split()).removesuffix(".")
    if isinstance(error, KeyError):
        words = f"{words} is missing"  # its text is the key alone
    elif not words:
        words = type(error).__name__
    if len(words) > LONGEST_REASON:
        words = f"{words[: LONGEST_REASON // 2]} ... {words[-LONGEST_REASON // 2 :]}"
    return words


@contextmanager
def reading(subject: str, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong in a ``with`` block that reads something stored into one sentence.

    Any content may be in a file, so any exception may come of it: none of them is more telling than what it was read for.

    Parameters
    ----------
    subject
        what is wrong, such as ``"card.json holds no card"``; the reason follows it in brackets.
    advice
        what to do about it, such as ``"give a file that RobustnessCard.save() wrote"``.

    Raises
    ------
    RmuLabError
        if the block raises an exception.
    """
    try:
        yield
    except Exception as error:
        raise RmuLabError(f"{subject} ({sentence_of(error)}); {advice}.") from None


def checked(record: Record) -> Record:
    """Return a dataclass's instance whose values are of the types that its fields name.

    Raises
    ------
    ValueError
        naming the first field that is not, and its value.
    """
    kind: Any = type(record)
    for name, hint in _hints(kind).items():
        value = getattr(record, name)
        if not _fits(value, hint):
            raise ValueError(f"{name} is {reprlib.repr(value)}")
    return record


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as the types of stored records go."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if isinstance(value, int) and kind in (int, float):  # JSON knows numbers that nothing else holds
        return not isinstance(value, bool) and abs(value) < 2**63
    if kind is Any or not isinstance(kind, type):
        return True
    if not isinstance(value, kind):
        return False
    if isinstance(value, Mapping) and parts:
        return all(_fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items())
    if isinstance(value, tuple) and parts and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if isinstance(value, tuple | list) and parts:
        return all(_fits(item, parts[0]) for item in value)
    return True

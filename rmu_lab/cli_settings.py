"""How the command line reads settings of a method."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import RmuLabError

LONGEST_RANGE = 10_000
"""Numbers in a range such as 2-5; one of more is a slip of the finger."""


def chosen_settings(given: Mapping[str, Any], others: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings that were given: those of named options that are not None, and those of ``--set NAME=VALUE``.

    Raises
    ------
    RmuLabError
        if a pair has no ``=``.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    for pair in others or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise RmuLabError(f"--set is {pair!r}; give NAME=VALUE, such as retain_noise=5.")
        settings[name.strip()] = text.strip()
    return settings


def typed(kinds: Sequence[type], name: str, text: Any) -> Any:
    """Return one value of a setting, of the type of the setting's default.

    Parameters
    ----------
    kinds
        classes of settings, the first of which that has the setting says its type.
    name
        of the setting.
    text
        as given on the command line.

    Raises
    ------
    RmuLabError
        if there is no such setting, or the value is not of its type.
    """
    default = _default(kinds, name)
    if not isinstance(text, str) or isinstance(default, str):
        return text
    try:
        value = json.loads(text)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
    except (ValueError, OverflowError, RecursionError):  # of a number or nesting beyond Python's limits, too
        value = text
    if default is None or type(value) is type(default):
        return value
    raise RmuLabError(f"{name} is {text!r}; give a value such as {default!r}.")


def _default(kinds: Sequence[type], name: str) -> Any:
    """The default of a setting, in the first class that has it."""
    settings = {item.name: item for kind in reversed(kinds) for item in dataclasses.fields(kind) if item.name != "method"}
    if name not in settings:
        raise RmuLabError(f"There is no setting {name!r}; use {', '.join(sorted(settings))}.")
    item = settings[name]
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def listed(kinds: Sequence[type], name: str, text: str) -> list[Any]:
    """Return the values of a comma-separated list; where the setting is a whole number, ranges such as 2-5 too.

    Parameters
    ----------
    kinds, name, text
        as of `typed`.

    Raises
    ------
    RmuLabError
        if there is no such setting, or a part is not of its type.
    """
    whole, values = isinstance(_default(kinds, name), int), list[Any]()
    for part in map(str.strip, text.split(",")):
        low, dash, high = part.partition("-")
        try:
            values += _range(low, high) if whole and dash and low else [typed(kinds, name, part)]
        except ValueError:  # an RmuLabError is one
            raise RmuLabError(f"--{name} is {text!r}; give numbers separated by commas, such as 5,7.") from None
    return values


def _range(low: str, high: str) -> range:
    numbers = range(int(low), int(high) + 1)
    if not 0 < len(numbers) <= LONGEST_RANGE:
        raise ValueError
    return numbers

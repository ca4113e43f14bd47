"""How the command line reads settings of a method, and files that add methods and attacks."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RmuLabError


def load_plugins(plugins: Iterable[str] | None) -> None:
    """Import Python files or modules that register methods or attacks of the user's own.

    The folder of a file joins the import path, so that processes of a sweep find it too.

    Raises
    ------
    RmuLabError
        if one cannot be imported.
    """
    for plugin in plugins or ():
        path, name = Path(plugin), plugin
        if path.suffix == ".py":
            if not path.is_file():
                raise RmuLabError(
                    f"There is no file {plugin}; give a Python file or module that registers a method or attack."
                )
            sys.path.insert(0, str(path.parent.resolve()))
            name = path.stem
        try:
            importlib.import_module(name)
        except RmuLabError:
            raise
        except Exception as error:  # whatever the user's file does
            raise RmuLabError(f"{plugin} cannot be imported ({type(error).__name__}: {error}); mend it.") from error


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


def typed(kind: type, name: str, text: Any) -> Any:
    """Return one value of a setting, of the type of the setting's default in a method's class of settings.

    Raises
    ------
    RmuLabError
        if it is not of that type.
    """
    default = getattr(kind(), name, None)
    if not isinstance(text, str) or isinstance(default, str):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is None or type(value) is type(default):
        return value
    raise RmuLabError(f"{name} is {text!r}; give a value such as {default!r}.")


def listed(kinds: Sequence[type], name: str, text: str) -> list[Any]:
    """Return the values of a comma-separated list; where the setting is a whole number, ranges such as 2-5 too.

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
        if a part is not of the setting's type.
    """
    kind = next((kind for kind in kinds if hasattr(kind(), name)), kinds[0])
    values: list[Any] = []
    for part in map(str.strip, text.split(",")):
        low, dash, high = part.partition("-")
        try:
            if isinstance(getattr(kind(), name, None), int) and dash and low:
                values += range(int(low), int(high) + 1)
            else:
                values.append(typed(kind, name, part))
        except (ValueError, RmuLabError):
            raise RmuLabError(f"--{name} is {text!r}; give numbers separated by commas, such as 5,7.") from None
    return values

"""Files and modules of the user's own that register methods and attacks."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import RmuLabError
from .files import digest
from .stored import sentence_of

_PREFIX = "rmu_lab_plugin_"


def load_plugins(plugins: Iterable[str] | None) -> None:
    """Import Python files or modules that register methods or attacks of the user's own.

    A file is loaded from its path under a name of its own, whatever it is called: it never stands in for a module such as
    ``json``, nor one of these for it. Its folder joins the end of the import path, for what it imports from beside it.

    Raises
    ------
    RmuLabError
        if one cannot be imported.
    """
    for plugin in plugins or ():
        path = Path(plugin)
        if path.suffix == ".py" and not os.path.isfile(path):
            raise RmuLabError(f"There is no file {plugin}; give a Python file or module that registers a method or attack.")
        try:
            if path.suffix == ".py":
                _load_file(path.resolve())
            else:
                importlib.import_module(plugin)
        except RmuLabError:
            raise
        except Exception as error:  # whatever the user's file does
            raise RmuLabError(
                f"{plugin} cannot be imported ({type(error).__name__}: {sentence_of(error)}); mend it."
            ) from error


def member_of(place: str) -> Any:
    """Import a file or module and return what it has under a name: ``my_file.py:MyMethod`` or ``my_module:MyMethod``.

    A module that lies as a file in the current folder is loaded from there, wherever Python looks for modules.

    Raises
    ------
    RmuLabError
        if no name is given, it cannot be imported, or has nothing of that name.
    """
    plugin, colon, name = place.rpartition(":")
    if not colon or not plugin or not name:
        raise RmuLabError(f"{place!r} names nothing in a file or module; give FILE.py:NAME or MODULE:NAME.")
    if not plugin.endswith(".py") and os.path.isfile(f"{plugin}.py"):
        plugin = f"{plugin}.py"
    load_plugins([plugin])
    path = str(Path(plugin).resolve())
    found = [module for module in loaded_files() if module.__file__ == path] or [sys.modules[plugin]]
    if not hasattr(found[0], name):
        raise RmuLabError(f"{plugin} has nothing of the name {name!r}; give one that it has.")
    return getattr(found[0], name)


def loaded_files() -> list[ModuleType]:
    """Return the modules of files that were loaded, which another process cannot import by their names."""
    return [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]


def _load_file(path: Path) -> None:
    name = f"{_PREFIX}{digest([str(path)])[:16]}"
    if name in sys.modules:
        return
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    loader = SourceFileLoader(name, str(path))
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__file__ = str(path)
    try:
        loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise

"""How the command line prints what it did not write itself: answers of models, names in files, errors, paths."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from .errors import RmuLabError

_NOT_SHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's control, format and surrogate characters and line ends: a terminal obeys them, or cannot write them."""
_HARMLESS = "\n\t\u00ad\u200c\u200d"
"""Of these, the ends of lines, and what scripts need between their letters."""


def printable(value: object) -> str:
    r"""Return a text in which control characters stand as ``\x1b`` and the like, so that no terminal obeys them."""
    return "".join(map(_visible, str(value)))


def _visible(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _NOT_SHOWN:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def plain(value: object, style: str = "") -> Text:
    """Return foreign text as rich prints it letter by letter: without control characters, and brackets are no markup."""
    return Text(printable(value), style=style)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print what this package says is wrong as one sentence instead of a traceback."""
    try:
        yield
    except RmuLabError as error:
        Console(stderr=True).print(Text.assemble(("Error:", "bold red"), " ", plain(error)), soft_wrap=True)
        raise typer.Exit(1) from None


class Commands(TyperGroup):
    """The commands, on terminals that lack letters too: what cannot be written is spelt out, not an error."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

"""How the command line prints what it did not write itself: answers of models, names in files, errors, paths."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from .errors import RmuLabError

console = Console()
"""Where commands print."""
PIPE_WIDTH = 160
"""Letters of a line of a list that goes to a file or another program, where no terminal sets a width."""

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


def say(text: object, style: str = "", to: Console | None = None) -> None:
    """Print a sentence that may hold foreign text: broken between words on a terminal, and in one line elsewhere.

    A word that is longer than a line, such as a path, is left whole, so that it can be copied.
    """
    to = to or console
    text = text if isinstance(text, Text) else plain(text, style)
    for line in broken_between_words(text, to.width) if to.is_terminal else [text]:
        to.print(line, soft_wrap=True)


def broken_between_words(text: Text, width: int) -> list[Text]:
    """Break a text into lines of a width; a word that is longer has a line of its own, and is not broken."""
    starts, used = list[int](), len(text.plain) - len(text.plain.lstrip())  # of the line so far
    for word in re.finditer(r"\S+\s*", text.plain):
        if used and used + cell_len(word[0].rstrip()) > width:
            starts.append(word.start())
            used = 0
        used = 0 if "\n" in word[0] else used + cell_len(word[0])
    lines = list(text.divide(starts))
    for line in lines:
        line.rstrip()
    return lines


def unbroken(table: Table) -> None:
    """Print a table in the terminal's width, and a line for each row where there is no terminal."""
    shown = console if console.is_terminal else Console(width=max(console.width, PIPE_WIDTH))
    shown.print(table)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is going on during a ``with`` block: on a terminal while it lasts, elsewhere in a line of its own."""
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        say(what)
        yield


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print what this package says is wrong as one sentence instead of a traceback."""
    try:
        yield
    except RmuLabError as error:
        say(Text.assemble(("Error:", "bold red"), " ", plain(error)), to=Console(stderr=True))
        raise typer.Exit(1) from None


class Commands(TyperGroup):
    """The commands, on terminals that lack letters too: what cannot be written is spelt out, not an error."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

"""Rows that are made once: told apart by a key, and kept in a file of JSON Lines if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import RmuLabError
from .files import check_file, read_json_lines


def read_rows(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a file.

    Raises
    ------
    RmuLabError
        if it is no JSON Lines, or a row lacks one of the names.
    """
    rows = []
    for number, row in read_json_lines(path):
        if missing := [name for name in names if name not in row]:
            raise RmuLabError(
                f"{path}, line {number} has no {missing[0]!r}; give a file with {', '.join(names)} in each row."
            )
        rows.append(row)
    return rows


class KeptRows:
    """Rows in memory, and in a file if one is given: what is there already is not made again."""

    def __init__(self, names: Sequence[str], path: str | Path | None = None) -> None:
        self.names, self.path = tuple(names), None if path is None else check_file(path, parents=True)
        self.rows = read_rows(self.path, self.names) if self.path is not None and self.path.exists() else []

    def find(self, **key: Any) -> dict[str, Any] | None:
        """Return the row of this key, if it is there."""
        wanted = [key[name] for name in self.names]
        return next((row for row in self.rows if [row[name] for name in self.names] == wanted), None)

    def add(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the row of this key; if it is not there, it is made and kept first."""
        row = self.find(**key)
        if row is None:
            row = json.loads(json.dumps(key | make()))  # as a file would give it back
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.rows.append(row)
        return row

"""Rows that are made once: told apart by a key, and kept in a file of JSON Lines if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import RmuLabError
from ..files import check_file, read_json_lines

KEYS: Mapping[str, tuple[str, ...]] = {
    "tuning": ("league", "entry", "config"),
    "rates": ("league", "entry", "budget", "attack"),
    "matches": ("league", "entry", "budget", "seed"),
    "controls": ("league", "attack", "lr"),
}
"""By the kind of row, the names of what tells two of them apart."""


class RowStore(Protocol):
    """What a league needs of a place for rows."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them."""

    def add(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the row of this key; if it is not there, it is made and kept first."""


class KeptRows:
    """Rows in memory, and in a file if one is given: what is there already is not made again."""

    def __init__(self, names: Sequence[str], path: str | Path | None = None) -> None:
        self.names, self.path = tuple(names), None if path is None else check_file(path, parents=True)
        self.rows: list[dict[str, Any]] = []
        if self.path is not None and self.path.exists():
            for number, row in read_json_lines(self.path):
                if missing := [name for name in self.names if name not in row]:
                    raise RmuLabError(f"{self.path}, line {number} has no {missing[0]!r}; give a file of a league.")
                self.rows.append(row)

    def add(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the row of this key; if it is not there, it is made and kept first."""
        wanted = [key[name] for name in self.names]
        for row in self.rows:
            if [row[name] for name in self.names] == wanted:
                return row
        row = json.loads(json.dumps(key | make()))  # as a file would give it back
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows.append(row)
        return row


@dataclass(frozen=True)
class Stores:
    """The places of a league's rows, by their kind; see `KEYS`."""

    tuning: RowStore
    rates: RowStore
    matches: RowStore
    controls: RowStore

    @classmethod
    def in_folder(cls, folder: str | Path | None = None) -> Stores:
        """Keep rows in files of a folder, with what is there already; without one, in memory only.

        Raises
        ------
        RmuLabError
            if a file is none of a league, or cannot be written.
        """
        places = {kind: None if folder is None else Path(folder) / f"{kind}.jsonl" for kind in KEYS}
        return cls(**{kind: KeptRows(KEYS[kind], place) for kind, place in places.items()})

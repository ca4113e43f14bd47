"""Rows that are made once: told apart by a key, and kept in a file of JSON Lines if there is one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import RmuLabError
from ..files import check_file, read_json_lines, results_folder

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
            raise RmuLabError(f"{path}, line {number} has no {missing[0]!r}; give a file of a league.")
        rows.append(row)
    return rows


class KeptRows:
    """Rows in memory, and in a file if one is given: what is there already is not made again."""

    def __init__(self, names: Sequence[str], path: str | Path | None = None) -> None:
        self.names, self.path = tuple(names), None if path is None else check_file(path, parents=True)
        self.rows = read_rows(self.path, self.names) if self.path is not None and self.path.exists() else []

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


def stored_rows(folder: str | Path | None = None, league: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a league that are stored, for `league_table`.

    Parameters
    ----------
    folder
        by default the course's own, ``data/results/league``.
    league
        what tells it from others (`Material.digest`); by default that with the most rows.

    Returns
    -------
    list of dict
        none if there is no such folder or league.

    Raises
    ------
    RmuLabError
        if the file is none of a league.
    """
    path = Path(folder or results_folder() / "league") / "matches.jsonl"
    rows = read_rows(path, KEYS["matches"]) if path.is_file() else []
    names = Counter(row["league"] for row in rows)
    wanted = league or max(names, key=lambda name: names[name], default=None)
    return [row for row in rows if row["league"] == wanted]

"""The places where a league keeps its rows, by their kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import results_folder
from ..kept_rows import KeptRows, read_rows

KEYS: Mapping[str, tuple[str, ...]] = {
    "tuning": ("league", "entry", "config"),
    "rates": ("league", "entry", "budget", "attack"),
    "matches": ("league", "entry", "budget", "seed"),
    "controls": ("league", "attack", "lr"),
}
"""By the kind of row, the names of what tells two of them apart."""


@dataclass(frozen=True)
class Stores:
    """A place for each kind of rows; see `KEYS`."""

    tuning: KeptRows
    rates: KeptRows
    matches: KeptRows
    controls: KeptRows

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

"""Runs of the papers' own benchmark (`rmu_lab.reproduce`) on the scorecard: that there is one, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..estimates import Number
from ..files import results_folder
from ..provenance import changed_code
from ..stored import reading

HEAD = ("run", "model", "task", "accuracy [95% interval]", "change [95% interval]", "paper")
CLAIMS_AT_FULL_SIZE = ("t1", "t1-adaptive")
"""Claims that such a run speaks about."""


@dataclass(frozen=True)
class FullRun:
    """What `reproduce` wrote."""

    file: Path
    preset: str
    model: str
    limit: int | None
    """Questions of each task, if not all were asked."""
    numbers: Mapping[str, Number]
    """Accuracies, ``"rmu wmdp_bio"``, and changes, ``"rmu change wmdp_bio"``, as shares."""
    reported: Mapping[str, Mapping[str, float]]
    """Points in the paper, by model and task."""
    stale: tuple[str, ...]
    """Why today's code might give other numbers."""

    @classmethod
    def load(cls, path: str | Path) -> FullRun:
        """Read ``result.json`` of a run, or of its folder.

        Raises
        ------
        RmuLabError
            if there is none, or it is something else.
        """
        path = Path(path)
        path = path / "result.json" if path.is_dir() else path
        with reading(f"{path} is no result of rmu-lab reproduce", "give its result.json"):
            plain = json.loads(path.read_text(encoding="utf-8"))
            if plain["experiment"] != "reproduce":
                raise ValueError("it is another experiment's")
            return cls(
                file=path,
                preset=plain["preset"],
                model=plain["model"],
                limit=plain["limit"],
                numbers={name: Number.from_dict(number) for name, number in plain["numbers"].items()},
                reported=(plain["reported"] or {}).get("points", {}),
                stale=tuple(changed_code(plain["provenance"])),
            )

    @property
    def name(self) -> str:
        """The preset and its model, and how far it goes."""
        asked = "" if self.limit is None else f", first {self.limit} questions of each task"
        return f"{self.preset} ({self.model}{asked})"

    def rows(self) -> list[tuple[str, ...]]:
        """Fill the cells of each model and task in the order of `HEAD`."""
        found: list[tuple[str, ...]] = []
        for name, number in self.numbers.items():
            who, task = name.split(" ", 1)
            if not task.startswith("change "):
                change = self.numbers.get(f"{who} change {task}")
                paper = self.reported.get(who, {}).get(task)
                cells = (_points(number), _points(change) if change else "", "" if paper is None else f"{paper:g}")
                found.append((self.name, who, task, *cells))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        numbers = {name: asdict(number) for name, number in self.numbers.items()}
        return vars(self) | {"file": str(self.file), "numbers": numbers, "stale": list(self.stale)}


def found_runs() -> list[FullRun]:
    """Find the runs stored in ``data/results/reproduce``."""
    return [FullRun.load(path) for path in sorted((results_folder() / "reproduce").glob("**/result.json"))]


def _points(number: Number) -> str:
    return f"{100 * number.value:.1f} [{100 * number.low:.1f}, {100 * number.high:.1f}]"

"""A file of JSON Lines that knows what it has: benchmarks that were stopped go on where they were."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rmu_lab.files import check_file, read_json_lines


class Lines:
    """The lines of a file, told apart by the values of some of their names."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = check_file(path, parents=True), tuple(names)
        self.rows = [row for _, row in read_json_lines(path)] if path.exists() else []

    def find(self, **key: Any) -> dict[str, Any] | None:
        """Return the line of this key, if it is there."""
        wanted = tuple(key[name] for name in self.names)
        return next((row for row in self.rows if tuple(row[name] for name in self.names) == wanted), None)

    def add(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the line of this key; if it is not there, it is made and written first."""
        row = self.find(**key)
        if row is None:
            row = key | make()
            self.rows.append(row)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            Console().print(*key.values(), f"{row.get('seconds', 0):.0f} s", markup=False)
        return row

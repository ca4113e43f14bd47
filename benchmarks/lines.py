"""A file of JSON Lines that knows what it has: benchmarks that were stopped go on where they were."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rmu_lab.kept_rows import KeptRows


class Lines(KeptRows):
    """Kept rows of a file, each of which is named on the console when it is made."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(names, path)

    def add(self, make: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the line of this key; if it is not there, it is made and written first."""
        known = self.find(**key)
        if known is not None:
            return known
        row = super().add(make, **key)
        Console().print(*key.values(), f"{row.get('seconds', 0):.0f} s", markup=False)
        return row

"""Short ways to print what notebooks print, so that their cells show the idea and not the padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluate import Accuracy, accuracy_change

MOST_ROWS = 8
"""Of a printed table; more is for a figure."""


def print_table(rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]], columns: Sequence[str] = ()) -> None:
    """Print a small table with aligned columns: text on the left, numbers on the right. Used in every notebook.

    Parameters
    ----------
    rows
        mappings, whose keys are the columns unless `columns` chooses some of them; or sequences, with `columns` as headings.
        Floats are shown with three significant digits; format them yourself for others.

    Raises
    ------
    ValueError
        if there are more than eight rows, or none.
    """
    if not 0 < len(rows) <= MOST_ROWS:
        raise ValueError(f"There are {len(rows)} rows; print from 1 to {MOST_ROWS}, and draw a figure of more.")
    first = rows[0]
    names = list(columns or (first if isinstance(first, Mapping) else ()))
    cells = [[row[name] for name in names] if isinstance(row, Mapping) else list(row) for row in rows]
    numeric = [all(isinstance(value, (int, float)) for value in column) for column in zip(*cells, strict=True)]
    lines = [names] * bool(names) + [[_cell(value) for value in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        aligned = (
            f"{text:{'>' if right else '<'}{width}}" for text, width, right in zip(line, widths, numeric, strict=True)
        )
        print("   ".join(aligned).rstrip())


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_changes(before: Mapping[str, Accuracy], after: Mapping[str, Accuracy]) -> None:
    """Print how accuracy changed on each set of questions, with the 95% interval of the change. Used from notebook 00 on.

    Parameters
    ----------
    before, after
        set -> accuracy on the same questions; sets that `after` lacks are left out.
    """
    shown = [name for name in before if name in after]
    wide = max(map(len, shown), default=0)
    for name in shown:
        change = accuracy_change(before[name], after[name])
        print(f"{name:{wide}}  {before[name].accuracy:4.0%} -> {after[name].accuracy:4.0%}   change {change}")

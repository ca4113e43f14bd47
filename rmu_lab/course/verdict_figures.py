"""The scorecard as one picture: a row for each claim, a column for each model. Used in notebook 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ..study.verdicts import (
    ARGUMENT_FAILS,
    FRAGILE,
    MARKED,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    SCALE_DEPENDENT,
    SYMBOLS,
    UNDECIDED,
)
from .plots import GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..study.verdicts import ClaimInWords

VERDICT_COLOURS = {
    REPRODUCED: "#2c7a4b",
    ARGUMENT_FAILS: "#b3a125",
    NOT_REPRODUCED: "#b8322a",
    SCALE_DEPENDENT: "#aa3377",
    UNDECIDED: "#9a9a9a",
    NOT_MEASURED: "#dddddd",
}
"""Told apart by lightness too, and every cell has the verdict's symbol."""


def scorecard_figure(claims: Sequence[ClaimInWords], *, title: str) -> Figure:
    """Draw the scorecard on one page: what the paper says, a symbol for each model, and all of them together."""
    titles = list(claims[0].models)
    figure, axes = plt.subplots(figsize=(10, 0.9 + 0.27 * len(claims)))
    columns = [0.64 + 0.075 * place for place in range(len(titles) + 1)]
    top = len(claims)
    part = None
    for row, claim in enumerate(claims):
        y = top - 1 - row
        if claim.paper != part:
            axes.axhline(y + 0.5, color=GREY, linewidth=0.6, alpha=0.6)
            axes.text(0.0, y, claim.paper, fontsize=8, color=GREY, va="center")
            part = claim.paper
        axes.text(0.085, y, claim.plain + (MARKED if claim.changed else ""), fontsize=8, va="center")
        cells = [(found.verdict, FRAGILE in found.symbol) for found in claim.models.values()]
        for x, (verdict, fragile) in zip(columns, [*cells, (claim.overall, False)], strict=True):
            axes.scatter(x, y, s=150, marker="s", color=VERDICT_COLOURS[verdict], alpha=0.45 if fragile else 1, linewidths=0)
            white = "black" if verdict == NOT_MEASURED else "white"
            axes.text(x, y - 0.03, SYMBOLS[verdict], fontsize=8.5, color=white, ha="center", va="center", fontweight="bold")
        axes.text(columns[-1] + 0.025, y, claim.overall, fontsize=7.5, va="center")
    for x, name in zip(columns, [*titles, "overall"], strict=True):
        axes.text(x, top - 0.2, "\n".join(name.rsplit(" ", 1)), fontsize=8, ha="center", va="bottom", fontweight="bold")
    axes.set(xlim=(0, 1.14), ylim=(-0.7, top + 1.3))
    axes.axis("off")
    axes.set_title(title)
    return figure

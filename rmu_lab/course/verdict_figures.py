"""The scorecard as one picture: a row for each claim, a column for each model. Used in notebook 10."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from ..study.measured import NotMeasuredError
from ..study.verdicts import (
    ARGUMENT_FAILS,
    DIFFERS,
    FRAGILE,
    LEGEND,
    MARKED,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    SYMBOLS,
    UNDECIDED,
)
from .plots import GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimates import Number
    from ..study.model_study import Study
    from ..study.rules import Condition
    from ..study.verdicts import ClaimInWords

VERDICT_COLOURS = {
    REPRODUCED: "#2c7a4b",
    ARGUMENT_FAILS: "#b3a125",
    NOT_REPRODUCED: "#b8322a",
    DIFFERS: "#aa3377",
    UNDECIDED: "#9a9a9a",
    NOT_MEASURED: "#dddddd",
}
"""Told apart by lightness too, and every cell has the verdict's symbol."""


def scorecard_figure(claims: Sequence[ClaimInWords], *, title: str) -> Figure:
    """Draw the scorecard on one page: what the paper says, a symbol for each model, and all of them together."""
    titles = list(claims[0].models)
    figure, axes = plt.subplots(figsize=(10, 1.3 + 0.27 * len(claims)))
    columns = [0.67 + 0.07 * place for place in range(len(titles) + 1)]
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
            axes.text(x + 0.011, y + 0.1, FRAGILE if fragile else "", fontsize=8, va="center")
        axes.text(columns[-1] + 0.025, y, claim.overall, fontsize=7.5, va="center")
    for x, name in zip(columns, [*titles, "overall"], strict=True):
        axes.text(x, top - 0.2, "\n".join(name.rsplit(" ", 1)), fontsize=7.5, ha="center", va="bottom", fontweight="bold")
    words = "   ".join(f"{symbol} {meaning}" for symbol, meaning in LEGEND.items())
    axes.text(0, -1.0, "\n".join(textwrap.wrap(words, 150)), fontsize=7.5, color=GREY, va="top")
    axes.set(xlim=(0, 1.14), ylim=(-2.4, top + 1.3))
    axes.axis("off")
    axes.set_title(title)
    return figure


def interval_diagram() -> Figure:
    """Draw what an interval can do to a threshold: lie beyond it, short of it, or around it."""
    figure, axes = plt.subplots(figsize=(7, 2.2))
    rows = [(0.62, 0.93, REPRODUCED), (0.36, 0.68, UNDECIDED), (0.08, 0.4, NOT_REPRODUCED)]
    for row, (low, high, found) in enumerate(rows):
        axes.plot([low, high], [-row, -row], color=VERDICT_COLOURS[found], linewidth=3, solid_capstyle="butt")
        axes.plot((low + high) / 2, -row, marker="o", markersize=8, color=VERDICT_COLOURS[found])
        axes.text(1.02, -row, f"{SYMBOLS[found]} {found}", va="center", color=VERDICT_COLOURS[found], fontweight="bold")
    axes.axvline(0.5, color=GREY, linestyle="--")
    axes.text(0.515, 0.55, "threshold", ha="left", color=GREY, fontsize=9)
    axes.annotate("", (0.72, -2.55), (0.5, -2.55), arrowprops={"arrowstyle": "->", "color": GREY})
    axes.text(0.74, -2.55, "what the claim says", va="center", color=GREY, fontsize=9)
    axes.set(xlim=(0, 1.4), ylim=(-2.9, 0.9))
    axes.axis("off")
    return figure


Found = TypeVar("Found")


def measured_on(studies: Mapping[str, Study], read: Callable[[Study], Found]) -> dict[str, Found]:
    """Read something from every model's part of the study, and leave out the models on which it was not measured.

    Parameters
    ----------
    studies
        by the model's title.
    read
        such as `Claim.numbers`.
    """
    found = {}
    for title, study in studies.items():
        with suppress(NotMeasuredError):
            found[title] = read(study)
    return found


def forest_figure(
    rows: Mapping[str, Mapping[str, Number]], conditions: Mapping[str, Condition], *, title: str = ""
) -> Figure:
    """Draw one number of each claim on every model with its interval, and the threshold; a panel for each claim.

    Parameters
    ----------
    rows
        claim in plain words -> model -> number.
    conditions
        claim -> what it asks of the number; the side that it speaks of is shaded.
    """
    height = 0.4 + 0.85 * len(rows) + 0.28 * sum(map(len, rows.values()))
    figure, panels = plt.subplots(len(rows), 1, figsize=(7.4, height), squeeze=False)
    for axes, (claim, numbers) in zip(panels[:, 0], rows.items(), strict=True):
        relation, threshold = conditions[claim].relation, conditions[claim].threshold
        for place, number in enumerate(numbers.values()):
            axes.plot([number.low, number.high], [place, place], color="#222222", linewidth=2)
            axes.plot(number.value, place, marker="o", color="#222222")
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1.2)
        left, right = axes.get_xlim()
        left, right = min(left, threshold - 0.05 * (right - left)), max(right, threshold + 0.05 * (right - left))
        side = (left, threshold) if relation == "<" else (threshold, right)
        axes.axvspan(*side, color=VERDICT_COLOURS[REPRODUCED], alpha=0.12)
        axes.set(xlim=(left, right), yticks=range(len(numbers)), yticklabels=list(numbers), ylim=(len(numbers) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        axes.set_title(claim, fontsize=10, fontweight="normal")
        axes.set_xlabel(conditions[claim].number, fontsize=8.5)
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def holm_figure(p_values: Mapping[str, float], clear: set[str], *, title: str, level: float = 0.05) -> Figure:
    """Draw the p of every decided verdict in rising order, with the line that Holm's procedure holds it against."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    ordered = sorted(p_values, key=lambda name: p_values[name])
    floor = 1e-12  # smaller ones are as good as zero
    for place, name in enumerate(ordered, 1):
        kept = name in clear
        colour = VERDICT_COLOURS[REPRODUCED if kept else NOT_REPRODUCED]
        axes.plot(place, max(p_values[name], floor), marker="o" if kept else "X", markersize=5, color=colour)
    limits = [level / (len(ordered) - place) for place in range(len(ordered))]
    axes.plot(range(1, len(ordered) + 1), limits, color=GREY, linestyle="--", label="Holm's limit")
    axes.axhline(level, color=GREY, linestyle=":", label=f"{level:g} for a single verdict")
    axes.set(yscale="log", xlabel="verdicts, the clearest first", ylabel="p (at least 1e-12)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title)
    axes.legend(loc="lower right", fontsize=9)
    return figure

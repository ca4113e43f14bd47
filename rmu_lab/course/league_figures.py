"""What notebook 12 shows of leagues: their rules as a picture, curves of a live one, and the table that is stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

from ..attacks.relearning_speed import RelearningCurve
from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..league import PropertyTest, Standing, league_figure, league_table, stored_rows, which_property_predicts
from ..league.entry_table import REFERENCE
from ..league.matches import BASE
from ..league.properties import PROPERTIES
from .diagrams import INK, LABEL, NOTE, arrow, canvas
from .own_method import rounded
from .plots import GREY, ROLES
from .recovery import relearning_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLANNED = ("rmu", "adaptive_rmu", "closed_form_rmu", "rank_one_rmu", "mcu_rmu", "circuit_breaker")
"""Entries that a reader can bet on where no league is stored."""
TO_PLAY = "python -m benchmarks.league --out data/results/league"


def rules_diagram() -> Figure:
    """Draw a league's rules: equal tuning, equal disruption, a searched attack, a fresh test."""
    figure, axes = canvas(9.4, 2.1, (-0.2, 16.0), (-2.3, 1.25))
    boxes = (
        ("equal tuning", "six settings each,\non dev questions", "forget"),
        ("equal disruption", "scale the edit until its\ndivergence is the budget", "steered"),
        ("searched attack", "the learning rate that\nbrings most back, on dev", "direction"),
        ("fresh test", "new seeds, test questions:\nhow soon is half back?", "retain"),
    )
    for number, (name, words, role) in enumerate(boxes):
        left = 4.1 * number
        axes.add_patch(rounded((left, -1.0), 3.5, 2.0, facecolor="white", edgecolor=ROLES[role].colour, linewidth=1.8))
        axes.text(left + 1.75, 0.55, name, ha="center", va="center", fontsize=LABEL, weight="bold", color=INK)
        axes.text(left + 1.75, -0.25, words, ha="center", va="center", fontsize=NOTE - 0.5, color=INK)
        if number:
            arrow(axes, (left - 0.55, 0), (left - 0.05, 0), INK, width=1.8, head=11)
    axes.plot([0, 0, 11.7, 11.7], [-1.2, -1.5, -1.5, -1.2], color=GREY, linewidth=1.3)
    axes.text(5.85, -1.65, "choices: dev questions, one seed", ha="center", va="top", fontsize=NOTE, color=INK)
    axes.plot([12.3, 12.3, 15.8, 15.8], [-1.2, -1.5, -1.5, -1.2], color=GREY, linewidth=1.3)
    axes.text(14.05, -1.65, "what is reported", ha="center", va="top", fontsize=NOTE, color=INK)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# A live league


def curves_of(rows: Iterable[Mapping[str, Any]], attack: str) -> dict[str, RelearningCurve]:
    """Return each entry's curve under an attack; where an edit failed there is none. Of a league with one seed."""
    return {
        row["entry"]: RelearningCurve.from_dict(row["attacks"][attack]["curve"])
        for row in rows
        if row["entry"] != BASE and "error" not in row
    }


def curves_figure(rows: Sequence[Mapping[str, Any]], attack: str, names: Mapping[str, str], *, title: str) -> Figure:
    """Draw accuracy against the tokens of relearning for every entry of a league with one seed.

    Parameters
    ----------
    rows
        of `mini_league`.
    names
        entry -> what it is called in the figure; others are left out.
    title
        the finding in a sentence.
    """
    base = next(row for row in rows if row["entry"] == BASE)
    looks, curves = ("steered", "retain", "forget", "direction"), curves_of(rows, attack)
    drawn = {
        names[entry]: (look, [curve])
        for look, (entry, curve) in zip(looks, ((e, c) for e, c in curves.items() if e in names), strict=False)
    }
    return relearning_figure(drawn, Accuracy.from_dict(base["attacks"][attack]["score"]), title=title)


def accuracies(rows: Sequence[Mapping[str, Any]], attack: str) -> dict[str, tuple[float, float, float]]:
    """Return by entry the accuracy of the base model, of its edit, and of its edit after the relearning."""
    base = Accuracy.from_dict(next(row for row in rows if row["entry"] == BASE)["attacks"][attack]["score"]).accuracy
    found = curves_of(rows, attack).items()
    return {entry: (base, curve.scores[0].accuracy, curve.scores[-1].accuracy) for entry, curve in found}


def points_lost(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each entry: its strength, its stable rank, and points lost on the topic and on general questions."""
    base = next(row for row in rows if row["entry"] == BASE)
    cells = []
    for row in rows:
        if row["entry"] == BASE:
            continue
        if "error" in row:
            cells.append([row["entry"], "failed", "", "", ""])
            continue
        lost = (
            100 * (Accuracy.from_dict(base[topic]).accuracy - Accuracy.from_dict(row[topic]).accuracy)
            for topic in ("topic", "general")
        )
        cells.append(
            [
                row["entry"],
                f"{row['strength']:.2f}",
                f"{row['properties']['stable_rank']:.1f}",
                *(f"{each:.0f}" for each in lost),
            ]
        )
    return cells


# ---------------------------------------------------------------------------------------------------------------------
# The stored league


def stored_standings(folder: str | Path | None = None) -> list[Standing]:
    """Return the table of the stored league; without one, nothing, and a line says how it is played."""
    rows = stored_rows(folder)
    if not any(row["entry"] != BASE for row in rows):
        print(f"No league is stored here. This line plays it: {TO_PLAY}")
        return []
    return league_table(rows)


def entrants(table: Sequence[Standing]) -> list[str]:
    """Return the names of the entries, each once, in the order in which they were played."""
    return list(dict.fromkeys(one.entry for one in table)) or list(PLANNED)


def longest(table: Sequence[Standing]) -> str:
    """Name the entry of the longest R50 under any attack and budget; several, where none of them is half back."""
    found = {
        (one.entry, one.budget, attack): under.r50.value
        for one in table
        for attack, under in one.attacks.items()
        if under.r50 is not None
    }
    if not found:
        return "none has an R50"
    best = max(found.values())
    return ", ".join(dict.fromkeys(entry for (entry, _, _), value in found.items() if value == best))


def told_apart(table: Sequence[Standing]) -> list[str]:
    """Name the entries whose R50 differs from RMU's when all comparisons are taken together."""
    return [one.entry for one in table if any(under.told_apart for under in one.attacks.values())]


def stored_figure(table: Sequence[Standing], *, title: str) -> Figure:
    """Draw the stored league (`league_figure`) under a title; without one, an empty figure that says so."""
    figure = league_figure(table) if any(one.attacks for one in table) else _nothing()
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def property_figure(table: Sequence[Standing], *, title: str) -> Figure:
    """Draw each property of the scaled edits against R50, a panel for each; what is not half back stands on top.

    Parameters
    ----------
    table
        of `league_table`, with one budget and attack, or several: each entry is then drawn for each.
    title
        the finding in a sentence.
    """
    cases = [
        (one, under.r50.value) for one in table for under in one.attacks.values() if under.r50 is not None
    ]  # fmt: skip
    if not cases:
        return _nothing(title)
    top = 2 * max((value for _, value in cases if math.isfinite(value)), default=100.0)
    figure, panels = plt.subplots(2, 2, figsize=(9.4, 6.4), sharey=True)
    for axes, name in zip(panels.flat, PROPERTIES, strict=True):
        for one, value in cases:
            colour = ROLES["retain" if one.entry == REFERENCE else "steered"].colour
            x, y = one.properties[name], min(value, top)
            axes.plot(x, y, "^" if math.isinf(value) else "s" if one.entry == REFERENCE else "o", color=colour, markersize=6)
            axes.annotate(one.entry, (x, y), xytext=(6, 3), textcoords="offset points", fontsize=7.5, color=GREY)
        axes.set(xlabel=name.replace("_", " "), xscale="log", yscale="log")
        axes.margins(x=0.2, y=0.12)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:.3g}")
        axes.minorticks_off()
        if any(math.isinf(value) for _, value in cases):
            axes.axhline(top, color=GREY, linestyle=":", linewidth=1)
            axes.text(
                0.01, top, "half is not back", fontsize=8, color=GREY, va="bottom", transform=axes.get_yaxis_transform()
            )
    for axes in panels[:, 0]:
        axes.set_ylabel("R50, tokens")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def predictors(table: Sequence[Standing]) -> list[PropertyTest]:
    """Return the tests of `which_property_predicts`; with too few methods none, and the reason is printed."""
    try:
        return which_property_predicts(table)
    except RmuLabError as error:
        print(error)
        return []


def predictor_rows(tests: Sequence[PropertyTest]) -> list[list[str]]:
    """Return a row for each test, at most eight: property, correlation with its interval, held-out pairs in order."""
    return [
        [one.property.replace("_", " "), f"{one.correlation}{' *' if one.significant else ''}", f"{one.held_out:.0%}"]
        for one in tests[:8]
    ]


def _nothing(title: str = "") -> Figure:
    figure, axes = plt.subplots(figsize=(7.6, 1.4))
    axes.set_axis_off()
    axes.text(0, 0.5, "No league is stored here.", fontsize=LABEL, color=INK, va="center")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

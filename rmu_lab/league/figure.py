"""The league's picture: what each entry disturbs against how soon it comes back. It alone needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import RmuLabError
from .entry_table import REFERENCE
from .table import Standing, UnderAttack

TOLD, OTHER, OWN = "#B3261E", "#5F6B7A", "#00508f"
GAP = 0.045
"""Least distance of two names, as a share of a panel's height."""


def league_figure(table: Sequence[Standing]) -> Figure:
    """Draw points lost on general questions against R50, each with its 95% interval.

    There is a column of panels for each attack, and a row for each budget. What is not reached stands in a band above the
    longest R50, with an arrow. Entries of which nothing is known to be lost have no R50, and are named below their panel.

    Parameters
    ----------
    table
        of `league_table`.

    Raises
    ------
    RmuLabError
        if no entry was attacked.
    """
    attacks = list(dict.fromkeys(attack for one in table for attack in one.attacks))
    budgets = sorted({one.budget for one in table})
    if not attacks:
        raise RmuLabError("No entry of the table was attacked, so there is nothing to draw; give a whole league.")
    figure = Figure(figsize=(6.4 * len(attacks), 4.8 * len(budgets)), dpi=120, layout="constrained")
    panels = figure.subplots(len(budgets), len(attacks), squeeze=False, sharex=True, sharey="col")
    for column, attack in zip(panels.T, attacks, strict=True):
        top = _top(table, attack)
        for axes, budget in zip(column, budgets, strict=True):
            _panel(axes, [one for one in table if one.budget == budget and attack in one.attacks], attack, top)
            axes.set_title(f"{attack}, at {budget:g} nats a token", loc="left", fontsize=10, fontweight="bold")
        for axes, budget in zip(column, budgets, strict=True):  # when the limits, which the column shares, are known
            _names(axes, [one for one in table if one.budget == budget and attack in one.attacks], attack, top)
    handles = [
        Line2D([], [], color=OWN, marker="D", label="RMU"),
        Line2D([], [], color=TOLD, marker="o", label="told apart from RMU (Holm)"),
        Line2D([], [], color=OTHER, marker="s", markerfacecolor="white", label="not told apart"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _top(table: Sequence[Standing], attack: str) -> float:
    """Where what is not reached is drawn: above all R50 and ends of their intervals, under one attack."""
    found = [one.attacks[attack] for one in table if attack in one.attacks and one.attacks[attack].r50 is not None]
    return 2 * max((end for each in found for end in _ends(each) if math.isfinite(end)), default=100.0)


def _panel(axes: Axes, standings: Sequence[Standing], attack: str, top: float) -> None:
    drawn = [(one, one.attacks[attack]) for one in standings if one.attacks[attack].r50 is not None]
    axes.set_yscale("log")
    if any(math.isinf(end) for _, found in drawn for end in _ends(found)):
        axes.axhspan(top / 1.3, top * 1.3, color="#eeeeee", zorder=0)
        axes.text(0.01, top, "not reached", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=OTHER)
    for one, found in drawn:
        colour, marker = _look(one, found)
        value, low, high = (min(end, top) for end in _ends(found))
        x = one.general
        assert x is not None  # noqa: S101 - what was attacked was scored
        axes.plot([x.low, x.high], [value, value], color=colour, linewidth=1, alpha=0.6)
        axes.plot([x.value, x.value], [low, high], color=colour, linewidth=1, alpha=0.6)
        if math.isinf(_ends(found)[2]):
            axes.plot(x.value, top, "^", color=colour, markersize=4)
        axes.plot(x.value, value, marker, color=colour, markerfacecolor="white" if marker == "s" else colour, markersize=6)
    axes.set(xlabel="points lost on general questions", ylabel="R50: tokens until half is back")
    axes.tick_params(labelbottom=True)
    axes.spines[["top", "right"]].set_visible(False)
    left_out = [one.entry for one in standings if one.attacks[attack].r50 is None]
    if left_out:
        axes.text(0.0, -0.19, f"nothing lost: {', '.join(left_out)}", transform=axes.transAxes, fontsize=7, color=OTHER)


def _names(axes: Axes, standings: Sequence[Standing], attack: str, top: float) -> None:
    """Write the names beside the panel, in the order of R50 and apart from one another, with a line to each point."""
    low, high = map(math.log, axes.get_ylim())
    places = []
    for one in standings:
        found, x = one.attacks[attack], one.general
        if found.r50 is not None and x is not None:
            value = min(found.r50.value, top)
            places.append(((math.log(value) - low) / (high - low), (x.value, value), one, found))
    places.sort(key=lambda each: each[0])
    height = -1.0
    for number, (place, point, one, found) in enumerate(places):
        room = 1 - GAP * (len(places) - 1 - number)  # for those above it
        height = max(height + GAP, min(place, room))
        axes.annotate(
            one.entry,
            point,
            xytext=(1.02, height),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            color=_look(one, found)[0],
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": OTHER, "linewidth": 0.4, "alpha": 0.5},
        )


def _look(one: Standing, found: UnderAttack) -> tuple[str, str]:
    """Colour and marker."""
    return (OWN, "D") if one.entry == REFERENCE else (TOLD, "o") if found.told_apart else (OTHER, "s")


def _ends(found: UnderAttack) -> tuple[float, float, float]:
    assert found.r50 is not None  # noqa: S101 - asked only of what has one
    return found.r50.value, found.r50.low, found.r50.high

"""Knobs that teach more than a plot: explorers over stored results, so that turning one costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib import pyplot as plt

from .plots import GREY, ROLES, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def coefficient_explorer(record: Mapping) -> ipywidgets.Widget:
    """Sliders over c, direction and steps of the stored run ``coefficient``; beside them `coefficient_panel`."""
    rows = record["rows"]

    def options(name: str) -> list:
        return sorted({row[name] for row in rows})

    def draw(coefficient: float, seed: int, steps: int) -> None:
        show(
            coefficient_panel(record, coefficient, seed, steps),
            alt=f"Accuracy, alignment and MaxLogit at c = {coefficient:g}.",
        )

    names = {"coefficient": "c", "seed": "direction", "steps": "steps"}
    sliders = {
        name: ipywidgets.SelectionSlider(options=options(name), value=options(name)[-1], description=label)
        for name, label in names.items()
    }
    return ipywidgets.interactive(draw, **sliders)


def coefficient_panel(record: Mapping, coefficient: float, seed: int, steps: int) -> Figure:
    """What one setting of the stored run does: accuracies, cos(u, h) and MaxLogit, forget beside retain.

    Raises
    ------
    KeyError
        if the run has no such setting.
    """
    wanted = {"coefficient": coefficient, "seed": seed, "steps": steps}
    found = [row for row in record["rows"] if all(row[name] == value for name, value in wanted.items())]
    if not found:
        raise KeyError(f"The stored run has no row with {wanted}.")
    row, base = found[0], record["base"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.2), width_ratios=(1, 1.2, 1.2))
    for place, (name, role) in enumerate((("bio", "forget"), ("general", "retain"))):
        value, (low, high) = row[name]["accuracy"], row[name]["interval"]
        left.bar(place, value, 0.6, yerr=[[value - low], [high - value]], capsize=4, color=ROLES[role].colour, ecolor=GREY)
        left.hlines(base[name]["accuracy"], place - 0.4, place + 0.4, color=ROLES["frozen"].colour, linewidth=2)
        left.text(place, high + 0.03, f"{value:.0%}", ha="center", fontsize=10)
    left.set(xticks=[0, 1], ylim=(0, 1.12), ylabel="accuracy")
    left.set_xticklabels(["infectious\ndisease", "general"])
    left.set_title("black: base model", fontweight="normal", fontsize=10)
    cosines = {role: row[f"{role} cosine"] for role in ("forget", "retain")}
    _cumulative(middle, record["quantiles"], cosines, "cos(u, h)", (-0.5, 1), legend="center left")
    if "bio max logit" in row:
        confidence = {"frozen": base["bio max logit"], "steered": row["bio max logit"]}
        _cumulative(right, record["quantiles"], confidence, "MaxLogit on forget questions", (5, 40), legend="lower right")
    else:
        right.set_axis_off()
        right.text(0.5, 0.5, "MaxLogit was measured\nafter the last step only", ha="center", va="center", color=GREY)
    figure.suptitle(
        f"c = {coefficient:g}, direction {seed}, {steps} steps: tokens reach ||h|| = {row['forget norm']:.0f}",
        fontsize=11, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _cumulative(
    axes: plt.Axes,
    shares: Sequence[float],
    series: Mapping[str, Sequence[float]],
    label: str,
    limits: tuple[float, float],
    legend: str,
) -> None:
    for role, values in series.items():
        look = ROLES[role]
        axes.plot(values, shares, color=look.colour, linestyle=look.line, label=role)
    axes.set(xlabel=label, xlim=limits, ylabel="share below", ylim=(0, 1))
    axes.locator_params(axis="x", nbins=5)
    axes.legend(loc=legend, frameon=True)

"""Knobs that teach more than a plot: explorers over stored results, so that turning one costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib import pyplot as plt

from .plots import GREY, ROLES, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..sweeps.rows import SweepRow


def coefficient_explorer(record: Mapping) -> ipywidgets.Widget:
    """Sliders over c, direction and steps of the stored run ``coefficient``; beside them `coefficient_panel`."""
    rows = record["rows"]

    def draw(coefficient: float, seed: int, steps: int) -> None:
        show(
            coefficient_panel(record, coefficient, seed, steps),
            alt=f"Accuracy, alignment and MaxLogit at c = {coefficient:g}.",
        )

    names = {"coefficient": "coefficient c", "seed": "direction (seed)", "steps": "steps"}
    sliders = {}
    for name, label in names.items():
        options = sorted({row[name] for row in rows})
        sliders[name] = labelled_slider(label, options, options[-1])
    return ipywidgets.interactive(draw, **sliders)


def labelled_slider(label: str, options: Sequence[float], value: float, tooltip: str = "") -> ipywidgets.SelectionSlider:
    """Make a slider over a few numbers, shown without needless digits; `label` and `tooltip` reach screen readers too."""
    return ipywidgets.SelectionSlider(
        options=[(f"{option:g}", option) for option in options],
        value=value,
        description=label,
        tooltip=tooltip or label,
        style={"description_width": "8em"},
        continuous_update=False,
    )


def coefficient_panel(record: Mapping, coefficient: float, seed: int, steps: int) -> Figure:
    """Show what one setting of the stored run does: accuracies and cos(u, h), forget beside retain.

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
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), width_ratios=(1, 1.7))
    for place, (name, role) in enumerate((("bio", "forget"), ("general", "retain"))):
        value, (low, high) = row[name]["accuracy"], row[name]["interval"]
        left.bar(place, value, 0.6, yerr=[[value - low], [high - value]], capsize=4, color=ROLES[role].colour, ecolor=GREY)
        left.hlines(base[name]["accuracy"], place - 0.4, place + 0.4, color=ROLES["frozen"].colour, linewidth=2)
        left.text(place, high + 0.03, f"{value:.0%}", ha="center", fontsize=10)
    left.set(xticks=[0, 1], ylim=(0, 1.12), ylabel="accuracy")
    left.set_xticklabels(["infectious\ndisease", "general"])
    left.set_title("black: base model", fontweight="normal", fontsize=10)
    cosines = {role: row[f"{role} cosine"] for role in ("forget", "retain")}
    _ranges(right, record["quantiles"], cosines)
    figure.suptitle(
        f"c = {coefficient:g}, direction {seed}, {steps} steps",
        fontsize=11, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _ranges(axes: plt.Axes, shares: Sequence[float], cosines: Mapping[str, Sequence[float]]) -> None:
    """Draw stored quantiles as ranges: a dot at the median, thick around the middle half, thin from 5% to 95%."""
    for place, (role, values) in enumerate(cosines.items()):
        at, colour = dict(zip(shares, values, strict=True)), ROLES[role].colour
        for low, high, width in ((0.05, 0.95, 2), (0.25, 0.75, 10)):
            axes.hlines(place, at[low], at[high], color=colour, linewidth=width)
        axes.plot(at[0.5], place, marker="o", color="white", markeredgecolor=colour, markersize=8, markeredgewidth=2)
    axes.set(xlabel="cos(u, h)", xlim=(-0.5, 1.03), ylim=(-0.6, len(cosines) - 0.4), yticks=range(len(cosines)))
    axes.set_yticklabels([f"{role} tokens" for role in cosines])
    axes.set_title("dot: median; thick: middle half; thin: 5% to 95%", fontweight="normal", fontsize=10)


def layer_explorer(rows: Sequence[SweepRow]) -> ipywidgets.Widget:
    """Sliders over layer, c, beta and alpha of a stored sweep of both methods; beside them `layer_panel`."""
    settings = [row.config for row in rows if row.config]

    def slider(name: str, label: str, method: str) -> ipywidgets.Widget:
        options = sorted({getattr(config, name) for config in settings if config.method == method})
        return labelled_slider(label, options, options[len(options) // 2])

    def draw(layer: int, coefficient: float, beta: float, alpha: float) -> None:
        try:
            figure = layer_panel(rows, layer, coefficient, beta, alpha)
        except KeyError:  # a search tries what it needs, not every combination
            print("This combination was not tried; move one of the other sliders.")
            return
        show(figure, alt=f"Accuracy and norms of both methods at layer {layer}.")

    sliders = {
        "layer": slider("layer", "layer", "rmu"),
        "coefficient": slider("coefficient", "c of RMU", "rmu"),
        "beta": slider("beta", "beta of Adaptive", "adaptive_rmu"),
        "alpha": slider("alpha", "alpha", "rmu"),
    }
    return ipywidgets.interactive(draw, **sliders)


def layer_panel(rows: Sequence[SweepRow], layer: int, coefficient: float, beta: float, alpha: float) -> Figure:
    """RMU with c beside Adaptive RMU with beta at one layer and alpha: accuracies, and ||h|| before and after.

    Parameters
    ----------
    rows
        of a sweep scored on ``bio`` and ``general``, with the base model's.

    Raises
    ------
    KeyError
        if the sweep has no such setting.
    """
    base = next(row for row in rows if row.config is None)
    both = {
        f"RMU\nc = {coefficient:g}": _setting(rows, method="rmu", layer=layer, alpha=alpha, coefficient=coefficient),
        f"Adaptive RMU\nbeta = {beta:g}": _setting(rows, method="adaptive_rmu", layer=layer, alpha=alpha, beta=beta),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), width_ratios=(1.4, 1))
    for place, row in enumerate(both.values()):
        for offset, (name, role) in ((-0.2, ("bio", "forget")), (0.2, ("general", "retain"))):
            at, black = place + offset, base.scores[name].accuracy
            left.hlines(black, at - 0.2, at + 0.2, color=ROLES["frozen"].colour, linewidth=2)
            if row.error is None:
                value, (low, high) = row.scores[name].accuracy, row.scores[name].interval
                error = [[value - low], [high - value]]
                left.bar(at, value, 0.36, yerr=error, capsize=4, color=ROLES[role].colour, ecolor=GREY)
                left.text(at, max(high, black) + 0.03, f"{value:.0%}", ha="center", fontsize=10)
        if row.error is not None:
            left.text(place, 0.5, "diverged", ha="center", color=GREY)
            continue
        norms = {
            ("before", "frozen"): row.first["forget_norm"],
            ("after training", "steered"): row.last["forget_norm"],
            ("target", "direction"): row.last["target_norm"],
        }
        for (label, role), value in norms.items():
            look = ROLES[role]
            right.plot([place], [value], color=look.colour, marker=look.marker, linestyle="", label=None if place else label)
    left.set(ylim=(0, 1.15), ylabel="accuracy")
    left.set_title("orange: infectious disease, blue: general, black: base", fontweight="normal", fontsize=10)
    right.set(yscale="log", xlim=(-0.5, 1.5), ylim=_norm_limits(rows), ylabel="mean ||h|| on forget text")
    if right.lines:
        right.legend(loc="best", frameon=True)
    for axes in (left, right):
        axes.set_xticks([0, 1], list(both))
        axes.grid(axis="x", visible=False)
    figure.suptitle(f"Layer {layer}, alpha = {alpha:g}", fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _norm_limits(rows: Sequence[SweepRow]) -> tuple[float, float] | None:
    """The same for all settings, so that turning a knob moves the points and not the axis."""
    measured = [row for row in rows if row.config and row.error is None]
    norms = [row.first["forget_norm"] for row in measured] + [
        row.last[name] for row in measured for name in ("forget_norm", "target_norm") if name in row.last
    ]
    positive = [norm for norm in norms if norm > 0]
    return (min(positive) / 1.5, max(positive) * 1.5) if positive else None


def _setting(rows: Sequence[SweepRow], **wanted: object) -> SweepRow:
    for row in rows:
        if row.config and all(getattr(row.config, name) == value for name, value in wanted.items()):
            return row
    raise KeyError(f"The sweep has no row with {wanted}.")

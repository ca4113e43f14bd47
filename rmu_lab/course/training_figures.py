"""Diagrams and figures of training: one step, the tug-of-war between both losses, the course of a run, trade-offs.

Used in notebook 04 and its appendix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from .diagrams import INK, LABEL, NOTE, arrow
from .plots import GREY, ROLES, film, show
from .widgets import labelled_slider

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..estimates import Number
    from .training_loop import Watch

PANELS = {"forget": "forget accuracy (points)", "general": "general accuracy (points)"}


# ---------------------------------------------------------------------------------------------------------------------
# Diagrams


def training_step_diagram(layer: int = 7) -> Figure:
    """Draw one step of RMU's training: two batches, three passes, two losses, and what the optimiser changes."""
    figure, axes = plt.subplots(figsize=(9.6, 4.3))
    axes.set(xlim=(0, 13.75), ylim=(0.55, 6.35))
    axes.set_axis_off()
    rows = {
        "forget": (4.6, f"trained copies\nof layers {layer - 2} to {layer}", "$h(x_F)$", "pull to $c\\,u$"),
        "retain": (2.65, f"trained copies\nof layers {layer - 2} to {layer}", "$h(x_R)$", "hold at $h_\\mathrm{frozen}$"),
        "frozen": (0.7, f"the model's own\nlayers {layer - 2} to {layer}", "$h_\\mathrm{frozen}(x_R)$", ""),
    }
    for role, (y, name, state, _) in rows.items():
        edge = ROLES["frozen" if role == "frozen" else "steered"].colour
        source = ROLES["retain" if role == "frozen" else role]
        if role != "frozen":
            _box(axes, 0.05, y, 1.75, f"four {role}\ntexts", source.colour)
        _box(axes, 2.5, y, 1.75, f"layers 0 to {layer - 3},\nnever changed", GREY)
        _box(axes, 4.85, y, 2.2, name, edge, fill="#edd3e1" if role != "frozen" else "white")
        axes.text(7.65, y + 0.4, state, fontsize=LABEL + 1, color=INK, ha="left", va="center")
        start = (1.85, y + 0.4) if role != "frozen" else (0.9, y + 0.4)
        arrow(axes, start, (2.47, y + 0.4), source.colour)
        arrow(axes, (4.28, y + 0.4), (4.82, y + 0.4), GREY)
        arrow(axes, (7.08, y + 0.4), (7.6, y + 0.4), edge)
    axes.plot([0.9, 0.9], [2.62, 1.1], color=ROLES["retain"].colour, linewidth=1.6)
    for role in ("forget", "retain"):
        y = rows[role][0]
        _box(axes, 9.35, y, 1.95, f"{role} loss:\n{rows[role][3]}", ROLES[role].colour)
        arrow(axes, (8.75, y + 0.4), (9.32, y + 0.4), ROLES[role].colour)
        arrow(axes, (11.33, y + 0.4), (11.82, 4.1 + (0.25 if role == "forget" else -0.1)), ROLES[role].colour)
    axes.plot([9.3, 10.3], [1.1, 1.1], color=INK, linewidth=1.6)
    arrow(axes, (10.3, 1.1), (10.3, 2.62), INK)
    axes.text(10.5, 1.75, "no gradient", fontsize=NOTE, color=INK, style="italic", va="center")
    _box(axes, 11.82, 3.72, 1.85, "forget loss\n+ $\\alpha\\cdot$ retain loss", INK)
    axes.plot([12.75, 12.75, 5.95], [4.57, 5.85, 5.85], color=ROLES["steered"].colour, linewidth=2, linestyle="--")
    arrow(axes, (5.95, 5.85), (5.95, 5.45), ROLES["steered"].colour, width=2)
    axes.text(9.2, 5.98, "gradient, then one step of AdamW", ha="center", fontsize=LABEL, color=INK)
    return figure


def _box(axes: Axes, x: float, y: float, width: float, text: str, edge: str, fill: str = "white") -> None:
    axes.add_patch(FancyBboxPatch((x, y), width, 0.82, boxstyle="round,pad=0,rounding_size=0.12", facecolor=fill,
                                  edgecolor=edge, linewidth=1.5))  # fmt: skip
    axes.text(x + width / 2, y + 0.41, text, ha="center", va="center", fontsize=NOTE, color=INK, linespacing=1.2)


def tug_of_war_diagram(settings: Mapping[str, tuple[float, float, str]], reach: float = 6.0) -> Figure:
    """Draw the pull on forget tokens and the hold on retain tokens against how far retain tokens have been dragged.

    Both are gradients divided by 2c: the pull is 1, and the hold grows as (alpha / c) times the distance.

    Parameters
    ----------
    settings
        label -> (c, alpha, role).
    reach
        how far the axis goes, in units of h.
    """
    figure, axes = plt.subplots(figsize=(7.4, 3.7))
    far = np.linspace(0, reach, 50)
    pull = ROLES["direction"]
    axes.axhline(1, color=pull.colour, linestyle=pull.line, linewidth=2.4)
    axes.text(reach, 1.03, "pull on forget tokens", ha="right", va="bottom", fontsize=LABEL, color=INK)
    for label, (c, alpha, role) in settings.items():
        look = ROLES[role]
        axes.plot(far, alpha / c * far, color=look.colour, linestyle=look.line, linewidth=2.2, label=f"hold: {label}")
        axes.plot(c / alpha, 1, marker=look.marker, color=look.colour, markersize=9)
    axes.set(xlim=(0, reach), ylim=(0, 2), xlabel="how far a retain token has been dragged along u",
             ylabel="strength, divided by 2c")  # fmt: skip
    axes.set_title("The hold equals the pull once retain tokens have been dragged by c / alpha")
    axes.legend(loc="lower right")
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# The course of one training


def course_of_training(watch: Watch, c: float, phases: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Draw what a `Watch` saw: the move along u, ||h|| and cos(u, h) of forget and retain texts, step by step.

    Parameters
    ----------
    phases
        name -> first and last step, shaded in turn.
    """
    figure, row = plt.subplots(1, 3, figsize=(11.4, 3.7))
    steps = range(len(watch.frames))
    for axes, values, label in zip(
        row, (watch.along, watch.norm, watch.cosine), ("mean move along u", "mean ||h||", "mean cos(u, h)"), strict=True
    ):
        for role, each in values.items():
            look = ROLES[role]
            axes.plot(steps, each, color=look.colour, linestyle=look.line, linewidth=2, marker=look.marker, markevery=5,
                      markersize=4, label=role)  # fmt: skip
        for place, (start, end) in enumerate((phases or {}).values()):
            axes.axvspan(start, end, color=GREY, alpha=0.16 if place % 2 else 0.05, linewidth=0)
        axes.set(xlabel="step", ylabel=label, xlim=(0, len(steps) - 1))
    for axes, top in ((row[0], c), (row[1], c)):
        axes.axhline(top, color=ROLES["direction"].colour, linestyle=":", linewidth=2)
        axes.text(0.5, top, " c", va="bottom", fontsize=LABEL)
        axes.set_ylim(top=1.12 * top)
    row[2].set_ylim(-0.1, 1.05)
    row[0].legend(loc="center left")
    return figure


def first_steps(watch: Watch, last: int) -> Figure:
    """Draw the move along u up to step `last`, close enough to see what the whole course hides."""
    figure, axes = plt.subplots(figsize=(7.4, 3.4))
    for role, values in watch.along.items():
        look = ROLES[role]
        axes.plot(range(last + 1), values[: last + 1], color=look.colour, linestyle=look.line, marker=look.marker,
                  markersize=4, linewidth=2, label=role)  # fmt: skip
    axes.axhline(0, color=ROLES["frozen"].colour, linewidth=1)
    axes.set(xlabel="step", ylabel="mean move along u", xlim=(0, last))
    axes.legend()
    return figure


def training_film(watch: Watch, steps: Sequence[int], title: str) -> Figure:
    """Draw the tokens of a `Watch` in the plane of u after some of its steps."""
    frames = {f"step {step}": {role: each.numpy() for role, each in watch.frames[step].items()} for step in steps}
    return film(frames, title=title, labels=("along u", "across u"))


def training_film_slider(watch: Watch, c: float) -> ipywidgets.Widget:
    """Build a slider over the steps of a watched training, with the tokens in the plane of u below it.

    For readers without a kernel there is `training_film`.
    """
    every = np.concatenate([points.numpy() for frame in watch.frames for points in frame.values()])
    (left, low), (right, high) = every.min(axis=0), every.max(axis=0)

    def draw(step: int) -> None:
        figure, axes = plt.subplots(figsize=(6.6, 3.8))
        for role, points in watch.frames[step].items():
            look = ROLES[role]
            axes.scatter(*points.numpy().T, s=14, marker=look.marker, color=look.colour, alpha=0.5, linewidths=0, label=role)
        axes.axvline(c, color=ROLES["direction"].colour, linestyle=":", linewidth=2)
        axes.text(c, high, " c", va="top", fontsize=LABEL)
        axes.set(xlim=(left, max(right, 1.05 * c)), ylim=(low, high), xlabel="along u", ylabel="across u")
        axes.set_title(f"After step {step}")
        axes.legend(loc="lower right", markerscale=1.5)
        means = "; ".join(f"{role} {watch.along[role][step]:.0f}" for role in watch.along)
        show(figure, alt=f"Tokens in the plane of u after step {step}. Mean move along u: {means}.")

    last = len(watch.frames) - 1
    slider = labelled_slider("step", range(last + 1), last, "step of training after which the tokens are shown")
    return ipywidgets.interactive(draw, step=slider)


# ---------------------------------------------------------------------------------------------------------------------
# Outcomes


def trade_off(
    series: Mapping[str, tuple[str, Mapping[str, tuple[Number, Number]]]], base: tuple[float, float], title: str
) -> Figure:
    """Draw general over forget accuracy, a line for each series, with intervals; the best corner is marked.

    Parameters
    ----------
    series
        label -> (role, note at the point -> (forget, general) accuracy in points).
    base
        forget and general accuracy of the base model.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 4.8))
    for label, (role, points) in series.items():
        look = ROLES[role]
        x, y = ([pair[place] for pair in points.values()] for place in (0, 1))
        axes.errorbar(
            [each.value for each in x], [each.value for each in y], xerr=_reach(x), yerr=_reach(y), color=look.colour,
            linestyle=look.line, marker=look.marker, capsize=3, elinewidth=0.9, label=label,
        )  # fmt: skip
        for note, (forget, general) in points.items():
            if note and not note.startswith("_"):
                axes.annotate(note, (forget.value, general.value), xytext=(7, 5), textcoords="offset points",
                              color=look.colour, fontsize=NOTE,
                              bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8})  # fmt: skip
    axes.plot(*base, marker="D", color=ROLES["frozen"].colour, linestyle="", label="base model")
    axes.text(0.02, 0.97, "best corner", transform=axes.transAxes, va="top", fontsize=LABEL, style="italic", color=GREY)
    axes.set(xlabel=PANELS["forget"], ylabel=PANELS["general"])
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


def interval_dots(
    panels: Mapping[str, Mapping[str, Number]], title: str, *, zero: Mapping[str, float] | float = 0.0
) -> Figure:
    """Draw a panel for each quantity, a row for each label, and a dot with its interval in each.

    Parameters
    ----------
    panels
        axis label -> row label -> number; all panels have the same rows.
    title
        the finding in a sentence.
    zero
        where the line of comparison stands, in all panels or by panel.
    """
    labels = [*next(iter(panels.values()))]
    figure, row = plt.subplots(1, len(panels), figsize=(10.6, 1.2 + 0.4 * len(labels)), sharey=True, squeeze=False)
    for axes, (name, numbers) in zip(row[0], panels.items(), strict=True):
        shown = [numbers[label] for label in labels]
        axes.errorbar([each.value for each in shown], range(len(labels)), xerr=_reach(shown), fmt="o", capsize=3,
                      color=ROLES["steered"].colour)  # fmt: skip
        axes.axvline(zero if isinstance(zero, (int, float)) else zero[name], color=ROLES["frozen"].colour, linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel(name)
    row[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _reach(numbers: Sequence[Number]) -> Any:
    """How far the intervals reach to either side, as matplotlib wants it."""
    return np.array([[each.value - each.low for each in numbers], [each.high - each.value for each in numbers]])

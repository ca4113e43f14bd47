"""Diagrams and figures of training: one step, the tug-of-war between both losses, the course of a run, trade-offs.

Used in notebook 04 and its appendix. Those that start with ``show_`` display themselves, with the numbers in words.
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
    from ..evaluate import Accuracy
    from .stored_training import Outcome
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


def show_tug_of_war(settings: Mapping[str, tuple[float, float]], title: str, reach: float = 6.0) -> None:
    """Show the pull on forget tokens and the hold on retain tokens against how far retain tokens have been dragged.

    Both are gradients divided by 2c: the pull is 1, and the hold grows as alpha / c times the distance.

    Parameters
    ----------
    settings
        label -> (c, alpha).
    reach
        how far the axis goes, in units of h.
    """
    figure, axes = plt.subplots(figsize=(6.6, 3.3))
    far, pull = np.linspace(0, reach, 50), ROLES["direction"]
    axes.axhline(1, color=pull.colour, linestyle=pull.line, linewidth=2.4)
    axes.text(reach, 1.03, "pull on forget tokens", ha="right", va="bottom", fontsize=LABEL, color=INK)
    for role, (label, (c, alpha)) in zip(("forget", "retain", "steered"), settings.items(), strict=False):
        look = ROLES[role]
        axes.plot(far, alpha / c * far, color=look.colour, linestyle=look.line, linewidth=2.2, label=f"hold: {label}")
        axes.plot(c / alpha, 1, marker=look.marker, color=look.colour, markersize=9)
    axes.set(xlim=(0, reach), ylim=(0, 2), xlabel="how far a retain token has been dragged along u",
             ylabel="strength, divided by 2c")  # fmt: skip
    axes.set_title(title)
    axes.legend(loc="lower right")
    words = "; ".join(f"{label}: {c / alpha:.1f}" for label, (c, alpha) in settings.items())
    show(figure, alt=f"A constant pull and holds that grow with the distance; they meet at c / alpha. {words}.")


# ---------------------------------------------------------------------------------------------------------------------
# The course of one training


def show_course(watch: Watch, c: float) -> None:
    """Show what a `Watch` saw: the move along u, ||h|| and cos(u, h) of forget and retain texts, step by step."""
    figure, row = plt.subplots(1, 3, figsize=(10.4, 3.3))
    panels = {"mean move along u": watch.along, "mean ||h||": watch.norm, "mean cos(u, h)": watch.cosine}
    last = len(watch.frames) - 1
    for axes, (label, values) in zip(row, panels.items(), strict=True):
        _lines(axes, values, last)
        axes.set(xlabel="step", ylabel=label, xlim=(0, last))
    for axes in row[:2]:
        axes.axhline(c, color=ROLES["direction"].colour, linestyle=":", linewidth=2)
        axes.text(0.5, c, " c", va="bottom", fontsize=LABEL)
        axes.set_ylim(top=1.12 * c)
    row[2].set_ylim(-0.1, 1.05)
    row[0].legend(loc="center left")
    at = sorted({0, last // 2, last})
    words = [
        f"{label}, {role}: {', '.join(f'{each[step]:.3g}' for step in at)}"
        for label, values in panels.items()
        for role, each in values.items()
    ]
    show(figure, alt=f"After steps {', '.join(map(str, at))}. {'; '.join(words)}.")


def show_first_steps(watch: Watch, last: int, title: str) -> None:
    """Show the move along u up to step `last`, close enough to see what the whole course hides."""
    figure, axes = plt.subplots(figsize=(7.2, 3.3))
    _lines(axes, watch.along, last)
    axes.axhline(0, color=ROLES["frozen"].colour, linewidth=1)
    axes.set(xlabel="step", ylabel="mean move along u", xlim=(0, last), xticks=range(0, last + 1, 2))
    axes.set_title(title)
    axes.legend()
    words = [f"{role} {', '.join(f'{value:.1f}' for value in values[: last + 1])}" for role, values in watch.along.items()]
    show(figure, alt=f"Mean move along u from step 0 to {last}: {'; '.join(words)}.")


def _lines(axes: Axes, values: Mapping[str, Sequence[float]], last: int) -> None:
    for role, each in values.items():
        look = ROLES[role]
        axes.plot(range(last + 1), each[: last + 1], color=look.colour, linestyle=look.line, linewidth=2, label=role,
                  marker=look.marker, markevery=max(1, last // 10), markersize=5)  # fmt: skip


def show_film(watch: Watch, steps: Sequence[int], title: str) -> None:
    """Show the tokens of a `Watch` in the plane of u after some of its steps; the few far across u are left out."""
    frames = {f"step {step}": {role: each.numpy() for role, each in watch.frames[step].items()} for step in steps}
    words = "; ".join(f"step {step}: {_means(watch, step)}" for step in steps)
    figure = film(frames, title=title, labels=("along u", "across u"))
    figure.axes[0].set_ylim(_across(watch))
    show(figure, alt=f"Tokens in the plane of u. Mean move along u, {words}.")


def film_slider(watch: Watch, c: float) -> ipywidgets.Widget:
    """Build a slider over the steps of a watched training, with the tokens in the plane of u below it.

    For readers without a kernel there is `show_film`.
    """
    along = np.concatenate([points[:, 0].numpy() for frame in watch.frames for points in frame.values()])
    low, high = _across(watch)

    def draw(step: int) -> None:
        figure, axes = plt.subplots(figsize=(6.6, 3.8))
        for role, points in watch.frames[step].items():
            look = ROLES[role]
            axes.scatter(
                points[:, 0], points[:, 1], s=14, marker=look.marker, color=look.colour, alpha=0.5, linewidths=0, label=role
            )
        axes.axvline(c, color=ROLES["direction"].colour, linestyle=":", linewidth=2)
        axes.text(c, high, " c", va="top", fontsize=LABEL)
        axes.set(xlim=(along.min(), max(along.max(), 1.05 * c)), ylim=(low, high), xlabel="along u", ylabel="across u")
        axes.set_title(f"After step {step}")
        axes.legend(loc="lower right", markerscale=1.5)
        show(figure, alt=f"Tokens in the plane of u after step {step}. Mean move along u: {_means(watch, step)}.")

    last = len(watch.frames) - 1
    slider = labelled_slider("step", range(last + 1), last, "step of training after which the tokens are shown")
    return ipywidgets.interactive(draw, step=slider)


def _across(watch: Watch) -> tuple[float, float]:
    """Return limits across u that hold 96 in 100 tokens."""
    every = np.concatenate([points[:, 1].numpy() for frame in watch.frames for points in frame.values()])
    low, high = np.quantile(every, [0.03, 0.99])
    return low - 0.15 * (high - low), high + 0.15 * (high - low)


def _means(watch: Watch, step: int) -> str:
    return ", ".join(f"{role} {values[step]:.1f}" for role, values in watch.along.items())


def show_paths(paths: Mapping[str, tuple[str, Sequence[float]]], title: str) -> None:
    """Show mean cos(u, h) over steps for several settings: label -> (role, values)."""
    figure, axes = plt.subplots(figsize=(6.8, 3.6))
    for label, (role, path) in paths.items():
        look = ROLES[role]
        axes.plot(range(len(path)), path, color=look.colour, linestyle=look.line, linewidth=2, marker=look.marker,
                  markevery=5, markersize=5, label=label)  # fmt: skip
    axes.set(xlabel="step", ylabel="mean cos(u, h), held-out forget texts")
    axes.set_title(title)
    axes.legend(loc="upper left")
    words = "; ".join(f"{label}: {path[len(path) // 2]:.2f}, {path[-1]:.2f}" for label, (_, path) in paths.items())
    show(figure, alt=f"Mean cosine half-way and after the last step. {words}.")


# ---------------------------------------------------------------------------------------------------------------------
# Outcomes

_IN_TURN = ("direction", "forget", "steered", "retain")


def show_accuracy_by_step(scores: Mapping[int, Accuracy], title: str) -> None:
    """Show forget accuracy after some numbers of steps, with Wilson's intervals: steps -> accuracy."""
    figure, axes = plt.subplots(figsize=(6.8, 3.6))
    look = ROLES["forget"]
    values = np.array([[each.accuracy, *each.interval] for each in scores.values()]).T
    axes.errorbar([*scores], values[0], yerr=(values[0] - values[1], values[2] - values[0]), color=look.colour, capsize=4,
                  linestyle=look.line, marker=look.marker, markersize=7)  # fmt: skip
    axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1)
    axes.text(0, 0.26, "guessing", color=GREY, va="bottom", fontsize=NOTE)
    axes.set(xlabel="steps of training", ylabel="forget accuracy", xticks=[*scores], ylim=(0.15, 1))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_title(title)
    show(figure, alt="Forget accuracy. " + "; ".join(f"{step} steps: {each}" for step, each in scores.items()) + ".")


def show_trade_off(outcomes: Mapping[float, Mapping[float, Outcome]], base: tuple[float, float], title: str) -> None:
    """Show general over forget accuracy, a line for each c with a point for each alpha, with intervals.

    Parameters
    ----------
    outcomes
        c -> alpha -> (forget, general) accuracy in points.
    base
        forget and general accuracy of the base model.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for role, (c, points) in zip(_IN_TURN, outcomes.items(), strict=False):
        look, (x, y) = ROLES[role], zip(*points.values(), strict=True)
        axes.errorbar(
            [each.value for each in x], [each.value for each in y], xerr=_reach(x), yerr=_reach(y), capsize=3,
            elinewidth=0.9, color=look.colour, linestyle=look.line, marker=look.marker, label=f"c = {c:g}",
        )  # fmt: skip
        for alpha, (forget, general) in points.items():
            if forget.value < base[0] - 20:  # where all lie together a label would hide the points
                axes.annotate(f"alpha {alpha:g}", (forget.value, general.value), xytext=(7, 5), fontsize=NOTE,
                              textcoords="offset points", color=look.colour, bbox=box)  # fmt: skip
    axes.plot(*base, marker="D", color=ROLES["frozen"].colour, linestyle="", label="base model")
    axes.text(0.02, 0.97, "best corner", transform=axes.transAxes, va="top", fontsize=LABEL, style="italic", color=GREY)
    axes.set(xlabel=PANELS["forget"], ylabel=PANELS["general"])
    axes.set_title(title)
    axes.legend(loc="lower right")
    show(figure, alt=_outcomes_in_words(outcomes, "alpha {:g}"))


def show_speed(outcomes: Mapping[float, Mapping[float, Outcome]], base: tuple[float, float], title: str) -> None:
    """Show forget and general accuracy over steps, a line for each c, with intervals: c -> steps -> outcome in points."""
    figure, row = plt.subplots(1, 2, figsize=(9.4, 3.4))
    for place, (axes, label) in enumerate(zip(row, PANELS.values(), strict=True)):
        for offset, (role, (c, by_step)) in enumerate(zip(_IN_TURN, outcomes.items(), strict=False)):
            look, shown = ROLES[role], [pair[place] for pair in by_step.values()]
            axes.errorbar([step + 0.8 * (offset - 1) for step in by_step], [each.value for each in shown], capsize=3,
                          yerr=_reach(shown), color=look.colour, linestyle=look.line, marker=look.marker,
                          label=f"c = {c:g}")  # fmt: skip
        axes.axhline(base[place], color=ROLES["frozen"].colour, linewidth=1, label="base model")
        axes.set(xlabel="steps", ylabel=label, xticks=[*next(iter(outcomes.values()))])
    row[0].legend(loc="lower left")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    show(figure, alt=_outcomes_in_words(outcomes, "{:g} steps"))


def _outcomes_in_words(outcomes: Mapping[float, Mapping[float, Outcome]], each: str) -> str:
    words = [
        f"c {c:g}, {each.format(other)}: {forget.value:.0f} and {general.value:.0f}"
        for c, points in outcomes.items()
        for other, (forget, general) in points.items()
    ]
    return f"Forget and general accuracy in points. {'; '.join(words)}."


def show_changes(panels: Mapping[str, Mapping[str, Number]], title: str) -> None:
    """Show changes of accuracy: a panel for each set of questions, a row for each label, a dot with its interval in each.

    Parameters
    ----------
    panels
        set of questions -> row label -> change in points; all panels have the same rows.
    title
        the finding in a sentence.
    """
    labels = [*next(iter(panels.values()))]
    figure, row = plt.subplots(1, len(panels), figsize=(10.8, 1.3 + 0.4 * len(labels)), sharey=True, squeeze=False)
    for axes, (name, numbers) in zip(row[0], panels.items(), strict=True):
        shown = [numbers[label] for label in labels]
        axes.errorbar([each.value for each in shown], range(len(labels)), xerr=_reach(shown), fmt="o", capsize=3,
                      color=ROLES["steered"].colour)  # fmt: skip
        axes.axvline(0, color=ROLES["frozen"].colour, linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(name, fontweight="normal", fontsize=10)
        axes.set_xlabel("change (points)")
    row[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    words = [f"{name}: " + ", ".join(f"{label} {each}" for label, each in shown.items()) for name, shown in panels.items()]
    show(figure, alt=f"Change of accuracy in points. {'; '.join(words)}.")


def _reach(numbers: Sequence[Number]) -> Any:
    """How far the intervals reach to either side, as matplotlib wants it."""
    return np.array([[each.value - each.low for each in numbers], [each.high - each.value for each in numbers]])

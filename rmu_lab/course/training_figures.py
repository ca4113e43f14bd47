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

_IN_TURN = ("direction", "forget", "steered", "retain")
"""Roles whose looks tell settings apart."""
PANELS = {"forget": "forget accuracy (%)", "general": "general accuracy (%)"}


# ---------------------------------------------------------------------------------------------------------------------
# Diagrams


def training_step_diagram(layer: int = 7) -> Figure:
    """Draw one step of RMU's training: two batches, three passes, two losses, and what the optimiser changes."""
    figure, axes = plt.subplots(figsize=(9.6, 4.3))
    axes.set(xlim=(0, 13.75), ylim=(0.55, 6.35))
    axes.set_axis_off()
    rows = {
        "forget": (4.6, f"layers {layer - 2} to {layer},\ntrained down_proj", "$h(x_F)$", "pull to $c\\,u$"),
        "retain": (2.65, f"layers {layer - 2} to {layer},\ntrained down_proj", "$h(x_R)$", "hold at $h_\\mathrm{frozen}$"),
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


# ---------------------------------------------------------------------------------------------------------------------
# The course of one training


def show_course(watch: Watch, c: float) -> None:
    """Show what a `Watch` saw: the move along u, ||h|| and cos(u, h) of forget and retain texts, step by step."""
    figure, row = plt.subplots(1, 3, figsize=(9.6, 3.0))
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
    figure, axes = plt.subplots(figsize=(6.6, 3.0))
    _lines(axes, watch.along, last)
    axes.axhline(0, color=ROLES["frozen"].colour, linewidth=1)
    axes.set(xlabel="step", ylabel="mean move along u", xlim=(0, last), xticks=range(0, last + 1, 2))
    axes.set_title(title)
    axes.legend()
    words = [f"{role} {', '.join(f'{value:.1f}' for value in values[: last + 1])}" for role, values in watch.along.items()]
    show(figure, alt=f"Mean move along u from step 0 to {last}: {'; '.join(words)}.")


def show_tug_of_war(runs: Mapping[tuple[float, float], Watch], steps: range, title: str) -> None:
    """Show where the hold on retain tokens equals the pull on forget tokens, and where retain tokens were in real runs.

    On the left are both gradients divided by 2c: the pull is 1, and the hold grows as alpha / c times the distance.

    Parameters
    ----------
    runs
        (c, alpha) -> what was seen of its training.
    steps
        those that the measured means are over.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
    reach, pull = 1.8 * max(c / alpha for c, alpha in runs), ROLES["direction"]
    far, last = np.linspace(0, reach, 50), steps[-1] + 3
    left.axhline(1, color=pull.colour, linestyle=pull.line, linewidth=2.4)
    left.text(reach, 0.96, "pull on forget tokens", ha="right", va="top", fontsize=NOTE, color=INK)
    right.axvspan(steps[0], steps[-1], color=GREY, alpha=0.12, linewidth=0)
    words = []
    for role, ((c, alpha), seen) in zip(_IN_TURN, runs.items(), strict=False):
        look, label = ROLES[role], f"c = {c:g}, alpha = {alpha:g}"
        left.plot(far, alpha / c * far, color=look.colour, linestyle=look.line, linewidth=2, label=label)
        left.plot(c / alpha, 1, marker=look.marker, color=look.colour, markersize=8)
        right.axhline(c / alpha, color=look.colour, linestyle=":", linewidth=1.6)
        right.plot(seen.along["retain"][:last], color=look.colour, linestyle=look.line, linewidth=2, marker=look.marker,
                   markevery=5, markersize=5)  # fmt: skip
        words.append(f"{label}: {c / alpha:.2f} and {np.mean([seen.along['retain'][step] for step in steps]):.2f}")
    left.set(xlim=(0, reach), ylim=(0, 2), xlabel="how far a retain token is dragged along u", ylabel="strength / 2c")
    left.set_title("the hold grows, the pull does not", fontweight="normal", fontsize=10)
    right.set(xlim=(0, last - 1), xticks=range(0, last, 5), xlabel="step", ylabel="retain tokens' move")
    right.set_title("real runs; dotted: c / alpha", fontweight="normal", fontsize=10)
    left.legend(loc="lower right", fontsize=7.5)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    show(figure, alt=f"Where hold equals pull, and the mean move of retain tokens in steps {steps[0]} to {steps[-1]}. "
         f"{'; '.join(words)}.")  # fmt: skip


def _lines(axes: Axes, values: Mapping[str, Sequence[float]], last: int) -> None:
    for role, each in values.items():
        look = ROLES[role]
        axes.plot(range(last + 1), each[: last + 1], color=look.colour, linestyle=look.line, linewidth=2, label=role,
                  marker=look.marker, markevery=max(1, last // 10), markersize=5)  # fmt: skip


def show_film(watch: Watch, steps: Sequence[int], title: str) -> None:
    """Show the tokens of a `Watch` in the plane of u after some of its steps; the few far across u are left out."""
    on_top = ("retain", "forget")  # what is drawn last
    frames = {f"step {step}": {role: watch.frames[step][role].numpy() for role in on_top} for step in steps}
    words = "; ".join(f"step {step}: {_means(watch, step)}" for step in steps)
    figure = film(frames, title=title, labels=("along u", "across u"))
    figure.axes[0].set_ylim(_across(watch))
    show(figure, alt=f"Tokens in the plane of u. Mean move along u, {words}.")


def show_tokens(words: Sequence[tuple[str, float]], c: float, title: str) -> None:
    """Show where the tokens of one text stand along u, a bar for each: (token, along u)."""
    figure, axes = plt.subplots(figsize=(6.6, 2.5))
    axes.bar(range(len(words)), [value for _, value in words], 0.72, color=ROLES["forget"].colour)
    axes.axhline(c, color=ROLES["direction"].colour, linestyle=":", linewidth=2)
    axes.text(-0.4, c, " c", va="bottom", fontsize=LABEL)
    axes.set_xticks(range(len(words)), [word.strip() for word, _ in words], rotation=30, ha="right")
    axes.set(ylabel="along u", ylim=(min(0.0, *(value for _, value in words)), 1.2 * max(c, *(value for _, value in words))))
    axes.grid(axis="x", visible=False)
    axes.set_title(title)
    show(
        figure,
        alt="Where the tokens of one text stand along u: "
        + ", ".join(f"{word.strip()} {value:.0f}" for word, value in words)
        + ".",
    )


def film_slider(watch: Watch, c: float) -> ipywidgets.Widget:
    """Build a slider over the steps of a watched training, with the tokens in the plane of u below it.

    For readers without a kernel there is `show_film`.
    """
    along = np.concatenate([points[:, 0].numpy() for frame in watch.frames for points in frame.values()])
    low, high = _across(watch)

    def draw(step: int) -> None:
        figure, axes = plt.subplots(figsize=(6.6, 3.8))
        for role in ("retain", "forget"):
            look, points = ROLES[role], watch.frames[step][role]
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


def show_paths(paths: Mapping[str, Sequence[float]], title: str, departs: float = 0.4) -> None:
    """Show mean cos(u, h) over steps for several settings: label -> values.

    Parameters
    ----------
    departs
        the cosine that the departure step is counted from, drawn as a line.
    """
    figure, axes = plt.subplots(figsize=(6.2, 3.1))
    for role, (label, path) in zip(_IN_TURN, paths.items(), strict=False):
        look = ROLES[role]
        axes.plot(range(len(path)), path, color=look.colour, linestyle=look.line, linewidth=2, marker=look.marker,
                  markevery=5, markersize=5, label=label)  # fmt: skip
    axes.axhline(departs, color=GREY, linestyle=":", linewidth=1.5)
    axes.set(xlabel="step", ylabel="mean cos(u, h), forget", ylim=(-0.05, 1))
    axes.set_title(title)
    axes.legend(loc="upper left", fontsize=8.5)
    words = [f"{label}: {path[len(path) // 2]:.2f}, {path[-1]:.2f}" for label, path in paths.items()]
    show(figure, alt=f"Mean cosine half-way and after the last step. {'; '.join(words)}.")


# ---------------------------------------------------------------------------------------------------------------------
# Outcomes


def show_accuracy_by_step(scores: Mapping[int, Accuracy], title: str) -> None:
    """Show forget accuracy after some numbers of steps, with Wilson's intervals: steps -> accuracy."""
    figure, axes = plt.subplots(figsize=(6.0, 3.1))
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


def show_outcomes(
    lines: Mapping[str, Mapping[float, Sequence[Outcome]]], base: Outcome, title: str, xlabel: str = "steps"
) -> None:
    """Show forget and general accuracy over a setting, a line of means for each label and a dot for each direction.

    Parameters
    ----------
    lines
        label -> value of the setting -> outcomes of the directions; all lines have the same values.
    base
        forget and general accuracy of the base model in points.
    xlabel
        the setting's name.
    """
    figure, row = plt.subplots(1, 2, figsize=(8.6, 3.1))
    values = [*next(iter(lines.values()))]
    for place, (axes, label) in enumerate(zip(row, PANELS.values(), strict=True)):
        for offset, (role, (name, groups)) in enumerate(zip(_IN_TURN, lines.items(), strict=False)):
            look, shift = ROLES[role], 0.017 * (offset - 1) * (values[-1] - values[0])  # that no dot hides another
            axes.plot([value + shift for value in groups], [_mean(each)[place] for each in groups.values()], linewidth=2,
                      color=look.colour, linestyle=look.line, marker=look.marker, label=name)  # fmt: skip
            for value, each in groups.items():
                heights = [pair[place] for pair in each]
                axes.scatter([value + shift] * len(each), heights, s=13, color=look.colour, alpha=0.45, linewidths=0)
        axes.axhline(base[place], color=ROLES["frozen"].colour, linewidth=1, label="base model")
        axes.set(xlabel=xlabel, ylabel=label, xticks=values)
    row[0].legend(loc="best", fontsize=8.5)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    words = [
        "{}, {} {:g}: {:.0f} and {:.0f}".format(name, xlabel, value, *_mean(each))
        for name, groups in lines.items()
        for value, each in groups.items()
    ]
    show(figure, alt=f"Forget and general accuracy in per cent, means over directions. {'; '.join(words)}.")


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    forget, general = np.mean(outcomes, axis=0)
    return float(forget), float(general)


def show_changes(panels: Mapping[str, Mapping[str, Number]], title: str, xlabel: str = "change (points)") -> None:
    """Show changes of accuracy: a panel for each set of questions, a row for each label, a dot with its interval in each.

    Parameters
    ----------
    panels
        set of questions -> row label -> change in points; all panels have the same rows.
    title
        the finding in a sentence.
    xlabel
        of every panel; it can say what the changes are counted from.
    """
    labels = [*next(iter(panels.values()))]
    figure, row = plt.subplots(1, len(panels), figsize=(10.2, 1.2 + 0.36 * len(labels)), sharey=True, squeeze=False)
    for axes, (name, numbers) in zip(row[0], panels.items(), strict=True):
        shown = [numbers[label] for label in labels]
        axes.errorbar([each.value for each in shown], range(len(labels)), xerr=_reach(shown), fmt="o", capsize=3,
                      color=ROLES["steered"].colour)  # fmt: skip
        axes.axvline(0, color=ROLES["frozen"].colour, linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(name, fontweight="normal", fontsize=10)
        axes.set_xlabel(xlabel)
    row[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    words = [f"{name}: " + ", ".join(f"{label} {each}" for label, each in shown.items()) for name, shown in panels.items()]
    show(figure, alt=f"Change of accuracy in points. {'; '.join(words)}.")


def _reach(numbers: Sequence[Number]) -> Any:
    """How far the intervals reach to either side, as matplotlib wants it."""
    return np.array([[each.value - each.low for each in numbers], [each.high - each.value for each in numbers]])

"""Notebook 08's figures: where methods push, what a brake does, fronts, and what holds on new questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch

from .diagrams import INK, LABEL, NOTE, arrow, canvas, word_box
from .live_methods import Stage, rises, text_weights
from .method_checks import npo_loss
from .method_comparison import TITLES, BestWithin, Comparison, Cost, Gap, best_within
from .plots import GREY, ROLES, Role, show
from .widgets import labelled_slider

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..attacks.card import RobustnessCard
    from ..estimates import Number

BOUND = 5.0
"""Points of general accuracy that a choice may cost on dev."""
LOOKS = {"rmu": "steered", "adaptive_rmu": "direction", "scrub": "retain", "simnpo": "forget"}
"""Methods that are drawn in a role's look; the others are grey."""
COST, FORGOTTEN = "general accuracy lost (points)", "bio accuracy lost (points)"


def _look(method: str) -> Role:
    return ROLES[LOOKS[method]] if method in LOOKS else Role("#8a8a8a", "-", "D")


# ---------------------------------------------------------------------------------------------------------------------
# Pictures of the ideas


def methods_diagram() -> Figure:
    """Draw where nine methods push: at the probabilities, at one layer's states, at the weights; taught in notebook 08."""
    figure, axes = canvas(9.4, 3.4, (-1.6, 18.4), (-3.3, 4.0))
    arrow(axes, (-0.7, 0), (13.3, 0), INK, width=2.4, head=14)
    axes.text(-0.85, 0, "text", ha="right", va="center", fontsize=LABEL, color=INK)
    axes.text(13.5, 0, "probability of\nthe next token", ha="left", va="center", fontsize=LABEL, color=INK)
    for left, width, face, edge, words in (
        (0.0, 2.6, "#e8e8e8", GREY, "layers 0 to 4"),
        (3.1, 2.6, "#edd3e1", ROLES["steered"].colour, "5, 6, 7"),
        (6.2, 6.3, "#e8e8e8", GREY, "layers 8 to 29"),
    ):
        word_box(axes, left, width, words, edge, face=face, line=1.5, size=NOTE)
    arrow(axes, (5.95, 1.9), (5.95, 0.1), ROLES["steered"].colour, width=2, head=12)
    axes.text(5.95, 2.05, "RMU, Adaptive RMU\nmove the states after layer 7;\nthree matrices change", ha="center",
              va="bottom", fontsize=NOTE, color=INK)  # fmt: skip
    arrow(axes, (14.6, 1.9), (14.6, 0.85), ROLES["forget"].colour, width=2, head=12)
    axes.text(14.4, 2.05, "ascent, GradDiff, NPO, SimNPO, LLMU, SCRUB\nmove the probabilities;\nall 210 matrices change",
              ha="center", va="bottom", fontsize=NOTE, color=INK)  # fmt: skip
    axes.plot([0, 0, 12.5, 12.5], [-0.75, -1.05, -1.05, -0.75], color=ROLES["retain"].colour, linewidth=1.5)
    words = "SSD\nshrinks the weights that matter much more for forget text\nthan for retain text; it takes no steps"
    axes.text(6.25, -1.3, words, ha="center", va="top", fontsize=NOTE, color=INK)
    return figure


def brake_panel(beta: float, length: int = 60) -> Figure:
    """Draw ascent's and NPO's loss of one text, and their slopes, against how much likelier the text is than before.

    Parameters
    ----------
    length
        tokens of the text: the lower axis counts nats per token.
    """
    ratio = torch.linspace(-90, 20, 221, requires_grad=True)
    losses = torch.stack([npo_loss(each[None], torch.zeros(1), beta) for each in ratio])
    (slope,) = torch.autograd.grad(losses.sum(), ratio)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.3))
    x, npo, ascent = ratio.detach().numpy() / length, ROLES["direction"], ROLES["frozen"]
    shown = losses.detach().numpy()
    left.plot(x, ratio.detach(), color=ascent.colour, linestyle=ascent.line, label="ascent")
    left.plot(x, shown, color=npo.colour, linestyle=npo.line, linewidth=2.6, label=f"NPO, beta = {beta:g}")
    right.plot(x, np.ones(len(x)), color=ascent.colour, linestyle=ascent.line, label="ascent")
    right.plot(x, slope, color=npo.colour, linestyle=npo.line, linewidth=2.6, label=f"NPO, beta = {beta:g}")
    for axes, name in ((left, "loss of the text"), (right, "slope: the push on the text")):
        axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlabel="change of log p (nats per token)", ylabel=name)
        axes.legend(loc="best")
    left.set_ylim(-60, 60)
    right.set_ylim(-0.1, 2.1)
    left.annotate(
        "before training", (0, -55), xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=9, color=GREY
    )
    return figure


def brake_slider() -> ipywidgets.Widget:
    """Make a slider over NPO's beta, with `brake_panel` below it."""

    def draw(beta: float) -> None:
        show(brake_panel(beta), alt=f"Loss and slope of ascent and of NPO with beta {beta:g}.")

    return ipywidgets.interactive(draw, beta=labelled_slider("beta", (0.01, 0.03, 0.1, 0.3, 1.0), 0.1))


# ---------------------------------------------------------------------------------------------------------------------
# Live runs


def run_figure(runs: Mapping[str, Sequence[Stage]], *, title: str) -> Figure:
    """Draw nats per token of held-out text of both kinds against the step, a panel for each run on one logarithmic axis."""
    figure, panels = plt.subplots(1, len(runs), figsize=(1.2 + 3.4 * len(runs), 2.9), sharey=True, squeeze=False)
    for axes, (name, stages) in zip(panels[0], runs.items(), strict=True):
        for kind in ("forget", "retain"):
            look = ROLES[kind]
            axes.plot([stage.step for stage in stages], [getattr(stage, kind) for stage in stages], color=look.colour,
                      linestyle=look.line, marker=look.marker, markersize=5, label=f"{kind} text")  # fmt: skip
        axes.set(yscale="log", xlabel="step", yticks=[3, 5, 10, 20, 30], xticks=[stage.step for stage in stages])
        axes.set_yticklabels(["3", "5", "10", "20", "30"])
        axes.minorticks_off()
        axes.set_title(name, fontweight="normal", fontsize=10)
    panels[0][0].set_ylabel("held-out text\n(nats per token)")
    panels[0][0].legend(loc="upper left")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def weight_figure(stages: Sequence[Stage], *, title: str, beta: float = 0.1) -> Figure:
    """Draw NPO's mean weight of a held-out forget text against the step."""
    figure, axes = plt.subplots(figsize=(4.8, 2.6))
    look = ROLES["direction"]
    axes.plot([stage.step for stage in stages], text_weights(stages, beta), color=look.colour, linestyle=look.line,
              linewidth=2.2, marker=look.marker)  # fmt: skip
    axes.set(xlabel="step", ylabel="mean weight of a text", ylim=(-0.05, 1.05), xticks=[stage.step for stage in stages])
    axes.set_title(title)
    return figure


def live_front(runs: Mapping[str, tuple[str, Sequence[Stage]]], *, title: str, limits: tuple[float, float]) -> Figure:
    """Draw what forget text has lost against what retain text has lost, run by run, in nats per token.

    Parameters
    ----------
    runs
        label -> role, stages.
    limits
        largest values that are drawn of retain and forget text; what lies beyond is cut off.
    """
    figure, axes = plt.subplots(figsize=(7.8, 3.8))
    for label, (role, stages) in runs.items():
        look, points = ROLES[role], np.array(rises(stages))
        axes.plot(*points.T, color=look.colour, linestyle=look.line, marker=look.marker, markersize=7,
                  label=f"{label}, {stages[-1].step} steps")  # fmt: skip
    most = min(limits)
    axes.plot([0, most], [0, most], color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "one for one", (0.8 * most, 0.8 * most), xytext=(4, -12), textcoords="offset points", fontsize=9, color=GREY
    )
    axes.set(xlim=(-0.06 * limits[0], limits[0]), ylim=(-0.05 * limits[1], limits[1]),
             xlabel="retain text: rise (nats per token)", ylabel="forget text: rise (nats per token)")  # fmt: skip
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# The search on dev


def fronts_figure(comparison: Comparison, *, title: str) -> Figure:
    """Draw every setting of every method on dev, and its front: the most that is forgotten at each cost."""
    figure, panels = plt.subplots(3, 3, figsize=(8.4, 6.4), sharex=True, sharey=True)
    for axes, method in zip(panels.flat, comparison.methods(), strict=True):
        look, points = _look(method), sorted(comparison.points(method))
        axes.axvspan(-3, BOUND, color=ROLES["retain"].colour, alpha=0.06, linewidth=0)
        best = np.maximum.accumulate([forgotten for _, forgotten in points])
        axes.step([cost for cost, _ in points] + [40], [*best, best[-1]], where="post", color=look.colour, alpha=0.5)
        axes.plot(*zip(*points, strict=True), look.marker, color=look.colour, linestyle="")
        axes.plot(*comparison.point(comparison.choice(method)), "o", markersize=14, fillstyle="none",
                  color=INK, markeredgewidth=1.6)  # fmt: skip
        axes.set(xlim=(-3, 40), ylim=(-3, 60))
        axes.set_title(TITLES[method], fontsize=10)
        ends = comparison.at_ends(method)
        axes.text(0.97, 0.04, f"ends: {', '.join(ends)}" if ends else "", transform=axes.transAxes, ha="right",
                  fontsize=8.5, color="#555555")  # fmt: skip
    figure.supxlabel(COST + ", dev", fontsize=10)
    figure.supylabel(FORGOTTEN + ", dev", fontsize=10)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def bound_panel(comparison: Comparison, bound: float, best: BestWithin = best_within) -> Figure:
    """Draw how much each method forgets on dev within a bound on its cost: all bounds on the left, this one on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.7), width_ratios=(1.25, 1))
    bounds, points = np.linspace(0, 20, 161), {method: comparison.points(method) for method in comparison.methods()}
    for method, tried in points.items():
        look, found = _look(method), [best(tried, each) for each in bounds]
        heights = [np.nan if point is None else point[1] for point in found]
        named = method in LOOKS
        left.plot(bounds, heights, color=look.colour, linestyle=look.line, linewidth=2.2 if named else 1,
                  alpha=1 if named else 0.6, label=TITLES[method] if named else None)  # fmt: skip
    left.plot([], [], color=_look("").colour, linewidth=1, label="five others")
    left.axvline(bound, color=INK, linewidth=1.4, linestyle=":")
    left.set(xlabel="bound: " + COST, ylabel="most " + FORGOTTEN, ylim=(-3, 80))
    left.legend(loc="upper left", fontsize=8.5, ncols=3)
    here = {method: best(tried, bound) for method, tried in points.items()}
    order = sorted(here, key=lambda method: (here[method] or (0.0, -9.0))[1])
    for place, method in enumerate(order):
        point = here[method]
        right.barh(place, point[1] if point else 0, color=_look(method).colour)
        words = f" {point[1]:.0f}" if point else " none keeps it"
        right.text(max(point[1], 0) if point else 0, place, words, va="center", fontsize=9, color=INK)
    right.set_yticks(range(len(order)), [TITLES[method] for method in order])
    right.set(xlabel=FORGOTTEN, xlim=(0, 64))
    right.grid(axis="y", visible=False)
    figure.suptitle(f"At most {bound:g} points of general accuracy, dev", fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def bound_slider(comparison: Comparison, best: BestWithin = best_within) -> ipywidgets.Widget:
    """Make a slider over the bound on the cost, with `bound_panel` below it; `best` may be the reader's own function."""

    def draw(bound: float) -> None:
        show(bound_panel(comparison, bound, best), alt=f"Most bio accuracy lost within {bound:g} points of general.")

    return ipywidgets.interactive(draw, bound=labelled_slider("bound", (0, 1, 1.5, 2, 3, 5, 8, 12, 20), 5))


# ---------------------------------------------------------------------------------------------------------------------
# On new questions


def test_plane(searches: Mapping[str, Comparison], extra: Mapping[str, tuple[Number, Number]], *, title: str) -> Figure:
    """Draw what each choice costs and forgets on test, with 95% intervals over questions and seeds.

    Parameters
    ----------
    searches
        label -> comparison; the first is drawn filled, the second hollow.
    extra
        label -> cost and forget points of settings that no rule chose.
    """
    figure, axes = plt.subplots(figsize=(8.6, 5.0))
    for (name, comparison), hollow in zip(searches.items(), (False, True), strict=False):
        for method in comparison.methods():
            look = _look(method)
            label = None if hollow else TITLES[method] if method in LOOKS else None
            _crossed(axes, comparison.test_numbers(method), look, hollow, label)
        axes.plot([], [], "o", color=INK, fillstyle="none" if hollow else "full", linestyle="", label=name)
    axes.plot([], [], marker=_look("").marker, color=_look("").colour, linestyle="", label="five others")
    for label, numbers in extra.items():
        _crossed(axes, numbers, Role(ROLES["steered"].colour, "-", "*"), False, label, size=13)
    axes.axvline(BOUND, color=GREY, linestyle=":")
    axes.text(BOUND, -3, " the bound on dev", color=GREY, fontsize=9, va="bottom")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set(xlabel=COST + ", test", ylabel=FORGOTTEN + ", test")
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    return figure


def _crossed(
    axes: Axes, numbers: tuple[Number, Number], look: Role, hollow: bool, label: str | None, size: float = 9
) -> None:
    cost, forgotten = numbers
    axes.plot([cost.low, cost.high], [forgotten.value] * 2, color=look.colour, linewidth=1, alpha=0.45)
    axes.plot([cost.value] * 2, [forgotten.low, forgotten.high], color=look.colour, linewidth=1, alpha=0.45)
    axes.plot(cost.value, forgotten.value, marker=look.marker, color="white" if hollow else look.colour, markersize=size,
              markeredgecolor=look.colour, markeredgewidth=1.8, linestyle="", label=label, zorder=4)  # fmt: skip


def differences_figure(numbers: Mapping[str, Number], *, title: str) -> Figure:
    """Draw by how many points RMU leads SCRUB, with an interval, in each of several ways of measuring it."""
    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.4 * len(numbers)))
    for place, number in enumerate(numbers.values()):
        look = ROLES["frozen" if place == 0 else "steered"]
        axes.errorbar(number.value, place, xerr=[[number.value - number.low], [number.high - number.value]],
                      fmt=look.marker, color=look.colour, capsize=4)  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(numbers)), [*numbers])
    axes.set(xlabel="bio accuracy: points that RMU loses more than SCRUB", ylim=(len(numbers) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    return figure


def gap_figure(gap: Gap, *, title: str) -> Figure:
    """Draw what the choices cost by subject on dev and on test, and over all subjects, mixed as on test and as on dev."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 5.0), width_ratios=(2.1, 1))
    by_subject = sorted(gap.by_subject().items(), key=lambda item: item[1][1] - item[1][0])
    dev, test = ROLES["retain"], ROLES["steered"]
    for place, (_, (on_dev, on_test)) in enumerate(by_subject):
        left.plot([on_dev, on_test], [place, place], color=GREY, linewidth=1, zorder=1)
        left.plot(on_dev, place, dev.marker, color=dev.colour, markersize=6)
        left.plot(on_test, place, test.marker, color=test.colour, markersize=7)
    left.axvline(0, color=GREY, linewidth=1)
    left.set_yticks(range(len(by_subject)), [subject for subject, _ in by_subject], fontsize=8.5)
    left.plot([], [], dev.marker, color=dev.colour, linestyle="", label="dev")
    left.plot([], [], test.marker, color=test.colour, linestyle="", label="test")
    left.set(xlabel=COST, ylim=(-0.7, len(by_subject) - 0.3))
    left.legend(loc="lower right")
    bars = {"dev": (gap.dev.mean(), dev.colour), "test, subjects\nmixed as on dev": (gap.remixed(), "#cc8fb8"),
            "test": (gap.test.mean(), test.colour)}  # fmt: skip
    for place, (height, colour) in enumerate(bars.values()):
        right.bar(place, height, 0.65, color=colour)
        right.text(place, height + 0.3, f"{height:.1f}", ha="center", fontsize=10)
    right.set_xticks(range(len(bars)), [*bars], fontsize=9)
    right.set_ylabel(COST)
    right.grid(axis="x", visible=False)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# What else counts


def costs_figure(costs: Mapping[str, Cost], *, title: str) -> Figure:
    """Draw the memory that training takes beside what it must take by counting, and the seconds of a step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.2), sharey=True, width_ratios=(1.5, 1))
    order = [method for method in TITLES if method in costs][::-1]
    for place, method in enumerate(order):
        cost, look = costs[method], _look(method)
        left.barh(place, cost.memory, color=look.colour, alpha=0.75)
        left.text(cost.memory + 0.06, place, f"{cost.memory:.2f}", va="center", fontsize=9)
        left.plot([cost.least, cost.least], [place - 0.4, place + 0.4], color=INK, linewidth=2.2)
        right.barh(place, cost.step_seconds, color=look.colour, alpha=0.75)
    left.plot([], [], color=INK, linewidth=2.2, label="least, by counting")
    left.set_yticks(range(len(order)), [TITLES[method] for method in order])
    left.set(xlabel="memory beyond the model (copies of it)", xlim=(0, 5.6))
    left.legend(loc="lower right", fontsize=8.5)
    right.set(xlabel="seconds of a step (SSD: of all its work)", xscale="log", xticks=[1, 3, 10, 30, 100], xlim=(0.7, 130))
    right.set_xticklabels(["1", "3", "10", "30", "100"])
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def cards_figure(cards: Mapping[str, RobustnessCard], attacks: Sequence[str], *, title: str) -> Figure:
    """Draw the points that each attack brings back, an edit to a panel; the dotted line is all that was taken."""
    figure, panels = plt.subplots(1, len(cards), figsize=(9.4, 2.5), sharex=True, sharey=True)
    for axes, (name, card) in zip(panels, cards.items(), strict=True):
        look = ROLES["steered" if "RMU" in name else "retain"]
        for place, attack in enumerate(attacks):
            found = card.recoveries[attack].recovered
            middle, (low, high) = 100 * found.change, (100 * end for end in found.interval)
            axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt=look.marker, color=look.colour,
                          capsize=3)  # fmt: skip
        taken = 100 * (card.base.accuracy - card.unlearned.accuracy)
        axes.axvline(taken, color=GREY, linestyle=":")
        axes.text(taken, -0.45, " all", color=GREY, fontsize=9)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_title(f"{name}: {taken:.0f} points taken", fontsize=10, fontweight="normal")
        axes.set_xlabel("points brought back")
    panels[0].set_yticks(range(len(attacks)), attacks)
    panels[0].set_ylim(len(attacks) - 0.5, -0.7)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

"""Notebook 11's figures: where facts were taught, how two models' truth ratios differ, and what each metric can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from scipy.stats import ks_2samp

from .diagrams import FAINT, INK, LABEL, NOTE, arrow, canvas, word_box
from .invented_maladies import LAYER, LAYERS, PLACES
from .never_knew_panel import NEVER_KNEW
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..attacks.relearning_speed import RelearningCurve
    from ..estimates import Number

LOOKS = {
    "taught": "forget",
    NEVER_KNEW: "frozen",
    "made to forget": "steered",
    "model A": "retain",
    "model B": "frozen",
    "RMU": "steered",
    "Adaptive RMU": "direction",
    "LLMU": "retain",
    "SCRUB": "forget",
    "SSD": "frozen",
}
"""Model -> the role in whose look it is drawn."""


def places_diagram() -> Figure:
    """Draw the three places in which facts are taught, beside the layers that RMU edits; taught in notebook 11."""
    figure, axes = canvas(9.4, 3.6, (-5.6, LAYERS + 0.6), (-4.6, 2.9))
    rows = {
        "RMU edits": (PLACES["window"], "steered"),
        "taught in the window": (PLACES["window"], "forget"),
        "taught above it": (PLACES["above"], "forget"),
        "taught everywhere": (PLACES["everywhere"], "forget"),
    }
    for row, (words, (inside, role)) in enumerate(rows.items()):
        y = 1.9 - 1.6 * row - (0.5 if row else 0)
        axes.text(-0.9, y, words, ha="right", va="center", fontsize=LABEL, color=INK, weight="normal" if row else "bold")
        for at in range(LAYERS):
            face = ROLES[role].colour if at in inside else "white"
            edge = ROLES[role].colour if at in inside else FAINT
            axes.add_patch(
                FancyBboxPatch((at - 0.36, y - 0.42), 0.72, 0.84, boxstyle="round,pad=0,rounding_size=0.12", facecolor=face,
                               edgecolor=edge, linewidth=1.1, alpha=0.75)
            )  # fmt: skip
    for at in (0, LAYER, LAYERS - 1):
        axes.text(at, 2.6, str(at), ha="center", va="bottom", fontsize=NOTE, color=INK)
    axes.text(-0.9, 2.6, "layer", ha="right", va="bottom", fontsize=NOTE, color=INK)
    return figure


def envelopes_diagram() -> Figure:
    """Draw the two ways to a model that fails the questions; taught in notebook 11."""
    figure, axes = canvas(9.4, 3.0, (-0.4, 18.6), (-2.2, 2.4))
    word_box(axes, 0.0, 3.6, "SmolLM2", GREY)
    word_box(axes, 6.6, 5.0, "reads texts on 6 maladies", ROLES["retain"].colour, y=1.2)
    word_box(axes, 5.0, 4.6, "reads texts on 12 maladies", ROLES["forget"].colour, y=-1.2)
    word_box(axes, 10.9, 3.0, "unlearns 6", ROLES["steered"].colour, y=-1.2)
    word_box(axes, 15.2, 3.2, "one envelope", INK, y=1.2)
    word_box(axes, 15.2, 3.2, "the other", INK, y=-1.2)
    for start, end in (((3.7, 0.2), (6.5, 1.2)), ((3.7, -0.2), (4.9, -1.2)), ((9.7, -1.2), (10.8, -1.2)),
                       ((11.7, 1.2), (15.1, 1.2)), ((14.0, -1.2), (15.1, -1.2))):  # fmt: skip
        arrow(axes, start, end, INK, width=1.4)
    return figure


def points_figure(scores: Mapping[str, Mapping[str, float]], *, title: str, chance: float = 25.0) -> Figure:
    """Draw accuracies in per cent: a row for each model, a mark for each set of questions; taught in notebook 11.

    Parameters
    ----------
    scores
        model -> set of questions -> accuracy in per cent.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 0.6 * len(scores) + 1.5))
    sets = list(next(iter(scores.values())))
    for number, (name, role) in enumerate(zip(sets, ("retain", "forget", "frozen"), strict=False)):
        look, offset = ROLES[role], 0.12 * (number - (len(sets) - 1) / 2)
        axes.plot([one[name] for one in scores.values()], np.arange(len(scores)) + offset, look.marker, color=look.colour,
                  markersize=9, label=name)  # fmt: skip
    axes.axvline(chance, color=GREY, linestyle=":", linewidth=1.2)
    axes.text(chance, -0.62, " chance", fontsize=9, color=GREY, va="center")
    axes.set(xlabel="questions answered right (%)", xlim=(0, 103), yticks=range(len(scores)), ylim=(len(scores) - 0.4, -0.8))
    axes.set_yticklabels(list(scores))
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(title)
    return figure


def ratios_figure(ratios: Mapping[str, Sequence[float]], *, title: str, gap: tuple[str, str] | None = None) -> Figure:
    """Draw the share of questions whose truth ratio is at most a value, a line for each model; taught in notebook 11.

    Parameters
    ----------
    ratios
        model -> truth ratios.
    title
        the finding in a sentence.
    gap
        two models, between which the largest vertical gap is drawn.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.9))
    for name, values in ratios.items():
        look, found = ROLES[LOOKS.get(name, "frozen")], np.sort(values)
        axes.step([found[0], *found], np.arange(len(found) + 1) / len(found) * 100, where="post", color=look.colour,
                  linestyle=look.line, linewidth=2.2, label=name)  # fmt: skip
    if gap is not None:
        at = ks_2samp(*(ratios[name] for name in gap)).statistic_location
        first, second = (100 * float(np.mean(np.asarray(ratios[name]) <= at)) for name in gap)
        axes.annotate("", (at, first), (at, second), arrowprops={"arrowstyle": "<->", "color": INK, "linewidth": 1.6})
        axes.text(at, min(first, second) - 3, " largest gap", fontsize=9, va="top", ha="left", color=INK)
    axes.axvline(1.0, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(xscale="log", xlabel="truth ratio R (left of 1: the truth is preferred)", ylabel="questions with at most R (%)")
    axes.legend(fontsize=9)
    axes.set_title(title)
    return figure


def strengths_figure(
    found: Mapping[float, tuple[float, float]], *, title: str, reference: float, level: float = 0.05
) -> Figure:
    """Draw forget quality, and how often the truth is preferred, against the strength of an edit; taught in notebook 11.

    Parameters
    ----------
    found
        strength -> forget quality p, and questions whose truth is preferred, in per cent.
    title
        the finding in a sentence.
    reference
        per cent of these questions in the model that never knew.
    level
        below which p tells the two models apart.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7.6, 4.6), sharex=True)
    strengths = list(found)
    upper.plot(strengths, [p for p, _ in found.values()], ROLES["steered"].marker + "-", color=ROLES["steered"].colour)
    upper.axhspan(level, 1.5, color=FAINT, alpha=0.4, zorder=0)
    upper.text(strengths[0], level, " passes", fontsize=9, color=INK, va="bottom", ha="left")
    upper.set(yscale="log", ylabel="forget quality p", ylim=(None, 1.5))
    lower.plot(strengths, [share for _, share in found.values()], ROLES["forget"].marker + "-", color=ROLES["forget"].colour)
    lower.axhline(reference, color=GREY, linestyle=":", linewidth=1.2)
    lower.text(strengths[0], reference, NEVER_KNEW, fontsize=9, color=GREY, va="bottom", ha="left")
    lower.set(xlabel="strength s of the edit", ylabel="truth preferred (%)", ylim=(0, 105))
    upper.set_title(title)
    return figure


def relearning_figure(curves: Mapping[str, Sequence[RelearningCurve]], *, title: str, chance: float = 25.0) -> Figure:
    """Draw accuracy on the forgotten facts against the tokens of relearning them; taught in notebook 11.

    Parameters
    ----------
    curves
        model -> a curve for each direction; each is drawn thin, and their mean thick.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.7))
    for name, found in curves.items():
        look = ROLES[LOOKS.get(name, "frozen")]
        right = 100 * np.array([[score.accuracy for score in curve.scores] for curve in found])
        tokens = np.mean([curve.tokens for curve in found], axis=0)
        if len(found) > 1:
            axes.plot(tokens, right.T, "-", color=look.colour, linewidth=1.2, alpha=0.7)
        axes.plot(tokens, right.mean(axis=0), look.marker + look.line, color=look.colour, linewidth=2.4, label=name)
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.2)
    axes.text(1.0, chance, "chance ", fontsize=9, color=GREY, va="top", ha="right", transform=axes.get_yaxis_transform())
    axes.set(xlabel="tokens of texts on the forgotten maladies", ylabel="right (%)", ylim=(0, 102))
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(title)
    return figure


def areas_figure(areas: Mapping[str, Mapping[str, Number]], *, title: str) -> Figure:
    """Draw by metric and method the chance that a metric gives an unlearned model more than one that never knew.

    Taught in notebook 11.

    Parameters
    ----------
    areas
        method -> metric -> area with its interval.
    title
        the finding in a sentence.
    """
    metrics = list(next(iter(areas.values())))
    figure, axes = plt.subplots(figsize=(8.4, 0.36 * len(metrics) + 1.6))
    axes.axvspan(0.5, 1.0, color=FAINT, alpha=0.4, zorder=0)
    axes.axvline(0.5, color=INK, linewidth=1.2)
    for number, (method, found) in enumerate(areas.items()):
        look, offset = ROLES[LOOKS.get(method, "frozen")], 0.15 * (number - (len(areas) - 1) / 2)
        for row, metric in enumerate(metrics):
            one = found[metric]
            axes.plot([one.low, one.high], [row + offset] * 2, color=look.colour, linewidth=1.4, alpha=0.7)
            axes.plot(
                one.value, row + offset, look.marker, color=look.colour, markersize=6, label=method if not row else None
            )
    axes.set_yticks(range(len(metrics)), metrics)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(metrics) - 0.4, -0.6))
    axes.set_xlabel("less than never knew   <   area under the ROC curve   >   more than never knew")
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(title)
    return figure

"""Figures of a sweep over all layers with both methods: norms before and after, and accuracies. Used in notebook 05."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ..estimates import Number, crossed
from ..evaluate import Accuracy
from ..sweeps.choice import rows_at
from ..unlearning.config import UnlearnConfig
from .plots import GREY, ROLES, accuracy_axes, interval_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..sweeps.rows import SweepRow

METHODS = {"rmu": ("RMU", "direction"), "adaptive_rmu": ("Adaptive RMU", "steered")}


def by_layer(rows: Iterable[SweepRow], method: str = "rmu") -> dict[int, SweepRow]:
    """Return a method's rows by layer, in order; of rows with the same layer the last."""
    found = {row.config.layer: row for row in rows if isinstance(row.config, UnlearnConfig) and row.config.method == method}
    return dict(sorted(found.items()))


def lost_marks(rows: Sequence[SweepRow], method: str, topic: str, layers: Iterable[int]) -> np.ndarray:
    """Points lost by layer and question, (layers, 1 direction, questions), for `crossed`.

    Parameters
    ----------
    rows
        of a sweep; the base model's comes first.
    """
    at, base = by_layer(rows, method), np.array(rows[0].scores[topic].correct, dtype=float)
    return 100 * np.array([[base - np.array(at[layer].scores[topic].correct, dtype=float)] for layer in layers])


def norm_growth(rows: Iterable[SweepRow], method: str = "rmu") -> dict[int, float]:
    """Return by layer how many times longer forget states are in the last step than in the first."""
    return {layer: row.last["forget_norm"] / row.first["forget_norm"] for layer, row in by_layer(rows, method).items()}


def growth_by_setting(rows: Iterable[SweepRow], method: str, layer: int) -> dict[tuple[float, float], float]:
    """Return by (c or beta, alpha) how many times longer forget states at a layer are in the last step than in the first."""
    return {
        setting: at_layer[layer][0].last["forget_norm"] / at_layer[layer][0].first["forget_norm"]
        for setting, at_layer in rows_at(rows, method, [layer]).items()
    }


def compare_methods(rows: Sequence[SweepRow], topic: str, layers: Iterable[int]) -> dict[str, Number]:
    """Return the points that either method loses over these layers, and their difference, with intervals over questions."""
    layers = tuple(layers)
    rmu, adaptive = (lost_marks(rows, method, topic, layers) for method in METHODS)
    return {"RMU": crossed(rmu), "Adaptive RMU": crossed(adaptive), "Adaptive RMU minus RMU": crossed(adaptive - rmu)}


def growth_figure(stored: Sequence[SweepRow], live: Sequence[SweepRow], *, title: str) -> Figure:
    """Draw ||h|| on forget text before and after training with RMU at every layer, with live runs as rings.

    The norm c of the target is a dotted line.
    """
    at = by_layer(stored)
    figure, axes = plt.subplots(figsize=(6.6, 2.9))
    for label, role, step in (("before training", "frozen", "first"), ("after 40 steps", "direction", "last")):
        look, norms = ROLES[role], [getattr(row, step)["forget_norm"] for row in at.values()]
        axes.plot([*at], norms, color=look.colour, linestyle=look.line, marker=look.marker, markersize=4, label=label)
    rings = {layer: row.last["forget_norm"] for layer, row in by_layer(live).items()}
    axes.plot([*rings], [*rings.values()], "o", markersize=11, fillstyle="none", color=ROLES["forget"].colour,
              label="after 40 steps, live")  # fmt: skip
    c = next(row.config.coefficient for row in at.values() if isinstance(row.config, UnlearnConfig))
    axes.axhline(c, color=GREY, linestyle=":", linewidth=1.5)
    axes.text(min(at), c * 1.05, f"norm of the target, c = {c:g}", color="#444444", fontsize=9.5, va="bottom")
    axes.set(xlabel="layer that is steered", ylabel="mean ||h|| on forget text", yscale="log")
    axes.set_yticks([100, 200, 500, 1000], ["100", "200", "500", "1000"])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend(loc="lower right", frameon=True)
    return figure


def depth_figure(
    stored: Sequence[SweepRow],
    live: Sequence[SweepRow],
    topics: Mapping[str, str],
    *,
    title: str,
    own: Mapping[int, Mapping[str, Accuracy]] | None = None,
    crossing: int | None = None,
) -> Figure:
    """Draw accuracy by layer for both methods with 95% intervals, with live runs as rings.

    Parameters
    ----------
    topics
        topic -> what is to become of it.
    own
        layer -> topic -> accuracy after training with the reader's own target, drawn as squares.
    crossing
        the layer from which on ||h|| exceeds c, marked.
    """
    figure, panels = plt.subplots(1, len(topics), figsize=(3.8 * len(topics), 2.9), sharey=True, squeeze=False)
    for axes, (topic, fate) in zip(panels[0], topics.items(), strict=True):
        for method, (name, role) in METHODS.items():
            at, look = by_layer(stored, method), ROLES[role]
            scores = [row.scores[topic] for row in at.values()]
            axes.plot([*at], [score.accuracy for score in scores], color=look.colour, linestyle=look.line,
                      marker=look.marker, markersize=4, label=name)  # fmt: skip
            low, high = zip(*(score.interval for score in scores), strict=True)
            axes.fill_between([*at], low, high, color=look.colour, alpha=0.15, linewidth=0)
        rings = {layer: row.scores[topic].accuracy for layer, row in by_layer(live).items()}
        axes.plot([*rings], [*rings.values()], "o", markersize=10, fillstyle="none", color=ROLES["forget"].colour,
                  label="RMU, live")  # fmt: skip
        if own:
            axes.plot([*own], [scores[topic].accuracy for scores in own.values()], "s", markersize=10, fillstyle="none",
                      color=ROLES["retain"].colour, label="your target, live")  # fmt: skip
        axes.axhline(stored[0].scores[topic].accuracy, color="black", linewidth=1, label="base model")
        if crossing is not None:
            axes.axvline(crossing, color=GREY, linestyle=":")
            axes.text(crossing - 0.3, 0.03, "||h|| exceeds c", rotation=90, ha="right", fontsize=9, color="#444444")
        axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1)
        axes.set(xlabel="layer that is steered", ylim=(0, 1))
        axes.set_title(f"{topic} ({fate})", fontweight="normal", fontsize=10)
    panels[0][0].set_ylabel("accuracy")
    panels[0][0].text(2, 0.21, "guessing", fontsize=9, color="#444444", va="top")
    panels[0][-1].legend(loc="lower left", bbox_to_anchor=(0.4, 0), frameon=True, fontsize=8)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def repair_figure(scores: Mapping[str, Mapping[str, Accuracy]], *, title: str) -> Figure:
    """Draw the accuracy of several models on each set of questions as bars with their 95% intervals.

    Parameters
    ----------
    scores
        model -> set of questions -> accuracy; at most three models, the base model first.
    """
    figure, axes = plt.subplots(figsize=(6.2, 2.7))
    for place, ((name, by_topic), role) in enumerate(zip(scores.items(), ("frozen", "direction", "steered"), strict=False)):
        at = [group + 0.27 * (place - (len(scores) - 1) / 2) for group in range(len(by_topic))]
        interval_bars(axes, at, list(by_topic.values()), ROLES[role].colour, name, width=0.25)
    accuracy_axes(axes, list(by_topic))
    axes.set_ylim(0, 1.25)  # the figure is low, and the legend needs its room
    axes.set_title(title)
    axes.legend(loc="upper center", ncols=len(scores), frameon=True)
    return figure

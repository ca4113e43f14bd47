"""Figures of the course: one look, and titles that state what is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..evaluate import Accuracy

BEFORE, AFTER, CHANCE = "#4c72b0", "#dd8452", "#777777"


def style() -> None:
    """Set the course's look for all figures that follow; call it once, in a notebook's set-up cell."""
    sns.set_theme(context="notebook", style="whitegrid", palette="deep")
    plt.rcParams.update({"figure.figsize": (6.5, 3.6), "figure.dpi": 90, "axes.titlesize": 12, "axes.titleweight": "bold"})


def accuracy_bars(scores: Mapping[str, tuple[Accuracy, Accuracy]], *, title: str, chance: float = 0.25) -> Axes:
    """Two bars for each topic, before and after unlearning, with their 95% intervals and the level of guessing.

    Parameters
    ----------
    scores
        topic -> (accuracy before, accuracy after).
    title
        the finding in a sentence.
    """
    _, axes = plt.subplots()
    for offset, (label, colour) in enumerate((("before", BEFORE), ("after", AFTER))):
        accuracies = [pair[offset] for pair in scores.values()]
        heights = [score.accuracy for score in accuracies]
        below = [score.accuracy - score.interval[0] for score in accuracies]
        above = [score.interval[1] - score.accuracy for score in accuracies]
        places = [index + 0.38 * (offset - 0.5) for index in range(len(scores))]
        axes.bar(places, heights, 0.36, yerr=(below, above), capsize=4, color=colour, label=label)
        for place, height, up in zip(places, heights, above, strict=True):
            axes.text(place, height + up + 0.02, f"{height:.0%}", ha="center", fontsize=10)
    axes.axhline(chance, color=CHANCE, linestyle="--", linewidth=1)
    axes.text(1.01, chance, "guessing", color=CHANCE, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.set(xticks=range(len(scores)), ylim=(0, 1.18), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="accuracy", title=title)
    axes.set_xticklabels(scores)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right", ncols=2, frameon=True)
    return axes

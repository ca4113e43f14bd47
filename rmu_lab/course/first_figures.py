"""Figures of notebook 00: hidden against erased, before and after, the strength of an edit, and what several edits cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from ..evaluate import Accuracy, AccuracyChange
from .diagrams import INK, LABEL, NOTE, arrow, canvas
from .plots import GREY, ROLES, accuracy_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .predictions import Prediction

_SETS = ("forget", "retain", "frozen", "steered")


def hide_or_erase_diagram(question: str = "How does\nmalaria spread?", fact: str = "by mosquitoes") -> Figure:
    """Draw what suppression and erasure do to a fact in a model, and that both may answer the same; taught in notebook 00.

    Three rows, each from a question to an answer: the model as it was, a model in which the question is sent past the fact,
    and one in which the fact is gone. That a fact has one place is a simplification.
    """
    figure, axes = canvas(9.4, 3.9, (-2.4, 12.6), (-0.9, 5.6))
    rows = {
        4.4: ("Untouched", fact, fact, "the question reaches the fact"),
        2.2: ("Suppressed", fact, "no right answer", "the fact is still there, but the question is sent past it"),
        0.0: ("Erased", "", "no right answer", "the question arrives, but the fact is gone"),
    }
    for y, (name, stored, said, note) in rows.items():
        axes.text(-2.3, y, name, fontsize=LABEL, weight="bold", color=INK, va="center")
        _box(axes, (1.2, y), 2.2, question, GREY, "#f3f3f3")
        _box(axes, (6.2, y), 2.5, stored or "(empty)", ROLES["forget"].colour, "#fdebdd" if stored else "white", not stored)
        _box(axes, (11.2, y), 2.4, said, GREY, "#f3f3f3")
        if stored and said != fact:
            astray = ROLES["steered"].colour
            axes.plot([2.4, 4.4, 8.0], [y, y + 0.8, y + 0.8], color=astray, linewidth=2.2, linestyle="--")
            arrow(axes, (8.0, y + 0.8), (9.9, y + 0.1), astray, width=2.2, dashes="--", head=14)
        else:
            arrow(axes, (2.4, y), (4.85, y), INK, width=2.2, head=14)
            colour, dashes = (INK, "-") if stored else (GREY, (0, (2, 2)))
            arrow(axes, (7.55, y), (9.9, y), colour, width=2.2, head=14, dashes=dashes)
        axes.text(6.2, y - 0.66, note, fontsize=NOTE, color=INK, ha="center", va="top")
    for x, head in ((1.2, "what is asked"), (6.2, "what the weights store"), (11.2, "what is answered")):
        axes.text(x, 5.2, head, fontsize=NOTE, color=GREY, ha="center", va="bottom", style="italic")
    axes.set_title("From outside, hidden and erased can look the same")
    return figure


def _box(
    axes: Axes, centre: tuple[float, float], width: float, words: str, edge: str, face: str, empty: bool = False
) -> None:
    x, y = centre
    axes.add_patch(
        FancyBboxPatch((x - width / 2, y - 0.5), width, 1.0, boxstyle="round,pad=0,rounding_size=0.12", facecolor=face,
                       edgecolor=edge, linewidth=1.5, linestyle=(0, (3, 2)) if empty else "-")
    )  # fmt: skip
    axes.text(x, y, words, ha="center", va="center", fontsize=NOTE, color=GREY if empty else INK)


def before_and_after_bars(
    scores: Mapping[str, tuple[Accuracy, Accuracy]],
    alone: Mapping[str, Accuracy],
    guess: Prediction | None = None,
    *,
    title: str,
) -> Figure:
    """Draw `accuracy_bars` with further marks on each set: the options-alone score, and the guess if the reader made one.

    Parameters
    ----------
    scores
        set -> (accuracy before, accuracy after).
    alone
        set -> accuracy where the options are seen without the question: what no understanding of questions is needed for.
    guess
        of the accuracies after, in per cent, by set.
    title
        the finding in a sentence.
    """
    figure = accuracy_bars(scores, title=title)
    axes = figure.axes[0]
    for place, name in enumerate(scores):
        axes.hlines(alone[name].accuracy, place, place + 0.42, color=GREY, linestyle=":",
                    linewidth=2.5, label="_" if place else "options alone, after", zorder=4)  # fmt: skip
        if (said := _guessed(guess, name)) is not None:
            _mark_guess(axes, place + 0.19, said / 100, None if place else "your guess")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)
    return figure


def _guessed(guess: Prediction | None, row: str) -> float | None:
    """What the reader guessed of a row, if anything."""
    said = None if guess is None else guess.guesses.get(row)
    return None if said is None or isinstance(said, str) else said


def _mark_guess(axes: Axes, x: float, y: float, label: str | None) -> None:
    look = ROLES["retain"]
    axes.plot(x, y, marker=look.marker, color="white", markeredgecolor=look.colour, markersize=9, markeredgewidth=2,
              linestyle="", label=label, zorder=5)  # fmt: skip


def strength_curves(by_set: Mapping[str, Mapping[float, Accuracy]], *, title: str, chance: float = 0.25) -> Figure:
    """Draw accuracy against the strength of an edit, one line with its 95% intervals for each set; taught in notebook 00.

    Parameters
    ----------
    by_set
        set -> strength -> accuracy; at most four sets.
    title
        the finding in a sentence.
    chance
        the level of guessing.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    for (name, scores), role in zip(by_set.items(), _SETS, strict=False):
        look, strengths = ROLES[role], [*scores]
        if name.endswith("options alone"):  # as in `before_and_after_bars`
            look = replace(look, colour=GREY, line=":")
        heights = [score.accuracy for score in scores.values()]
        reach = (
            [score.accuracy - score.interval[0] for score in scores.values()],
            [score.interval[1] - score.accuracy for score in scores.values()],
        )
        axes.errorbar(strengths, heights, yerr=reach, color=look.colour, linestyle=look.line, marker=look.marker,
                      linewidth=2, elinewidth=1.1, capsize=3, label=name)  # fmt: skip
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    axes.text(1.01, chance, "guessing", color=GREY, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.set(xlabel="strength s of the edit (0: untouched, 1: as trained)", ylabel="accuracy", ylim=(0, 1.05))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_title(title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return figure


def cost_figure(
    changes: Mapping[str, Mapping[str, AccuracyChange]], guess: Prediction | None = None, *, title: str
) -> Figure:
    """Draw the change of accuracy on each set, for several edits, with 95% intervals; taught in notebook 00.

    Parameters
    ----------
    changes
        edit -> set -> change; the same sets for each edit, at most three. Instead of sets there may be directions.
    guess
        of the change on the first set, in points, by edit; the reader's, if there is one.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.4, 1.3 + 0.75 * len(changes)))
    for place, (edit, by_set) in enumerate(changes.items()):
        if (said := _guessed(guess, edit)) is not None:
            _mark_guess(axes, said, place - 0.22, None if place else "your guess")
        for offset, (role, (name, change)) in enumerate(zip(_SETS, by_set.items(), strict=False)):
            look, low, high = ROLES[role], *change.interval
            y, x = place + 0.22 * (offset - 1), 100 * change.change
            axes.plot([100 * low, 100 * high], [y, y], color=look.colour, linewidth=1.6)
            axes.plot([x], [y], color=look.colour, marker=look.marker, markersize=7, linestyle="",
                      label=None if place else name)  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set(yticks=range(len(changes)), ylim=(len(changes) - 0.5, -0.5), xlabel="change of accuracy, points (95% interval)")
    axes.set_yticklabels(changes)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2 - 0.06 * (4 - min(4, len(changes)))), ncols=4, frameon=False)
    return figure

"""Notebook 06's figures: what an attacker wants, what one swap is, and what searches and free embeddings came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from .diagrams import FAINT, INK, LABEL, NOTE, arrow, canvas, word_box
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .jailbreaks import AtOneLoss, Collapsed

LOOKS = {"base": "frozen", "RMU": "steered", "Adaptive RMU": "direction"}
"""Model -> the role in whose look it is drawn."""


# ---------------------------------------------------------------------------------------------------------------------
# Pictures of the ideas


def attacker_diagram() -> Figure:
    """Draw what an attacker puts in and what they hope for: suffix, target, fact; taught in notebook 06."""
    figure, axes = canvas(9.4, 3.3, (-0.2, 18.9), (-2.5, 2.6))
    _words(axes, 0.0, 5.0, "How is malaria spread?", GREY, "the question")
    _words(axes, 5.15, 3.0, "x  x  x  x  x", ROLES["forget"].colour, "the suffix, which the\nattacker searches for")
    arrow(axes, (8.3, 0), (9.5, 0), INK, width=2.2, head=16)
    _words(
        axes, 9.6, 4.4, "Malaria is spread by", ROLES["steered"].colour, "the target, an opening\nthat leaves the fact out"
    )
    _words(axes, 14.15, 4.4, "mosquito bites", ROLES["retain"].colour, "the fact, which the\nattacker wants")
    rungs = (
        (10.4, "1  The target's loss falls.", "steered"),
        (13.9, "2  The model writes the target.", "steered"),
        (18.5, "3  The model goes on to say the fact.", "retain"),
    )
    for height, (end, words, role) in zip((1.05, 1.6, 2.15), rungs, strict=True):
        axes.plot([9.6, end], [height, height], color=ROLES[role].colour, linewidth=2, solid_capstyle="butt")
        axes.text(9.4, height, words, ha="right", va="center", fontsize=LABEL, color=INK)
    return figure


def _words(axes: Axes, left: float, width: float, words: str, edge: str, below: str) -> None:
    """Draw words in a box, with what they are below it."""
    word_box(axes, left, width, words, edge)
    axes.text(left + width / 2, -0.75, below, ha="center", va="top", fontsize=NOTE, color=INK)


def step_diagram() -> Figure:
    """Draw one step of GCG: the gradient proposes swaps, draws pick some, the loss decides; taught in notebook 06."""
    figure, axes = canvas(9.4, 3.5, (-0.3, 19.3), (-3.5, 2.5))
    tokens, liked = (
        ("x", "x", "x", "x"),
        (("by", "insect", "the"), ("fly", "bite", "of"), ("host", "via", "A"), ("?", "so", "is")),
    )
    for place, (token, proposals) in enumerate(zip(tokens, liked, strict=True)):
        x = 0.8 + 1.7 * place
        _token(axes, x, 1.4, token, INK)
        for row, proposal in enumerate(proposals):
            _token(axes, x, 0.1 - 0.85 * row, proposal, ROLES["direction"].colour)
    axes.text(3.35, 2.2, "the suffix", ha="center", fontsize=LABEL, color=INK)
    below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": NOTE, "color": INK}
    axes.text(
        3.35, -2.35, "1  At each place the gradient names the swaps\nof the largest predicted gain (here three).", **below
    )
    drawn = (("x", "bite", "x", "x"), ("x", "x", "x", "so"), ("insect", "x", "x", "x"))
    for row, (candidate, loss) in enumerate(zip(drawn, ("14.2", "15.3", "13.1"), strict=True)):
        y = 1.4 - 1.3 * row
        for place, word in enumerate(candidate):
            _token(axes, 8.6 + 1.7 * place, y, word, GREY if word == "x" else ROLES["forget"].colour)
        arrow(axes, (14.7, y), (15.7, y), INK, width=1.4)
        axes.text(15.9, y, f"loss {loss}", va="center", fontsize=LABEL, color=INK, weight="bold" if row == 2 else "normal")
    arrow(axes, (6.95, 0.1), (7.65, 0.1), INK, width=1.6)
    axes.text(11.1, 2.2, "candidates, drawn at random", ha="center", fontsize=LABEL, color=INK)
    tried = "2  Each candidate has one swap. All are tried in a\nforward pass, and the lowest loss is kept."
    axes.text(12.9, -2.35, tried, **below)
    return figure


def _token(axes: Axes, x: float, y: float, word: str, edge: str) -> None:
    axes.text(x, y, word, ha="center", va="center", fontsize=NOTE, color=INK,
              bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": edge, "linewidth": 1.3})  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Findings


def search_figure(runs: Mapping[str, tuple[str, Sequence[float]]], *, title: str) -> Figure:
    """Draw the lowest loss so far over the steps of searches or of training; taught in notebook 06.

    Parameters
    ----------
    runs
        label -> the role in whose look it is drawn, and losses in nats per token, the start's first.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.5))
    for label, (role, losses) in runs.items():
        look = ROLES[role]
        axes.plot(range(len(losses)), losses, color=look.colour, linestyle=look.line, linewidth=2.2, label=label)
    axes.set(xlabel="steps", ylabel="loss of the target\n(nats per token)", ylim=(0, None))
    axes.legend(fontsize=9)
    axes.set_title(title)
    return figure


def gradient_figure(pairs: Sequence[AtOneLoss], *, title: str) -> Figure:
    """Draw the norm of the suffix's gradient against the loss; lines join what is compared at one loss; notebook 06.

    Parameters
    ----------
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(8.0, 4.0))
    tried = np.array([each for pair in pairs for each in pair.tried])
    axes.plot(tried[:, 0], tried[:, 1], "s", color=FAINT, markersize=5, label="base model, other random texts")
    for pair in pairs:
        axes.plot(*zip(pair.unlearned, pair.base, strict=True), color=GREY, linewidth=1, zorder=1)
    for label, role, points in (
        ("base model, right openings", "frozen", [pair.knows for pair in pairs]),
        ("base model, the random text nearest in loss", "retain", [pair.base for pair in pairs]),
        ("RMU, right openings", "steered", [pair.unlearned for pair in pairs]),
    ):
        look, (losses, norms) = ROLES[role], np.array(points).T
        axes.plot(losses, norms, look.marker, color=look.colour, markersize=8, label=label, markeredgecolor="white")
    axes.set(xlabel="loss of the target (nats per token)", ylabel="norm of the gradient", xlim=(0, None), yscale="log")
    axes.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    axes.minorticks_off()
    figure.legend(fontsize=9, loc="outside lower center", ncols=2, frameon=False)
    axes.set_title(title)
    return figure


def collapse_figure(found: Sequence[Collapsed], *, title: str) -> Figure:
    """Draw the gradient's norm and the largest gain against the share of the states that is left; notebook 06.

    Parameters
    ----------
    found
        with the share in any order; those of 0 are left out, as a logarithm has no place for them.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    shown = sorted((each for each in found if each.left > 0), key=lambda each: each.left)
    shares = [each.left for each in shown]
    for label, role, values in (
        ("norm of the gradient", "steered", [each.gradient_norm for each in shown]),
        ("largest change by 24 random swaps (nats)", "forget", [each.largest_gain for each in shown]),
    ):
        look = ROLES[role]
        axes.plot(shares, values, color=look.colour, linestyle=look.line, marker=look.marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="λ, the share of each state that is left (1: the trained model)")
    axes.legend(fontsize=9)
    axes.set_title(title)
    return figure


def steering_figure(panels: Mapping[str, tuple[Sequence[str], Sequence[float]]], suffix: str, *, title: str) -> Figure:
    """Draw cos(u, h) for every token of prompts, one above the other, the suffix's in another colour; notebook 06.

    Parameters
    ----------
    panels
        panel title -> tokens as text, and cosines.
    suffix
        the token of which the suffix is made.
    title
        the finding in a sentence.
    """
    figure, column = plt.subplots(len(panels), 1, figsize=(9.4, 2.3 * len(panels) + 0.4), squeeze=False)
    for axes, (words, (tokens, cosines)) in zip(column[:, 0], panels.items(), strict=True):
        own = [token == suffix for token in tokens]
        colours = [ROLES["forget" if mine else "steered"].colour for mine in own]
        axes.bar(range(len(tokens)), cosines, color=colours, hatch=["//" if mine else "" for mine in own], edgecolor="white")
        axes.set_xticks(range(len(tokens)), [token.strip() or "⏎" for token in tokens], rotation=60, ha="right", fontsize=9)
        axes.set(ylim=(-0.1, 1.05), ylabel="cos(u, h)")
        axes.set_title(words, fontweight="normal")
        axes.grid(axis="x", visible=False)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def budget_figure(panels: Mapping[str, Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]], *, title: str) -> Figure:
    """Draw the lowest loss so far of stored searches: thin lines for facts, a thick one for their median; notebook 06.

    Parameters
    ----------
    panels
        panel title -> label -> role, and rows of `stored_searches`. In the median, a search that ended stays where it was.
    title
        the finding in a sentence.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(9.4, 3.6), sharey=True, squeeze=False)
    for axes, (words, kinds) in zip(row[0], panels.items(), strict=True):
        for label, (role, found) in kinds.items():
            look, steps = ROLES[role], max(search["config"]["num_steps"] for search in found)
            for search in found:
                axes.plot(search["losses"], color=look.colour, linewidth=0.8, alpha=0.4)
            median = np.median([_held(search["losses"], steps) for search in found], axis=0)
            last = max(len(search["losses"]) for search in found)
            axes.plot(median[:last], color=look.colour, linestyle=look.line, linewidth=2.6, label=f"{label}, median")
        axes.set(xlabel="steps of 64 candidates")
        axes.set_title(words, fontweight="normal")
        axes.legend(fontsize=9)
    row[0][0].set(ylabel="lowest loss so far\n(nats per token)", ylim=(0, None))  # once all panels are drawn
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _held(losses: Sequence[float], steps: int) -> list[float]:
    return [*losses, *[losses[-1]] * (steps + 1 - len(losses))]


def ends_figure(kinds: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]], *, title: str) -> Figure:
    """Draw for each target where its searches began and where each kind of them ended; taught in notebook 06.

    Parameters
    ----------
    kinds
        label -> role, and rows of `stored_searches`; the first kind's targets are drawn, with the loss that it began at.
    title
        the finding in a sentence.
    """
    first = next(iter(kinds.values()))[1]
    heights = {row["question"]: height for height, row in enumerate(reversed(first))}
    figure, axes = plt.subplots(figsize=(8.6, 0.5 * len(heights) + 1.6))
    starts = {row["question"]: row["initial_loss"] for row in first}
    for question, height in heights.items():
        axes.plot([0, starts[question]], [height, height], color=FAINT, linewidth=1.2, zorder=1)
    axes.plot([starts[each] for each in heights], [*heights.values()], "|", color=GREY, markersize=14, markeredgewidth=2,
              label=f"{next(iter(kinds))}: start")  # fmt: skip
    lifts = np.linspace(0.16, -0.16, len(kinds)) if len(kinds) > 1 else [0.0]  # apart where they end alike
    for lift, (label, (role, rows)) in zip(lifts, kinds.items(), strict=True):
        look, shown = ROLES[role], [row for row in rows if row["question"] in heights]
        across = [heights[row["question"]] + lift for row in shown]
        axes.plot([row["losses"][-1] for row in shown], across, look.marker, color=look.colour, markersize=9,
                  label=f"{label}: end", markeredgecolor="white")  # fmt: skip
    axes.set_yticks([*heights.values()], [row["target"] for row in reversed(first)])
    axes.set(xlabel="loss of the target (nats per token)", xlim=(0, None), ylim=(-0.6, len(heights) - 0.4))
    axes.grid(axis="y", visible=False)
    figure.legend(fontsize=9, loc="outside lower center", ncols=4, frameon=False)
    axes.set_title(title)
    return figure

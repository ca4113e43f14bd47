"""Figures of notebook 09: three models before and after, their layers side by side, and what a GPU needs and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from ..estimates import Number
from .plots import GREY, ROLES, accuracy_axes, interval_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..unlearning.advisor import LayerProfile

LOOKS = ("retain", "direction", "steered")
"""Of the three models, in their order."""
PARTS = {
    "model": "#222222",
    "second model": "#777777",
    "gradients": "#ee7733",
    "AdamW's two moments": "#aa3377",
    "float32 copies of the trained matrices": "#b3a125",
    "their gradients": "#f2a57c",
    "the copies in the model's type": "#e3d98a",
    "activations": "#00508f",
}
"""Of a training's memory, in their colours."""


def before_after_bars(panels: Mapping[str, Mapping[str, tuple[Number, Number]]], *, title: str) -> Figure:
    """Draw accuracy before and after edits with their 95% intervals, a panel for each topic and two bars for each name.

    Parameters
    ----------
    panels
        topic -> name -> per cent (before, after).
    title
        the finding in a sentence.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), sharey=True, squeeze=False)
    for axes, (topic, pairs) in zip(row[0], panels.items(), strict=True):
        for offset, (label, role) in enumerate((("before", "frozen"), ("after", "steered"))):
            shares = [_share(pair[offset]) for pair in pairs.values()]
            places = [place + 0.38 * (offset - 0.5) for place in range(len(shares))]
            interval_bars(axes, places, shares, ROLES[role].colour, label)
        accuracy_axes(axes, list(pairs))
        axes.set_title(topic, fontweight="normal", fontsize=10)
    for axes in row[0][1:]:
        axes.set_ylabel("")
        axes.yaxis.set_tick_params(labelleft=False)
    for axes in row[0][:-1]:
        axes.texts[-1].set_visible(False)  # the word for the level of guessing stands beside the last panel
    row[0][-1].legend(loc="upper right", ncols=2, frameon=True)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _share(per_cent: Number) -> Number:
    """The same accuracy as a share."""
    value, low, high = (each / 100 for each in (per_cent.value, per_cent.low, per_cent.high))
    return Number(value, low, high, per_cent.n, per_cent.over)


def lost_points(
    panels: Mapping[str, Mapping[str, Mapping[str, Number]]], *, title: str, xlabel: str = "points of accuracy lost"
) -> Figure:
    """Draw points lost with their 95% intervals, a panel for each topic, a row for each model, a mark for each setting.

    Parameters
    ----------
    panels
        topic -> setting -> model -> points.
    """
    first = next(iter(panels.values()))
    models = list(next(iter(first.values())))
    looks = [ROLES[role] for role in ("frozen", "direction", "steered")[-len(first) :]]
    figure, row = plt.subplots(1, len(panels), figsize=(8.2, 1.3 + 0.8 * len(models)), sharey=True)
    for axes, (topic, settings) in zip(row, panels.items(), strict=True):
        for at, ((setting, numbers), look) in enumerate(zip(settings.items(), looks, strict=True)):
            for place, model in enumerate(models):
                number, y = numbers[model], place + 0.24 * (at - (len(settings) - 1) / 2)
                error = [[number.value - number.low], [number.high - number.value]]
                axes.errorbar(number.value, y, xerr=error, color=look.colour, marker=look.marker, markersize=6, capsize=3,
                              linestyle="", label=setting if place == 0 else None)  # fmt: skip
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set(yticks=range(len(models)), yticklabels=models, xlabel=xlabel, ylim=(len(models) - 0.5, -0.5))
        axes.set_title(topic, fontweight="normal", fontsize=10)
        axes.grid(axis="y", visible=False)
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(first), fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def profile_figure(
    profiles: Mapping[str, Sequence[LayerProfile]],
    field: str,
    *,
    title: str,
    ylabel: str,
    level: tuple[str, float] | None = None,
    chosen: Mapping[str, int] | None = None,
    log: bool = False,
) -> Figure:
    """Draw one number of every layer over the relative depth, a line for each model.

    Parameters
    ----------
    field
        of `LayerProfile`.
    level
        words and height of a dotted line.
    chosen
        model -> layer that gets a ring.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for (model, rows), role in zip(profiles.items(), LOOKS, strict=True):
        look, last = ROLES[role], len(rows) - 1
        values = [getattr(row, field) for row in rows]
        axes.plot([row.layer / last for row in rows], values, color=look.colour, linestyle=look.line, marker=look.marker,
                  markersize=4, label=f"{model}, {len(rows)} layers")  # fmt: skip
        if chosen is not None:
            axes.plot(chosen[model] / last, values[chosen[model]], marker="o", markersize=13, markerfacecolor="none",
                      markeredgecolor=look.colour, markeredgewidth=2)  # fmt: skip
    if level is not None:
        axes.axhline(level[1], color=GREY, linestyle=":", linewidth=1.4)
        axes.text(1.01, level[1], level[0], color=GREY, fontsize=9, va="center", transform=axes.get_yaxis_transform())
    if log:
        axes.set_yscale("log")
    axes.set(xlabel="depth, from the first layer to the last", ylabel=ylabel)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_title(title)
    axes.legend(loc="best", frameon=True)
    return figure


def forgetting_by_depth(
    found: Mapping[str, Sequence[tuple[int, float, bool]]], depth: Mapping[str, int], *, title: str
) -> Figure:
    """Draw the points lost on the topic by relative depth, a line for each model, white where general knowledge cost more.

    Parameters
    ----------
    found
        model -> as `model_comparison.forgetting_by_layer` gives it.
    depth
        model -> number of layers.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for (model, tried), role in zip(found.items(), LOOKS, strict=True):
        look, last = ROLES[role], depth[model] - 1
        places, lost = [layer / last for layer, *_ in tried], [points for _, points, _ in tried]
        axes.plot(places, lost, color=look.colour, linestyle=look.line, label=model)
        for place, points, (*_, kept) in zip(places, lost, tried, strict=True):
            axes.plot(place, points, marker=look.marker, markersize=7, color=look.colour if kept else "white",
                      markeredgecolor=look.colour, markeredgewidth=1.6)  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set(xlabel="depth, from the first layer to the last", ylabel="points lost on the topic")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_title(title)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title="white: general\nknowledge costs\nover 5 points",
        title_fontsize=9,
    )
    return figure


def gpu_figure(stored: Mapping[str, Any], *, title: str) -> Figure:
    """Draw the measured seconds of a training step and the measured peak of memory, by layer and pattern.

    Parameters
    ----------
    stored
        what ``python -m benchmarks.gpu`` stored.
    """
    words = {
        "published": "published loop",
        "cold": "window trainer, new texts",
        "cached": "window trainer, kept activations",
    }
    looks = {"published": "retain", "cold": "forget", "cached": "steered"}
    layers = sorted({row["layer"] for row in stored["rows"]})
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4))
    for at, (pattern, role) in enumerate(looks.items()):
        rows = sorted((row for row in stored["rows"] if row["pattern"] == pattern), key=lambda row: row["layer"])
        places = [place + 0.27 * (at - 1) for place in range(len(layers))]
        for axes, heights in ((left, [1000 * row["seconds"] for row in rows]), (right, [row["peak"] / 1e9 for row in rows])):
            axes.bar(places, heights, 0.25, color=ROLES[role].colour, label=words[pattern])
            for place, height in zip(places, heights, strict=True):
                axes.text(place, height, f"{height:.0f}", ha="center", va="bottom", fontsize=8)
    for axes, ylabel in ((left, "milliseconds a step"), (right, "GB of memory at the peak")):
        axes.set_xticks(range(len(layers)), [f"layer {layer}" for layer in layers])
        axes.set_ylabel(ylabel)
        axes.grid(axis="x", visible=False)
    right.axhline(stored["rows"][0]["model_bytes"] / 1e9, color=GREY, linestyle=":", linewidth=1.4)
    right.text(1.01, stored["rows"][0]["model_bytes"] / 1e9, "the model", color=GREY, fontsize=9, va="center",
               transform=right.get_yaxis_transform())  # fmt: skip
    left.legend(loc="upper left", fontsize=8)
    left.set_ylim(top=1.35 * left.get_ylim()[1])
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def memory_bars(loops: Mapping[str, Mapping[str, float]], *, title: str) -> Figure:
    """Draw what a training holds in GB, a bar for each loop, in pieces.

    Parameters
    ----------
    loops
        loop -> part, a key of `PARTS` -> bytes.
    """
    figure, axes = plt.subplots(figsize=(7.6, 1.3 + 0.55 * len(loops)))
    for row, parts in enumerate(loops.values()):
        left = 0.0
        for name, size in parts.items():
            label = name if name not in axes.get_legend_handles_labels()[1] else None
            axes.barh(row, size / 1e9, left=left, color=PARTS[name], label=label, edgecolor="white")
            left += size / 1e9
        axes.text(left + 0.5, row, f"{left:.0f} GB", va="center")
    axes.set_yticks(range(len(loops)), list(loops))
    axes.set(
        xlabel="GB, computed from the shape", xlim=(0, 1.15 * max(sum(parts.values()) for parts in loops.values()) / 1e9)
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(-0.1, -0.5))
    axes.set_title(title)
    return figure

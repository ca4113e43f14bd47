"""Figures of the course: one look, one colour for each role, titles that state what is seen, text for who cannot see it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import t as student

from ..estimates import Number
from .pictures import SCREEN_DPI, as_png, image_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from ..evaluate import Accuracy


@dataclass(frozen=True)
class Role:
    """How everything that plays one role is drawn; line and marker tell it in greyscale too."""

    colour: str
    line: str
    marker: str


ROLES = {
    "forget": Role("#ee7733", "-", "o"),
    "retain": Role("#00508f", "--", "s"),
    "frozen": Role("#222222", "-", "D"),
    "steered": Role("#aa3377", "--", "^"),
    "direction": Role("#b3a125", ":", "v"),
}
COSINE_COLOURS = LinearSegmentedColormap.from_list("cosine", ["#ffffff", "#e3b9d0", ROLES["steered"].colour, "#5c1440"])
"""From white at cos(u, h) = 0 to dark at 1, lightness falling all the way."""
GREY = "#777777"

Series = tuple[str, Sequence]
"""A role and its values: one per x, or (x, repeats), of which mean and 95% interval are drawn."""


def style() -> None:
    """Set the course's look for all figures that follow; call it once, in a notebook's set-up cell."""
    sns.set_theme(context="notebook", style="whitegrid")
    plt.rcParams.update(
        {
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "figure.dpi": SCREEN_DPI,
            "figure.figsize": (6.5, 3.6),
            "legend.fontsize": 9,
        }
    )


def show(figure: Figure, *, alt: str) -> None:
    """Display a figure as a sharp picture, and below it, folded, `alt`: what it shows in words. Used in every notebook.

    Titles are wrapped to fit. The words stand below the picture as well, for those who see it and want its numbers.

    Parameters
    ----------
    alt
        a description for readers who cannot see it.
    """
    fit_titles(figure)
    words = f"<details><summary><small>The figure in words</small></summary><p>{html.escape(alt)}</p></details>"
    display(HTML(f"{image_html(as_png(figure), alt=alt)}\n{words}"))


def fit_titles(figure: Figure) -> None:
    """Wrap every title of a figure between words, so that none leaves the canvas or runs into its neighbour's."""
    own = {title: title.get_text() for title in _titles(figure)}
    for _ in range(4):  # a further line may move axes that keep their proportions, which changes the room
        figure.draw_without_rendering()
        before = [title.get_text() for title in own]
        for title, room in _titles(figure).items():
            _wrap(title, own[title], room)
        if before == [title.get_text() for title in own]:
            return


def _titles(figure: Figure) -> dict[Text, float]:
    """Return each title there is, with the pixels it may take as the axes stand now."""
    edge = figure.bbox.width - 0.05 * figure.dpi
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    boxes = [axes.get_window_extent() for axes in panels]
    titles: dict[Text, float] = {}
    for axes, box in zip(panels, boxes, strict=True):
        beside = [other.x0 for other in boxes if other.x0 >= box.x1 and other.y0 < box.y1 and box.y0 < other.y1]
        middle = (box.x0 + box.x1) / 2
        right = min([edge, *(start - 0.1 * figure.dpi for start in beside)])
        inner: Any = axes  # matplotlib gives out the text of its titles, but not where they stand
        titles |= {
            inner._left_title: right - box.x0,
            inner.title: box.width if len(panels) > 1 else 2 * min(edge - middle, middle),
            inner._right_title: box.x1,
        }
    whole: Any = figure
    if whole._suptitle is not None:
        start = whole._suptitle.get_position()[0] * figure.bbox.width
        titles[whole._suptitle] = edge - start if whole._suptitle.get_ha() == "left" else edge
    return {title: room for title, room in titles.items() if title.get_text()}


def _wrap(text: Text, words: str, room: float) -> None:
    """Write words in lines of at most `room` pixels; a word that is wider stays whole, a line break stays one."""
    text.set_wrap(False)
    lines: list[str] = []
    for paragraph in words.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            text.set_text(f"{line} {word}" if line else word)
            if line and text.get_window_extent().width > room:
                lines.append(line)
                line = word
            else:
                line = text.get_text()
        lines.append(line)
    text.set_text("\n".join(lines))


def curves(
    x: Sequence[float],
    series: Mapping[str, Series],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    levels: Mapping[str, float] | None = None,
    log: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Lines over x, each in its role's look, with a band where there are repeats.

    Parameters
    ----------
    series
        label -> (role, values).
    title
        the finding in a sentence.
    marks
        label -> x of a dotted vertical line, e.g. the steered block.
    levels
        label -> y of a dotted horizontal line, e.g. the base model's.
    log
        ``"x"``, ``"y"`` or ``"xy"``: axes in powers of ten.
    """
    axes = axes or plt.subplots()[1]
    for label, (role, values) in series.items():
        look, y = ROLES[role], np.asarray(values, dtype=float)
        if y.ndim == 2:
            repeats = y.shape[1]
            half = student.ppf(0.975, repeats - 1) * y.std(axis=1, ddof=1) / repeats**0.5
            y = y.mean(axis=1)
            axes.fill_between(x, y - half, y + half, color=look.colour, alpha=0.18, linewidth=0)
        axes.plot(x, y, color=look.colour, linestyle=look.line, marker=look.marker, markersize=4, label=label)
    for axis in log:
        getattr(axes, f"set_{axis}scale")("log")
    for label, place in (marks or {}).items():
        axes.axvline(place, color=GREY, linestyle=":", linewidth=1.2)
        axes.text(place, 1.0, f" {label}", color=GREY, fontsize=9, va="top", transform=axes.get_xaxis_transform())
    for label, height in (levels or {}).items():
        axes.axhline(height, color=GREY, linestyle=":", linewidth=1.2)
        axes.text(1.01, height, label, color=GREY, fontsize=9, va="center", transform=axes.get_yaxis_transform())
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title)
    if len(series) > 1:
        axes.legend(loc="best", frameon=True)
    return axes.figure.figure  # the whole one, should the axes be in a part of it


def distributions(
    panels: Mapping[str, Mapping[str, Series]],
    *,
    title: str,
    xlabel: str,
    limits: tuple[float, float] | None = None,
    median_height: float = 1.0,
) -> Figure:
    """Histograms side by side, one panel per key, with each series' median as a vertical line.

    Parameters
    ----------
    panels
        panel title -> label -> (role, values); NaN is left out.
    limits
        of the values that are drawn; by default all but the outermost two in a thousand to either side.
    median_height
        share of a panel's height that the medians' lines take; less than 1 lets them end below the legend.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.4), sharex=True, sharey=True, squeeze=False)
    finite = {
        panel: {label: (role, _finite(values)) for label, (role, values) in series.items()}
        for panel, series in panels.items()
    }
    everything = np.concatenate([values for series in finite.values() for _, values in series.values()])
    low, high = limits or np.quantile(everything, [0.002, 0.998])
    bins = np.linspace(low, high, 36)
    for axes, (panel, series) in zip(row[0], finite.items(), strict=True):
        for label, (role, values) in series.items():
            look = ROLES[role]
            sns.histplot(x=values, bins=bins, stat="density", element="step", alpha=0.25, color=look.colour, ax=axes,
                         linestyle=look.line, linewidth=1.6, label=f"{label}: median {np.median(values):.3g}")  # fmt: skip
            axes.axvline(np.median(values), ymax=median_height, color=look.colour, linestyle=look.line, linewidth=1)
        axes.set(xlabel=xlabel, ylabel="density")
        axes.set_title(panel, fontweight="normal", fontsize=10)
        axes.legend(loc="upper left", frameon=True, fontsize=8.5)
        axes.set_ylim(top=axes.get_ylim()[1] * (1.25 if len(panels) > 1 else 1.15))
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def against(expected: Sequence[float], found: Sequence[float], *, title: str, xlabel: str, ylabel: str) -> Figure:
    """Points of found over expected on logarithmic axes, with the line on which they are equal."""
    figure, axes = plt.subplots(figsize=(5.6, 4.4))
    x, y = np.asarray(expected, dtype=float), np.asarray(found, dtype=float)
    axes.scatter(x, y, s=9, color=ROLES["steered"].colour, alpha=0.5, linewidths=0)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(ends, ends, color=GREY, linewidth=1.2, label="equal")
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter("{x:.3g}")
        axis.set_major_formatter("{x:.3g}")
        axis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.set_title(title)
    axes.legend(loc="upper left")
    return figure


def _finite(values: Sequence) -> np.ndarray:
    flat = np.asarray(values, dtype=float).ravel()
    return flat[np.isfinite(flat)]


def film(frames: Mapping[str, Mapping[str, np.ndarray]], *, title: str, labels: tuple[str, str]) -> Figure:
    """Small pictures of points in a plane, one per frame, on the same axes.

    Parameters
    ----------
    frames
        frame title -> role -> (points, 2).
    labels
        of the two axes.
    """
    figure, row = plt.subplots(1, len(frames), figsize=(2.5 * len(frames), 3.1), sharex=True, sharey=True, squeeze=False)
    for axes, (name, groups) in zip(row[0], frames.items(), strict=True):
        for role, points in groups.items():
            look = ROLES[role]
            axes.scatter(
                *np.asarray(points).T, s=8, marker=look.marker, color=look.colour, alpha=0.45, linewidths=0, label=role
            )
        axes.set_title(name, fontweight="normal", fontsize=10)
        axes.set_xlabel(labels[0])
    row[0][0].set_ylabel(labels[1])
    row[0][0].legend(loc="best", markerscale=2, fontsize=8)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def heatmap(
    values: np.ndarray,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    bar: str,
    limits: tuple[float, float] = (0.0, 1.0),
    first: int = 0,
) -> Figure:
    """Values of (rows, columns) as a grid of cells, dark for high; `bar` labels the colours, columns count from `first`.

    NaN is grey. Values beyond `limits` take the colour of the nearer end.
    """
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    rows, columns = np.shape(values)
    cells = axes.imshow(values, cmap=COSINE_COLOURS.with_extremes(bad="#bbbbbb"), vmin=limits[0], vmax=limits[1],
                        extent=(first - 0.5, first + columns - 0.5, rows - 0.5, -0.5),
                        aspect="auto", interpolation="nearest")  # fmt: skip
    axes.grid(visible=False)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title)
    figure.colorbar(cells, ax=axes, label=bar, pad=0.02)
    return figure


def accuracy_bars(scores: Mapping[str, tuple[Accuracy, Accuracy]], *, title: str, chance: float = 0.25) -> Figure:
    """Draw two bars for each topic, before and after unlearning, with their 95% intervals and the level of guessing.

    Parameters
    ----------
    scores
        topic -> (accuracy before, accuracy after).
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots()
    for offset, (label, role) in enumerate((("before", "frozen"), ("after", "steered"))):
        accuracies = [pair[offset] for pair in scores.values()]
        places = [index + 0.38 * (offset - 0.5) for index in range(len(scores))]
        interval_bars(axes, places, accuracies, ROLES[role].colour, label)
    accuracy_axes(axes, list(scores), chance)
    axes.set_title(title)
    axes.legend(loc="upper right", ncols=2, frameon=True)
    return figure


def accuracy_axes(axes: Axes, names: Sequence[str], chance: float = 0.25) -> None:
    """Make axes for bars of accuracy: per cent, the level of guessing, room above for a legend, a name for each group."""
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    axes.text(1.01, chance, "guessing", color=GREY, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.set(xticks=range(len(names)), ylim=(0, 1.2), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="accuracy")
    axes.set_xticklabels(names)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="x", visible=False)


def interval_bars(
    axes: Axes, places: Sequence[float], scores: Sequence[Accuracy | Number], colour: str, label: str, width: float = 0.36
) -> None:
    """Draw accuracies, as shares, in bars with their 95% intervals, and the per cent above each."""
    drawn = [
        (each.value, each.low, each.high) if isinstance(each, Number) else (each.accuracy, *each.interval) for each in scores
    ]
    heights = [height for height, _, _ in drawn]
    below = [height - low for height, low, _ in drawn]
    above = [high - height for height, _, high in drawn]
    axes.bar(places, heights, width, yerr=(below, above), capsize=4, color=colour, ecolor=GREY, label=label)
    for place, height, up in zip(places, heights, above, strict=True):
        axes.text(place, height + up + 0.02, f"{height:.0%}", ha="center", fontsize=10)

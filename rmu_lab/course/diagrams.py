"""Diagrams of the ideas, drawn in code: a picture before its formula.

Each returns a matplotlib figure for `show`. All share one style: the colours of `ROLES`, a word beside every colour, and
lines that differ in dash as well, so that they can be told apart in greyscale. Used in notebooks 00 to 05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle, Wedge
from matplotlib.ticker import LogLocator

from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#dddddd"
LABEL, NOTE = 10.5, 9.5
Point = tuple[float, float]


# ---------------------------------------------------------------------------------------------------------------------
# The model


def residual_stream_diagram(layer: int = 7, blocks: int = 30) -> Figure:
    """Draw the residual stream and what RMU's training makes of it; taught in notebook 01.

    From left to right: the frozen trunk, which is run but not changed; the window of three layers whose MLP output
    matrices are trained; the loss, which is computed from the output of the last of them; the top, which training never
    runs.

    Parameters
    ----------
    layer
        l, the layer at whose output the loss is computed, counted from 0.
    blocks
        number of the model's layers.

    Raises
    ------
    ValueError
        if the model has no such layer.
    """
    if not 0 <= layer < blocks:
        raise ValueError(f"layer is {layer}; choose one from 0 .. {blocks - 1}.")
    first = max(0, layer - 2)
    groups = {
        "trunk": _few(range(first)),
        "window": [*map(str, range(first, layer + 1))],
        "top": _few(range(layer + 1, blocks)),
    }
    looks = {
        "trunk": ("#e8e8e8", GREY, "-", "Frozen trunk", f"{_layers(0, first - 1)}\nrun, but never changed"),
        "window": ("#edd3e1", ROLES["steered"].colour, "-", "Trained window",
                   f"{_layers(first, layer)}\nonly the MLPs' output\nmatrices change"),
        "top": ("white", GREY, (0, (4, 3)), "Untrained top", f"{_layers(layer + 1, blocks - 1)}\nnot run in training"),
    }  # fmt: skip
    figure, axes = canvas(9.4, 3.2, (-1.6, 13.9), (-2.1, 2.75))
    place, gap = 0.0, 0.45
    stream_end = {}
    for group, names in groups.items():
        face, edge, dashes, title, note = looks[group]
        start = place
        for name in names:
            _block(axes, place, name, face, edge, dashes)
            place += 1.15
        if names:
            middle = (start + place - 1.15) / 2
            _bracket(axes, start - 0.45, place - 0.7, -0.72, edge)
            axes.text(middle, -0.92, title, ha="center", va="top", fontsize=LABEL, weight="bold", color=INK)
            axes.text(middle, -1.28, note, ha="center", va="top", fontsize=NOTE, color=INK, linespacing=1.25)
            place += gap
        stream_end[group] = place - gap - 0.55
    tap = stream_end["window"] + 0.22
    end = place - 0.35
    axes.plot([-0.75, tap], [1.25, 1.25], color=INK, linewidth=2.6, zorder=2)
    arrow(axes, (tap, 1.25), (end, 1.25), GREY, width=2.6, dashes=(0, (3, 2)), head=14)
    axes.text(-0.85, 1.25, "token\nembedding", ha="right", va="center", fontsize=NOTE)
    axes.text(end + 0.1, 1.25, "next-token\nlogits", ha="left", va="center", fontsize=NOTE, color=GREY)
    axes.text(-0.7, 1.45, "residual stream", ha="left", va="bottom", fontsize=NOTE, color=INK, style="italic")
    axes.add_patch(Circle((tap, 1.25), 0.1, color=ROLES["steered"].colour, zorder=5))
    arrow(axes, (tap, 1.3), (tap, 2.12), ROLES["steered"].colour)
    axes.text(tap + 0.14, 1.74, f"$h^{{({layer})}}$", fontsize=LABEL, color=INK, va="center")
    axes.text(tap, 2.2, f"RMU's loss, at the output of layer {layer}", ha="center", va="bottom", fontsize=LABEL,
              bbox=_boxed(ROLES["steered"].colour))  # fmt: skip
    return figure


def _few(indices: range) -> list[str]:
    """Up to four of them, with dots for those between."""
    return [*map(str, indices)] if len(indices) <= 3 else [str(indices[0]), str(indices[1]), "…", str(indices[-1])]


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _block(axes: Axes, x: float, name: str, face: str, edge: str, dashes: Any) -> None:
    """Draw a layer below the stream, which it reads from and adds to."""
    if name == "…":
        axes.text(x, 0.0, "…", ha="center", va="center", fontsize=16, color=edge)
        return
    axes.add_patch(
        FancyBboxPatch((x - 0.36, -0.4), 0.72, 0.8, boxstyle="round,pad=0,rounding_size=0.12", facecolor=face,
                       edgecolor=edge, linestyle=dashes, linewidth=1.5)
    )  # fmt: skip
    axes.text(x, 0.0, name, ha="center", va="center", fontsize=12, color=INK)
    arrow(axes, (x - 0.2, 1.25), (x - 0.2, 0.42), edge, width=1.1)
    arrow(axes, (x + 0.2, 0.42), (x + 0.2, 1.12), edge, width=1.1)
    axes.add_patch(Circle((x + 0.2, 1.25), 0.13, facecolor="white", edgecolor=edge, linewidth=1.2, zorder=4))
    axes.text(x + 0.2, 1.243, "+", ha="center", va="center", fontsize=9, color=INK, zorder=5)


# ---------------------------------------------------------------------------------------------------------------------
# The loss


def loss_diagram() -> Figure:
    """Draw RMU's loss as two arrows: a forget state goes to c u, a retain state comes back; taught in notebook 01.

    Every state is an arrow from the origin. The loss is the square of the double arrows' lengths.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.9), sharex=True, sharey=True)
    target, forget, frozen, moved = (1.0, 3.3), (2.4, 0.9), (3.1, 0.9), (2.2, 2.6)
    for axes, title in ((left, "Forget text: go to the target"), (right, "Retain text: stay where you were")):
        _plane(axes, (-0.45, 5.75), (-0.45, 4.05), title)
    _vector(left, target, "direction", "target $c\\,u$: one direction for every token", (-0.9, 0.14), vertical="bottom")
    _vector(left, forget, "forget", "$h$ of a forget token", (0.12, 0.0))
    _pull(left, forget, target, "forget loss\n$\\|h - c\\,u\\|^2$", (0.3, 0.25))
    _vector(right, frozen, "frozen", "$h_{\\mathrm{frozen}}$: the same token\nin the untouched model", (0.12, -0.1))
    _vector(right, moved, "retain", "$h$ of a retain token, moved\nalong by the edit", (-0.9, 0.16), vertical="bottom")
    _pull(right, moved, frozen, "retain loss\n$\\alpha\\,\\|h - h_{\\mathrm{frozen}}\\|^2$", (0.4, 0.3))
    return figure


def _plane(axes: Axes, xlim: Point, ylim: Point, title: str) -> None:
    axes.set(xlim=xlim, ylim=ylim, aspect="equal", xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(edgecolor=FAINT)
    axes.set_title(title)
    axes.plot([0], [0], marker="o", color=INK, markersize=4)


def _vector(axes: Axes, tip: Point, role: str, label: str, offset: Point, *, vertical: str = "center") -> None:
    """Draw an arrow from the origin in its role's look, with its name at the tip."""
    look = ROLES[role]
    arrow(axes, (0, 0), tip, look.colour, width=2.6, dashes=look.line, head=16)
    axes.text(tip[0] + offset[0], tip[1] + offset[1], label, va=vertical, fontsize=LABEL, color=INK)


def _pull(axes: Axes, start: Point, end: Point, label: str, offset: Point) -> None:
    """Draw what the loss does: an arrow from one tip to another."""
    away = tuple(a + 0.06 * (b - a) for a, b in zip(start, end, strict=True))
    close = tuple(a + 0.93 * (b - a) for a, b in zip(start, end, strict=True))
    arrow(axes, (away[0], away[1]), (close[0], close[1]), ROLES["steered"].colour, width=2.2, dashes=(0, (1.5, 1)), head=18)
    x, y = (start[0] + end[0]) / 2 + offset[0], (start[1] + end[1]) / 2 + offset[1]
    axes.text(x, y, label, ha="left", va="center", fontsize=LABEL, color=INK, bbox=_boxed(ROLES["steered"].colour))


# ---------------------------------------------------------------------------------------------------------------------
# Attention


def attention_map(weights: np.ndarray | Sequence, tokens: Sequence[str], *, title: str) -> Figure:
    """Draw one attention matrix, the first column of which is the attention sink; taught in notebook 01.

    Parameters
    ----------
    weights
        (tokens, tokens), rows sum to 1: row i says where token i looks. What lies above the diagonal is left white.
    tokens
        their texts.
    title
        the finding in a sentence.

    Raises
    ------
    ValueError
        if there is not one row and one column for each token.
    """
    matrix, n = np.array(weights, dtype=float), len(tokens)
    if matrix.shape != (n, n):
        raise ValueError(
            f"weights are of shape {matrix.shape}, with {n} tokens; give one row and one column for each token."
        )
    matrix[np.triu_indices(n, 1)] = np.nan
    side = min(7.0, max(3.6, 0.34 * n + 1.6))
    figure, axes = plt.subplots(figsize=(side + 1.2, side))
    cells = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = [_plain(token) for token in tokens]
    axes.set_xticks(range(n), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(n), names, fontsize=9)
    axes.set(xlabel="token that is looked at", ylabel="token that looks")
    axes.set_title(title)
    axes.add_patch(Rectangle((-0.5, -0.5), 1, n, fill=False, edgecolor=ROLES["forget"].colour, linewidth=2.5, clip_on=False))
    note = "outlined: the first token, the sink,"
    share = f"to which the others give {np.nanmean(matrix[1:, 0]):.0%} on average" if n > 1 else "which is alone"
    if n < 8:
        axes.set_xlabel(f"token that is looked at\n({note}\n{share})")
    else:
        axes.text(n - 0.6, -0.35, f"{note}\n{share}", ha="right", va="top", fontsize=NOTE, color=INK)
    figure.colorbar(cells, ax=axes, label="attention", pad=0.02, shrink=0.8)
    return figure


def _plain(token: str) -> str:
    """A token's text with its white space made visible, and without what matplotlib takes for a formula."""
    shown = token.replace("\n", "⏎").strip() or "␣"
    return shown.replace("$", r"\$")


# ---------------------------------------------------------------------------------------------------------------------
# Norms


def turning_diagram(norms: tuple[float, float] = (4.0, 1.3), noise: float = 0.8) -> Figure:
    """Draw how the same noise turns a short arrow more than a long one; taught in notebooks 03 and 05.

    Parameters
    ----------
    norms
        ||h|| of the long arrow and of the short one.
    noise
        norm of the noise that is added to either.
    """
    figure, row = plt.subplots(1, 2, figsize=(9.4, 2.9), sharex=True, sharey=True)
    for axes, norm, name in zip(row, norms, ("Large norm", "Small norm"), strict=True):
        angle = math.asin(min(1.0, noise / norm))
        _plane(axes, (-0.6, max(norms) + noise + 0.5), (-1.35, 1.3), f"{name}: turned by up to {math.degrees(angle):.0f}°")
        reach = norm * math.cos(angle)  # where the tangent from the origin touches the circle of noise
        turned = (reach * math.cos(angle), reach * math.sin(angle))
        axes.add_patch(Circle((norm, 0), noise, facecolor="#f6efc0", edgecolor=ROLES["direction"].colour, linewidth=1.5,
                              linestyle=":"))  # fmt: skip
        axes.add_patch(Wedge((0, 0), 0.62 * norm, 0, math.degrees(angle), facecolor=ROLES["steered"].colour, alpha=0.25))
        arrow(axes, (0, 0), (norm, 0), ROLES["frozen"].colour, width=2.6, head=16)
        arrow(axes, (0, 0), turned, ROLES["steered"].colour, width=2.4, dashes="--", head=16)
        arrow(axes, (norm, 0), turned, ROLES["direction"].colour, width=1.8, head=12)
        axes.text(norm / 2, -0.14, "$h$", ha="center", va="top", fontsize=12, color=INK)
        axes.text(turned[0] - 0.12, turned[1] + 0.06, "$h$ + noise", ha="right", va="bottom", fontsize=LABEL, color=INK)
        axes.text(norm, -noise - 0.12, "noise of the same norm", ha="center", va="top", fontsize=NOTE, color=INK)
    return figure


def target_length_diagram(
    norms_by_layer: Sequence[float] | Mapping[int, float],
    coefficient: float,
    beta: float,
    *,
    title: str = "The norm of the target at each layer",
) -> Figure:
    """Draw ||h|| against the layer beside the norms of both methods' targets; taught in notebook 05.

    RMU's target has norm c at every layer, Adaptive RMU's has beta ||h||.

    Parameters
    ----------
    norms_by_layer
        mean or median ||h|| after each layer: a list from layer 0 on, or layer -> norm.
    coefficient
        c of RMU.
    beta
        beta of Adaptive RMU.
    title
        the finding in a sentence, where nothing is to be guessed any more.
    """
    by_layer = dict(norms_by_layer if isinstance(norms_by_layer, Mapping) else enumerate(norms_by_layer))
    layers, norms = [*by_layer], np.array([*by_layer.values()], dtype=float)
    figure, axes = plt.subplots(figsize=(8.2, 4.0))
    lines = {
        f"Adaptive RMU's target, ${beta:g}\\,\\|h\\|$": ("steered", beta * norms),
        f"RMU's target, $c = {coefficient:g}$": ("direction", np.full(len(norms), float(coefficient))),
        "the state itself, $\\|h\\|$": ("frozen", norms),
    }
    for label, (role, values) in lines.items():
        look = ROLES[role]
        axes.plot(layers, values, color=look.colour, linestyle=look.line, marker=look.marker, markersize=4, linewidth=2,
                  markevery=max(1, len(layers) // 12))  # fmt: skip
        axes.annotate(label, (layers[-1], values[-1]), xytext=(8, 0), textcoords="offset points", va="center",
                      fontsize=LABEL, color=INK, annotation_clip=False)  # fmt: skip
    axes.fill_between(layers, norms, coefficient, where=[*(norms > coefficient)], color=GREY, alpha=0.25, linewidth=0)
    axes.set(xlabel="layer", ylabel="norm", yscale="log")
    axes.margins(x=0.012)
    axes.set_title(title)
    for axis_part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_part("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    short = [layer for layer, norm in by_layer.items() if norm > coefficient]
    if short and len(short) < len(layers):
        start = f", from layer {short[0]} on" if short == layers[-len(short) :] else ""
        note = f"grey: c is smaller than ||h||{start}"
        axes.text(0.02, 0.97, note, transform=axes.transAxes, va="top", fontsize=NOTE, color=INK)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Pieces


def canvas(width: float, height: float, xlim: Point, ylim: Point) -> tuple[Figure, Axes]:
    """Make a figure of inches without axes, whose units are as wide as high, for a diagram."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=xlim, ylim=ylim, aspect="equal")
    axes.set_axis_off()
    return figure, axes


def arrow(
    axes: Axes, start: Point, end: Point, colour: str, *, width: float = 1.6, dashes: Any = "-", head: float = 10
) -> None:
    """Draw a straight arrow whose shaft may be dashed and whose head is not."""
    common: dict[str, Any] = {"color": colour, "zorder": 3, "shrinkA": 0}
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-", linewidth=width, linestyle=dashes, shrinkB=0.4 * head, **common)
    )
    near = (start[0] + 0.9 * (end[0] - start[0]), start[1] + 0.9 * (end[1] - start[1]))
    axes.add_patch(FancyArrowPatch(near, end, arrowstyle="-|>", mutation_scale=head, linewidth=0, shrinkB=0, **common))


def word_box(
    axes: Axes, left: float, width: float, words: str, edge: str, *, y: float = 0.0, height: float = 1.0,
    face: str = "white", line: float = 1.8, size: float = LABEL,
) -> None:  # fmt: skip
    """Draw words in a box with round corners, before arrows: `left` and `width` say where, `y` its middle."""
    axes.add_patch(
        FancyBboxPatch((left, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.15", facecolor=face,
                       edgecolor=edge, linewidth=line, zorder=5)
    )  # fmt: skip
    axes.text(left + width / 2, y, words, ha="center", va="center", fontsize=size, color=INK, zorder=6)


def _bracket(axes: Axes, start: float, end: float, y: float, colour: str) -> None:
    axes.plot([start, start, end, end], [y + 0.12, y, y, y + 0.12], color=colour, linewidth=1.5)


def _boxed(colour: str) -> dict[str, object]:
    return {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour, "linewidth": 1.3}

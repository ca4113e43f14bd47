"""Figures of notebook 03: targets drawn to scale, norms beside coefficients, noise on its way through a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch
from scipy.stats import t as student

from .diagrams import INK, LABEL, NOTE, arrow
from .plots import GREY, ROLES, Series, curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..unlearning.result import UnlearnResult


_RECORDED = {"cosine": "mean cos(u, h) of the forget batch", "forget_norm": "mean ||h|| of the forget batch"}


def targets_to_scale(norm: float, coefficients: Sequence[float]) -> Figure:
    """Draw one state and RMU's target for several c, all to the same scale, with the way from the one to the other.

    Parameters
    ----------
    norm
        ||h|| of the state. It is drawn at a right angle to u, as a random direction nearly is.
    coefficients
        c of each target, from top to bottom.
    """
    reach = max(*coefficients, norm)
    figure, rows = plt.subplots(len(coefficients), 1, figsize=(9.0, 1.75 * len(coefficients)), squeeze=False)
    for axes, c in zip(rows[:, 0], coefficients, strict=True):
        arrow(axes, (0, norm), (c, 0), ROLES["steered"].colour, width=1.8, dashes=(0, (1.5, 1)), head=12)
        if c > 0.03 * reach:
            arrow(axes, (0, 0), (c, 0), ROLES["direction"].colour, width=2.6, dashes=ROLES["direction"].line, head=14)
        axes.plot([c], [0], marker="v", color=ROLES["direction"].colour, markersize=8, zorder=6)
        arrow(axes, (0, 0), (0, norm), ROLES["forget"].colour, width=2.6, head=14)
        axes.text(-0.015 * reach, norm / 2, "$h$", ha="right", va="center", fontsize=12, color=INK)
        axes.text(c + 0.015 * reach, 0, "$c\\,u$", ha="left", va="bottom", fontsize=12, color=INK)
        axes.set(xlim=(-0.1 * reach, 1.1 * reach), ylim=(-0.06 * reach, 1.15 * norm), aspect="equal", xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.set_title(f"c = {c:.3g}, which is {c / norm:.2g} times ||h||", fontweight="normal", fontsize=10)
    return figure


PUBLISHED = {"c = 6.5 (Zephyr)": 6.5, "c = 300 (Yi, Mixtral)": 300.0, "c = 570 (this course)": 570.0}
"""Coefficients of Li et al. 2024 for three models, and this course's for SmolLM2 at layer 7."""


def norms_beside(norms_by_layer: Mapping[int, float], coefficients: Mapping[str, float], *, title: str) -> Figure:
    """Draw ||h|| over the layers, and each coefficient as a level line with its name.

    Parameters
    ----------
    norms_by_layer
        layer -> norm.
    coefficients
        label -> c.
    title
        the finding in a sentence.
    """
    layers = [*norms_by_layer]
    figure = curves(
        layers, {"||h||": ("frozen", [*norms_by_layer.values()])}, title=title, xlabel="layer", ylabel="norm", log="y"
    )
    (axes,) = figure.axes
    for label, c in coefficients.items():
        axes.axhline(c, color=ROLES["direction"].colour, linestyle=ROLES["direction"].line, linewidth=2.2)
        axes.text(layers[0], c * 1.08, label, ha="left", va="bottom", fontsize=LABEL, color=INK)
    top = max(*norms_by_layer.values(), *coefficients.values())
    axes.set_ylim(min(*norms_by_layer.values(), *coefficients.values()) / 1.6, top * 2)
    axes.annotate(
        "median $\\|h\\|$", (layers[3], norms_by_layer[layers[3]]), xytext=(0, -10), textcoords="offset points",
        va="top", fontsize=LABEL, color=INK,
    )  # fmt: skip
    axes.yaxis.set_major_formatter("{x:g}")
    return figure


def noise_diagram() -> Figure:
    """Draw what noise sensitivity compares: a state with noise goes into a layer, and comes out as another with another."""
    figure, axes = plt.subplots(figsize=(9.4, 2.7))
    axes.set(xlim=(-0.3, 13.6), ylim=(-1.5, 2.1), aspect="equal")
    axes.set_axis_off()
    for start, tip, radius, state, disc in (
        ((0, -0.6), (2.9, 0.5), 0.62, "$h$", "$h + \\xi$"),
        ((8.4, -0.6), (11.9, 0.75), 0.38, "$g(h)$", "$g(h + \\xi)$"),
    ):
        look = ROLES["direction"]
        axes.add_patch(Circle(tip, radius, facecolor="#f6efc0", edgecolor=look.colour, linewidth=1.5, linestyle=":"))
        end = (tip[0] + radius * 0.5, tip[1] + radius * 0.866)
        arrow(axes, start, tip, ROLES["frozen"].colour, width=2.6, head=15)
        arrow(axes, tip, end, look.colour, width=2.0, head=11)
        middle = ((start[0] + tip[0]) / 2, (start[1] + tip[1]) / 2)
        axes.text(middle[0], middle[1] - 0.2, state, ha="left", va="top", fontsize=12, color=INK)
        axes.text(end[0] + 0.15, end[1] + 0.12, disc, ha="left", va="bottom", fontsize=12, color=INK)
    axes.text(3.1, -0.35, "noise goes in", fontsize=NOTE, color=INK, va="top")
    axes.text(12.0, 0.2, "noise comes out", fontsize=NOTE, color=INK, va="top", ha="left")
    axes.add_patch(
        FancyBboxPatch((5.6, -0.5), 1.5, 1.3, boxstyle="round,pad=0,rounding_size=0.15", facecolor="#e8e8e8",
                       edgecolor=GREY, linewidth=1.5)
    )  # fmt: skip
    axes.text(6.35, 0.15, "$g$\none layer\nor several", ha="center", va="center", fontsize=NOTE, color=INK)
    arrow(axes, (4.7, 0.15), (5.5, 0.15), INK, head=12)
    arrow(axes, (7.2, 0.15), (8.0, 0.15), INK, head=12)
    return figure


def sensitivity_panels(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Series]]], *, title: str, steered: int | None = None
) -> Figure:
    """Draw noise sensitivity over the layers, one panel for each way to put the noise, on the same logarithmic axis.

    A line is the geometric mean over texts, with its 95% interval; a ring marks the lowest point of each "steered" one.

    Parameters
    ----------
    panels
        panel title -> (layers, label -> (role, Phi of (layers, texts))).
    title
        the finding in a sentence.
    steered
        the layer that RMU steered, as a dotted line.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(1.4 + 2.9 * len(panels), 3.2), sharey=True, squeeze=False)
    for axes, (name, (layers, series)) in zip(row[0], panels.items(), strict=True):
        for label, (role, values) in series.items():
            look, logs = ROLES[role], np.log(np.asarray(values, dtype=float))
            half = student.ppf(0.975, logs.shape[1] - 1) * logs.std(axis=1, ddof=1) / logs.shape[1] ** 0.5
            middle = logs.mean(axis=1)
            axes.fill_between(layers, *np.exp([middle - half, middle + half]), color=look.colour, alpha=0.18, linewidth=0)
            axes.plot(layers, np.exp(middle), color=look.colour, linestyle=look.line, marker=look.marker, markersize=4,
                      label=label)  # fmt: skip
            if role == "steered":
                axes.plot(lowest_layer(layers, values), np.exp(middle.min()), marker="o", markersize=15, linestyle="",
                          markerfacecolor="none", markeredgewidth=1.8, markeredgecolor=look.colour)  # fmt: skip
        axes.set(xlabel="layer", yscale="log")
        axes.set_title(name, fontweight="normal", fontsize=10)
        if steered is not None:
            axes.axvline(steered, color=GREY, linestyle=":", linewidth=1.2)
            axes.text(steered, 0.98, " steered", color=GREY, fontsize=9, va="top", transform=axes.get_xaxis_transform())
        if len(series) > 1 and axes is row[0][0]:
            axes.legend(loc="lower left", frameon=True)
    row[0][0].set_ylabel("noise sensitivity Φ")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def lowest_layer(layers: Sequence[int], values: Any) -> int:
    """Return the layer at which the geometric mean over texts of Phi, (layers, texts), is lowest."""
    return layers[int(np.log(np.asarray(values, dtype=float)).mean(axis=1).argmin())]


def history_curves(results: Mapping[str, tuple[str, UnlearnResult]], key: str, *, title: str) -> Figure:
    """Draw what trainings of any number of steps recorded, over the steps.

    Parameters
    ----------
    results
        label -> (role, result).
    key
        what to draw, of each entry of ``result.history``: ``"cosine"`` or ``"forget_norm"``.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots()
    for label, (role, result) in results.items():
        look, values = ROLES[role], [step[key] for step in result.history]
        axes.plot(range(1, len(values) + 1), values, color=look.colour, linestyle=look.line, marker=look.marker, markevery=5,
                  markersize=5, label=label)  # fmt: skip
    axes.set(xlabel="training step", ylabel=_RECORDED[key])
    axes.set_title(title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=True)  # below: curves fill the panel
    return figure

"""Figures of a search over layers: what was tried, what was chosen, and how much of it was luck. Used in notebook 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ..sweeps.choice import BOUND, rows_at
from ..sweeps.layer_search import LAYERS, PLANS, SETS, LayerSearch
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"rmu": "RMU", "adaptive_rmu": "Adaptive RMU"}
LOOKS = {"rmu": "direction", "adaptive_rmu": "steered"}
STRENGTHS = {"rmu": "coefficient c", "adaptive_rmu": "beta"}


def search_map(search: LayerSearch, name: str, *, topic: str = "bio", keep: str = "general", title: str) -> Figure:
    """Draw every setting that was tried for a set of layers: points lost on dev, crossed out where the price is too high.

    The chosen one is framed. White squares were not tried.

    Parameters
    ----------
    name
        of the set, a key of `SETS`.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.3), sharey=True)
    base = search.tuning[0]
    for axes, method in zip(panels, NAMES, strict=True):
        tried = rows_at(search.tuning, method, SETS[name])
        strengths, alphas = (sorted({setting[place] for setting in tried}) for place in (0, 1))
        lost = np.full((len(alphas), len(strengths)), np.nan)
        for (strength, alpha), by_layer in tried.items():
            place = alphas.index(alpha), strengths.index(strength)
            after = {
                kind: fmean(row.scores[kind].accuracy for at_layer in by_layer.values() for row in at_layer)
                for kind in (topic, keep)
            }
            lost[place] = 100 * (base.scores[topic].accuracy - after[topic])
            dear = round(base.scores[keep].accuracy - after[keep], 9) > BOUND
            axes.text(*place[::-1], f"{lost[place]:.0f}", ha="center", va="center", fontsize=10,
                      color="white" if lost[place] < 30 else "black")  # fmt: skip
            if dear:
                _cross(axes, *place[::-1])
        cells = axes.imshow(lost, cmap="cividis", vmin=0, vmax=60, aspect="auto", origin="lower")
        strength, alpha = search.choice(name, method).setting
        axes.add_patch(plt.Rectangle((strengths.index(strength) - 0.48, alphas.index(alpha) - 0.48), 0.96, 0.96, fill=False,
                                     edgecolor=ROLES["forget"].colour, linewidth=3.5))  # fmt: skip
        axes.grid(visible=False)
        axes.set_xticks(range(len(strengths)), [f"{value:g}" for value in strengths])
        axes.set_yticks(range(len(alphas)), [f"{value:g}" for value in alphas])
        axes.set(xlabel=STRENGTHS[method])
        axes.set_title(NAMES[method], fontweight="normal", fontsize=10)
    panels[0].set_ylabel("alpha")
    figure.colorbar(cells, ax=panels, label=f"points lost on {topic}, dev", pad=0.01)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _cross(axes: Axes, x: float, y: float) -> None:
    axes.plot([x - 0.42, x + 0.42], [y - 0.42, y + 0.42], color="#cc3311", linewidth=1.4)
    axes.plot([x - 0.42, x + 0.42], [y + 0.42, y - 0.42], color="#cc3311", linewidth=1.4)


def plans_figure(search: LayerSearch, plans: Sequence[str], topics: Mapping[str, str], *, title: str) -> Figure:
    """Draw points lost on test by layer, a column for each plan and a row for each topic, both methods in each panel.

    Parameters
    ----------
    plans
        keys of `PLANS`.
    topics
        topic -> what is to become of it.
    """
    figure, panels = plt.subplots(
        len(topics),
        len(plans),
        figsize=(3.4 * len(plans), 2.3 * len(topics) + 0.4),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    places = np.arange(len(LAYERS))
    for row, (topic, fate) in zip(panels, topics.items(), strict=True):
        for axes, plan in zip(row, plans, strict=True):
            for offset, (method, role) in zip((-0.12, 0.12), LOOKS.items(), strict=True):
                found = [search.lost(plan, method, topic, [layer]) for layer in LAYERS]
                look, values = ROLES[role], np.array([number.value for number in found])
                error = [values - [number.low for number in found], [number.high for number in found] - values]
                axes.errorbar(places + offset, values, yerr=error, color=look.colour, linestyle=look.line,
                              marker=look.marker, capsize=3, markersize=5, label=NAMES[method])  # fmt: skip
            axes.axhline(0, color=GREY, linewidth=1)
            axes.set_xticks(places, [str(layer) for layer in LAYERS])
            axes.set_title(plan, fontweight="normal", fontsize=10)
        row[0].set_ylabel(f"points lost on {topic}\n({fate})")
    for axes in panels[-1]:
        axes.set_xlabel("layer")
    panels[0][-1].legend(loc="best", frameon=True, fontsize=8.5)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def luck(search: LayerSearch, topic: str, plan: str = "one for each layer") -> dict[tuple[str, int], tuple[float, float]]:
    """Return the points that each layer's chosen setting loses: on dev, where it was chosen, and on test."""
    lost = {}
    for method in NAMES:
        for layer in LAYERS:
            choice = search.choice(PLANS[plan][layer], method)
            on_dev = rows_at(search.tuning, method, [layer])[choice.setting][layer]
            dev = search.tuning[0].scores[topic].accuracy - fmean(row.scores[topic].accuracy for row in on_dev)
            lost[method, layer] = 100 * dev, search.lost(plan, method, topic, [layer]).value
    return lost


def luck_of_halves(
    search: LayerSearch, topic: str = "bio", keep: str = "general", *, splits: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Choose on one half of the dev questions and look at the other half, many times: what selection alone does.

    Returns
    -------
    dict
        set of questions -> points lost on the half that chose and on the other, averaged over splits, methods and layers.
    """
    random, found = np.random.default_rng(seed), []
    base = {name: np.array(search.tuning[0].scores[name].correct, dtype=float) for name in (topic, keep)}
    for method in NAMES:
        for layer in LAYERS:
            rows = [row for by_layer in rows_at(search.tuning, method, [layer]).values() for row in by_layer[layer]]
            lost = {name: 100 * (base[name] - np.array([row.scores[name].correct for row in rows])) for name in base}
            for _ in range(splits):
                halves = {name: np.array_split(random.permutation(marks.shape[1]), 2) for name, marks in lost.items()}
                both = {name: [lost[name][:, half].mean(axis=1) for half in halves[name]] for name in lost}
                here, price = both[topic][0], both[keep][0]
                kept = price <= 100 * BOUND + 1e-9
                best = np.argmax(np.where(kept, here, -np.inf)) if kept.any() else np.argmin(price)
                found.append([[both[name][half][best] for half in (0, 1)] for name in (topic, keep)])
    means = np.mean(found, axis=0)
    return {name: (float(pair[0]), float(pair[1])) for name, pair in zip((topic, keep), means, strict=True)}


def luck_figure(search: LayerSearch, topics: Mapping[str, str], *, title: str) -> Figure:
    """Draw points lost where settings were chosen against points lost elsewhere, for each method and layer.

    On the left of each panel the test, on the right halves of dev, where nothing but the choice differs.

    Parameters
    ----------
    topics
        topic -> role: what is to be forgotten, and what is to be kept.
    """
    halves = luck_of_halves(search, *topics)
    figure, panels = plt.subplots(1, len(topics), figsize=(4.2 * len(topics), 3.3), squeeze=False)
    patch = {"facecolor": "white", "alpha": 0.85, "pad": 1, "linewidth": 0}
    for axes, (topic, role) in zip(panels[0], topics.items(), strict=True):
        look, pairs = ROLES[role], np.array([*luck(search, topic).values()])
        for pair in pairs:
            axes.plot([0, 1], pair, color=look.colour, linestyle=look.line, marker=look.marker, alpha=0.55, markersize=5)
        axes.plot([0, 1], pairs.mean(axis=0), color="black", linewidth=3, marker="o", label="mean of all")
        axes.plot([2, 3], halves[topic], color="black", linewidth=3, marker="o")
        for place, value in zip(range(4), [*pairs.mean(axis=0), *halves[topic]], strict=True):
            axes.annotate(f"{value:.1f}", (place, value), xytext=(0, 9), textcoords="offset points", ha="center",
                          fontsize=10, weight="bold", bbox=patch)  # fmt: skip
        if topic == list(topics)[1]:
            axes.axhline(100 * BOUND, color=GREY, linestyle=":", label="the bound")
        axes.set_xticks(range(4), ["dev: chosen\nhere", "test", "half of dev:\nchosen here", "other half"])
        axes.set(xlim=(-0.4, 3.4))
        axes.set_title(f"points lost on {topic}", fontweight="normal", fontsize=10)
        axes.legend(loc="best", frameon=True)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

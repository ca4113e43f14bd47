"""Figures of a search over layers: what was tried, what was chosen, and how much of it was luck. Used in notebook 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from ..sweeps.choice import BOUND, rows_at
from ..sweeps.layer_search import LAYERS, PLANS, SETS, LayerSearch
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"rmu": "RMU", "adaptive_rmu": "Adaptive RMU"}
LOOKS = {"rmu": "direction", "adaptive_rmu": "steered"}
STRENGTHS = {"rmu": "coefficient c", "adaptive_rmu": "beta"}
MOST = 60
"""Points lost at the light end of a map's colours."""


def search_map(search: LayerSearch, name: str, *, topic: str = "bio", keep: str = "general", title: str) -> Figure:
    """Draw every setting that was tried for a set of layers: points lost on dev, hatched where the price is too high.

    The chosen one is framed. White squares were not tried.

    Parameters
    ----------
    name
        of the set, a key of `SETS`.
    """
    both = {method: rows_at(search.tuning, method, SETS[name]) for method in NAMES}
    alphas = sorted({alpha for tried in both.values() for _, alpha in tried})  # the panels share them
    figure, panels = plt.subplots(1, 2, figsize=(7.4, 1.4 + 0.38 * len(alphas)), sharey=True)
    base = search.tuning[0]
    for axes, (method, tried) in zip(panels, both.items(), strict=True):
        strengths = sorted({strength for strength, _ in tried})
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
                      color="white" if lost[place] < 30 else "black",
                      bbox={"facecolor": plt.get_cmap("cividis")(lost[place] / MOST), "pad": 2, "linewidth": 0})  # fmt: skip
            if dear:
                axes.add_patch(plt.Rectangle((place[1] - 0.5, place[0] - 0.5), 1, 1, fill=False, hatch="///",
                                             edgecolor="white", linewidth=0))  # fmt: skip
        cells = axes.imshow(lost, cmap="cividis", vmin=0, vmax=MOST, aspect="auto", origin="lower")
        strength, alpha = search.choice(name, method).setting
        axes.add_patch(plt.Rectangle((strengths.index(strength) - 0.48, alphas.index(alpha) - 0.48), 0.96, 0.96, fill=False,
                                     edgecolor=ROLES["forget"].colour, linewidth=3.5))  # fmt: skip
        axes.grid(visible=False)
        axes.set_xticks(range(len(strengths)), [f"{value:g}" for value in strengths])
        axes.set_yticks(range(len(alphas)), [f"{value:g}" for value in alphas])
        axes.set(xlabel=STRENGTHS[method])
        note = f"hatched: over {100 * BOUND:.0f} on {keep}"
        axes.set_title(f"{NAMES[method]} ({note})", fontweight="normal", fontsize=10)
    panels[0].set_ylabel("alpha")
    figure.colorbar(cells, ax=panels, label=f"points lost on {topic}, dev", pad=0.01)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def choices_figure(search: LayerSearch, *, title: str) -> Figure:
    """Draw every choice as the norm of its target in units of the layer's own ||h||, with its alpha beside it.

    Lines for the one setting of all layers, markers for each layer's own, white where none kept the bound on dev.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.0))
    norms = {}  # before training, so the same for all settings of a layer
    for layer in LAYERS:
        by_setting = rows_at(search.tuning, "rmu", [layer])
        norms[layer] = next(iter(by_setting.values()))[layer][0].first["forget_norm"]
    for side, (method, role) in zip((-1, 1), LOOKS.items(), strict=True):
        look = ROLES[role]
        times = {layer: 1 / norm if method == "rmu" else 1.0 for layer, norm in norms.items()}
        strength, alpha = search.choice("all", method).setting
        axes.plot(range(len(LAYERS)), [strength * times[layer] for layer in LAYERS], color=look.colour, linestyle=look.line,
                  label=f"{NAMES[method]}, one for all layers, alpha {alpha:g}")  # fmt: skip
        for place, layer in enumerate(LAYERS):
            choice = search.choice(str(layer), method)
            strength, alpha = choice.setting
            at = place + 0.08 * side, strength * times[layer]
            axes.plot(*at, marker=look.marker, color=look.colour if choice.within else "white", linestyle="", markersize=9,
                      markeredgecolor=look.colour, markeredgewidth=2,
                      label=f"{NAMES[method]}, one for each layer" if layer == 7 else None)  # fmt: skip
            axes.annotate(f"{alpha:g}", at, xytext=(9 * side, 0), textcoords="offset points", va="center", fontsize=9,
                          ha="left" if side > 0 else "right", color="#444444")  # fmt: skip
    axes.axhline(1, color=GREY, linewidth=1)
    axes.text(-0.55, 1.06, "as long as the state", fontsize=9, color="#444444", va="bottom")
    axes.set(yscale="log", xlabel="layer", ylabel="norm of the target / ||h||", xlim=(-0.6, len(LAYERS) - 0.4))
    axes.set_xticks(range(len(LAYERS)), [str(layer) for layer in LAYERS])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title(title)
    note = "beside each marker its alpha;\nwhite: no setting kept the bound"
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, title=note, title_fontsize=8.5)
    return figure


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
        figsize=(3.1 * len(plans), 1.9 * len(topics) + 0.4),
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
        row[0].set_ylabel(f"lost on {topic}\n({fate})")
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
    figure, panels = plt.subplots(1, len(topics), figsize=(3.8 * len(topics), 2.9), squeeze=False)
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
        base = [100 * rows[0].scores[topic].accuracy for rows in (search.tuning, search.tested)]
        axes.set_title(f"points lost on {topic}\n(base model: {base[0]:.0f}% on dev, {base[1]:.0f}% on test)",
                       fontweight="normal", fontsize=10)  # fmt: skip
        axes.legend(loc="best", frameon=True)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

"""The figure of a robustness card: what each attack brings back beside its controls. Taught in notebook 07."""

from __future__ import annotations

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .card import RobustnessCard

SUCCESSFUL, OTHER, CONTROL, INK = "#B3261E", "#5F6B7A", "#777777", "#222222"


def card_figure(card: RobustnessCard) -> Figure:
    """Draw the accuracy that each attack recovers with its 95% interval, and what its controls gain; the worst on top.

    Parameters
    ----------
    card
        with one attack at least.
    """
    found, successful = card.worst_first, card.successful
    figure, axes = plt.subplots(figsize=(8.4, 1.6 + 0.36 * max(1, len(found))), dpi=160, layout="constrained")
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(100 * card.taken, color=INK, linestyle=":")
    axes.text(100 * card.taken, 1.0, " all that was taken", transform=axes.get_xaxis_transform(), va="bottom", fontsize=8)
    for place, (name, one) in enumerate(found.items()):
        colour = SUCCESSFUL if name in successful else OTHER
        low, high = (100 * end for end in one.recovered.interval)
        axes.plot([low, high], [place, place], color=colour, linewidth=2.5)
        axes.plot(100 * one.recovered.change, place, "o" if name in successful else "D", color=colour, markersize=6)
        for start, *ends in one.controls.values():
            gain = sum(end.accuracy for end in ends) / len(ends) - start.accuracy
            axes.plot(100 * gain, place + 0.28, "s", color=CONTROL, markerfacecolor="white", markersize=5)
    axes.set_yticks(range(len(found)), [f"{name}\n{one.attacker}" for name, one in found.items()], fontsize=8)
    axes.set(ylim=(len(found) - 0.4, -0.6), xlabel="points of accuracy recovered, with 95% intervals")
    handles = [
        Line2D([], [], color=SUCCESSFUL, marker="o", linewidth=2.5, label="beyond every control"),
        Line2D([], [], color=OTHER, marker="D", linewidth=2.5, label="not told from its controls"),
        Line2D([], [], color=CONTROL, marker="s", markerfacecolor="white", linewidth=0, label="a control"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    axes.set_title(
        f"What each attack recovers: {card.model_name}, {card.config.method}",
        loc="left",
        fontsize=10,
        fontweight="bold",
        pad=16,
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure

"""A factorial experiment of two levels each: its effects, and the floor below which accuracy cannot fall.

Used in notebook 05.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t as student

from ..estimates import Number
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..sweeps.rows import SweepRow

Factors: TypeAlias = "Mapping[str, Callable[[SweepRow], bool]]"
"""Name of a factor's second level -> whether a row has it."""
Signs = tuple[int, ...]
GUESSING = 0.25
"""Accuracy of guessing among four answers."""


def runs_by_signs(rows: Sequence[SweepRow], factors: Factors, topic: str) -> dict[Signs, list[float]]:
    """Sort the points lost by setting: 1 where a factor is at its second level, -1 where at its first; one for each seed.

    Parameters
    ----------
    rows
        of a sweep over all combinations; the base model's comes first.
    """
    runs: dict[Signs, list[float]] = {}
    base = rows[0].scores[topic].accuracy
    for row in rows[1:]:
        signs = tuple(1 if second(row) else -1 for second in factors.values())
        runs.setdefault(signs, []).append(100 * (base - row.scores[topic].accuracy))
    return runs


def effect(rows: Sequence[SweepRow], factors: Factors, topic: str, *names: str) -> Number:
    """Return the main effect of one factor on the points lost, or the interaction of two, with a 95% t interval.

    The noise is what two seeds of the same setting differ by, over all settings.
    """
    runs = runs_by_signs(rows, factors, topic)
    values = np.array([*runs.values()])  # (settings, seeds)
    places = [list(factors).index(name) for name in names]
    sign = np.array([np.prod([signs[place] for place in places]) for signs in runs])
    value = 2 * float((sign * values.mean(axis=1)).mean())
    error = 2 * (values.var(axis=1, ddof=1).mean() / values.size) ** 0.5
    half = float(student.ppf(0.975, values.size - len(values)) * error)
    return Number(value, value - half, value + half, values.size, "trainings")


def effects_figure(
    rows: Sequence[SweepRow], factors: Factors, topics: Mapping[str, str], *, size: int = 1, title: str
) -> Figure:
    """Draw main effects (`size` 1) or interactions of two (2) with their intervals.

    Parameters
    ----------
    topics
        topic -> role.
    """
    names = [*itertools.combinations(factors, size)]
    figure, axes = plt.subplots(figsize=(6.4, 1.1 + 0.36 * len(names)))
    for offset, (topic, role) in zip((-0.14, 0.14), topics.items(), strict=False):
        look, found = ROLES[role], [effect(rows, factors, topic, *pair) for pair in names]
        half = [number.high - number.value for number in found]
        axes.errorbar([number.value for number in found], np.arange(len(names)) + offset, xerr=half, fmt=look.marker,
                      capsize=3, color=look.colour, label=topic)  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), [" x ".join(pair) for pair in names])
    axes.set(xlabel="effect on the points of accuracy lost (95%)", ylim=(len(names) - 0.5, -0.5))
    axes.set_title(title)
    axes.legend(loc="best", frameon=True)
    return figure


def floor_figure(
    rows: Sequence[SweepRow], factors: Factors, topic: str, *, title: str, marked: Mapping[str, Signs] | None = None
) -> Figure:
    """Draw the points lost by every setting, by how many factors are at their second level, under the most there is to lose.

    Nothing is left to lose once a model guesses. Factors changed alone are named.

    Parameters
    ----------
    marked
        label -> signs of a setting to point at.
    """
    runs = runs_by_signs(rows, factors, topic)
    room = 100 * (rows[0].scores[topic].accuracy - GUESSING)
    figure, axes = plt.subplots(figsize=(6.2, 3.2))
    rises = [sum(sign > 0 for sign in signs) for signs in runs]
    means = [float(np.mean(lost)) for lost in runs.values()]
    by_rise = {count: [mean for rise, mean in zip(rises, means, strict=True) if rise == count] for count in sorted({*rises})}
    look = ROLES["forget"]
    places = _points(axes, runs, look.colour)
    alone = {places[tuple(1 if one == name else -1 for one in factors)]: name for name in factors}
    for number, (place, name) in enumerate(sorted(alone.items())):
        left = 2 * number < len(alone)  # the lower ones, so that no label stands on another's
        axes.annotate(name, place, xytext=(-7 if left else 8, 3 if left else -7), textcoords="offset points",
                      ha="right" if left else "left", fontsize=8.5, color="#444444")  # fmt: skip
    for label, signs in (marked or {}).items():
        axes.plot(*places[signs], "o", markersize=13, fillstyle="none", color="black")
        axes.annotate(label, places[signs], xytext=(10, -30), textcoords="offset points", fontsize=9,
                      arrowprops={"arrowstyle": "-", "color": "black", "shrinkB": 7})  # fmt: skip
    axes.plot([*by_rise], [np.mean(values) for values in by_rise.values()], color=look.colour, linewidth=2, label="mean")
    start = float(np.mean(by_rise[0]))
    single = [float(np.mean(runs[tuple(1 if name == one else -1 for name in factors)])) - start for one in factors]
    axes.plot([0, len(single)], [start, start + sum(single)], color=GREY, linestyle=":", linewidth=2,
              label="if each change added what it does alone")  # fmt: skip
    axes.axhline(room, color="black", linewidth=1.5)
    axes.text(0, room + 1.5, f"all there is to lose: after {room:.0f} points the model guesses", fontsize=9.5, va="bottom")
    axes.set(xlabel="how many of the changes are made", ylabel="points lost", xticks=[*by_rise])
    axes.set_ylim(min(0, *means) - 4, max(room + 12, start + sum(single) + 6))
    axes.set_title(title)
    axes.legend(loc="lower right", frameon=True, fontsize=8)
    return figure


def _points(axes: Axes, runs: Mapping[Signs, Sequence[float]], colour: str) -> dict[Signs, tuple[float, float]]:
    """Draw each setting's mean, those with equally many changes side by side, and return where it stands."""
    places: dict[Signs, tuple[float, float]] = {}
    for rise in sorted({signs.count(1) for signs in runs}):
        group = sorted((signs for signs in runs if signs.count(1) == rise), key=lambda signs: float(np.mean(runs[signs])))
        spread = np.linspace(-0.12, 0.12, len(group)) if len(group) > 1 else [0.0]
        places |= {signs: (rise + float(x), float(np.mean(runs[signs]))) for signs, x in zip(group, spread, strict=True)}
    axes.plot(*zip(*places.values(), strict=True), "o", color=colour, alpha=0.55, markersize=7)
    return places

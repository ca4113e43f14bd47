"""Which setting a search on `dev` chooses for a set of layers, and whether the search ended inside its grid.

RMU's coefficient and Adaptive RMU's beta are called strength here. Taught in notebook 05.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ..unlearning.config import UnlearnConfig

if TYPE_CHECKING:
    from .rows import SweepRow

Setting = tuple[float, float]
"""Strength and alpha."""

BOUND = 0.05
"""Accuracy on general questions that a chosen setting may cost on dev, averaged over the layers it is chosen for."""


@dataclass(frozen=True)
class Choice:
    """What a search on dev chose. Taught in notebook 05."""

    method: str
    layers: tuple[int, ...]
    setting: Setting
    lost: dict[str, float]
    """Accuracy lost by the name of the question set, averaged over the layers."""
    within: bool
    """Whether the bound was kept; if not, no setting that was tried at these layers keeps it, and this one costs least."""


def setting_of(config: UnlearnConfig) -> Setting:
    """Return RMU's coefficient or Adaptive RMU's beta, and alpha."""
    return (config.coefficient if config.method == "rmu" else config.beta), config.alpha


def rows_at(rows: Iterable[SweepRow], method: str, layers: Iterable[int]) -> dict[Setting, dict[int, list[SweepRow]]]:
    """Sort a method's rows by setting and layer, without settings that were not tried at every layer or failed at one."""
    layers = tuple(layers)
    found: dict[Setting, dict[int, list[SweepRow]]] = {}
    for row in rows:
        config = row.config
        if isinstance(config, UnlearnConfig) and config.method == method and config.layer in layers and not row.error:
            found.setdefault(setting_of(config), {}).setdefault(config.layer, []).append(row)
    return {setting: by_layer for setting, by_layer in found.items() if len(by_layer) == len(set(layers))}


def choose(
    rows: Sequence[SweepRow], method: str, layers: Iterable[int], *, topic: str = "bio", keep: str = "general"
) -> Choice:
    """Choose the setting that loses most on `topic` among those that cost at most `BOUND` on `keep`, averaged over layers.

    Where every setting costs more, the one that costs least. Equals are told apart by what they cost, then by strength.

    Parameters
    ----------
    rows
        of a sweep with one direction; the base model's comes first.
    layers
        the layers that the setting is chosen for, all together.
    """
    base, layers = rows[0], tuple(layers)

    def lost(by_layer: dict[int, list[SweepRow]], name: str) -> float:
        after = fmean(row.scores[name].accuracy for at_layer in by_layer.values() for row in at_layer)
        return round(base.scores[name].accuracy - after, 9)  # 0.79 - 0.74 is five points, and not a little more

    choices = [
        Choice(method, layers, setting, {name: lost(by_layer, name) for name in (topic, keep)}, within=True)
        for setting, by_layer in rows_at(rows, method, layers).items()
    ]
    kept = [choice for choice in choices if choice.lost[keep] <= BOUND]
    if kept:
        return min(kept, key=lambda choice: (-choice.lost[topic], choice.lost[keep], choice.setting))
    least = min(choices, key=lambda choice: (choice.lost[keep], -choice.lost[topic], choice.setting))
    return Choice(method, layers, least.setting, least.lost, within=False)


def neighbours(setting: Setting, strengths: Sequence[float], alphas: Sequence[float]) -> list[Setting]:
    """Return the settings one step away on two ladders, one thing changed at a time; at a ladder's end there is no step."""
    strength, alpha = setting
    i, j = strengths.index(strength), alphas.index(alpha)
    steps = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
    return [(strengths[a], alphas[b]) for a, b in steps if 0 <= a < len(strengths) and 0 <= b < len(alphas)]

"""What a search over layers chose on dev, and what that loses on test: the stored files of benchmarks/layers.py.

Questions and directions are resampled together (`crossed`). Taught in notebook 05.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RmuLabError
from ..estimates import Number, crossed
from ..unlearning.config import UnlearnConfig
from .choice import Choice, Setting, choose, rows_at, setting_of

if TYPE_CHECKING:
    from ..unlearning.config import MethodConfig
    from .rows import SweepRow

LAYERS = (3, 7, 12, 17, 22, 27)
LATE = (17, 22, 27)
SETS: dict[str, tuple[int, ...]] = {"all": LAYERS, **{str(layer): (layer,) for layer in LAYERS}}
"""Sets of layers, for each of which a setting of its own is chosen."""
PLANS: dict[str, dict[int, str]] = {
    "one for all layers": dict.fromkeys(LAYERS, "all"),
    "one for each layer": {layer: str(layer) for layer in LAYERS},
}
"""By how much is searched: which set's setting each layer gets."""
METHODS = ("rmu", "adaptive_rmu")


class LayerSearch:
    """A search on dev and its test.

    Parameters
    ----------
    tuning
        rows on dev questions with one direction; the base model's comes first.
    tested
        rows on test questions with other directions, of the chosen settings at least; the base model's comes first.
    """

    def __init__(self, tuning: Sequence[SweepRow], tested: Sequence[SweepRow]) -> None:
        self.tuning, self.tested = list(tuning), list(tested)
        self.choice: Callable[[str, str], Choice] = cache(self._choice)
        """For a set of `SETS` and a method, what dev chose."""
        self._at: dict[tuple[str, int, Setting], list[SweepRow]] = {}
        for row in self.tested:
            config = row.config
            if isinstance(config, UnlearnConfig) and not row.error:
                self._at.setdefault((config.method, config.layer, setting_of(config)), []).append(row)

    def _choice(self, name: str, method: str) -> Choice:
        return choose(self.tuning, method, SETS[name])

    def lost_marks(self, plan: str, method: str, topic: str, layers: Iterable[int] = LAYERS) -> np.ndarray:
        """Points lost on test by layer, direction and question: (layers, directions, questions).

        Raises
        ------
        RmuLabError
            if a chosen setting was not tested.
        """
        base = np.array(self.tested[0].scores[topic].correct, dtype=float)
        cells = []
        for layer in layers:
            setting = self.choice(PLANS[plan][layer], method).setting
            rows = sorted(self._at.get((method, layer, setting), []), key=lambda row: row.config.seed if row.config else 0)
            if not rows:
                raise RmuLabError(f"{method} at layer {layer} with (strength, alpha) = {setting} was chosen and not tested.")
            cells.append([base - np.array(row.scores[topic].correct, dtype=float) for row in rows])
        return 100 * np.array(cells)

    def lost(self, plan: str, method: str, topic: str, layers: Iterable[int] = LAYERS) -> Number:
        """Points lost on test, averaged over these layers."""
        return crossed(self.lost_marks(plan, method, topic, layers))

    def more(self, topic: str, first: tuple[str, str], second: tuple[str, str], layers: Iterable[int] = LAYERS) -> Number:
        """Points that the first plan and method lose more than the second, averaged over these layers."""
        layers = tuple(layers)
        return crossed(self.lost_marks(*first, topic, layers) - self.lost_marks(*second, topic, layers))

    def among(self, strengths: Collection[float], alphas: Collection[float]) -> LayerSearch:
        """Return the search as it would have ended had only these c and beta, and these alphas, been tried."""

        def is_tried(config: MethodConfig | None) -> bool:
            if not isinstance(config, UnlearnConfig):
                return config is None
            strength, alpha = setting_of(config)
            return strength in strengths and alpha in alphas

        return LayerSearch([row for row in self.tuning if is_tried(row.config)], self.tested)

    def tried(self, name: str, method: str) -> list[Setting]:
        """The settings that this choice was made from."""
        return [*rows_at(self.tuning, method, SETS[name])]

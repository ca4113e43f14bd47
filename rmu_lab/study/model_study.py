"""The study behind the scorecard: the same runs on every model, each part in a file of its own that goes on after a stop.

First `settings` tries layers and learning rates on `dev` questions; what it chooses (`Study.chosen`) serves all that
follows, which asks `test` questions, with directions that nothing before has seen. Taught in notebook 10; in the repository
``python -m benchmarks.study --model NAME`` runs all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RmuLabError
from ..estimates import Numbers
from ..files import results_folder
from ..unlearning.config import MethodConfig, SteeringMethod, UnlearnConfig
from .measured import NotMeasuredError, stored_record
from .studied_models import StudiedModel, studied

if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluate import Style
    from ..sweeps.rows import SweepRow

DEV_SEED, SEEDS = 300, (301, 302, 303)
"""Of directions: none of the first edition's (0 to 12 and 100 to 112), whose numbers were seen when rules changed."""
QUESTIONS = 100
"""Of each set and split, drawn with a fixed seed."""
BETA = 5.0
"""RMU's c is as many times the median norm of forget tokens after the chosen layer, as in Dang et al. 2024 it is about."""
BOUND = 0.05
"""Accuracy on general questions that a chosen setting may cost on dev."""
NEAR = 0.05
"""Settings whose accuracies on bio lie so near each other are not told apart by 100 questions."""


@dataclass(frozen=True)
class SweepPart:
    """Edits that are trained and asked, a row of a sweep each."""

    name: str
    configs: Callable[[Study], list[MethodConfig]]
    split: str = "test"
    sets: tuple[str, ...] = ()
    """Question sets; by default infectious disease, and what shows the model's costs."""
    style: Style | None = None
    """Of `accuracy`; by default the model's."""

    @property
    def file(self) -> str:
        """Where it is stored, below the model's folder."""
        return f"{self.name}.jsonl"


@dataclass(frozen=True)
class MeasuredPart:
    """One function of `measurements` at settings made of the study's; its result is stored whole."""

    name: str
    measure: Callable[..., Numbers]
    settings: Callable[[Study], Mapping[str, Any]]
    dtype: str | None = None
    """Of the weights, where the model's own is too coarse."""

    @property
    def file(self) -> str:
        """Where it is stored, below the model's folder."""
        return f"{self.name}.json"


Part = SweepPart | MeasuredPart


class Study:
    """One model's part of the study, as far as it is stored.

    Parameters
    ----------
    model
        its name in `STUDIED`.
    folder
        of its files; by default ``data/results/study/NAME``.
    """

    def __init__(self, model: str, folder: Path | None = None) -> None:
        self.model: StudiedModel = studied(model)
        self.folder = folder or results_folder() / "study" / model
        self._rows: dict[str, list[SweepRow]] = {}
        self._numbers: dict[Callable[[Study], Numbers], Numbers] = {}

    def rows(self, part: str) -> list[SweepRow]:
        """Return the stored rows of a sweep, the base model's first.

        Raises
        ------
        NotMeasuredError
            if there are none.
        RmuLabError
            if the first row, and it alone, is not the base model's.
        """
        from ..sweeps.rows import load_sweep

        if part not in self._rows:
            path = self.folder / f"{part}.jsonl"
            if not path.is_file():
                raise not_measured(path, self.model.name)
            rows = load_sweep(path)
            if not rows or rows[0].config is not None or any(row.config is None for row in rows[1:]):
                raise RmuLabError(f"{path} does not begin with the base model's row; remove it and make it anew.")
            self._rows[part] = rows
        return self._rows[part]

    def numbers(self, read: Callable[[Study], Numbers]) -> Numbers:
        """Return what one of `readings` gives of this study; several claims ask for the same, so it is computed once."""
        if read not in self._numbers:
            self._numbers[read] = read(self)
        return self._numbers[read]

    def best_of(self, rows: Sequence[SweepRow], method: str, layer: int | None = None) -> Any:
        """Return the setting that dev chooses.

        Of the settings that cost at most `BOUND` of general accuracy, those that forget within `NEAR` of the most are taken
        as equal; of them it is the cheapest, and then the one with the lowest layer. Where every setting costs more, it is
        the cheapest of all.

        Parameters
        ----------
        rows
            of a sweep on dev, the base model's first.
        layer
            of the settings to choose from; by default of any.
        """
        base, *tried = rows
        tried = [
            row
            for row in tried
            if row.config
            and row.config.method == method
            and layer in (None, getattr(row.config, "layer", None))
            and not row.error
        ]
        general = self.model.general

        def lost(row: SweepRow, name: str) -> float:
            return round(base.scores[name].accuracy - row.scores[name].accuracy, 9)  # 0.79 - 0.74 is not above 0.05

        kept = [row for row in tried if lost(row, general) <= BOUND]
        most = max((lost(row, "bio") for row in kept), default=0.0)
        near = [row for row in kept if round(most - lost(row, "bio"), 9) <= NEAR] or tried
        order = [(lost(row, general), getattr(row.config, "layer", 0), -lost(row, "bio")) for row in near]
        return near[order.index(min(order))].config

    @cached_property
    def chosen(self) -> UnlearnConfig:
        """Adaptive RMU's setting that dev chose; its coefficient, `BETA` times the median norm at its layer, is RMU's."""
        return self.best_of(self.rows("settings"), "adaptive_rmu")

    def best_at(self, layer: int) -> UnlearnConfig:
        """Return what dev chose among the settings of one layer."""
        return self.best_of(self.rows("settings"), "adaptive_rmu", layer)

    @property
    def own_layers(self) -> tuple[int, ...]:
        """The middle one of each third of the layers, where each gets a setting of its own."""
        return self.model.layers[1::3]

    @property
    def norm(self) -> float:
        """Median norm of forget tokens after the chosen layer, to the advisor's two digits."""
        return self.chosen.coefficient / BETA

    def minutes(self, part: Part) -> float:
        """Return how long what is stored of a part took, without the passes that its rows share."""
        if isinstance(part, SweepPart):
            return sum(sum(row.seconds.values()) for row in self.rows(part.name)) / 60
        return float(stored_record(self.folder / part.file)["seconds"]) / 60

    def steered(self, method: SteeringMethod, seed: int, **changes: Any) -> UnlearnConfig:
        """Return the chosen setting for RMU or Adaptive RMU and a direction, with changes."""
        return dataclasses.replace(self.chosen, method=method, seed=seed, **changes)

    def forget(self, part: Part) -> None:
        """Read a part anew, and what is computed of it, when they are next asked for."""
        self._rows.pop(part.name, None)
        self._numbers.clear()

    def questions(self, part: SweepPart) -> dict[str, Dataset]:
        """Return the question sets of a part, as they are asked."""
        from ..questions import load_questions

        sets = part.sets or ("bio", self.model.general)
        drawn = {name: load_questions(name, split=part.split).shuffle(seed=0) for name in sets}
        return {name: rows.select(range(min(len(rows), QUESTIONS))) for name, rows in drawn.items()}


def not_measured(path: Path, model: str) -> NotMeasuredError:
    """Make the error that a stored result is not there."""
    return NotMeasuredError(f"There is no {path}; make it with `python -m benchmarks.study --model {model}`.")

"""Methods that compute an edit without a loss to train by, as SSD does: their base class. Taught in notebook 08."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..activations import frozen
from ..torch_state import in_default_torch_state
from .all_blocks import AllBlocksConfig, changed_parameters
from .task import Clock, DivergedError, Task, Training, Trainings


@dataclass(frozen=True)
class EditMethod(AllBlocksConfig):
    """Base of the settings of methods that compute an edit at once: extend it, and define `edit`."""

    def prepare(self, task: Task, names: list[str]) -> Any:
        """Return what settings with the same `work_key` share, such as importances; None unless overridden.

        Parameters
        ----------
        task
            the frozen model, the tokenizer and the texts.
        names
            full names of the parameters that may change.
        """
        return None

    def edit(self, task: Task, names: list[str], prepared: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return the changed matrices by name, float32 on the CPU, and numbers for the record.

        Parameters
        ----------
        task, names
            as in `prepare`.
        prepared
            what `prepare` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no edit")

    @staticmethod
    @in_default_torch_state
    def train(task: Task, configs: Sequence[EditMethod]) -> Trainings:
        """Compute the edit of each of the settings, which share what `prepare` returns.

        The trainings have no directions, and histories of one entry: ``step`` 1, ``topic`` "all", and the record.

        Raises
        ------
        DivergedError
            if a matrix is not finite.
        """
        clock = Clock()
        task.without_steering(configs[0])
        with frozen(task.model):
            names = changed_parameters(task.model, configs[0])
            prepared = configs[0].prepare(task, names)
            for config in configs:
                edit, record = config.edit(task, names, prepared)
                if not all(matrix.isfinite().all() for matrix in edit.values()):
                    raise DivergedError(f"A matrix of {config.method} is not finite. The model was not changed.")
                entry = {"step": 1, "topic": "all", **record}
                task.stopped_by(entry)  # one step is all there is
                with clock.paused() as seconds:
                    yield Training(config, edit, {}, [entry], seconds)

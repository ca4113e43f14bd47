"""What `unlearn` and `sweep` hand to a method's trainer, and what the trainer hands back."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import FrozenPass
from ..corpora import TokenBatch
from ..errors import NotFiniteError, RmuLabError
from .batches import BatchKey, TopicBatches, TopicTexts
from .config import MethodConfig
from .objectives import WindowObjective

OnStep = Callable[[dict[str, Any]], bool | None]
"""Called after every step with that step's entry of `UnlearnResult.history`; training stops when it returns True."""


class FrozenPasses(Protocol):
    """Gives the frozen model's pass over a batch that is on the model's device."""

    def __call__(self, key: BatchKey, batch: TokenBatch) -> FrozenPass: ...  # noqa: D102


@dataclass(frozen=True)
class Steering:
    """What can be passed in place of the parts from which RMU's losses are made (see `unlearn`)."""

    directions: Mapping[str, Tensor] | None = None
    """u of each topic, (d,); None: drawn from the seed."""
    forget_objective: WindowObjective | None = None
    retain_objective: WindowObjective | None = None
    compile_window: bool = False

    def names(self) -> dict[str, str]:
        """Return the name of what was passed, for the record."""
        passed = {name: value for name, value in vars(self).items() if value is not None and value is not False}
        return {
            name: f"{value.__module__}.{getattr(value, '__qualname__', '')}" if callable(value) else "given"
            for name, value in passed.items()
            if name != "compile_window"  # the same numbers
        }


@dataclass(frozen=True)
class Task:
    """One unlearning task: what a trainer works on."""

    model: PreTrainedModel
    """Unchanged by the trainer."""
    tokenizer: PreTrainedTokenizerBase
    texts: TopicTexts
    progress: bool = True
    on_step: OnStep | None = None
    steering: Steering = field(default_factory=Steering)
    recorded: tuple[TopicBatches, FrozenPasses] | None = None
    """Batches whose frozen passes a sweep has made already."""

    def texts_of(self, role: str) -> list[str]:
        """Return the texts of all topics in one list, each once."""
        return list(dict.fromkeys(text for key, corpus in self.texts.items() if key[0] == role for text in corpus))

    def without_steering(self, config: MethodConfig) -> None:
        """Refuse what only RMU's trainer can take.

        Raises
        ------
        RmuLabError
            if directions, an objective or ``compile_window`` were given.
        """
        for name, value in vars(self.steering).items():
            if value is not None and value is not False:
                raise RmuLabError(
                    f"{name} is for methods that steer representations, and {config.method} does not; leave it out."
                )

    def stopped_by(self, record: dict[str, Any]) -> bool:
        """Hand the record of a step to ``on_step``; return whether training is to stop."""
        return self.on_step is not None and self.on_step(record) is True


@dataclass(frozen=True)
class Training:
    """What one setting's training came to."""

    config: MethodConfig
    """The settings; their steps are those that were taken."""
    edit: dict[str, Tensor]
    """Changed matrices, float32 on the CPU, by their full parameter names in the model."""
    directions: dict[str, Tensor]
    """u of each topic, (d,), float32 on the CPU; empty for methods without."""
    history: list[dict[str, Any]]
    """One entry for each step."""
    seconds: float
    """Wall-clock time of the training."""


Trainings = Iterator[Training]


def finished_stages(configs: Sequence[Any], steps: int, stopped: bool) -> list[Any]:
    """Return the settings whose training ends after so many steps: all that are left, cut there, if it was stopped."""
    if stopped:
        return [dataclasses.replace(config, steps=steps) for config in configs if config.steps >= steps]
    return [config for config in configs if config.steps == steps]


class Clock:
    """Seconds of a trainer's own work."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[float]:
        """Give the seconds so far; what happens in the ``with`` block does not count."""
        seconds = time.perf_counter() - self._start
        yield seconds
        self._start = time.perf_counter() - seconds


class DivergedError(NotFiniteError):
    """Training ended in numbers that are not finite."""

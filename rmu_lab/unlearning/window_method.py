"""Methods that train the same blocks as RMU by a rule of their own: the base classes of their settings and trainings.

What they share with RMU is `window`: the loss lies at the output of block l, only matrices of blocks l-2 .. l are trained,
the frozen model runs once, masters are float32, and each step has its entry in the history. A method is a frozen dataclass
of settings (`WindowMethod`, or `SteeredMethod` if it steers along RMU's directions) and a `MethodTraining`, which
overrides the parts of `WindowTraining` that differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import run_frozen
from ..errors import RmuLabError
from ..models import input_device
from ..torch_state import in_default_torch_state
from .batches import BatchKey, TopicBatches, batch_share, counted_tokens
from .config import MethodConfig, SteeringMethod, UnlearnConfig, check_ranges, check_types
from .distributed import Processes, launched_processes
from .frozen_passes import record_batch
from .task import FrozenPasses, Steering, Task, Trainings
from .window import FrozenBatch, Uses, WindowTraining, plain_uses, train_stages, window_parameters


class MethodTraining(WindowTraining):
    """One training of the window by a method of its own; see `WindowTraining` for the parts that may be overridden.

    Attributes
    ----------
    method
        the settings, those with the most steps of the group; `WindowTraining.config` are RMU's that go with them.
    task
        the frozen model, the tokenizer and the texts.
    """

    def __init__(self, method: Any, task: Task, batches: TopicBatches, passes: FrozenPasses) -> None:
        self.method, self.task = method, task
        directions = task.steering.directions
        super().__init__(task.model, method.rmu(), batches, passes, steering=Steering(directions))
        self.prepare()

    def prepare(self) -> None:
        """Compute what is needed before the first step, such as statistics of the frozen model; nothing by default."""

    # -- the frozen model on the texts of the training -----------------------------------------------------------------

    def keys_of(self, role: str, topic: str) -> list[BatchKey]:
        """Return the batches of a role and topic that the training comes to, each once."""
        uses = (self.method.uses(self.batches, step) for step in range(self.method.steps))
        return list(dict.fromkeys(key for step in uses for _, key in step if key[:2] == (role, topic)))

    def frozen_states(self, role: str, topic: str) -> Tensor:
        """Return h^(l) of the frozen model on every counted token of those batches, (tokens, d) float32 on the device."""
        depth, states = self.config.window[-1] + 1, []
        for key in self.keys_of(role, topic):
            batch = batch_share(self.batches, key, self.config, self.processes).batch.to(input_device(self.model))
            if self.task.recorded is None:
                output = record_batch(self.model, batch, {depth})[depth]
            else:
                output = self.passes(key, batch).output
            counted = counted_tokens(batch, self.config).to(output.device)
            states.append(output[counted].float().to(self.device))
        return torch.cat(states)

    def fresh_batch(self, key: BatchKey) -> FrozenBatch:
        """Return a batch with its frozen pass, whatever the step: for what is done before the first one."""
        if self.task.recorded is not None:
            return self.frozen_batch(key)
        share = batch_share(self.batches, key, self.config, self.processes)
        batch = share.batch.to(input_device(self.model))
        passed = run_frozen(self.model, batch, self.config.window).to(self.device)
        return FrozenBatch(share, passed, counted_tokens(batch, self.config).to(self.device))

    # -- gradients elsewhere -------------------------------------------------------------------------------------------

    def take_gradients(self) -> list[Tensor]:
        """Return the gradients of the matrices, zeros where there is none, and leave none behind."""
        taken = [torch.zeros_like(matrix) if matrix.grad is None else matrix.grad for matrix in self.matrices]
        self.optimizer.zero_grad()
        return taken

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Let the matrices be changed inside the ``with`` block; after it they are as before, bit for bit."""
        before = [matrix.detach().clone() for matrix in self.matrices]
        try:
            yield
        finally:
            with torch.no_grad():
                for matrix, kept in zip(self.matrices, before, strict=True):
                    matrix.copy_(kept)
            self.refresh()


@dataclass(frozen=True)
class WindowMethod(MethodConfig):
    """Base of the settings of methods whose loss lies at the output of block `layer`.

    Extend it, set `trainer` to a `MethodTraining` of your own, and register it. The defaults are where a search on SmolLM2
    can start, and were not chosen by one; `published` of each method gives its authors' settings.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    layer: int = 7
    """l: the block at whose output the loss lies, counted from 0. Blocks l-2, l-1 and l are trained."""
    alpha: float = 300.0
    """Weight of the retain loss."""
    lr: float = 7e-3
    """AdamW's learning rate (no weight decay)."""
    steps: int = 40
    """Training steps; each takes one forget and one retain batch, of one topic, topics taking turns."""
    batch_size: int = 4
    """Texts in a forget batch, and as many in a retain batch."""
    max_length: int = 64
    """Tokens after which a text is cut."""
    seed: int = 0
    """Of all that is random in the method."""
    parameters: tuple[str, ...] | None = None
    """Names, inside each trained block, of the matrices to train; None: the MLP's output, ``mlp.down_proj.weight``."""

    trainer: ClassVar[type[MethodTraining]] = MethodTraining
    """How it trains."""
    stages: ClassVar[bool] = True
    """Whether a shorter training is the beginning of a longer one: neither statistics nor weights depend on the steps."""
    directed: ClassVar[bool] = False
    """Whether it steers along a direction u of each topic, which may then be given."""
    least: ClassVar[dict[str, float]] = {}
    """The least values of fields of its own, by name."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Fields of its own that must be above 0."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, self.positive, self.least)
        self.rmu()

    def rmu(self) -> UnlearnConfig:
        """Return RMU's or Adaptive RMU's settings with the same values: what both share is made from these."""
        known = {item.name for item in dataclasses.fields(UnlearnConfig)}
        shared = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name in known}
        return UnlearnConfig(method=getattr(self, "steering", "rmu"), **shared)

    @property
    def window(self) -> range:
        """The trained blocks l-2 .. l."""
        return range(self.layer - 2, self.layer + 1)

    @property
    def shared_passes(self) -> UnlearnConfig | None:
        """RMU's settings with the same batches."""
        return self.rmu()

    def uses(self, batches: TopicBatches, step: int) -> Uses:
        """Return the batches of a step (from 0) and what each is used for: by default one forget and one retain batch."""
        return plain_uses(batches, step)

    def work_key(self) -> Hashable:
        """Return the settings without what their trainings can differ in and still share: steps, in a method of `stages`."""
        shared: dict[str, Any] = {"steps": 1} if self.stages else {}
        return dataclasses.replace(self, **shared, **self.unused())

    def unused(self) -> dict[str, Any]:
        """Return some value of each field that these settings have no use for in training."""
        return {}

    def texts(self, task: Task) -> Task:
        """Return the task with the texts in the order in which the method takes them: as they are, by default."""
        return task

    @staticmethod
    def check(model: PreTrainedModel, config: WindowMethod) -> None:
        """Refuse settings that do not fit the model, and several processes, of which only RMU's training knows.

        Raises
        ------
        RmuLabError
            if the layer does not fit, a block lacks a named parameter, or torchrun started several processes.
        """
        refuse_several_processes(config)
        window_parameters(model, config.rmu())

    @staticmethod
    @in_default_torch_state
    def train(task: Task, configs: Sequence[WindowMethod]) -> Trainings:
        """Train once for all settings with one `work_key`, and give each its stage, in ascending order of steps.

        The history is RMU's (`UnlearnResult.history`), with what a method adds to it.

        Raises
        ------
        RmuLabError
            if an objective was given, or a direction to a method that has none.
        DivergedError
            if a loss or a trained matrix is not finite; the message names the step.
        """
        refuse_parts(task, configs[0])
        groups: dict[Hashable, list[WindowMethod]] = {}
        for config in sorted(configs, key=lambda each: each.steps):
            groups.setdefault(config.work_key(), []).append(config)
        for group in groups.values():
            yield from group[-1].train_together(task, group)

    def train_together(self, task: Task, configs: Sequence[WindowMethod]) -> Trainings:
        """Train settings that share one training, of which these have the most steps."""
        task = self.texts(task)

        def begin(batches: TopicBatches, passes: FrozenPasses, _processes: Processes) -> MethodTraining:
            return self.trainer(self, task, batches, passes)

        yield from train_stages(task, configs, self.rmu(), begin, self.uses)


@dataclass(frozen=True)
class SteeredMethod(WindowMethod):
    """Base of the settings of methods that steer forget text to RMU's or Adaptive RMU's target s u.

    With u a random direction, h^(l) the residual stream after block `layer`, x_F a forget text::

        s = coefficient                       steering="rmu", Li et al. 2024
        s = beta * ||h_frozen(x_F)||          steering="adaptive_rmu", Dang et al. 2024, Eq 24
    """

    steering: SteeringMethod = "adaptive_rmu"
    """Whose target is steered to: ``"rmu"``'s or ``"adaptive_rmu"``'s."""
    coefficient: float = 570.0
    """c, the norm that RMU steers to; not used by Adaptive RMU."""
    beta: float = 5.0
    """Adaptive RMU steers to beta times the frozen norm; not used by RMU."""

    directed: ClassVar[bool] = True

    def unused(self) -> dict[str, Any]:
        """Return the default of what the target does not use: c of Adaptive RMU, beta of RMU."""
        return {"beta": SteeredMethod.beta} if self.steering == "rmu" else {"coefficient": SteeredMethod.coefficient}


def refuse_several_processes(config: MethodConfig) -> None:
    """Raise `RmuLabError` if torchrun started several processes."""
    count = launched_processes().world_size
    if count > 1:
        raise RmuLabError(f"{config.method} trains in one process, but there are {count}; start it without torchrun.")


def refuse_parts(task: Task, config: Any) -> None:
    """Raise `RmuLabError` if what was passed in place of RMU's own parts is none of this method's."""
    if not config.directed:
        task.without_steering(config)
    for name, value in vars(task.steering).items():
        if name != "directions" and value is not None and value is not False:
            raise RmuLabError(f"{name} is for RMU and Adaptive RMU only, and {config.method} has its own; leave it out.")

"""The window trainer: RMU and Adaptive RMU without a second model and without the blocks above the steered one.

Only blocks l-2 .. l are trained, and the losses live at the output of block l. So each batch goes through the frozen
model once, up to block l (`activations.run_frozen`): that gives the input of block l-2, the retain target and the
adaptive norm. Then the window alone runs again, with float32 copies of its trained matrices in place of the model's, and
gradients reach no further down. The model itself is never written to. Taught in notebooks 04 and 05.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..activations import FrozenPass, frozen, run_window, window_blocks
from ..errors import RmuLabError
from ..models import block_parameters, decoder_blocks, input_device
from ..randomness import torch_generator
from ..torch_state import in_default_torch_state
from .batches import BatchKey, TopicBatches, batch_share, counted_tokens, step_keys, topic_batches, topics_of, used_texts
from .config import UnlearnConfig
from .directions import random_directions
from .distributed import SINGLE_PROCESS, BatchShare, Processes, launched_processes
from .frozen_passes import StreamedPasses
from .objectives import WindowBatch, masked_mean, steering_objective, token_mean, token_norms
from .task import Clock, DivergedError, FrozenPasses, Steering, Task, Training, Trainings, finished_stages


@in_default_torch_state
def train_window(task: Task, configs: Sequence[UnlearnConfig]) -> Trainings:
    """Train by RMU or Adaptive RMU once for settings that share it, and give each its stage, in ascending order of steps.

    The settings differ in `steps`, and in what their method does not use. Each training has the directions of the topics
    and a history whose entries are told in `UnlearnResult.history`. Seconds do not count what the caller does in between.

    Raises
    ------
    RmuLabError
        if the layer does not fit the model, a block lacks the named parameters, or given directions do not fit.
    DivergedError
        if a loss or a trained matrix is not finite; the message names the step.
    """
    config = max(configs, key=lambda each: each.steps)

    def begin(batches: TopicBatches, passes: FrozenPasses, processes: Processes) -> WindowTraining:
        return WindowTraining(task.model, config, batches, passes, processes, task.steering)

    yield from train_stages(task, configs, config, begin)


Uses = tuple[tuple[str, BatchKey], ...]
"""The batches of a step in their order, each with its use: ``"forget"``, ``"retain"``, or a method's own word."""


def plain_uses(batches: TopicBatches, step: int) -> Uses:
    """Return one forget and one retain batch of a step (from 0), each used as what it is."""
    return tuple((key[0], key) for key in step_keys(batches, step))


def train_stages(
    task: Task,
    configs: Sequence[Any],
    config: UnlearnConfig,
    begin: Callable[[TopicBatches, FrozenPasses, Processes], WindowTraining],
    uses: Callable[[TopicBatches, int], Uses] = plain_uses,
) -> Trainings:
    """Run one training of the window, and give each of the settings its stage: the loop of every window method.

    Parameters
    ----------
    task
        the frozen model and the texts.
    configs
        the settings, which differ in nothing that the training depends on but their steps.
    config
        RMU's settings from which batches and frozen passes are made, with the most steps of all.
    begin
        makes the training from the batches, their frozen passes and the processes.
    uses
        the batches of each step.

    Raises
    ------
    RmuLabError, DivergedError
        as `train_window`.
    """
    clock, model = Clock(), task.model
    if task.recorded is not None:
        processes, (batches, passes) = SINGLE_PROCESS, task.recorded
    else:
        processes = launched_processes()
        batches = topic_batches(task.tokenizer, used_texts(task.texts, config.steps, config.batch_size), config)
        keys = [key for step in range(config.steps) for _, key in uses(batches, step)]
        passes = StreamedPasses(model, config, batches, processes, keys)
    shown = task.progress and processes.main_process
    history: list[dict[str, Any]] = []
    with frozen(model):
        training = begin(batches, passes, processes)
        for step in (bar := tqdm(range(config.steps), desc="unlearning", unit="step", delay=5, disable=not shown)):
            topic, parts = training.accumulate_gradients(step, uses(batches, step))
            numbers = training.read(parts)
            if not math.isfinite(numbers["loss"]):
                raise diverged(f"The loss is {numbers['loss']} at step {step + 1} of {config.steps}")
            history.append({"step": step + 1, "topic": topic, **numbers})
            bar.set_postfix(loss=f"{numbers['loss']:.4g}", refresh=False)
            training.update()
            stopped = task.stopped_by(history[-1])
            if finished := finished_stages(configs, step + 1, stopped):
                edit = training.edit()
                if not all(matrix.isfinite().all() for matrix in edit.values()):  # no later loss would show it
                    raise diverged(f"The trained matrices are not finite after step {step + 1}")
                for each in finished:
                    with clock.paused() as seconds:
                        yield Training(each, training.finish(edit, each), training.directions, list(history), seconds)
            if stopped:
                break


@dataclass(frozen=True)
class FrozenBatch:
    """A process's share of a batch, and what the frozen model makes of it."""

    share: BatchShare
    passed: FrozenPass
    """On the window's device, as the next."""
    counted: Tensor
    """Tokens that enter losses and norms, (batch, tokens) bool."""


class WindowTraining:
    """One training of the window, step by step; the model is to be `activations.frozen` meanwhile.

    It is RMU's. A method that differs from RMU in some parts overrides these: the target (`target_norm`), the loss
    (`loss`), its gradient (`add_gradients`), the step (`update`), the record (`forget_metrics`) or the edit (`finish`).
    """

    summed: ClassVar[tuple[str, ...]] = ("forget", "retain")
    """Uses whose losses add up to the loss of a step."""

    def __init__(
        self,
        model: PreTrainedModel,
        config: UnlearnConfig,
        batches: TopicBatches,
        passes: FrozenPasses,
        processes: Processes = SINGLE_PROCESS,
        steering: Steering | None = None,
    ) -> None:
        steering = steering or Steering()
        self.model, self.config, self.batches, self.passes, self.processes = model, config, batches, passes, processes
        self.names = window_parameters(model, config)
        self.blocks = window_blocks(model, config.window)
        self.masters = master_copies(self.blocks, self.names)
        self.matrices = [matrix for block in self.masters.values() for matrix in block.values()]
        self.working = working_copies(self.masters, model.dtype)
        self.device = self.matrices[0].device
        self.directions = given_or_drawn(model, config, topics_of(batches), steering.directions)
        self.optimizer = torch.optim.AdamW(
            self.matrices,
            lr=config.lr,
            eps=config.adam_epsilon,
            weight_decay=0.0,
            # One pass over each matrix, without the copies of all matrices that its other form makes; not on "meta".
            fused=self.device.type in ("cpu", "cuda", "mps") or None,
        )
        self.u = {topic: u.to(self.device) for topic, u in self.directions.items()}
        self._objectives = {
            "forget": steering.forget_objective or steering_objective,
            "retain": steering.retain_objective or steering_objective,
        }
        self._run = torch.compile(run_window) if steering.compile_window else run_window
        self._first_batch_norm: dict[str, Tensor] = {}

    # -- a step --------------------------------------------------------------------------------------------------------

    def accumulate_gradients(self, step: int, uses: Uses | None = None) -> tuple[str, dict[str, Tensor]]:
        """Compute the gradients of a step (from 0); return its topic, and its numbers on the device, not yet read."""
        parts: dict[str, Tensor] = {}
        self.optimizer.zero_grad()
        # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
        for use, key in plain_uses(self.batches, step) if uses is None else uses:
            self.add_gradients(step, use, key, self.frozen_batch(key), parts)
        self.processes.all_reduce(matrix.grad for matrix in self.matrices if matrix.grad is not None)
        return key[1], parts

    def frozen_batch(self, key: BatchKey) -> FrozenBatch:
        """Return this process's share of a batch with its frozen pass; to be asked for once, in the order of the steps."""
        share = batch_share(self.batches, key, self.config, self.processes)
        batch = share.batch.to(input_device(self.model))
        counted = counted_tokens(batch, self.config).to(self.device)
        return FrozenBatch(share, self.passes(key, batch).to(self.device), counted)

    def add_gradients(self, step: int, use: str, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> None:
        """Add a batch's part to the gradients of the step, and its numbers to `parts`."""
        self.backward(step, use, key[1], given, parts)

    def backward(self, step: int, use: str, topic: str, given: FrozenBatch, parts: dict[str, Tensor]) -> None:
        """Add the gradients of a batch's loss at the present matrices, and its numbers to `parts`."""
        batch = self._window_batch(step, use, topic, given, parts)
        loss = self.loss(step, use, topic, batch)
        share = given.share
        loss = loss * (share.text_fraction if self.config.loss_per == "text" else share.token_fraction)
        parts[f"{use}_loss"] = loss.detach()
        loss.backward()
        self.collect_gradients()

    def hidden(self, given: FrozenBatch) -> Tensor:
        """Run the window on a batch: h^(l) of the model in training, (batch, tokens, d)."""
        return self._run(self.model, given.passed, self.config.window, self.working, self.blocks)

    def loss(self, step: int, use: str, topic: str, batch: WindowBatch) -> Tensor:
        """Return the loss of a batch with its weight, a scalar: a mean over the counted tokens."""
        if use == "forget":
            return self._objectives["forget"](batch, self.config)
        return self.config.alpha * self._objectives["retain"](batch, self.config)

    def target_norm(self, topic: str, frozen_output: Tensor, counted: Tensor) -> Tensor:
        """Return s, the norm to steer to, broadcastable to (batch, tokens, 1): c, or beta times the frozen norm (Eq 24)."""
        return target_norm(self.config, frozen_output, counted, self._first_batch_norm.get(topic))

    def forget_metrics(self, topic: str, batch: WindowBatch, norm: Tensor) -> dict[str, Tensor]:
        """Return what the history tells of a forget batch besides its loss, each a mean over its counted tokens."""
        return _forget_metrics(batch.hidden.detach(), self.u[topic], norm, batch.counted)

    def collect_gradients(self) -> None:
        """Add what a backward pass left at the working copies to the float32 gradients."""
        for master, copy in self._copied():
            if copy.grad is not None:
                master.grad = copy.grad.float() if master.grad is None else master.grad.add_(copy.grad)
                copy.grad = None

    def _copied(self) -> list[tuple[Tensor, Tensor]]:
        """Each master with its working copy, where that is another tensor."""
        copies = [copy for block in self.working.values() for copy in block.values()]
        return [(master, copy) for master, copy in zip(self.matrices, copies, strict=True) if copy is not master]

    def _window_batch(self, step: int, use: str, topic: str, given: FrozenBatch, parts: dict[str, Tensor]) -> WindowBatch:
        """Run the window on a share; a forget batch's metrics are added to `parts`."""
        share, passed, counted = given.share, given.passed, given.counted
        hidden = self.hidden(given)
        if use != "forget":
            target = passed.output.float() + _retain_noise(self.config, step, share, hidden)
            return WindowBatch(hidden, target, passed.output, counted)
        if self.config.norm_per == "first batch" and topic not in self._first_batch_norm:
            norm = share.token_fraction * token_mean(token_norms(hidden.detach()), counted)
            self.processes.all_reduce([norm])
            self._first_batch_norm[topic] = norm
        norm = self.target_norm(topic, passed.output, counted)
        batch = WindowBatch(hidden, norm * self.u[topic], passed.output, counted)
        parts |= {name: share.token_fraction * value for name, value in self.forget_metrics(topic, batch, norm).items()}
        return batch

    def read(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """Return all numbers of a step, of all processes, in one transfer from the device, with their sum `loss` first."""
        values = torch.stack(list(parts.values()))
        self.processes.all_reduce([values])
        named = dict(zip(parts, values.tolist(), strict=True))
        return {"loss": sum(named[f"{use}_loss"] for use in self.summed if f"{use}_loss" in named), **named}

    def update(self) -> None:
        """Take AdamW's step, and let the window compute with its outcome."""
        self.optimizer.step()
        self.refresh()

    def refresh(self) -> None:
        """Let the window compute with the matrices as they are now."""
        with torch.no_grad():
            for master, copy in self._copied():
                copy.copy_(master)

    def finish(self, edit: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
        """Return what of the trained matrices becomes the edit of these settings."""
        return edit

    def edit(self) -> dict[str, Tensor]:
        """Return copies of the trained matrices on the CPU, by their full parameter names in the model."""
        prefix = {id(module): name for name, module in self.model.named_modules()}
        blocks = decoder_blocks(self.model)
        return {
            f"{prefix[id(blocks[index])]}.{name}": matrix.detach().to("cpu", copy=True)
            for index, matrices in self.masters.items()
            for name, matrix in matrices.items()
        }


def window_parameters(model: PreTrainedModel, config: UnlearnConfig) -> dict[int, tuple[str, ...]]:
    """Return, by block of the window, the names of its trained matrices.

    Raises
    ------
    RmuLabError
        if the layer does not fit the model, or a block lacks the named parameters.
    """
    n_blocks = len(decoder_blocks(model))
    if not 2 <= config.layer < n_blocks:
        raise RmuLabError(
            f"layer is {config.layer}, but it and the two below are trained and the model has blocks 0 .. {n_blocks - 1}; "
            f"choose a layer from 2 to {n_blocks - 1}."
        )
    return block_parameters(model, config.window, config.parameters)


def master_copies(blocks: Mapping[int, nn.Module], names: dict[int, tuple[str, ...]]) -> dict[int, dict[str, Tensor]]:
    """Return float32 copies of the trained matrices, by block and by name inside it, asking for gradients.

    Float32 whatever the model's type: an AdamW step is often smaller than bfloat16 can resolve.
    """
    return {
        index: {
            name: blocks[index].get_parameter(name).detach().to(torch.float32, copy=True).requires_grad_()
            for name in block_names
        }
        for index, block_names in names.items()
    }


def working_copies(masters: dict[int, dict[str, Tensor]], dtype: torch.dtype) -> dict[int, dict[str, Tensor]]:
    """The matrices as the model computes with them: the masters themselves in float32, else copies, made once and refreshed.

    Their gradients are then added to the masters' by hand: autograd would make all copies anew at every pass.
    """

    def copy(master: Tensor) -> Tensor:
        return master if master.dtype == dtype else master.detach().to(dtype).requires_grad_()

    return {index: {name: copy(matrix) for name, matrix in block.items()} for index, block in masters.items()}


def given_or_drawn(
    model: PreTrainedModel, config: UnlearnConfig, topics: list[str], given: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """Return u of each topic, (d,) float32 on the CPU: those that were given, if they fit, else drawn from the seed."""
    size = model.config.get_text_config(decoder=True).hidden_size
    if given is None:
        return random_directions(topics, size, config.seed, config.direction)
    if set(given) != set(topics):
        raise RmuLabError(f"directions has the topics {list(given)}, forget {topics}; give one direction for each topic.")
    chosen = {topic: given[topic].detach().to("cpu", torch.float32) for topic in topics}
    for topic, u in chosen.items():
        if u.shape != (size,) or not u.isfinite().all():
            raise RmuLabError(f"directions[{topic!r}] has the shape {tuple(u.shape)}; give {size} finite numbers.")
        if not math.isclose(u.norm().item(), 1.0, rel_tol=1e-3):
            raise RmuLabError(f"directions[{topic!r}] has length {u.norm().item():.4g}; divide it by its length.")
    return chosen


def target_norm(config: UnlearnConfig, frozen_output: Tensor, counted: Tensor, of_first_batch: Tensor | None) -> Tensor:
    """Return s, the norm to steer to, broadcastable to (batch, tokens, 1): c, or beta times the frozen norm (Eq 24)."""
    if config.method == "rmu":
        return frozen_output.new_full((), config.coefficient, dtype=torch.float32)
    if of_first_batch is not None:
        return config.beta * of_first_batch
    norms = token_norms(frozen_output)
    if config.norm_per == "text":
        norms = masked_mean(norms, counted)[:, None]
    return config.beta * norms[..., None]


def _retain_noise(config: UnlearnConfig, step: int, share: BatchShare, like: Tensor) -> Tensor | float:
    """Drawn for the whole batch on the CPU from seed and step: the same on every device and for any number of processes."""
    if not config.retain_noise:
        return 0.0
    generator = torch_generator(config.seed, "retain noise", step)
    noise = torch.randn((share.batch_size, *like.shape[1:]), generator=generator)[share.rows]
    return config.retain_noise * noise.to(like.device)


def _forget_metrics(hidden: Tensor, u: Tensor, norm: Tensor, counted: Tensor) -> dict[str, Tensor]:
    norms = token_norms(hidden)
    return {
        "forget_norm": token_mean(norms, counted),
        "target_norm": token_mean(norm.expand(*counted.shape, 1)[..., 0], counted),
        "cosine": token_mean((hidden.float() @ u) / norms.clamp(min=1e-12), counted),
    }


def diverged(what: str) -> DivergedError:
    """Return the error that ends a training whose numbers are not finite; `what` says which."""
    return DivergedError(f"{what}; lower lr, alpha or the target norm, or use float32. The model was not changed.")

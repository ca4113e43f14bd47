"""The window trainer: RMU and Adaptive RMU without a second model and without the blocks above the steered one.

Only blocks l-2 .. l are trained, and the losses live at the output of block l. So each batch goes through the frozen
model once, up to block l (`activations.run_frozen`): that gives the input of block l-2, the retain target and the
adaptive norm. Then the window alone runs again, with float32 copies of its trained matrices in place of the model's, and
gradients reach no further down. The model itself is never written to. Taught in notebooks 04 and 05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..activations import frozen, run_window, window_blocks
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
    clock = Clock()
    config, model = max(configs, key=lambda each: each.steps), task.model
    if task.recorded is not None:
        processes, (batches, passes) = SINGLE_PROCESS, task.recorded
    else:
        processes = launched_processes()
        batches = topic_batches(task.tokenizer, used_texts(task.texts, config.steps, config.batch_size), config)
        passes = StreamedPasses(model, config, batches, processes)
    shown = task.progress and processes.main_process
    history: list[dict[str, Any]] = []
    with frozen(model):
        training = WindowTraining(model, config, batches, passes, processes, task.steering)
        for step in (bar := tqdm(range(config.steps), desc="unlearning", unit="step", delay=5, disable=not shown)):
            topic, parts = training.accumulate_gradients(step)
            numbers = training.read(parts)
            if not math.isfinite(numbers["loss"]):
                raise _diverged(f"The loss is {numbers['loss']} at step {step + 1} of {config.steps}")
            history.append({"step": step + 1, "topic": topic, **numbers})
            bar.set_postfix(loss=f"{numbers['loss']:.4g}", refresh=False)
            training.update()
            stopped = task.stopped_by(history[-1])
            if finished := finished_stages(configs, step + 1, stopped):
                edit = training.edit()
                if not all(matrix.isfinite().all() for matrix in edit.values()):  # no later loss would show it
                    raise _diverged(f"The trained matrices are not finite after step {step + 1}")
                for each in finished:
                    with clock.paused() as seconds:
                        yield Training(each, edit, training.directions, list(history), seconds)
            if stopped:
                break


class WindowTraining:
    """One training of the window, step by step; the model is to be `activations.frozen` meanwhile."""

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
        names = window_parameters(model, config)
        self.blocks = window_blocks(model, config.window)
        self.masters = master_copies(self.blocks, names)
        self.matrices = [matrix for block in self.masters.values() for matrix in block.values()]
        self.working = working_copies(self.masters, model.dtype)
        self.device = self.matrices[0].device
        self.directions = _directions(model, config, topics_of(batches), steering.directions)
        self.optimizer = torch.optim.AdamW(
            self.matrices,
            lr=config.lr,
            eps=config.adam_epsilon,
            weight_decay=0.0,
            # One pass over each matrix, without the copies of all matrices that its other form makes; not on "meta".
            fused=self.device.type in ("cpu", "cuda", "mps") or None,
        )
        self._u = {topic: u.to(self.device) for topic, u in self.directions.items()}
        self._objectives = {
            "forget": steering.forget_objective or steering_objective,
            "retain": steering.retain_objective or steering_objective,
        }
        self._run = torch.compile(run_window) if steering.compile_window else run_window
        self._first_batch_norm: dict[str, Tensor] = {}

    def accumulate_gradients(self, step: int) -> tuple[str, dict[str, Tensor]]:
        """Compute the gradients of a step (from 0); return its topic, and its numbers on the device, not yet read."""
        parts: dict[str, Tensor] = {}
        self.optimizer.zero_grad()
        # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
        for key in step_keys(self.batches, step):
            role, _, _ = key
            share = batch_share(self.batches, key, self.config, self.processes)
            batch = self._window_batch(step, key, share, parts)
            loss = self._objectives[role](batch, self.config)
            if role == "retain":
                loss = self.config.alpha * loss
            loss = loss * (share.text_fraction if self.config.loss_per == "text" else share.token_fraction)
            parts[f"{role}_loss"] = loss.detach()
            loss.backward()
            self._collect_gradients()
        self.processes.all_reduce(matrix.grad for matrix in self.matrices if matrix.grad is not None)
        return key[1], parts

    def _collect_gradients(self) -> None:
        """Add what a backward pass left at the working copies to the float32 gradients."""
        for master, copy in self._copied():
            if copy.grad is not None:
                master.grad = copy.grad.float() if master.grad is None else master.grad.add_(copy.grad)
                copy.grad = None

    def _copied(self) -> list[tuple[Tensor, Tensor]]:
        """Each master with its working copy, where that is another tensor."""
        copies = [copy for block in self.working.values() for copy in block.values()]
        return [(master, copy) for master, copy in zip(self.matrices, copies, strict=True) if copy is not master]

    def _window_batch(self, step: int, key: BatchKey, share: BatchShare, parts: dict[str, Tensor]) -> WindowBatch:
        """Run the frozen model and the window on a share; a forget batch's metrics are added to `parts`."""
        role, topic, _ = key
        batch = share.batch.to(input_device(self.model))
        counted = counted_tokens(batch, self.config).to(self.device)
        passed = self.passes(key, batch).to(self.device)
        hidden = self._run(self.model, passed, self.config.window, self.working, self.blocks)
        if role == "retain":
            target = passed.output.float() + _retain_noise(self.config, step, share, hidden)
            return WindowBatch(hidden, target, passed.output, counted)
        if self.config.norm_per == "first batch" and topic not in self._first_batch_norm:
            norm = share.token_fraction * token_mean(token_norms(hidden.detach()), counted)
            self.processes.all_reduce([norm])
            self._first_batch_norm[topic] = norm
        norm = _target_norm(self.config, passed.output, counted, self._first_batch_norm.get(topic))
        metrics = _forget_metrics(hidden.detach(), self._u[topic], norm, counted)
        parts |= {name: share.token_fraction * value for name, value in metrics.items()}
        return WindowBatch(hidden, norm * self._u[topic], passed.output, counted)

    def read(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """Return all numbers of a step, of all processes, in one transfer from the device, with their sum `loss` first."""
        values = torch.stack(list(parts.values()))
        self.processes.all_reduce([values])
        named = dict(zip(parts, values.tolist(), strict=True))
        return {"loss": named["forget_loss"] + named["retain_loss"], **named}

    def update(self) -> None:
        """Take AdamW's step, and let the window compute with its outcome."""
        self.optimizer.step()
        with torch.no_grad():
            for master, copy in self._copied():
                copy.copy_(master)

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


def _directions(
    model: PreTrainedModel, config: UnlearnConfig, topics: list[str], given: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
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


def _target_norm(config: UnlearnConfig, frozen_output: Tensor, counted: Tensor, of_first_batch: Tensor | None) -> Tensor:
    """s, the norm to steer to, broadcastable to (batch, tokens, 1): c, or beta times the frozen norm (Eq 24)."""
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


def _diverged(what: str) -> DivergedError:
    return DivergedError(f"{what}; lower lr, alpha or the target norm, or use float32. The model was not changed.")

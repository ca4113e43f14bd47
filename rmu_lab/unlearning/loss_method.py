"""Methods that train matrices of all blocks by a loss on logits: their base class and their one training loop.

The model in training is the frozen one with float32 copies of the trained matrices in their place, so the model itself
is never written to, and stays at hand as the reference that NPO, LLMU and SCRUB compare with: no second copy. Taught in
notebook 08.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..activations import frozen
from ..corpora import TokenBatch, token_batches
from ..models import input_device
from ..torch_state import in_default_torch_state
from .all_blocks import AllBlocksConfig, changed_parameters, shuffled
from .batches import BatchKey, TopicBatches, recurring, step_keys
from .objectives import ScoredBatch, targets_of
from .task import Clock, DivergedError, Task, Training, Trainings, finished_stages

REFERENCE_BYTES = 2 * 1024**3
"""Reference logits kept for texts that come round again, at most; above that they are computed anew."""

Scored = tuple[TokenBatch, Tensor, Tensor]
"""A batch, (batch, tokens); the token to predict at each place but the last; and which of these are scored."""


@dataclass(frozen=True)
class LossMethod(AllBlocksConfig):
    """Base of the settings of methods that train by a loss on logits: extend it, and define `loss`.

    AdamW without weight decay; each step takes one forget and one retain batch of one topic, topics taking turns. The
    guide shows a whole method of one's own (docs/guide/own_method.md)::

        @register_method
        @dataclass(frozen=True)
        class MyMethod(LossMethod):
            method: ClassVar[str] = "my_method"

            def loss(self, role, batch):
                return -batch.cross_entropy if role == "forget" else batch.cross_entropy
    """

    lr: float = 1e-4
    steps: int = 20
    batch_size: int = 4
    """Texts in a forget batch, and in a retain batch."""

    reference_roles: ClassVar[frozenset[str]] = frozenset()
    """Batches on which the loss compares with the model before training: `ScoredBatch.reference` is given for these."""

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return the loss on one batch, its weight included, as a scalar.

        Parameters
        ----------
        role
            ``"forget"``, ``"retain"``, or another that `updates` names.
        batch
            logits with their targets; see `ScoredBatch` for what can be computed from them.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Return AdamW's updates of a step (from 0): for each, the batches whose losses add up. By default one, of both."""
        return (("forget", "retain"),)

    def compose(self, role: str, batches: Mapping[str, TokenBatch]) -> Scored:
        """Return the batch of a role, made of the step's forget and retain batch."""
        return (batches[role], *targets_of(batches[role]))

    def work_key(self) -> Hashable:
        """Return the settings without their steps: a shorter training is the beginning of a longer one.

        Return ``self`` in a method whose loss depends on how many steps there are.
        """
        return dataclasses.replace(self, steps=1)

    @staticmethod
    @in_default_torch_state
    def train(task: Task, configs: Sequence[LossMethod]) -> Trainings:
        """Train once for settings that differ in `steps` only, and give each its stage, in ascending order.

        The trainings have no directions. Their histories have ``step``, ``topic``, ``loss`` and, for each kind of batch,
        its loss with its weight (``forget_loss``, ``retain_loss``, LLMU's ``mismatched_loss``) and its plain cross-entropy
        in nats a token (``forget_nll``, ``retain_nll``), all before that step's update (SCRUB's retain numbers: before
        the second). Seconds do not count what the caller does in between.

        Raises
        ------
        DivergedError
            if a loss or a trained matrix is not finite; the message names the step.
        """
        clock = Clock()
        config = max(configs, key=lambda each: each.steps)
        task.without_steering(config)
        loop = _Loop(task, config)
        history: list[dict[str, Any]] = []
        bar = tqdm(range(config.steps), desc=config.method, unit="step", delay=5, disable=not task.progress)
        with frozen(task.model):
            for step in bar:
                history.append(loop.step(step))
                stopped = task.stopped_by(history[-1])
                if finished := finished_stages(configs, step + 1, stopped):
                    edit = loop.edit(step)
                    for each in finished:
                        with clock.paused() as seconds:
                            yield Training(each, edit, {}, list(history), seconds)
                if stopped:
                    break


class _Loop:
    """One training: matrices, optimiser and batches."""

    def __init__(self, task: Task, config: LossMethod) -> None:
        self.model, self.config = task.model, config
        self.batches: TopicBatches = {
            key: token_batches(task.tokenizer, shuffled(corpus, config.seed, key), config.batch_size, config.max_length)
            for key, corpus in task.texts.items()
        }
        self.masters = {
            name: task.model.get_parameter(name).detach().to(torch.float32, copy=True).requires_grad_()
            for name in changed_parameters(task.model, config)
        }
        self.optimizer = torch.optim.AdamW(self.masters.values(), lr=config.lr, weight_decay=0.0, fused=True)
        self.reference = _ReferenceLogits(task.model, self.batches, config.steps)

    def step(self, step: int) -> dict[str, Any]:
        """Take a step (from 0) and return its record."""
        keys = dict(zip(("forget", "retain"), step_keys(self.batches, step), strict=True))
        batches = {role: self.batches[key[:2]][key[2]].to(input_device(self.model)) for role, key in keys.items()}
        parts: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for roles in self.config.updates(step):
            self.optimizer.zero_grad()
            # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
            for role in roles:
                batch, targets, scored = self.config.compose(role, batches)
                before = self.reference(keys.get(role), batch) if role in self.config.reference_roles else None
                # Cast anew for every pass, whose backward frees its graph; in float32 nothing is copied.
                cast = {name: master.to(self.model.dtype) for name, master in self.masters.items()}
                given = ScoredBatch(next_token_logits(self.model, batch, cast), targets, scored, before)
                value = self.config.loss(role, given)
                value.backward()
                parts[f"{role}_loss"] = value.detach()
                if role in keys:
                    parts[f"{role}_nll"] = dataclasses.replace(given, logits=given.logits.detach()).cross_entropy
            numbers = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))
            if not all(map(math.isfinite, numbers.values())):
                raise _diverged(f"A loss is {numbers} at step {step + 1}")
            self.optimizer.step()
        total = sum(value for name, value in numbers.items() if name.endswith("_loss"))
        return {"step": step + 1, "topic": keys["forget"][1], "loss": total, **numbers}

    def edit(self, step: int) -> dict[str, Tensor]:
        """Return the matrices as they are after a step."""
        edit = {name: master.detach().to("cpu", copy=True) for name, master in self.masters.items()}
        if not all(matrix.isfinite().all() for matrix in edit.values()):  # no later loss may show it
            raise _diverged(f"The trained matrices are not finite after step {step + 1}")
        return edit


def next_token_logits(model: PreTrainedModel, batch: TokenBatch, matrices: Mapping[str, Tensor]) -> Tensor:
    """Return the logits for every token but the first of each text, with these matrices in place of the model's.

    (batch, tokens - 1, vocabulary) float32.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    return functional_call(model, dict(matrices), (), inputs).logits[:, :-1].float()


class _ReferenceLogits:
    """The frozen model's logits, kept up to a budget for batches that will come round again."""

    def __init__(self, model: PreTrainedModel, batches: TopicBatches, steps: int) -> None:
        self.model = model
        self.recurring = recurring(batches, steps)
        self.kept: dict[BatchKey, Tensor] = {}
        self.bytes = 0

    def __call__(self, key: BatchKey | None, batch: TokenBatch) -> Tensor:
        if key in self.kept:
            return self.kept[key]
        with torch.no_grad():
            logits = next_token_logits(self.model, batch, {})
        if key is not None and key[:2] in self.recurring and self.bytes + logits.nbytes <= REFERENCE_BYTES:
            self.kept[key] = logits
            self.bytes += logits.nbytes
        return logits


def _diverged(what: str) -> DivergedError:
    return DivergedError(f"{what}; lower lr, or give the retain loss more weight. The model was not changed.")

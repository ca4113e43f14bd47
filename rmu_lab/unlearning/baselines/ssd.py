"""Selective synaptic dampening, Foster et al. 2024 (arXiv 2308.07707). Taught in notebook 08."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ...corpora import TokenBatch, token_batches
from ...models import input_device
from ..all_blocks import shuffled
from ..edit_method import EditMethod
from ..objectives import log_probabilities, targets_of
from ..task import Task


@dataclass(frozen=True)
class SSD(EditMethod):
    """Selective synaptic dampening, Foster et al. 2024 (arXiv 2308.07707): no training.

    F and R are diagonals of the Fisher information, ``E (d log p(x) / d theta_i)^2``, on forget and on retain texts::

        theta_i <- min(dampening * R_i / F_i, 1) * theta_i    where F_i > threshold * R_i

    Their R is taken over all training data; that of a language model is stood in for by the retain texts. They call
    `threshold` alpha and `dampening` lambda. The history is one entry with ``dampened``, the share of entries made smaller.
    """

    threshold: float = 10.0
    dampening: float = 1.0
    texts: int = 32
    """Of each corpus, on which the importances are measured, one text at a time."""

    method: ClassVar[str] = "ssd"

    def work_key(self) -> Hashable:
        """Return the settings without threshold and dampening, before which the importances are measured."""
        return dataclasses.replace(self, threshold=1.0, dampening=1.0)

    def prepare(self, task: Task, names: list[str]) -> list[dict[str, Tensor]]:
        """Return the importances of the named parameters on forget and on retain texts."""
        measured = []
        for role in ("forget", "retain"):
            drawn = shuffled(task.texts_of(role), self.seed, (role, ""))[: self.texts]
            batches = token_batches(task.tokenizer, drawn, 1, self.max_length)
            measured.append(importances(task.model, names, batches, task.progress))
        return measured

    def edit(self, task: Task, names: list[str], prepared: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return the dampened parameters, and the share of entries made smaller."""
        forget, retain = prepared
        edit, share = dampen(task.model, forget, retain, self)
        return edit, {"dampened": share}


def importances(
    model: PreTrainedModel, names: Sequence[str], batches: Sequence[TokenBatch], progress: bool = True
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information, ``E (d log p(x) / d theta_i)^2``, of the named parameters.

    Parameters
    ----------
    model
        frozen (`rmu_lab.activations.frozen`); unchanged on return.
    batches
        of one text each, since the square is of each text's own gradient.
    """
    parameters = {name: model.get_parameter(name) for name in names}
    total = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        for batch in tqdm(batches, desc="importances", unit="text", delay=5, disable=not progress):
            batch = batch.to(input_device(model))
            targets, scored = targets_of(batch)
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            (log_probabilities(logits[:, :-1].float(), targets) * scored).sum().backward()
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    total[name].addcmul_(parameter.grad.float(), parameter.grad.float(), value=1 / len(batches))
                    parameter.grad = None
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False).grad = None
    return total


def factors(forget: Tensor, retain: Tensor, threshold: float, dampening: float) -> Tensor:
    """Return what each entry is multiplied with: ``min(dampening * R / F, 1)`` where ``F > threshold * R``, elsewhere 1."""
    chosen = forget > threshold * retain
    return torch.where(chosen, (dampening * retain / forget).clamp(max=1), 1.0)


def dampen(
    model: PreTrainedModel, forget: Mapping[str, Tensor], retain: Mapping[str, Tensor], config: SSD
) -> tuple[dict[str, Tensor], float]:
    """Return the parameters named in the importances `forget` and `retain`, dampened; and the share of entries made smaller.

    The parameters are float32 on the CPU; the model is unchanged.
    """
    edit, smaller, count = {}, 0, 0
    for name, importance in forget.items():
        factor = factors(importance, retain[name], config.threshold, config.dampening)
        edit[name] = (model.get_parameter(name).detach().float() * factor).cpu()
        smaller += int((factor < 1).sum())
        count += factor.numel()
    return edit, smaller / count

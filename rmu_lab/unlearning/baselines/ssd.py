"""Selective synaptic dampening, Foster et al. 2024 (arXiv 2308.07707). Taught in notebook 08."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ...corpora import TokenBatch
from .config import SSD
from .losses import log_probabilities, targets_of


def importances(
    model: PreTrainedModel, names: Sequence[str], batches: Sequence[TokenBatch], progress: bool = True
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information, ``E (d log p(x) / d theta_i)^2``, of the named parameters.

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
            batch = batch.to(model.device)
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
    """What each entry is multiplied with: ``min(dampening * R / F, 1)`` where ``F > threshold * R``, elsewhere 1."""
    chosen = forget > threshold * retain
    return torch.where(chosen, (dampening * retain / forget).clamp(max=1), 1.0)


def dampen(
    model: PreTrainedModel, forget: Mapping[str, Tensor], retain: Mapping[str, Tensor], config: SSD
) -> tuple[dict[str, Tensor], float]:
    """The parameters named in the importances `forget` and `retain`, dampened; and the share of entries made smaller.

    The parameters are float32 on the CPU; the model is unchanged.
    """
    edit, smaller, count = {}, 0, 0
    for name, importance in forget.items():
        factor = factors(importance, retain[name], config.threshold, config.dampening)
        edit[name] = (model.get_parameter(name).detach().float() * factor).cpu()
        smaller += int((factor < 1).sum())
        count += factor.numel()
    return edit, smaller / count

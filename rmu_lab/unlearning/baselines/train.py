"""One training loop for every baseline that trains. Taught in notebook 08.

The model in training is the frozen one with float32 copies of the trained matrices in their place, so the model itself
is never written to, and stays at hand as the reference that NPO, LLMU and SCRUB compare with: no second copy.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...activations import frozen
from ...corpora import TokenBatch, token_batches
from ...models import block_parameters, decoder_blocks
from ...provenance import provenance
from ..result import UnlearnResult
from ..unlearn import BatchKey, DivergedError, TopicBatches, corpus_digests, step_keys, topic_texts
from .config import SSD, Baseline, TrainedBaseline
from .losses import Seen, loss, mismatched, next_token_loss, targets_of
from .ssd import dampen, importances

if TYPE_CHECKING:
    from ..unlearn import Texts

REFERENCE_BYTES = 2 * 1024**3
"""Frozen logits kept for texts that come round again, at most; above that they are computed anew."""


def unlearn_baseline(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: Baseline,
    *,
    progress: bool = True,
) -> UnlearnResult:
    """What `unlearn` does when it is given a baseline's settings; parameters and errors as there.

    The result has no directions. Its history has ``step``, ``topic``, ``loss`` and, for each kind of batch, its loss
    with its weight (``forget_loss``, ``retain_loss``, LLMU's ``mismatched_loss``) and its plain cross-entropy in nats a
    token (``forget_nll``, ``retain_nll``), all before that step's update (SCRUB's retain numbers: before the second).
    SSD's history is one entry with ``dampened``, the share of entries made smaller.
    """
    if isinstance(config, SSD):
        (result,) = dampenings(model, tokenizer, forget, retain, [config], progress=progress)
        return result
    (result,) = checkpoints(model, tokenizer, forget, retain, config, [config.steps], progress=progress)
    return result


def checkpoints(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: TrainedBaseline,
    at: Sequence[int],
    *,
    progress: bool = True,
) -> Iterator[UnlearnResult]:
    """The result after each of these numbers of steps, ascending, from one training: what as many trainings would give.

    Parameters and errors as for `unlearn`; ``config.steps`` is replaced by each number of `at`. Seconds do not count
    what the caller does between results.
    """
    start = time.perf_counter()
    texts = topic_texts(forget, retain, config.batch_size)
    batches = {
        key: token_batches(tokenizer, _shuffled(of_one, config.seed, key), config.batch_size, config.max_length)
        for key, of_one in texts.items()
    }
    masters = {
        name: model.get_parameter(name).detach().to(torch.float32, copy=True).requires_grad_()
        for name in changed_names(model, config)
    }
    optimizer = torch.optim.AdamW(masters.values(), lr=config.lr, weight_decay=0.0, fused=True)
    reference = _Reference(model, batches, max(at))
    history = []
    bar = tqdm(range(max(at)), desc=config.method, unit="step", delay=5, disable=not progress)
    with frozen(model):
        for step in bar:
            history.append(_step(model, masters, optimizer, batches, config, step, reference))
            if step + 1 in at:
                edit = {name: master.detach().to("cpu", copy=True) for name, master in masters.items()}
                if not all(matrix.isfinite().all() for matrix in edit.values()):  # no later loss may show it
                    raise _diverged(f"The trained matrices are not finite after step {step + 1}")
                so_far = dataclasses.replace(config, steps=step + 1)
                result = _result(model, edit, list(history), so_far, corpus_digests(texts), start)
                paused = time.perf_counter()
                yield result
                start += time.perf_counter() - paused


def dampenings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    configs: Sequence[SSD],
    *,
    progress: bool = True,
) -> Iterator[UnlearnResult]:
    """SSD's result for each of the settings, which differ in `threshold` and `dampening` only, from the same importances.

    Parameters and errors as for `unlearn`.
    """
    start = time.perf_counter()
    config, texts = configs[0], topic_texts(forget, retain, 1)
    with frozen(model):
        names = changed_names(model, config)
        measured = []
        for role in ("forget", "retain"):
            of_all_topics = [text for key, of_one in texts.items() if key[0] == role for text in of_one]
            drawn = _shuffled(list(dict.fromkeys(of_all_topics)), config.seed, (role, ""))[: config.texts]
            measured.append(importances(model, names, token_batches(tokenizer, drawn, 1, config.max_length), progress))
        spent = time.perf_counter() - start  # on what they share; not on what the caller does between results
        for config in configs:
            start = time.perf_counter() - spent
            edit, share = dampen(model, *measured, config)
            history = [{"step": 1, "topic": "all", "dampened": share}]
            yield _result(model, edit, history, config, corpus_digests(texts), start)


def changed_names(model: PreTrainedModel, config: Baseline) -> list[str]:
    """Full names of the parameters that `config` lets change.

    Raises
    ------
    RmuLabError
        if a block lacks one of the names.
    """
    blocks = decoder_blocks(model)
    if config.parameters is not None:
        block_parameters(model, range(len(blocks)), config.parameters)
    wanted = {
        id(parameter)
        for block in blocks
        for name, parameter in block.named_parameters()
        if (parameter.ndim >= 2 if config.parameters is None else name in config.parameters)
    }
    return [name for name, parameter in model.named_parameters() if id(parameter) in wanted]


# ---------------------------------------------------------------------------------------------------------------------
# One step


def _step(
    model: PreTrainedModel,
    masters: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    batches: TopicBatches,
    config: TrainedBaseline,
    step: int,
    reference: _Reference,
) -> dict:
    keys = dict(zip(("forget", "retain"), step_keys(batches, step), strict=True))
    batch = {role: batches[key[:2]][key[2]].to(model.device) for role, key in keys.items()}
    parts: dict[str, Tensor] = {}
    for roles in config.updates(step):
        optimizer.zero_grad()
        # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
        for role in roles:
            if role == "mismatched":
                shown, scored = mismatched(batch["forget"], batch["retain"])
                targets = shown.input_ids[:, 1:]
            else:
                shown, (targets, scored) = batch[role], targets_of(batch[role])
            before = reference(keys[role], shown) if role in config.frozen_roles else None
            # Cast anew for every pass, whose backward frees its graph; in float32 nothing is copied.
            cast = {name: master.to(model.dtype) for name, master in masters.items()}
            seen = Seen(_logits(model, shown, cast), targets, scored, before)
            value = loss(config, role, seen)
            value.backward()
            parts[f"{role}_loss"] = value.detach()
            if role != "mismatched":
                parts[f"{role}_nll"] = next_token_loss(seen.logits.detach(), targets, scored)
        numbers = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))
        if not all(map(math.isfinite, numbers.values())):
            raise _diverged(f"A loss is {numbers} at step {step + 1}")
        optimizer.step()
    total = sum(value for name, value in numbers.items() if name.endswith("_loss"))
    return {"step": step + 1, "topic": keys["forget"][1], "loss": total, **numbers}


def _logits(model: PreTrainedModel, batch: TokenBatch, matrices: Mapping[str, Tensor]) -> Tensor:
    """(batch, tokens - 1, vocabulary) float32: for every token but the first of each text."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    return functional_call(model, dict(matrices), (), inputs).logits[:, :-1].float()


class _Reference:
    """The frozen model's logits, kept up to a budget for batches that will come round again."""

    def __init__(self, model: PreTrainedModel, batches: TopicBatches, steps: int) -> None:
        self.model = model
        of_a_topic = steps * 2 / len(batches)
        self.recurring = {key for key, of_one in batches.items() if of_a_topic > len(of_one)}
        self.kept: dict[BatchKey, Tensor] = {}
        self.bytes = 0

    def __call__(self, key: BatchKey, batch: TokenBatch) -> Tensor:
        if key in self.kept:
            return self.kept[key]
        with torch.no_grad():
            logits = _logits(self.model, batch, {})
        if key[:2] in self.recurring and self.bytes + logits.nbytes <= REFERENCE_BYTES:
            self.kept[key] = logits
            self.bytes += logits.nbytes
        return logits


# ---------------------------------------------------------------------------------------------------------------------
# Before and after


def _shuffled(texts: list[str], seed: int, key: tuple[str, str]) -> list[str]:
    return random.Random(f"{seed} {key}").sample(texts, len(texts))  # noqa: S311 - no secrets


def _result(
    model: PreTrainedModel, edit: dict[str, Tensor], history: list[dict], config: Baseline, digests: dict, start: float
) -> UnlearnResult:
    return UnlearnResult(
        edit=edit,
        directions={},
        history=history,
        config=config,
        model_name=model.name_or_path,
        digests=digests,
        provenance=provenance(config.seed),
        seconds=time.perf_counter() - start,
    )


def _diverged(what: str) -> DivergedError:
    return DivergedError(f"{what}; lower lr, or give the retain loss more weight. The model was not changed.")

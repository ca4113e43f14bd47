"""The window trainer: RMU and Adaptive RMU without a second model and without the blocks above the steered one.

Only blocks l-2 .. l are trained, and the losses live at the output of block l. So each batch goes
through the frozen model once, up to block l (`activations.run_frozen`): that gives the input of block
l-2, the retain target and the adaptive norm. Then the window alone runs again, with float32 copies of
its trained matrices in place of the model's, and gradients reach no further down. The model itself is
never written to. Taught in notebooks 04 and 05.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import FrozenPass, frozen, run_frozen, run_window
from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import RmuLabError
from ..files import digest
from ..models import block_parameters, decoder_blocks
from ..provenance import provenance
from .baselines.config import Baseline
from .config import UnlearnConfig
from .directions import random_directions
from .objectives import distance_loss, masked_mean, token_norms
from .result import UnlearnResult

if TYPE_CHECKING:
    from datasets import Dataset

    Texts = Dataset | Sequence[str]

TRUNK_CACHE_BYTES = 2 * 1024**3
"""Frozen activations kept for texts that come round again, at most; above that they are computed anew."""


def unlearn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: UnlearnConfig | Baseline | None = None,
    *,
    progress: bool = True,
) -> UnlearnResult:
    """Train an edit that makes `model` forget; the model itself is left as it is (see `UnlearnResult.apply`).

    Parameters
    ----------
    forget
        texts of the topic to forget, or several topics by name, each with its own direction; step i
        trains topic i mod n on its batch i // n. Texts are used in the order given, and come round
        again when they run out.
    retain
        texts of what must stay, or a mapping with the same topic names.
    config
        settings; the defaults suit SmolLM2-135M. Those of another method (`unlearning.baselines`: `NPO()`, ...) train
        by that method.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if the layer does not fit the model, a corpus is smaller than one batch, a block lacks the named
        parameters, or a loss is not finite (the message names the step). Nothing has changed then.
    """
    config = config or UnlearnConfig()
    if isinstance(config, Baseline):
        from .baselines.train import unlearn_baseline  # which needs this module

        return unlearn_baseline(model, tokenizer, forget, retain, config, progress=progress)
    start = time.perf_counter()
    names = trained_names(model, config)
    texts = topic_texts(forget, retain, config.batch_size)
    batches = topic_batches(tokenizer, texts, config)
    passes = _Trunks(model, config, batches)
    with frozen(model):
        return train(model, names, batches, config, passes, digests=corpus_digests(texts), start=start, progress=progress)


# ---------------------------------------------------------------------------------------------------------------------
# What `unlearn` and `sweep` share

TopicTexts = dict[tuple[str, str], list[str]]
"""Texts by role (``"forget"``, ``"retain"``) and topic; all forget topics first, in the order in which they are trained."""
TopicBatches = dict[tuple[str, str], list[TokenBatch]]
BatchKey = tuple[str, str, int]
"""Role, topic and number of a batch."""


def trained_names(model: PreTrainedModel, config: UnlearnConfig) -> dict[int, tuple[str, ...]]:
    """By block of the window, the names of its trained matrices.

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


def topic_texts(forget: Texts | Mapping[str, Texts], retain: Texts | Mapping[str, Texts], at_least: int) -> TopicTexts:
    """The texts of both corpora by role and topic; one retain corpus serves every topic.

    Raises
    ------
    RmuLabError
        if a corpus has fewer than `at_least` texts (one batch), or the two name different topics.
    """
    forget_texts = _by_topic(forget, "forget", at_least)
    retain_texts = _by_topic(retain, "retain", at_least)
    if not isinstance(retain, Mapping):
        retain_texts = dict.fromkeys(forget_texts, retain_texts["retain"])
    if set(retain_texts) != set(forget_texts):
        raise RmuLabError(f"forget has the topics {list(forget_texts)}, retain {list(retain_texts)}; give the same names.")
    return {
        (role, topic): texts
        for role, texts_by_topic in (("forget", forget_texts), ("retain", retain_texts))
        for topic, texts in texts_by_topic.items()
    }


def topic_batches(tokenizer: PreTrainedTokenizerBase, texts: TopicTexts, config: UnlearnConfig) -> TopicBatches:
    """The token batches of every role and topic, cut and padded as `config` says."""
    return {
        key: token_batches(tokenizer, of_one, config.batch_size, config.max_length, config.padding_side)
        for key, of_one in texts.items()
    }


def corpus_digests(texts: TopicTexts) -> dict[str, str]:
    """SHA-256 of each corpus, by role and topic."""
    return {f"{role} {topic}": digest(of_one) for (role, topic), of_one in texts.items()}


def step_keys(batches: TopicBatches, step: int) -> tuple[BatchKey, BatchKey]:
    """The forget and the retain batch of a step (from 0): topics take turns, batches come round again."""
    topics = [topic for role, topic in batches if role == "forget"]
    topic, index = topics[step % len(topics)], step // len(topics)
    forget, retain = ((role, topic, index % len(batches[role, topic])) for role in ("forget", "retain"))
    return forget, retain


def _by_topic(corpus: Texts | Mapping[str, Texts], role: str, at_least: int) -> dict[str, list[str]]:
    if isinstance(corpus, Mapping):
        if not corpus:
            raise RmuLabError(f"{role} has no topics; give at least one.")
        return {topic: texts_of(texts, f"{role}[{topic!r}]", at_least) for topic, texts in corpus.items()}
    return {role: texts_of(corpus, role, at_least)}


def train(
    model: PreTrainedModel,
    names: dict[int, tuple[str, ...]],
    batches: TopicBatches,
    config: UnlearnConfig,
    passes: Callable[[BatchKey, TokenBatch], FrozenPass],
    *,
    digests: dict[str, str],
    start: float,
    progress: bool,
) -> UnlearnResult:
    """The training loop.

    `passes` gives the frozen model's pass over a batch that is on the model's device; the model is to be `frozen`.
    The result carries `digests`, and the seconds since `start` on the clock of `time.perf_counter`.

    Raises
    ------
    DivergedError
        if a loss or a trained matrix is not finite; the message names the step.
    """
    topics = [topic for role, topic in batches if role == "forget"]
    size = model.config.get_text_config(decoder=True).hidden_size
    directions = random_directions(topics, size, config.seed, config.direction)
    masters = master_copies(model, names)
    optimizer = torch.optim.AdamW(
        [matrix for matrices in masters.values() for matrix in matrices.values()],
        lr=config.lr,
        eps=config.adam_epsilon,
        weight_decay=0.0,
    )
    first_batch_norm: dict[str, Tensor] = {}
    history = []
    bar = tqdm(range(config.steps), desc="unlearning", unit="step", delay=5, disable=not progress)
    for step in bar:
        parts = {}
        optimizer.zero_grad()
        # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
        for key in step_keys(batches, step):
            role, topic, index = key
            batch = batches[role, topic][index].to(model.device)
            counted = batch.counted(padding=config.count_padding, first_token=config.count_first_token)
            passed = passes(key, batch)
            hidden = run_window(model, passed, config.window, _cast(masters, passed.trunk.dtype))
            form = {"loss_per": config.loss_per, "mean_over_dimensions": config.mean_over_dimensions}
            if role == "forget":
                u = directions[topic].to(hidden.device)
                norm = _target_norm(config, topic, passed.output, hidden, counted, first_batch_norm)
                loss = distance_loss(hidden, norm * u, counted, **form)
                parts |= _forget_metrics(hidden.detach(), u, norm, counted) | {"forget_loss": loss.detach()}
            else:
                target = passed.output.float() + _noise(config, step, passed.output)
                loss = config.alpha * distance_loss(hidden, target, counted, **form)
                parts["retain_loss"] = loss.detach()
            loss.backward()
        row = _read(parts)
        if not math.isfinite(row["loss"]):
            raise _diverged(f"The loss is {row['loss']} at step {step + 1} of {config.steps}")
        history.append({"step": step + 1, "topic": topic, **row})
        bar.set_postfix(loss=f"{row['loss']:.4g}", refresh=False)
        optimizer.step()
    edit = full_names(model, masters)
    if not all(matrix.isfinite().all() for matrix in edit.values()):  # no later loss would show it
        raise _diverged(f"The trained matrices are not finite after step {config.steps}, the last")
    return UnlearnResult(
        edit=edit,
        directions=directions,
        history=history,
        config=config,
        model_name=model.name_or_path,
        digests=digests,
        provenance=provenance(config.seed),
        seconds=time.perf_counter() - start,
    )


class DivergedError(RmuLabError):
    """Training ended in numbers that are not finite."""


def _diverged(what: str) -> DivergedError:
    return DivergedError(f"{what}; lower lr, alpha or the target norm, or use float32. The model was not changed.")


def master_copies(model: PreTrainedModel, names: dict[int, tuple[str, ...]]) -> dict[int, dict[str, Tensor]]:
    """Float32 copies of the trained matrices, by block and by name inside it, asking for gradients.

    Float32 whatever the model's type: an AdamW step is often smaller than bfloat16 can resolve.
    """
    blocks = decoder_blocks(model)
    return {
        index: {
            name: blocks[index].get_parameter(name).detach().to(torch.float32, copy=True).requires_grad_()
            for name in block_names
        }
        for index, block_names in names.items()
    }


def full_names(model: PreTrainedModel, masters: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The trained matrices on the CPU, by their full parameter names in the model."""
    prefix = {id(module): name for name, module in model.named_modules()}
    blocks = decoder_blocks(model)
    return {
        f"{prefix[id(blocks[index])]}.{name}": matrix.detach().cpu()
        for index, matrices in masters.items()
        for name, matrix in matrices.items()
    }


def _cast(masters: dict[int, dict[str, Tensor]], dtype: torch.dtype) -> dict[int, dict[str, Tensor]]:
    """The matrices as the model computes with them; gradients flow back to the float32 ones."""
    return {index: {name: matrix.to(dtype) for name, matrix in block.items()} for index, block in masters.items()}


def _target_norm(
    config: UnlearnConfig,
    topic: str,
    frozen_output: Tensor,
    hidden: Tensor,
    counted: Tensor,
    first_batch_norm: dict[str, Tensor],
) -> Tensor:
    """s, the norm to steer to, broadcastable to (batch, tokens, 1): c, or beta times the frozen norm (Eq 24)."""
    if config.method == "rmu":
        return torch.tensor(config.coefficient, device=hidden.device)
    if config.norm_per == "first batch":
        if topic not in first_batch_norm:
            first_batch_norm[topic] = token_norms(hidden.detach())[counted].mean()
        return config.beta * first_batch_norm[topic]
    norms = token_norms(frozen_output)
    if config.norm_per == "text":
        norms = masked_mean(norms, counted)[:, None]
    return config.beta * norms[..., None]


def _noise(config: UnlearnConfig, step: int, like: Tensor) -> Tensor | float:
    """Drawn on the CPU from seed and step, so that it is the same on every device."""
    if not config.retain_noise:
        return 0.0
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    return config.retain_noise * torch.randn(like.shape, generator=generator).to(like.device)


def _forget_metrics(hidden: Tensor, u: Tensor, norm: Tensor, counted: Tensor) -> dict[str, Tensor]:
    norms = token_norms(hidden)
    return {
        "forget_norm": norms[counted].mean(),
        "target_norm": norm.expand(*counted.shape, 1)[..., 0][counted].mean(),
        "cosine": ((hidden.float() @ u) / norms)[counted].mean(),
    }


def _read(parts: dict[str, Tensor]) -> dict[str, float]:
    """All numbers of a step in one transfer from the device, with their sum `loss` first."""
    values = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))
    return {"loss": values["forget_loss"] + values["retain_loss"], **values}


class _Trunks:
    """Frozen passes, kept up to a budget for batches that will come round again."""

    def __init__(self, model: PreTrainedModel, config: UnlearnConfig, batches: TopicBatches) -> None:
        self.model, self.window = model, config.window
        per_topic = config.steps * 2 / len(batches)  # steps that each topic gets
        self.recurring = {key for key, of_one in batches.items() if per_topic > len(of_one)}
        self.kept: dict[BatchKey, FrozenPass] = {}
        self.bytes = 0

    def __call__(self, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        if key in self.kept:
            return self.kept[key]
        passed = run_frozen(self.model, batch, self.window)
        if key[:2] in self.recurring and self.bytes + passed.bytes <= TRUNK_CACHE_BYTES:
            self.kept[key] = passed
            self.bytes += passed.bytes
        return passed

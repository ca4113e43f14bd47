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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import FrozenPass, frozen, run_frozen, run_window, window_blocks
from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import RmuLabError
from ..files import digest
from ..models import block_parameters, decoder_blocks, input_device
from ..offload import is_offloaded
from ..provenance import provenance
from .baselines.config import Baseline
from .config import UnlearnConfig
from .directions import random_directions
from .distributed import ALONE, Share, Team, joined
from .objectives import distance_loss, masked_mean, token_mean, token_norms
from .result import UnlearnResult
from .trunks import record_batch, stored_pass

if TYPE_CHECKING:
    from datasets import Dataset

    Texts = Dataset | Sequence[str]

TRUNK_CACHE_BYTES = 2 * 1024**3
"""Frozen activations kept for texts that come round again, at most; above that they are computed anew."""
TOKENS_AT_ONCE = 16 * 1024
"""Tokens of coming batches that go through the frozen blocks together, on a GPU or where weights are offloaded."""


def unlearn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: UnlearnConfig | Baseline | None = None,
    *,
    compile_window: bool = False,
    progress: bool = True,
) -> UnlearnResult:
    """Train an edit that makes `model` forget; the model itself is left as it is (see `UnlearnResult.apply`).

    Started by torchrun, the processes share the texts of each batch and get the edit that one alone would get
    (`unlearning.parallel`). A model that `load_model` spread with ``device_map`` needs room on one device for the trained
    blocks. Both are taught in notebook 09.

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
    compile_window
        run the trained blocks through ``torch.compile``: the same numbers up to rounding, after about a minute of compiling
        (RMU only).
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
    batches = topic_batches(tokenizer, _used(texts, config), config)
    processes = joined()
    passes = _Trunks(model, config, batches, processes)
    how = {"team": processes, "progress": progress and processes.main, "compile_window": compile_window}
    with frozen(model):
        return train(model, names, batches, config, passes, digests=corpus_digests(texts), start=start, **how)


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
    """The token batches of every role and topic, cut and padded as `config` says.

    Raises
    ------
    RmuLabError
        if a text is shorter than two tokens, or `forget_lengths` fits another number of topics.
    """
    lengths = dict.fromkeys(texts, config.max_length)
    if config.forget_lengths is not None:
        topics = [key for key in texts if key[0] == "forget"]
        if len(topics) != len(config.forget_lengths):
            raise RmuLabError(
                f"forget_lengths has {len(config.forget_lengths)} numbers for {len(topics)} topics; give one for each."
            )
        lengths |= dict(zip(topics, config.forget_lengths, strict=True))
    return {
        key: token_batches(tokenizer, of_one, config.batch_size, lengths[key], config.padding_side)
        for key, of_one in texts.items()
    }


def share_of(batches: TopicBatches, key: BatchKey, config: UnlearnConfig, team: Team) -> Share:
    """What of a batch is for this process."""
    role, topic, index = key
    batch = batches[role, topic][index]
    return team.share(batch, _counted(batch, config))


def _counted(batch: TokenBatch, config: UnlearnConfig) -> Tensor:
    return batch.counted(padding=config.count_padding, first_token=config.count_first_token)


def corpus_digests(texts: TopicTexts) -> dict[str, str]:
    """SHA-256 of each corpus, by role and topic."""
    return {f"{role} {topic}": digest(of_one) for (role, topic), of_one in texts.items()}


def step_keys(batches: TopicBatches, step: int) -> tuple[BatchKey, BatchKey]:
    """The forget and the retain batch of a step (from 0): topics take turns, batches come round again."""
    topics = [topic for role, topic in batches if role == "forget"]
    topic, index = topics[step % len(topics)], step // len(topics)
    forget, retain = ((role, topic, index % len(batches[role, topic])) for role in ("forget", "retain"))
    return forget, retain


def _used(texts: TopicTexts, config: UnlearnConfig) -> TopicTexts:
    """The texts that a training comes to: real corpora hold many more, and long ones."""
    steps_per_topic = -(-2 * config.steps // len(texts))
    return {key: of_one[: steps_per_topic * config.batch_size] for key, of_one in texts.items()}


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
    team: Team = ALONE,
    compile_window: bool = False,
) -> UnlearnResult:
    """The training loop.

    `passes` gives the frozen model's pass over a batch that is on the model's device; the model is to be `frozen`.
    `team` are the processes that share each batch.
    The result carries `digests`, and the seconds since `start` on the clock of `time.perf_counter`.

    Raises
    ------
    DivergedError
        if a loss or a trained matrix is not finite; the message names the step.
    """
    topics = [topic for role, topic in batches if role == "forget"]
    size = model.config.get_text_config(decoder=True).hidden_size
    directions = random_directions(topics, size, config.seed, config.direction)
    blocks = window_blocks(model, config.window)
    masters = master_copies(blocks, names)
    matrices = [matrix for of_one in masters.values() for matrix in of_one.values()]
    device = matrices[0].device
    steer_to = {topic: u.to(device) for topic, u in directions.items()}
    optimizer = torch.optim.AdamW(
        matrices,
        lr=config.lr,
        eps=config.adam_epsilon,
        weight_decay=0.0,
        fused=device.type == "cuda" or None,  # without the copies of all matrices that its other form makes there
    )
    first_batch_norm: dict[str, Tensor] = {}
    run = torch.compile(run_window) if compile_window else run_window
    history = []
    bar = tqdm(range(config.steps), desc="unlearning", unit="step", delay=5, disable=not progress)
    for step in bar:
        parts = {}
        optimizer.zero_grad()
        # One backward pass after the other: the gradients add up, and only one batch's activations are held at a time.
        for key in step_keys(batches, step):
            role, topic, _ = key
            share = share_of(batches, key, config, team)
            batch = share.batch.to(input_device(model))
            counted = _counted(batch, config).to(device)
            passed = passes(key, batch).to(device)
            hidden = run(model, passed, config.window, _cast(masters, passed.trunk.dtype), blocks)
            form = {"loss_per": config.loss_per, "mean_over_dimensions": config.mean_over_dimensions}
            if role == "forget":
                if config.norm_per == "first batch" and topic not in first_batch_norm:
                    first_batch_norm[topic] = share.tokens * token_mean(token_norms(hidden.detach()), counted)
                    team.add_up([first_batch_norm[topic]])
                norm = _target_norm(config, passed.output, counted, first_batch_norm.get(topic))
                loss = distance_loss(hidden, norm * steer_to[topic], counted, **form)
                measured = _forget_metrics(hidden.detach(), steer_to[topic], norm, counted)
                parts |= {name: share.tokens * value for name, value in measured.items()}
            else:
                target = passed.output.float() + _noise(config, step, share, hidden)
                loss = config.alpha * distance_loss(hidden, target, counted, **form)
            loss = loss * (share.texts if config.loss_per == "text" else share.tokens)
            parts[f"{role}_loss"] = loss.detach()
            loss.backward()
        team.add_up(matrix.grad for matrix in matrices)
        row = _read(parts, team)
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


def master_copies(blocks: Mapping[int, nn.Module], names: dict[int, tuple[str, ...]]) -> dict[int, dict[str, Tensor]]:
    """Float32 copies of the trained matrices, by block and by name inside it, asking for gradients.

    Float32 whatever the model's type: an AdamW step is often smaller than bfloat16 can resolve.
    """
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


def _noise(config: UnlearnConfig, step: int, share: Share, like: Tensor) -> Tensor | float:
    """Drawn for the whole batch on the CPU from seed and step, so that it is the same on every device and for every team."""
    if not config.retain_noise:
        return 0.0
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    noise = torch.randn((share.of, *like.shape[1:]), generator=generator)[share.rows]
    return config.retain_noise * noise.to(like.device)


def _forget_metrics(hidden: Tensor, u: Tensor, norm: Tensor, counted: Tensor) -> dict[str, Tensor]:
    norms = token_norms(hidden)
    return {
        "forget_norm": token_mean(norms, counted),
        "target_norm": token_mean(norm.expand(*counted.shape, 1)[..., 0], counted),
        "cosine": token_mean((hidden.float() @ u) / norms.clamp(min=1e-12), counted),
    }


def _read(parts: dict[str, Tensor], team: Team) -> dict[str, float]:
    """All numbers of a step, of all processes, in one transfer from the device, with their sum `loss` first."""
    values = torch.stack(list(parts.values()))
    team.add_up([values])
    named = dict(zip(parts, values.tolist(), strict=True))
    return {"loss": named["forget_loss"] + named["retain_loss"], **named}


class _Trunks:
    """Frozen passes: of several batches at once where a single one would not keep the machine busy, and kept up to a
    budget for batches that will come round again."""

    def __init__(self, model: PreTrainedModel, config: UnlearnConfig, batches: TopicBatches, team: Team) -> None:
        self.model, self.window = model, config.window
        self.share = lambda key: share_of(batches, key, config, team).batch
        self.coming = deque(key for step in range(config.steps) for key in step_keys(batches, step))
        per_topic = config.steps * 2 / len(batches)  # steps that each topic gets
        self.recurring = {key for key, of_one in batches.items() if per_topic > len(of_one)}
        self.kept: dict[BatchKey, FrozenPass] = {}
        self.bytes = 0
        self.ahead: dict[BatchKey, tuple[Tensor, Tensor]] = {}
        self.tokens_at_once = tokens_at_once(model)

    def __call__(self, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        self.coming.popleft()
        if key in self.kept:
            return self.kept[key]
        if batch.input_ids.numel() < self.tokens_at_once or key in self.ahead:
            passed = self._run_ahead(key, batch)
        else:
            passed = run_frozen(self.model, batch, self.window)
        if key[:2] in self.recurring and self.bytes + passed.bytes <= TRUNK_CACHE_BYTES:
            self.kept[key] = passed
            self.bytes += passed.bytes
        return passed

    def _run_ahead(self, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        """The pass over a batch; if it was not made yet, made together with those of the next of the same width."""
        if key not in self.ahead:
            group, width, tokens = {key: batch}, batch.input_ids.shape[1], batch.input_ids.numel()
            for other in self.coming:
                if other in group or other in self.kept:
                    continue
                next_one = self.share(other)
                tokens += next_one.input_ids.numel()
                if next_one.input_ids.shape[1] != width or tokens > self.tokens_at_once:
                    break
                group[other] = next_one.to(batch.input_ids.device)
            together = TokenBatch(
                torch.cat([one.input_ids for one in group.values()]),
                torch.cat([one.attention_mask for one in group.values()]),
            )
            states = record_batch(self.model, together, {self.window[0], self.window[-1] + 1})
            sizes = [len(one.input_ids) for one in group.values()]
            parts = (states[depth].split(sizes) for depth in (self.window[0], self.window[-1] + 1))
            self.ahead = dict(zip(group, zip(*parts, strict=True), strict=True))
        trunk, output = self.ahead.pop(key)
        return stored_pass(self.model, batch, self.window, trunk, output)


def tokens_at_once(model: PreTrainedModel) -> int:
    """How many tokens the frozen blocks are given in one pass, if there are several batches of the same width.

    On a GPU larger batches use it better; where weights must be fetched for each pass, one fetch serves them all. A CPU
    gains nothing.
    """
    return TOKENS_AT_ONCE if is_offloaded(model) or input_device(model).type == "cuda" else 0

"""Fine-tuning that is undone: further steps on texts, on all matrices, on the edit's own, or on low-rank additions.

Taught in notebook 07.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import frozen
from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import NotFiniteError, RmuLabError
from ..models import check_trainable, decoder_blocks, input_device
from ..offload import require_in_memory
from ..randomness import python_random, torch_generator
from ..torch_state import default_torch_state, in_default_torch_state
from ..unlearning.objectives import next_token_loss, targets_of

Trained: TypeAlias = Literal["all", "edited", "lora"]
"""What a fine-tune trains: all matrices of all blocks, those that the edit changed, or low-rank additions to all."""
LORA_RANK = 16
CHECKPOINTS = (1, 2, 4, 8, 16, 32, 64)
"""Steps after which a fine-tune is measured."""
Learn: TypeAlias = Callable[[Sequence[TokenBatch]], list[float]]
"""Takes further steps, one a batch, and returns the loss of each before its update, in nats a token."""


@dataclass(frozen=True)
class RelearnConfig:
    """Settings of a fine-tune that is to bring a topic back. Taught in notebook 07.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    lr: float = 3e-4
    """AdamW's learning rate (no weight decay)."""
    steps: tuple[int, ...] = CHECKPOINTS
    """After which accuracy is measured, in rising order; as many steps as the last are taken."""
    trained: Trained = "all"
    """The matrices of all blocks, those that the edit changed, or low-rank additions."""
    batch_size: int = 4
    """Texts a step: dealt in random order, and dealt again when they run out."""
    max_length: int = 64
    """Tokens after which a text is cut."""
    seed: int = 0
    """Of the texts' order, and of the low-rank additions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))  # as JSON gives them back, they are a list
        if not self.steps or any(after <= before for before, after in pairwise((0, *self.steps))):
            raise RmuLabError(f"steps is {self.steps}; give numbers that rise, from 1 on.")
        if self.trained not in get_args(Trained):
            raise RmuLabError(f"trained is {self.trained!r}; use one of {', '.join(map(repr, get_args(Trained)))}.")
        if self.batch_size < 1 or not 0 < self.lr < math.inf:
            raise RmuLabError(f"batch_size is {self.batch_size} and lr {self.lr}; both must be positive.")


def relearning_batches(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], config: RelearnConfig) -> list[TokenBatch]:
    """Deal the texts in random order, and again when they run out: one batch for each step.

    Raises
    ------
    RmuLabError
        if there are fewer texts than a batch takes, or something else than texts.
    """
    texts = texts_of(texts, "texts", config.batch_size)
    source = python_random(config.seed, "order of relearned texts")
    count = config.steps[-1] * config.batch_size
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += source.sample(texts, len(texts))
    return token_batches(tokenizer, dealt[:count], config.batch_size, config.max_length)


@contextmanager
@in_default_torch_state
def fine_tuning(
    model: PreTrainedModel,
    lr: float,
    *,
    trained: Trained = "all",
    edited: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> Iterator[Learn]:
    """Let the ``with`` block fine-tune the model step by step; every weight is put back, bit for bit, when it ends.

    Next-token loss over all real tokens, AdamW without weight decay, no dropout. Between steps the model can be measured.
    Taught in notebook 07.

    Parameters
    ----------
    lr
        AdamW's learning rate.
    trained
        ``"all"``: the matrices of all blocks. ``"edited"``: the parameters named in `edited`. ``"lora"``: additions of rank
        16 to the blocks' linear layers (Hu et al. 2021, arXiv 2106.09685; the peft library).
    edited
        names of parameters, such as the keys of ``result.edit``.
    seed
        draws the additions' first factors.
    progress
        show a bar on anything that takes over five seconds.

    Yields
    ------
    callable
        takes further steps, one for each `TokenBatch` of a list, and returns the loss of each before its update, in nats a
        token.

    Raises
    ------
    RmuLabError
        if weights are offloaded or quantised, or `edited` names none or one that the model lacks.
    NotFiniteError
        from the callable, if a loss is not finite.
    """
    require_in_memory(model, "fine-tuning")
    if trained == "lora":
        with _low_rank(model, seed) as additions:
            yield _learner(model, additions, lr, progress)
        return
    if trained == "all":
        chosen = {name: each for name, each in decoder_blocks(model).named_parameters() if each.ndim >= 2}
    else:
        chosen = _named(model, edited)
    check_trainable(chosen)
    parameters = list(chosen.values())
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield _learner(model, parameters, lr, progress)
    finally:
        _write(parameters, kept)


def _named(model: PreTrainedModel, names: Sequence[str]) -> dict[str, nn.Parameter]:
    if not names:
        raise RmuLabError("No edited parameters were named; give the keys of result.edit.")
    present = dict(model.named_parameters())
    if missing := [name for name in names if name not in present]:
        raise RmuLabError(f"The model has no parameter {missing[0]!r}; give the keys of an edit of this model.")
    return {name: present[name] for name in names}


def _learner(model: PreTrainedModel, parameters: Sequence[nn.Parameter], lr: float, progress: bool) -> Learn:
    # Float32 whatever the model's type: an AdamW step is often smaller than bfloat16 can resolve.
    masters = [parameter.detach().to(torch.float32, copy=True) for parameter in parameters]
    gradients = [torch.zeros_like(master) for master in masters]  # the same for all steps: to make new ones takes longer
    for master, gradient in zip(masters, gradients, strict=True):
        master.grad = gradient
    fused = all(master.device.type in ("cpu", "cuda", "mps") for master in masters)
    optimizer = torch.optim.AdamW(masters, lr=lr, weight_decay=0.0, fused=fused or None)
    taken = 0

    def step(batch: TokenBatch) -> float:
        nonlocal taken
        taken += 1
        batch = batch.to(input_device(model))
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        loss = next_token_loss(logits[:, :-1].float(), *targets_of(batch))
        if not math.isfinite(loss.item()):
            raise NotFiniteError(
                f"The loss is {loss.item()} at step {taken} of fine-tuning; lower lr. The model was not changed."
            )
        loss.backward()
        with torch.no_grad():
            for gradient, parameter in zip(gradients, parameters, strict=True):
                if parameter.grad is not None:  # else it has no part in the loss
                    gradient.copy_(parameter.grad)
                    parameter.grad.zero_()
        optimizer.step()
        _write(parameters, masters)
        return loss.item()

    def learn(batches: Sequence[TokenBatch]) -> list[float]:
        with default_torch_state(), frozen(model):
            try:
                for parameter in parameters:
                    parameter.requires_grad_(True)
                bar = tqdm(batches, desc="fine-tuning", unit="step", delay=5, disable=not progress)
                return [step(batch) for batch in bar]
            finally:
                for parameter in parameters:
                    parameter.requires_grad_(False).grad = None

    return learn


@contextmanager
@in_default_torch_state
def _low_rank(model: PreTrainedModel, seed: int) -> Iterator[list[nn.Parameter]]:
    """Put low-rank additions of nothing beside the blocks' linear layers, and take them out again."""
    from peft import LoraConfig, get_peft_model

    requiring = {parameter: parameter.requires_grad for parameter in model.parameters()}
    blocks = decoder_blocks(model)
    place = next(name for name, module in model.named_modules() if module is blocks)
    inside = {type(module).__name__ for module in blocks.modules()} & {"Linear", "Conv1D"}
    targets = [f"{place}.{name}" for name, module in blocks.named_modules() if type(module).__name__ in inside and name]
    if not targets:
        raise RmuLabError(f"{type(model).__name__} has no linear layers in its blocks to add to; train 'all' instead.")
    # peft draws from the caller's stream, and asks transformers for a name that it is about to drop.
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(
            model,
            LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=targets, fan_in_fan_out="Conv1D" in inside),
        )
    additions = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}
    generator = torch_generator(seed, "factors of low-rank additions")
    try:
        with torch.no_grad():
            for name, parameter in additions.items():
                if "lora_A" in name:  # as peft draws them: the other factor is zero
                    bound = parameter.shape[1] ** -0.5
                    drawn = torch.rand(parameter.shape, generator=generator) * 2 * bound - bound
                    parameter.copy_(drawn)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield list(additions.values())
    finally:
        wrapped.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        for parameter, asked in requiring.items():
            parameter.requires_grad_(asked)


@torch.no_grad()
def _write(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)

"""Run a model up to a block and keep what passes there.

RMU's loss lives at the output of block l, so everything above l is waste and everything below the
trained blocks is constant. `run_frozen` runs the model once, stops after block l and keeps what the
trained blocks need to be run again alone; `run_window` runs them. Taught in notebook 01.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from .corpora import TokenBatch
from .models import decoder_blocks


@dataclass(frozen=True)
class FrozenPass:
    """What one pass of the frozen model leaves for the blocks of a window."""

    trunk: Tensor  # (batch, tokens, d): the input of the window's first block
    calls: tuple[tuple[tuple, dict[str, Any]], ...]  # each block's other arguments: masks, rotary embeddings, ...
    output: Tensor  # (batch, tokens, d): h^(l) of the frozen model

    @property
    def bytes(self) -> int:
        """Memory held by the two activations."""
        return self.trunk.nbytes + self.output.nbytes


class _Stop(Exception):
    """Raised inside a forward pass once everything wanted has been seen."""


def run_frozen(model: PreTrainedModel, batch: TokenBatch, window: range) -> FrozenPass:
    """Run the model without gradients up to the last block of `window`, and stop there.

    Whatever the model hands its blocks besides the hidden states (causal or sliding masks, rotary
    embeddings, positions) is kept as it came, so this works for every architecture whose blocks
    stand in a list.
    """
    blocks = decoder_blocks(model)
    inputs: list[Tensor] = []
    calls: list[tuple[tuple, dict[str, Any]]] = []
    outputs: list[Tensor] = []

    def keep_call(_block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        kwargs = dict(kwargs)
        hidden, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        inputs.append(hidden)
        calls.append((rest, kwargs))

    def keep_output(_block: nn.Module, _args: tuple, output: Any) -> None:
        outputs.append(hidden_states(output))
        raise _Stop

    hooks = [blocks[index].register_forward_pre_hook(keep_call, with_kwargs=True) for index in window]
    hooks.append(blocks[window[-1]].register_forward_hook(keep_output))
    try:
        with torch.no_grad():
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    except _Stop:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return FrozenPass(inputs[0], tuple(calls), outputs[0])


def run_window(model: PreTrainedModel, frozen: FrozenPass, window: range, edit: dict[int, dict[str, Tensor]]) -> Tensor:
    """h^(l), (batch, tokens, d), with the matrices of `edit` in place of the model's own.

    `edit` maps a block's index to its replaced parameters by their names inside the block. The model
    itself is not touched; gradients flow to the tensors of `edit`.
    """
    blocks = decoder_blocks(model)
    hidden = frozen.trunk
    for index, (args, kwargs) in zip(window, frozen.calls, strict=True):
        hidden = hidden_states(functional_call(blocks[index], edit.get(index, {}), (hidden, *args), kwargs))
    return hidden


def hidden_states(output: Any) -> Tensor:
    """A block's output without what some families return beside it."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode and no parameter asking for gradients; both put back afterwards."""
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)

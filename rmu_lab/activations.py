"""Run a model up to a block and keep what passes there.

RMU's loss lives at the output of block l, so everything above l is waste and everything below the
trained blocks is constant. `run_frozen` runs the model once, stops after block l and keeps what the
trained blocks need to be run again alone; `run_window` runs them. `captured`, `edited_output` and
`map_above` look at, change and differentiate what passes after a block. Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .corpora import TokenBatch, token_batches
from .errors import NotFiniteError, RmuLabError
from .models import check_positions, decoder_blocks, final_norm, input_device, uncompiled
from .offload import execution_device, whole_module
from .torch_state import in_default_torch_state


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

    def to(self, device: torch.device) -> FrozenPass:
        """Everything on `device`, where the window is to run; a model over several GPUs leaves it here and there."""
        return FrozenPass(self.trunk.to(device), send_to_device(self.calls, device), self.output.to(device))


class StopForward(Exception):
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
        raise StopForward

    hooks = [blocks[index].register_forward_pre_hook(keep_call, with_kwargs=True) for index in window]
    hooks.append(blocks[window[-1]].register_forward_hook(keep_output))
    try:
        with torch.no_grad():
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    except StopForward:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return FrozenPass(inputs[0], tuple(calls), outputs[0])


def window_blocks(model: PreTrainedModel, window: range) -> dict[int, nn.Module]:
    """Return the blocks of a window, ready to run again and again; made whole where accelerate spreads the model."""
    blocks = {index: decoder_blocks(model)[index] for index in window}
    device = execution_device(blocks[window[0]])
    return blocks if device is None else {index: whole_module(block, device) for index, block in blocks.items()}


def run_window(
    model: PreTrainedModel,
    frozen: FrozenPass,
    window: range,
    edit: dict[int, dict[str, Tensor]],
    blocks: Mapping[int, nn.Module] | None = None,
) -> Tensor:
    """Compute h^(l), (batch, tokens, d), with the matrices of `edit` in place of the model's own.

    `edit` maps a block's index to its replaced parameters by their names inside the block. The model
    itself is not touched; gradients flow to the tensors of `edit`. `blocks`, from `window_blocks`, is for who calls
    this many times.
    """
    blocks = blocks or window_blocks(model, window)
    frozen = frozen.to(next(blocks[window[0]].parameters()).device)
    hidden = frozen.trunk
    for index, (args, kwargs) in zip(window, frozen.calls, strict=True):
        hidden = hidden_states(functional_call(blocks[index], edit.get(index, {}), (hidden, *args), kwargs))
    return hidden


def hidden_states(output: Any) -> Tensor:
    """Return a block's output, (batch, tokens, d), without what some families return beside it.

    Raises
    ------
    RmuLabError
        if it is something else, such as the several streams of Gemma 3n.
    """
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        found = f"a tensor of {hidden.ndim} dimensions" if isinstance(hidden, Tensor) else f"a {type(hidden).__name__}"
        raise RmuLabError(
            f"A block gives {found}, not one stream of hidden states (batch, tokens, d); use a model with a single residual "
            "stream."
        )
    return hidden


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode, without dropout, inside the ``with`` block.

    Measuring is done so and not `frozen`, since torch multiplies by matrices that ask for no gradients in another way,
    which moves the last bits.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode, with no parameter asking for gradients; both are put back afterwards."""
    # Accelerate replaces what it offloads at each pass; what it put there in inference mode asks for no gradients ever.
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad and not parameter.is_inference()]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


# ---------------------------------------------------------------------------------------------------------------------
# Looking at what passes after a block, changing it, and treating the blocks above as a function of it


@contextmanager
def captured(model: PreTrainedModel, layers: Sequence[int], *, stop: bool = False) -> Iterator[dict[int, Tensor]]:
    """Keep h^(l), (batch, tokens, d), of the latest forward pass inside the ``with`` block, for each l of `layers`.

    With ``stop=True`` the first pass ends after the last of them, and the ``with`` block with it: what
    lies above costs nothing. A model from ``torch.compile`` runs as it was before compiling, here and in `edited_output`:
    what it was compiled to sees no hooks.

    Raises
    ------
    RmuLabError
        if the model has no such block, or is compiled in place.
    """
    seen: dict[int, Tensor] = {}
    last = max(layers)

    def keep(layer: int) -> Callable:
        def hook(_block: nn.Module, _args: tuple, output: Any) -> None:
            seen[layer] = hidden_states(output)
            if stop and layer == last:
                raise StopForward

        return hook

    hooks = [_block(model, layer).register_forward_hook(keep(layer)) for layer in layers]
    try:
        with _before_compiling(model):
            yield seen
    except StopForward:
        pass
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def edited_output(model: PreTrainedModel, layer: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let every forward pass inside the ``with`` block go on with ``edit(h)`` in place of h^(layer), (batch, tokens, d).

    Raises
    ------
    RmuLabError
        if the model has no such block, or is compiled in place.
    """

    def hook(_block: nn.Module, _args: tuple, output: Any) -> Any:
        changed = edit(hidden_states(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = _block(model, layer).register_forward_hook(hook)
    try:
        with _before_compiling(model):
            yield
    finally:
        handle.remove()


def _before_compiling(model: PreTrainedModel) -> AbstractContextManager:
    """Let a compiled model run as it was, inside the ``with`` block."""
    return nullcontext() if uncompiled(model) is model else torch.compiler.set_stance("force_eager")


def map_above(
    model: PreTrainedModel, batch: TokenBatch, layer: int, to_layer: int | None = None
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return h^(l) of the batch, and g^(l:k), the model from there to block k, as a differentiable function of it.

    Both take and give (batch, tokens, d). Without `to_layer` the map ends behind the final norm: it
    gives what the unembedding multiplies. For ``layer == to_layer`` it is the identity.

    Raises
    ------
    RmuLabError
        if there is no such block, or `to_layer` lies below `layer`.
    """
    model = uncompiled(model)
    top = len(decoder_blocks(model)) - 1
    if not 0 <= layer <= (top if to_layer is None else to_layer) <= top:
        raise RmuLabError(
            f"layer is {layer} and to_layer {to_layer}; choose both from 0 .. {top}, to_layer not below layer."
        )
    window = range(layer + 1, (top if to_layer is None else to_layer) + 1)
    if window:
        passed = run_frozen(model, batch, window)
        start = passed.trunk
    else:
        with captured(model, [layer], stop=True) as seen, torch.no_grad():
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        start = seen[layer]
    norm = final_norm(model) if to_layer is None else None

    def above(hidden: Tensor) -> Tensor:
        if window:
            hidden = run_window(model, replace(passed, trunk=hidden), window, {})
        return hidden if norm is None else norm(hidden)

    return start, above


@dataclass(frozen=True)
class TokenStates:
    """The hidden representations of every token of some texts, padding left out, one row per token."""

    hidden: dict[int, Tensor]  # layer -> (rows, d) float32 on the CPU
    text: Tensor  # (rows,) index of the text
    position: Tensor  # (rows,) place in its text, from 0: the token at 0 is the attention sink
    token: Tensor  # (rows,) token id

    @property
    def counted(self) -> Tensor:
        """(rows,) bool: all but the first token of each text."""
        return self.position > 0


@in_default_torch_state
def token_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int],
    *,
    max_length: int = 64,
    batch_size: int = 16,
) -> TokenStates:
    """Collect h^(l) of every token of the texts, for each l of `layers`; blocks above the highest are not run.

    Taught in notebook 01.

    Parameters
    ----------
    layers
        blocks whose outputs are kept, counted from 0.
    max_length
        tokens after which a text is cut.
    batch_size
        texts run at once.

    Returns
    -------
    TokenStates
        one row for each token, without padding: ``hidden[l]`` is (rows, d) float32 on the CPU, so 4 d bytes a token
        and layer.

    Raises
    ------
    RmuLabError
        if a text has fewer than two tokens, or the model has no such block.
    """
    model = uncompiled(model)
    check_positions(model, max_length)
    hidden: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    text, position, token = [], [], []
    for index, batch in enumerate(token_batches(tokenizer, texts, batch_size, max_length)):
        batch = batch.to(input_device(model))
        with evaluating(model), captured(model, layers, stop=True) as seen, torch.no_grad():
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        if broken := [layer for layer in layers if not seen[layer][batch.attention_mask.bool()].isfinite().all()]:
            raise NotFiniteError(
                f"The hidden states after block {broken[0]} are not finite: the model is broken, not unlearned; train more "
                "gently, or use float32 or bfloat16."
            )
        real = batch.attention_mask.bool()
        for layer in layers:
            hidden[layer].append(seen[layer][real].float().cpu())
        rows, places = real.nonzero(as_tuple=True)
        text.append(rows.cpu() + index * batch_size)
        position.append(places.cpu())
        token.append(batch.input_ids[real].cpu())
    return TokenStates(
        {layer: torch.cat(parts) for layer, parts in hidden.items()},
        torch.cat(text),
        torch.cat(position),
        torch.cat(token),
    )


def _block(model: PreTrainedModel, layer: int) -> nn.Module:
    blocks = decoder_blocks(uncompiled(model))
    if not 0 <= layer < len(blocks):
        raise RmuLabError(f"layer is {layer}, but the model has blocks 0 .. {len(blocks) - 1}.")
    return blocks[layer]


def alignment(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    direction: Tensor,
    layer: int,
    *,
    max_length: int = 64,
    batch_size: int = 16,
) -> Tensor:
    """Measure cos(u, h^(l)) on every token of the texts but the first of each (Figure 2e-h of Dang et al. 2024).

    Taught in notebook 03.

    Parameters
    ----------
    direction
        u, (d,), of any length.
    layer
        block whose output is h^(l), counted from 0.
    max_length
        tokens after which a text is cut.
    batch_size
        texts run at once.

    Returns
    -------
    Tensor
        (tokens,) float32 on the CPU, in the order of the texts.

    Raises
    ------
    RmuLabError
        if a text has fewer than two tokens, or the model has no such block.
    """
    states = token_states(model, tokenizer, texts, [layer], max_length=max_length, batch_size=batch_size)
    hidden = states.hidden[layer][states.counted]
    return torch.nn.functional.cosine_similarity(hidden, direction.to(hidden), dim=-1)

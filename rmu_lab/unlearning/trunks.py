"""Frozen activations that many settings share: recorded in one pass, kept in memory or on disk, and resumed from.

What lies below the trained window is the same for every setting of a layer. So one pass of the frozen
model records the residual stream at every depth that some setting starts from (`recorded`); later runs
of the same model on the same input skip the blocks below and go on from there (`resumed`). Depth i is
the residual stream before block i, so that h^(l) stands at depth l + 1. Taught in notebook 05.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from ..activations import FrozenPass, StopForward, run_frozen
from ..corpora import TokenBatch
from ..errors import RmuLabError
from ..models import decoder_blocks


class ActivationStore:
    """Groups of tensors by key: in memory up to a budget, above it in safetensors files of a folder of its own.

    The folder is made inside `scratch` when first needed; `clear` removes it.
    """

    def __init__(self, memory_bytes: int, scratch: str | Path | None, prefix: str) -> None:
        self.memory_bytes, self.scratch, self.prefix = memory_bytes, scratch, prefix
        self.bytes_in_memory = self.bytes_on_disk = 0
        self._kept: dict[Hashable, dict[int, Tensor] | Path] = {}
        self._folder: tempfile.TemporaryDirectory | None = None
        self._numbers = itertools.count()

    def clear(self) -> None:
        """Forget everything, in memory and on disk, and remove the folder."""
        self._kept.clear()
        self.bytes_in_memory = self.bytes_on_disk = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def put(self, key: Hashable, tensors: dict[int, Tensor]) -> None:
        """Keep a group of tensors, as a whole in memory or as a whole in one file.

        Raises
        ------
        RmuLabError
            if the file cannot be written.
        """
        size = sum(tensor.nbytes for tensor in tensors.values())
        if self.bytes_in_memory + size <= self.memory_bytes:
            self._kept[key] = {depth: tensor.cpu() for depth, tensor in tensors.items()}
            self.bytes_in_memory += size
            return
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix=self.prefix, dir=self.scratch)
            path = Path(self._folder.name) / f"{next(self._numbers)}.safetensors"
            save_file({str(depth): tensor.cpu().contiguous() for depth, tensor in tensors.items()}, path)
        except (OSError, SafetensorError) as error:
            raise RmuLabError(
                f"Activations cannot be stored in {self.scratch or tempfile.gettempdir()} ({error}); free space there, "
                "choose another folder with `scratch`, or allow more memory with `memory_bytes`."
            ) from error
        self._kept[key] = path
        self.bytes_on_disk += path.stat().st_size

    def discard(self, key: Hashable) -> None:
        """Forget one group."""
        kept = self._kept.pop(key)
        if isinstance(kept, dict):
            self.bytes_in_memory -= sum(tensor.nbytes for tensor in kept.values())
        else:
            self.bytes_on_disk -= kept.stat().st_size
            kept.unlink()

    def get(self, key: Hashable, depth: int) -> Tensor:
        """One tensor of a group, on the CPU; a file is read for that tensor only."""
        kept = self._kept[key]
        if isinstance(kept, dict):
            return kept[depth]
        with safe_open(kept, framework="pt") as file:
            return file.get_tensor(str(depth))


@contextmanager
def recorded(
    model: PreTrainedModel, depths: Collection[int], keep: Callable[[dict[int, Tensor]], None], *, stop: bool = False
) -> Iterator[None]:
    """While open, every pass of the model hands `keep` the residual stream, (batch, tokens, d), at the given depths.

    Parameters
    ----------
    depths
        0 (what block 0 takes) to L (what the last block gives).
    stop
        end each pass at the highest of them; the model's own call then returns None.

    Raises
    ------
    RmuLabError
        during a pass, if the model's blocks return more than the residual stream.
    """
    blocks = decoder_blocks(model)
    highest = max(depths)
    seen: dict[int, Tensor] = {}

    def note(depth: int, hidden: Any) -> None:
        if not isinstance(hidden, Tensor):
            raise RmuLabError(
                f"The blocks of {type(model).__name__} return more than hidden states, so a sweep cannot resume its passes; "
                "call unlearn and accuracy for each setting instead."
            )
        if depth in depths:
            seen[depth] = hidden
        if depth == highest:
            keep(dict(seen))
            seen.clear()
            if stop:
                raise StopForward

    def before_first(_block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        note(0, args[0] if args else kwargs["hidden_states"])

    def after(index: int) -> Callable:
        return lambda _block, _args, output: note(index + 1, output)

    hooks = [blocks[0].register_forward_pre_hook(before_first, with_kwargs=True)]
    hooks += [blocks[index].register_forward_hook(after(index)) for index in range(highest)]
    try:
        yield
    except StopForward:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def record_batch(model: PreTrainedModel, batch: TokenBatch, depths: Collection[int]) -> dict[int, Tensor]:
    """The frozen model's residual stream at the given depths for one batch; nothing above them runs."""
    kept: list[dict[int, Tensor]] = []
    with torch.no_grad(), recorded(model, depths, kept.append, stop=True):
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return kept[0]


@contextmanager
def resumed(model: PreTrainedModel, depth: int, trunk: Callable[[], Tensor]) -> Iterator[None]:
    """While open, the blocks below `depth` do nothing, and each pass goes on there from what `trunk()` returns.

    Everything else is the model's own: embedding, masks, positions, the blocks above, its head and its
    cache, which gets an empty entry (of the right length) for every block that is skipped.
    """
    blocks = decoder_blocks(model)

    def skip(index: int) -> Callable:
        def forward(*args: Any, **kwargs: Any) -> Tensor:
            hidden = args[0] if args else kwargs["hidden_states"]
            for value in (*args, *kwargs.values()):
                if isinstance(value, Cache):
                    nothing = hidden.new_zeros(len(hidden), 1, hidden.shape[1], 1)
                    value.update(nothing, nothing, index)
            return trunk().to(hidden.device) if index == depth - 1 else hidden

        return forward

    with ExitStack() as restore:
        for index in range(depth):
            restore.callback(_put_back, blocks[index], blocks[index].__dict__.get("forward"))
            blocks[index].forward = skip(index)
        yield


def _put_back(block: nn.Module, own: Callable | None) -> None:
    """Undo an assignment to `block.forward`; accelerate assigns it too, for models over several devices."""
    if own is None:
        del block.forward
    else:
        block.forward = own


def stored_pass(model: PreTrainedModel, batch: TokenBatch, window: range, trunk: Tensor, output: Tensor) -> FrozenPass:
    """The `FrozenPass` over a batch from its recorded residual stream before and after the window.

    What the model hands its blocks besides (masks, rotary embeddings, ...) is made anew by a pass in which
    no block runs: that takes a millisecond, while keeping it could take more memory than the activations.
    """
    with resumed(model, window[-1] + 1, lambda: output):
        passed = run_frozen(model, batch, window)
    return dataclasses.replace(passed, trunk=trunk.to(passed.output.device))

"""Passes of the frozen model: streamed several batches at once, kept for batches that come round again, and resumed.

What lies below the trained window is the same before and after training, and for every setting of a layer. So one pass
of the frozen model records the residual stream at the depths that training starts from (`recorded`); later runs of the
same model on the same input skip the blocks below and go on from there (`resumed`). Depth i is the residual stream
before block i, so that h^(l) stands at depth l + 1. Taught in notebooks 04 and 05.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from ..activations import FrozenPass, StopForward, run_frozen
from ..corpora import TokenBatch
from ..errors import RmuLabError
from ..models import decoder_blocks, input_device
from ..offload import is_offloaded
from ..scoring import shares_prompts
from .batches import BatchKey, TopicBatches, batch_share, step_keys
from .config import UnlearnConfig
from .distributed import Processes

TRUNK_CACHE_BYTES = 2 * 1024**3
"""Frozen activations kept for texts that come round again, at most; above that they are computed anew."""
TOKENS_AT_ONCE = 16 * 1024
"""Tokens of coming batches that go through the frozen blocks together, on a GPU or where weights are offloaded."""


@contextmanager
def recorded(
    model: PreTrainedModel, depths: Collection[int], keep: Callable[[dict[int, Tensor]], None], *, stop: bool = False
) -> Iterator[None]:
    """Hand `keep` the residual stream, (batch, tokens, d), at the given depths, at each pass inside the ``with`` block.

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
    if not stop:
        shares_prompts(model)  # scoring finds that out by passes of its own, which are not to be recorded
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
    """Return the frozen model's residual stream at the given depths for one batch; nothing above them runs."""
    kept: list[dict[int, Tensor]] = []
    with torch.no_grad(), recorded(model, depths, kept.append, stop=True):
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return kept[0]


@contextmanager
def resumed(model: PreTrainedModel, depth: int, trunk: Callable[[], Tensor]) -> Iterator[None]:
    """Skip the blocks below `depth` inside the ``with`` block; each pass goes on there from what `trunk()` returns.

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
    """Make the `FrozenPass` over a batch from its recorded residual stream before and after the window.

    What the model hands its blocks besides (masks, rotary embeddings, ...) is made anew by a pass in which
    no block runs: that takes a millisecond, while keeping it could take more memory than the activations.
    """
    with resumed(model, window[-1] + 1, lambda: output):
        passed = run_frozen(model, batch, window)
    return dataclasses.replace(passed, trunk=trunk.to(passed.output.device))


class StreamedPasses:
    """The frozen passes of one training, in the order of its steps.

    Several batches go through the frozen blocks at once where a single one would not keep the machine busy, and passes
    are kept, up to a budget, for batches that will come round again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: UnlearnConfig,
        batches: TopicBatches,
        processes: Processes,
        keys: Sequence[BatchKey] | None = None,
    ) -> None:
        self.model, self.window = model, config.window
        self.share = lambda key: batch_share(batches, key, config, processes).batch
        keys = [key for step in range(config.steps) for key in step_keys(batches, step)] if keys is None else keys
        self.coming = deque(keys)
        self.recurring = {key[:2] for key, times in Counter(keys).items() if times > 1}
        self.kept: dict[BatchKey, FrozenPass] = {}
        self.bytes = 0
        self.ahead: dict[BatchKey, tuple[Tensor, Tensor]] = {}
        self.tokens_at_once = tokens_at_once(model)

    def __call__(self, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        """Return the pass over a batch that is on the model's device; to be asked for in the order of the steps."""
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
    """Return how many tokens the frozen blocks are given in one pass, if there are several batches of the same width.

    On a GPU larger batches use it better; where weights must be fetched for each pass, one fetch serves them all. A CPU
    gains nothing.
    """
    return TOKENS_AT_ONCE if is_offloaded(model) or input_device(model).type == "cuda" else 0

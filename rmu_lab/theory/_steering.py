"""Putting representations at the tokens of one text, for all that differentiates or reruns the blocks above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..corpora import TokenBatch
from ..errors import RmuLabError
from ..models import input_device, position_limit
from ..offload import require_in_memory
from ..tokens import open_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def one_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> TokenBatch:
    """The tokens of a text that goes on, cut to what the model can take, on its device."""
    require_in_memory(model, "the theory")
    (tokens,) = open_tokens(tokenizer, [text])
    if len(tokens) < 2:
        raise RmuLabError(f"The text {text!r} is shorter than two tokens; leave it out.")
    limit = position_limit(model)
    ids = torch.tensor([tokens if len(tokens) <= limit else tokens[: int(limit)]])
    return TokenBatch(ids, torch.ones_like(ids)).to(input_device(model))


def unit(direction: Tensor) -> Tensor:
    """A direction scaled to length 1, in float32 or better: a narrower type rounds the sum of squares."""
    length = exact(direction).norm()
    if not 0 < length < torch.inf:
        raise RmuLabError(f"direction has the length {length.item()}; give one with a length to scale.")
    return exact(direction) / length


def exact(values: Tensor) -> Tensor:
    """The same numbers in float32 or better, which decompositions need."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def put(hidden: Tensor, steered: Tensor, rows: Tensor) -> Tensor:
    """`hidden` with `rows`, (steered tokens, d), at the steered tokens; a differentiable function of the rows."""
    return torch.where(
        steered[:, None], rows.new_zeros(hidden.shape[1:]).index_put((steered.nonzero()[:, 0],), rows), hidden
    )

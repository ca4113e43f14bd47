"""Putting representations at the tokens of one text, for all that differentiates or reruns the blocks above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..corpora import TokenBatch, token_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def one_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> TokenBatch:
    """The tokens of a text, cut to what the model can take, on its device."""
    return token_batches(tokenizer, [text], 1, model.config.get_text_config(decoder=True).max_position_embeddings)[0].to(
        model.device
    )


def put(hidden: Tensor, steered: Tensor, rows: Tensor) -> Tensor:
    """`hidden` with `rows`, (steered tokens, d), at the steered tokens; a differentiable function of the rows."""
    return torch.where(
        steered[:, None], rows.new_zeros(hidden.shape[1:]).index_put((steered.nonzero()[:, 0],), rows), hidden
    )

"""Texts that a model goes on from, as tokens: with what the tokenizer puts before a text, without what it puts behind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import RmuLabError
from .models import check_positions, input_device


def open_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Return the tokens of each text, without the end-of-text token that some tokenizers append: the text goes on.

    Parameters
    ----------
    special
        let the tokenizer put its tokens before each text, such as the one that begins texts.

    Raises
    ------
    RmuLabError
        if there is no tokenizer.
    """
    if not callable(tokenizer):
        raise RmuLabError(f"The tokenizer is {tokenizer!r}; give the model's own, as load_model returns it.")
    appended = appended_tokens(tokenizer) if special else 0
    rows = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return [row[: len(row) - appended] for row in rows]


def open_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    new_tokens: int,
    special: bool = True,
) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask`` of texts from which `model` is to write `new_tokens` more.

    Both are (texts, tokens), padded on the left, so that every text ends where the writing begins.

    Raises
    ------
    RmuLabError
        if a text has no token, or one that the model does not know, or with what is to be written more than the model
        can take.
    """
    rows = open_tokens(tokenizer, texts, special=special)
    check_known(model, itertools.chain(*rows))
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise RmuLabError(f"The prompt {text!r} has no token; put some text there.")
        check_positions(model, len(row) + new_tokens, f"The prompt {text[:40]!r}, with {new_tokens} tokens to be written,")
    device = input_device(model)
    ids, mask = padded(rows, tokenizer.pad_token_id or 0, "left")
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def padded(rows: Sequence[Sequence[int]], filler: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens filled up to one length, and which of them are real; both (texts, tokens) int64.

    Parameters
    ----------
    filler
        the token put where a text has none.
    side
        where it is put: ``"left"`` or ``"right"``.
    """
    width = max(map(len, rows))
    gaps = [(width - len(row), 0) if side == "left" else (0, width - len(row)) for row in rows]
    ids = [pad(torch.tensor(row), gap, value=filler) for row, gap in zip(rows, gaps, strict=True)]
    masks = [pad(torch.ones(len(row), dtype=torch.long), gap) for row, gap in zip(rows, gaps, strict=True)]
    return torch.stack(ids), torch.stack(masks)


def check_known(model: PreTrainedModel, tokens: Iterable[int]) -> None:
    """Raise `RmuLabError` if a token is beyond the model's vocabulary: then the tokenizer is another model's."""
    known, highest = getattr(model.get_input_embeddings(), "num_embeddings", math.inf), max(tokens, default=0)
    if highest >= known:
        raise RmuLabError(
            f"The tokenizer gives token {highest}, but the model knows {known}; give the model's own tokenizer."
        )


def appended_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens that the tokenizer puts behind a text, as seen on a short one."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    ends = (end for end in range(len(bare), len(whole)) if whole[end - len(bare) : end] == bare)
    return next((len(whole) - end for end in ends), 0)

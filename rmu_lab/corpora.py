"""Forget and retain texts: JSON Lines files in, token batches out. Taught in notebook 00."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .errors import RmuLabError
from .files import named_file, read_json_lines

if TYPE_CHECKING:
    from datasets import Dataset


def load_corpus(name: str | Path) -> Dataset:
    """A corpus as a `datasets.Dataset` with a column ``text`` (and whatever else its lines carry).

    Parameters
    ----------
    name
        ``"forget_bio"``, ``"retain_general"``, ... (the files of ``data/corpora``) or the path of a
        JSON Lines file whose objects have a string ``text``.

    Raises
    ------
    RmuLabError
        naming file and line, if a line is not an object with a non-empty ``text``.
    """
    from datasets import Dataset  # takes a second to import; texts may as well be a plain list

    path = named_file(name, "corpora", "corpus")
    rows = []
    for number, row in read_json_lines(path):
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise RmuLabError(f"{path}, line {number} has no string `text`; give each object a non-empty one.")
        rows.append(row)
    if not rows:
        raise RmuLabError(f"{path} holds no texts; give at least one batch of them.")
    return Dataset.from_list(rows)


def texts_of(corpus: Dataset | Sequence[str], name: str, at_least: int) -> list[str]:
    """The texts of a data set's ``text`` column, or of a list of strings.

    Raises
    ------
    RmuLabError
        if there are fewer than `at_least` (one batch), or something else than strings.
    """
    if isinstance(corpus, str):
        raise RmuLabError(f"{name} is one string; give a list of texts or load_corpus({corpus[:40]!r}).")
    texts = list(corpus["text"] if hasattr(corpus, "column_names") else corpus)
    if len(texts) < at_least:
        raise RmuLabError(f"{name} holds {len(texts)} texts, but one batch takes {at_least}; add texts or lower batch_size.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise RmuLabError(f"{name}[{index}] is {text!r}, not a text; give non-empty strings.")
    return texts


@dataclass(frozen=True)
class TokenBatch:
    """Texts as tokens, padded to one length."""

    input_ids: Tensor  # (batch, tokens) int64
    attention_mask: Tensor  # (batch, tokens) int64, 1 for a token, 0 for padding

    def to(self, device: torch.device) -> TokenBatch:
        """Both tensors on `device`; nobody waits for a copy to a GPU."""
        if device.type == "cuda" and not self.input_ids.is_cuda:
            ids, mask = self.input_ids.pin_memory(), self.attention_mask.pin_memory()
            return TokenBatch(ids.to(device, non_blocking=True), mask.to(device, non_blocking=True))
        return TokenBatch(self.input_ids.to(device), self.attention_mask.to(device))

    def counted(self, *, padding: bool = False, first_token: bool = False) -> Tensor:
        """Which positions enter a mean over tokens: (batch, tokens) bool.

        By default neither padding nor the first token of each text, whose representation is the
        attention sink's and a hundred times as long as the others (notebook 01).
        """
        if padding and first_token:
            return torch.ones_like(self.attention_mask, dtype=torch.bool)
        real = self.attention_mask.bool()
        first = real & (self.attention_mask.cumsum(dim=1) == 1)
        return (~real if padding else torch.zeros_like(real)) | (real if first_token else real & ~first)


def token_batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    batch_size: int,
    max_length: int,
    padding_side: str = "right",
) -> list[TokenBatch]:
    """The texts in their order, `batch_size` at a time, each cut after `max_length` tokens; the last batch may be smaller.

    Raises
    ------
    RmuLabError
        if a text yields fewer than two tokens: nothing is left of it once the first is left out.
    """
    texts = list(texts)
    if tokenizer.pad_token is None:
        raise RmuLabError("The tokenizer has no padding token; set tokenizer.pad_token = tokenizer.eos_token.")
    batches = []
    for start in range(0, len(texts), batch_size):
        encoded = tokenizer(
            texts[start : start + batch_size],
            padding=True,
            padding_side=padding_side,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        batch = TokenBatch(encoded["input_ids"], encoded["attention_mask"])
        lengths = batch.attention_mask.sum(dim=1)
        if lengths.min() < 2:
            short = texts[start + int(lengths.argmin())]
            raise RmuLabError(f"The text {short!r} is shorter than two tokens; leave it out.")
        batches.append(batch)
    return batches

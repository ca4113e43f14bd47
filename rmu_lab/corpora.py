"""Forget and retain texts: JSON Lines files and data sets in, token batches out. Taught in notebook 00."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .errors import RmuLabError
from .files import named_file, read_json_lines
from .hub import is_data_set, load_data_set
from .torch_state import in_default_torch_state

if TYPE_CHECKING:
    from datasets import Dataset


def load_corpus(name: str | Path, *, subset: str | None = None, split: str | None = None, column: str = "text") -> Dataset:
    """Load a corpus as a `datasets.Dataset` with a column ``text`` (and whatever else it carries).

    Taught in notebook 00.

    Parameters
    ----------
    name
        ``"forget_bio"``, ``"retain_general"``, ... (the files of ``data/corpora``); the path of a JSON Lines file whose
        objects have a string ``text``; or a data set: its id on the Hugging Face hub, such as ``"Salesforce/wikitext"``,
        or the folder of a copy. Only an id that is no file or folder here is looked up on the hub.
    subset, split
        which part of a data set: one of its configurations, such as ``"wikitext-2-raw-v1"``, and one of its splits, by
        default ``"train"``. A file has neither.
    column
        where the texts stand; it becomes ``text``.

    Returns
    -------
    Dataset
        with one row for each text, in the order of the source. Rows of a data set whose text is empty are left out.

    Raises
    ------
    RmuLabError
        if a line of a file is not an object with a non-empty text (naming file and line); if there is no such data set,
        the hub cannot be reached, or the data set has no such column of texts.
    """
    from datasets import Dataset  # takes a second to import; texts may as well be a plain list

    if is_data_set(name):
        return _texts_in(load_data_set(name, subset, split or "train"), name, column)
    path = named_file(name, "corpora", "corpus")
    if subset is not None or split is not None:
        raise RmuLabError(f"{path} is a file, which has no subsets and splits; leave them out.")
    rows = []
    for number, row in read_json_lines(path):
        text = row.get(column)
        if not isinstance(text, str) or not text.strip():
            raise RmuLabError(f"{path}, line {number} has no string `{column}`; give each object a non-empty one.")
        rows.append({**row, "text": text})
    if not rows:
        raise RmuLabError(f"{path} holds no texts; give at least one batch of them.")
    return Dataset.from_list(rows)


def _texts_in(data_set: Dataset, name: str | Path, column: str) -> Dataset:
    """The rows of a data set that have a text, with it in the column ``text``."""
    if column not in data_set.column_names:
        raise RmuLabError(
            f"The data set {str(name)!r} has no column {column!r}; give `column` one of: {', '.join(data_set.column_names)}."
        )
    kept = [index for index, text in enumerate(data_set[column]) if isinstance(text, str) and text.strip()]
    if not kept:
        raise RmuLabError(f"The data set {str(name)!r} holds no texts in its column {column!r}; choose another column.")
    if column != "text":
        data_set = data_set.remove_columns("text") if "text" in data_set.column_names else data_set
        data_set = data_set.rename_column(column, "text")
    return data_set.select(kept)


def texts_of(corpus: Dataset | Sequence[str], name: str, at_least: int) -> list[str]:
    """Take the texts of a data set's ``text`` column, or of a list of strings.

    Raises
    ------
    RmuLabError
        if there are fewer than `at_least` (one batch), or something else than strings.
    """
    if isinstance(corpus, str):
        raise RmuLabError(f"{name} is one string; give a list of texts or load_corpus({corpus[:40]!r}).")
    texts = list(cast(Any, corpus)["text"] if hasattr(corpus, "column_names") else corpus)
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
        """Return both tensors on `device`; nobody waits for a copy to a GPU."""
        if device.type == "cuda" and not self.input_ids.is_cuda:
            ids, mask = self.input_ids.pin_memory(), self.attention_mask.pin_memory()
            return TokenBatch(ids.to(device, non_blocking=True), mask.to(device, non_blocking=True))
        return TokenBatch(self.input_ids.to(device), self.attention_mask.to(device))

    def counted(self, *, padding: bool = False, first_token: bool = False) -> Tensor:
        """Say which positions enter a mean over tokens: (batch, tokens) bool.

        By default neither padding nor the first token of each text, whose representation is the
        attention sink's and a hundred times as long as the others (notebook 01).
        """
        if padding and first_token:
            return torch.ones_like(self.attention_mask, dtype=torch.bool)
        real = self.attention_mask.bool()
        first = real & (self.attention_mask.cumsum(dim=1) == 1)
        return (~real if padding else torch.zeros_like(real)) | (real if first_token else real & ~first)


@in_default_torch_state
def token_batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    batch_size: int,
    max_length: int,
    padding_side: str = "right",
) -> list[TokenBatch]:
    """Tokenise texts in their order, `batch_size` at a time (the last fewer), each cut after `max_length` tokens.

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

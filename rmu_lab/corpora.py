"""Forget and retain texts: JSON Lines files and data sets in, token batches out. Taught in notebook 00."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .errors import RmuLabError
from .files import named_file, read_json_lines
from .hub import is_data_set, known_corpus, load_data_set
from .stored import sentence_of
from .tables import checked_name, rows_of, rows_to_data_set
from .tokens import appended_tokens, padded
from .torch_state import in_default_torch_state

if TYPE_CHECKING:
    from datasets import Dataset


def load_corpus(
    name: str | Path,
    *,
    subset: str | None = None,
    split: str | None = None,
    column: str = "text",
    data: str | Path | None = None,
) -> Dataset:
    """Load a corpus as a `datasets.Dataset` with a column ``text`` (and whatever else it carries).

    Taught in notebook 00.

    Parameters
    ----------
    name
        ``"forget_bio"``, ``"retain_general"``, ... (the files of ``data/corpora``); ``"wmdp-bio"``, ``"wmdp-cyber"`` or
        ``"wikitext"``, what the papers train on; the path of a JSON Lines file whose objects have a string ``text``, or of
        a plain text (``.txt``), each paragraph a passage; or a data set: its id on the Hugging Face hub, such as
        ``"Salesforce/wikitext"``, or the folder of a copy. Only what is no file or folder here is looked up on the hub.
    subset, split
        which part of a data set: one of its configurations, such as ``"wikitext-2-raw-v1"``, and one of its splits, by
        default ``"train"``; those that the papers take have theirs. A file has neither.
    column
        where the texts stand; it becomes ``text``.
    data
        folder with copies of what the papers train on, e.g. ``bio-forget-corpus.jsonl``, taken instead of the hub's.

    Returns
    -------
    Dataset
        with one row for each text, in the order of the source. Rows of a data set whose text is empty are left out.

    Raises
    ------
    RmuLabError
        if a line of a file is not an object with a non-empty text (naming file and line); if there is no such data set,
        the hub cannot be reached, or the data set has no such column of texts.

    Notes
    -----
    ``"wmdp-bio"`` is gated: to get it, log in (``hf auth login``), ask on
    https://huggingface.co/datasets/cais/wmdp-bio-forget-corpus, and wait for approval. The published code takes whole
    lines of the cyber corpus's file, JSON marks and all; here the text is taken.
    """
    known = known_corpus(name)
    source = checked_name(name, "corpus") if known is None else known.copy_in(data) or known.repository
    if is_data_set(source):
        subset, split = subset or (known.config if known else None), split or (known.split if known else "train")
        return _texts_in(load_data_set(source, subset, split, known), name, column)
    path = named_file(source, "corpora", "corpus")
    if subset is not None or split is not None:
        raise RmuLabError(f"{path} is a file, which has no subsets and splits; leave them out.")
    numbers, rows = [], []
    for number, row in _paragraphs(path) if path.suffix == ".txt" else read_json_lines(path):
        text = row.get(column)
        if not isinstance(text, str) or (not text.strip() and known is None):
            raise RmuLabError(f"{path}, line {number} has no string `{column}`; give each object a non-empty one.")
        if text.strip():  # a copy of wikitext has empty ones
            numbers.append(number)
            rows.append({**row, "text": text})
    if not rows:
        raise RmuLabError(f"{path} holds no texts; give at least one batch of them.")
    return rows_to_data_set(path, numbers, rows)


def _paragraphs(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Passages of a plain text between blank lines, with the number of the line where each begins."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RmuLabError(f"{path} cannot be read ({sentence_of(error)}); give a UTF-8 text file.") from None
    passages: list[tuple[int, dict[str, Any]]] = []
    for blank, group in itertools.groupby(enumerate(lines, 1), lambda numbered: not numbered[1].strip()):
        if not blank:
            numbered = list(group)
            passages.append((numbered[0][0], {"text": "\n".join(line for _, line in numbered).strip()}))
    return passages


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


def texts_of(corpus: Dataset | Iterable[str], name: str, at_least: int) -> list[str]:
    """Take the texts of a data set's ``text`` column, or of a list of strings.

    Raises
    ------
    RmuLabError
        if there are fewer than `at_least` (one batch), or something else than strings.
    """
    if isinstance(corpus, (str, Path)):
        raise RmuLabError(f"{name} is one string; give a list of texts or load_corpus({str(corpus)[:40]!r}).")
    texts = rows_of(corpus, name, "load_corpus(...)", column="text")
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

    What the tokenizer puts before a text, such as the token that begins texts, is part of it; what some put behind it is
    not, as everywhere in this package: a text that was cut has no end, and the others go on as far as anyone knows.

    Nothing is prefetched while a model trains, because nothing is left to fetch: all batches are made here before the first
    step and kept, some kilobytes each, and no step waits for their copies to a GPU (`TokenBatch.to`).

    Raises
    ------
    RmuLabError
        if there are no texts, they are something else, or one yields fewer than two tokens: nothing is left of it once the
        first is left out.
    """
    texts = texts_of(texts, "texts", 1)
    if tokenizer.pad_token is None:
        raise RmuLabError("The tokenizer has no padding token; set tokenizer.pad_token = tokenizer.eos_token.")
    appended, batches = appended_tokens(tokenizer), []
    for start in range(0, len(texts), batch_size):
        chosen = texts[start : start + batch_size]
        whole = tokenizer(chosen, truncation=True, max_length=max_length + appended)["input_ids"]
        rows = [row[: len(row) - appended] for row in whole]
        for text, row in zip(chosen, rows, strict=True):
            if len(row) < 2:
                raise RmuLabError(f"The text {text!r} is shorter than two tokens; leave it out.")
        batches.append(TokenBatch(*padded(rows, tokenizer.pad_token_id, padding_side)))
    return batches

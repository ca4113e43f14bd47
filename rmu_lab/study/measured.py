"""What one measurement gave, stored whole with its settings and where it comes from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RmuLabError
from ..estimates import Number, Numbers
from ..files import data_folder, file_digest, write_json
from ..provenance import provenance
from ..stored import checked, reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DATA = ("corpora/forget_bio.jsonl", "corpora/retain_general.jsonl", "questions/bio.jsonl")
"""Files below `data/` that decide the numbers."""


class NotMeasuredError(RmuLabError):
    """A stored result that claims rest on is not there; the message says what makes it."""


def measure_and_store(
    path: Path,
    measure: Callable[..., Numbers],
    settings: Mapping[str, Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Measure, unless `path` holds this measurement at these settings already, and store it there."""
    plain = json.loads(json.dumps(dict(settings)))
    if path.is_file():
        record = stored_record(path)
        if record["settings"] == plain and record["data"] == data_digests():
            return
    start = time.perf_counter()
    numbers = measure(model, tokenizer, **settings)
    record = {
        "measurement": path.stem,
        "model": model.name_or_path,
        "dtype": str(model.dtype).removeprefix("torch."),
        "settings": plain,
        "data": data_digests(),
        "numbers": {name: asdict(number) for name, number in numbers.items()},
        "seconds": time.perf_counter() - start,
        "provenance": provenance(),
    }
    write_json(path, record)


def data_digests() -> dict[str, str]:
    """Return the SHA-256 of the files that decide the numbers."""
    return {name: file_digest(data_folder() / name) for name in DATA}


def stored_numbers(path: Path) -> Numbers:
    """Return the numbers of a stored measurement.

    Raises
    ------
    RmuLabError
        if the file holds none.
    """
    with _reading(path):
        return {name: checked(Number.from_dict(plain)) for name, plain in stored_record(path)["numbers"].items()}


def stored_record(path: Path) -> dict[str, Any]:
    """Return what `measure_and_store` wrote.

    Raises
    ------
    RmuLabError
        if the file holds something else.
    """
    with _reading(path):
        record = json.loads(path.read_text(encoding="utf-8"))
        if missing := _FIELDS - record.keys():
            raise KeyError(min(missing))
        return dict(record)


_FIELDS = {"settings", "data", "numbers", "seconds", "provenance"}


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading(f"{path} is not a stored measurement", "remove it and make it anew with `python -m benchmarks.study`")

"""Data sets of the Hugging Face hub, or of a folder that holds a copy of one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .errors import RmuLabError

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_data_set(name: str | Path) -> bool:
    """Say whether a name stands for a data set: a folder, or ``"owner/name"`` where no file is called that."""
    path = Path(name)
    if os.path.isdir(path):
        return True
    named = isinstance(name, str) and _HUB_ID.fullmatch(name) is not None
    return named and not os.path.isfile(path) and path.suffix not in (".json", ".jsonl")


def load_data_set(name: str | Path, subset: str | None = None, split: str = "train") -> Dataset:
    """Load one split of a data set; none of its code is run.

    Parameters
    ----------
    name
        an id on the hub, ``"owner/name"``, or the folder of a copy. A folder of that name goes first.
    subset
        which of its configurations, where it has several.
    split
        as `datasets` writes it, e.g. ``"train"`` or ``"train[:100]"``.

    Raises
    ------
    RmuLabError
        if there is no such data set, subset or split, or the hub cannot be reached.
    """
    from datasets import load_dataset  # takes a second to import
    from datasets.exceptions import DatasetNotFoundError

    folder = os.path.isdir(name)
    try:
        if not folder:
            return load_dataset(str(name), subset, split=split)
        # `datasets` remembers a folder by its name, not by where it lies: another copy of that name would give what the
        # first one holds. So a folder is unpacked into a place of its own, and kept in memory.
        with TemporaryDirectory(prefix="rmu-lab-", ignore_cleanup_errors=True) as unpacked:
            where = str(Path(name).resolve())
            return load_dataset(where, subset, split=split, cache_dir=unpacked, keep_in_memory=True)
    except DatasetNotFoundError:
        raise RmuLabError(
            f"There is no data set {str(name)!r} on the Hugging Face hub, or it must be asked for there; check its name, or "
            "log in with: hf auth login."
        ) from None
    except Exception as error:  # of datasets and huggingface_hub: of many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        advice = "check the folder" if folder else "check that the hub can be reached"
        raise RmuLabError(
            f"The data set {str(name)!r} cannot be loaded ({' '.join(lines[:2])}); {advice}, the subset and the split."
        ) from error

"""Rows of a sweep, and the file that collects them: one JSON object on each line, none of them lost by a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..files import check_file
from ..stored import checked, reading
from ..unlearning.config import MethodConfig
from ..unlearning.method_table import config_from_dict

_START = b'{"key": '  # of every line, so that no other file is taken for a sweep's and cut


@dataclass(frozen=True)
class SweepRow:
    """What one setting of a sweep came to."""

    key: str
    """SHA-256 of the setting, the data and the model: what tells a resumed sweep that this row is done."""
    config: MethodConfig | None
    """None: the base model, unedited."""
    scores: dict[str, Accuracy]
    """By name of the question set; empty if training diverged."""
    first: dict[str, Any]
    """The first entry of the training's history (see `UnlearnResult.history`); empty without training or if it diverged."""
    last: dict[str, Any]
    """The last entry."""
    seconds: dict[str, float]
    """Wall-clock time of ``training`` and ``evaluation``, without the passes that all settings share."""
    error: str | None
    """Why there are no scores, if training diverged."""
    model_name: str
    digests: dict[str, str]
    """SHA-256 of the model's weights, of each corpus and of each question set."""
    provenance: dict[str, Any]
    """Versions, machine and time."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; predictions and right answers as strings with one digit for each question."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain["config"] = None if self.config is None else self.config.to_dict()
        plain["scores"] = {name: score.to_dict() for name, score in self.scores.items()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SweepRow:
        """Make a row of what `to_dict` gave.

        Raises
        ------
        RmuLabError
            if it is not what `to_dict` gives.
        """
        with reading("This is no row of a sweep", "give a file that sweep() wrote"):
            scores = {name: Accuracy.from_dict(score) for name, score in plain["scores"].items()}
            config = None if plain["config"] is None else config_from_dict(plain["config"])
            return checked(cls(**{**plain, "scores": scores, "config": config}))


def row_key(config: MethodConfig | None, style: str, model_name: str, digests: Mapping[str, str]) -> str:
    """Return the SHA-256 of everything that decides a row's numbers; ``config=None`` is the base model."""
    facts = [None if config is None else config.to_dict(), style, model_name, dict(digests)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load_sweep(path: str | Path) -> list[SweepRow]:
    """Return the finished rows of a sweep's file, in the order in which they were written. Taught in notebook 05.

    Raises
    ------
    RmuLabError
        if there is no such file, or it is not one that `sweep` wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise RmuLabError(f"There is no file {path}; give one that sweep() wrote.")
    return [row_from(path, number, row) for number, row in enumerate(_read(path)[0], 1)]


def row_from(path: Path, number: int, plain: Mapping[str, Any]) -> SweepRow:
    """Make a row of one line of a sweep's file; errors name both.

    Raises
    ------
    RmuLabError
        if it is not what `SweepRow.to_dict` gives.
    """
    with reading(f"{path}, line {number} is no row of a sweep", "give a new file, or one sweep() wrote"):
        return SweepRow.from_dict(plain)


def _read(path: Path) -> tuple[list[dict], int]:
    """The whole rows of a file, and how many bytes they take; what a kill left of a last line is not counted.

    Raises
    ------
    RmuLabError
        naming file and line, if a line is not a row: the file is none of a sweep's.
    """
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RmuLabError(f"{path} cannot be read ({error.strerror}); choose another file.") from None
    rows = []
    for number, line in enumerate([*lines, torn], 1):
        whole = number <= len(lines)
        try:
            if not line.startswith(_START[: None if whole else len(line)]):
                raise ValueError
            if whole:
                rows.append(json.loads(line))
                if not isinstance(rows[-1]["key"], str):  # a sweep looks rows up by it
                    raise ValueError
        except (ValueError, RecursionError):
            raise RmuLabError(
                f"{path}, line {number} is no row of a sweep; give a new file, or one sweep() wrote."
            ) from None
    return rows, sum(len(line) + 1 for line in lines)


class RowFile:
    """A sweep's file, held by one process at a time; a context manager."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: list[dict] = []
        self.scratch_prefix = f".{self.path.name}-activations-"

    def __enter__(self) -> RowFile:
        """Take the file, read its rows, and remove what a killed sweep left: half a line, and activations.

        Raises
        ------
        RmuLabError
            if another sweep holds it, it cannot be written, or it is not a sweep's.
        """
        check_file(self.path, parents=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise RmuLabError(f"Another sweep is writing to {self.path}; wait for it or choose another file.") from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self.rows, whole = _read(self.path) if self.path.exists() else ([], 0)
            self._file = open(self.path, "ab", buffering=0)  # closed by __exit__, with nothing left to write
            self._file.truncate(whole)
            self._remove_abandoned()
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def _remove_abandoned(self) -> None:
        """Remove activations of a killed sweep; we hold the lock, so nobody uses them."""
        for folder in self.path.parent.iterdir():  # no glob: the file's name may look like a pattern
            if folder.name.startswith(self.scratch_prefix):
                shutil.rmtree(folder, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:
            self._lock.release()

    def append(self, row: SweepRow) -> None:
        """Add a row and wait until it is on the disk.

        Raises
        ------
        RmuLabError
            if it cannot be written; the rows before it are safe.
        """
        plain = row.to_dict()
        line = json.dumps(plain).encode() + b"\n"
        try:
            left = memoryview(line)
            while left:  # a full disk may take a part
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None
        self.rows.append(plain)

    def _unwritable(self, error: OSError) -> RmuLabError:
        return RmuLabError(f"{self.path} cannot be written ({error.strerror}); choose another file or free space there.")

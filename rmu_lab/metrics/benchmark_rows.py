"""Rows of a benchmark: of a file, of a folder of files, or of a data set of the Hugging Face hub; each is checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import RmuLabError
from ..files import digest, read_json_lines
from ..hub import is_data_set, load_data_set
from ..stored import sentence_of
from ..tables import checked_name, rows_of, rows_to_data_set

if TYPE_CHECKING:
    from datasets import Dataset

Problem: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Says what is wrong with a row and what to do, or None."""


def load_rows(data: str | Path, kind: str, subset: str, split: str, name: str, problem: Problem) -> Dataset:
    """Load the rows of one part of a benchmark.

    Parameters
    ----------
    data
        a file of JSON Lines or with a JSON list of objects; a folder that has ``NAME.jsonl`` or ``NAME.json``; a folder with
        a copy of the repository on the hub; or the id on the hub. None of a data set's code is run.
    kind
        what the benchmark is called, for errors.
    subset, split
        which part of a data set.
    name
        what the part's file is called in a folder, without its ending.
    problem
        of a row, for its error.

    Raises
    ------
    RmuLabError
        naming file and line, or the row of a data set, if a row is not well formed; if there are no rows or no such file,
        folder or data set.
    """
    source = checked_name(data, kind)
    if os.path.isfile(source):
        return _of_file(Path(source), problem)
    if os.path.isdir(source):
        files = _files(source, name)
        found = next((file for file in files if file.is_file()), None)
        if found is not None:
            return _of_file(found, problem)
        if not may_hold(source, name):
            raise RmuLabError(f"{source} has no {files[0].name} or {files[1].name}; put that part of {kind} there.")
    elif not is_data_set(source):
        raise RmuLabError(f"There is no file, folder or data set {str(source)!r}; check where {kind} lies.")
    rows = load_data_set(source, subset, split)
    for at, row in enumerate(rows):
        if said := problem(row):
            raise RmuLabError(f"{source}, {subset}, {split}, row {at}: {said}.")
    return rows


def may_hold(data: str | Path, name: str) -> bool:
    """Say whether a folder may hold a part; only its files are looked for, and a data set of the hub may hold any."""
    if not os.path.isdir(data):
        return True
    # A copy of a repository of the hub has a README, which says what it holds.
    return any(file.is_file() for file in (*_files(data, name), Path(data) / "README.md"))


def _files(folder: str | Path, name: str) -> list[Path]:
    return [Path(folder) / f"{name}{ending}" for ending in (".jsonl", ".json")]


def _of_file(path: Path, problem: Problem) -> Dataset:
    numbered = _numbered(path)
    for number, row in numbered:
        if said := problem(row):
            raise RmuLabError(f"{path}, line {number}: {said}.")
    if not numbered:
        raise RmuLabError(f"{path} holds no objects; give at least one.")
    return rows_to_data_set(path, [number for number, _ in numbered], [row for _, row in numbered])


def _numbered(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of JSON Lines, or of one JSON list, with the lines where they begin."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RmuLabError(f"{path} cannot be read ({sentence_of(error)}); give a UTF-8 text file.") from None
    if not text.lstrip().startswith("["):
        return read_json_lines(path)
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RmuLabError(
            f"{path} is not JSON ({sentence_of(error)}); write a list of objects, or one on each line."
        ) from None
    rows: list[tuple[int, dict[str, Any]]] = []
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return rows
        number = text.count("\n", 0, at) + 1
        row, at = decoder.raw_decode(text, at)
        if not isinstance(row, dict):
            raise RmuLabError(f"{path}, line {number} is not an object but {type(row).__name__}; write a list of objects.")
        rows.append((number, row))


def checked_rows(rows: object, name: str, loader: str, problem: Problem) -> list[dict[str, Any]]:
    """Return rows that a caller gives, as a list of plain objects.

    Raises
    ------
    RmuLabError
        if there are none, one is not well formed (its index is named), or it is something else: a name, a path, a table.
    """
    found = rows_of(rows, name, loader)
    if not found:
        raise RmuLabError(f"There are no rows in {name}; give at least one.")
    for at, row in enumerate(found):
        said = problem(row) if isinstance(row, Mapping) else f"it is {row!r}, but must be a mapping"
        if said:
            raise RmuLabError(f"{name}[{at}]: {said}.")
    return [dict(row) for row in found]


def missing_text(row: Mapping[str, Any], *fields: str) -> str | None:
    """Say which of the fields is no text that has words in it, or None."""
    for field in fields:
        if not isinstance(row.get(field), str) or not row[field].strip():
            return f"`{field}` is {row.get(field)!r}, but must be a non-empty string; give one"
    return None


def rows_digest(rows: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of rows, in hexadecimal: of their fields and what is in them, in the rows' order."""
    return digest(json.dumps(row, sort_keys=True, default=str) for row in rows)

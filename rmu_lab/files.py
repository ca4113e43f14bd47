"""Reading JSON Lines with errors that name the line, and writing files that are whole or absent."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import RmuLabError

_PACKAGE = Path(__file__).parent


def data_folder() -> Path:
    """Return where `data/` lies: inside an installed package, beside it in a checkout."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def named_file(name: str | Path, folder: str, kind: str) -> Path:
    """Return the file of a short name such as ``"forget_bio"``, or of a path to a JSON Lines file.

    Raises
    ------
    RmuLabError
        if there is neither; the message lists the short names of `folder`.
    """
    path = Path(name)
    if path.suffix in (".jsonl", ".json", ".txt") or path.is_file():
        if not path.is_file():
            raise RmuLabError(f"There is no file {path}; check the path of the {kind}.")
        return path
    shipped = {file.stem: file for file in sorted((data_folder() / folder).glob("*.jsonl"))}
    if str(name) not in shipped:
        raise RmuLabError(
            f"There is no {kind} named {str(name)!r}; use one of {', '.join(shipped)} or the path of a .jsonl file."
        )
    return shipped[str(name)]


def read_json_lines(path: Path) -> list[tuple[int, dict]]:
    """Read all objects of a JSON Lines file as (line number from 1, object); blank lines are skipped.

    Raises
    ------
    RmuLabError
        naming file and line, if the text is not UTF-8 or a line is not a JSON object.
    """
    rows = []
    try:
        # utf-8-sig: some editors put a mark in front. Not splitlines: a string may hold U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RmuLabError(f"{path} cannot be read ({error}); give a UTF-8 text file.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RmuLabError(f"{path}, line {number} is not JSON ({error.msg}); write one object on each line.") from None
        if not isinstance(row, dict):
            raise RmuLabError(
                f"{path}, line {number} is not an object but {type(row).__name__}; write one object on each line."
            )
        rows.append((number, row))
    return rows


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all.

    Raises
    ------
    RmuLabError
        if it cannot be written.
    """
    text = json.dumps(value, indent=1) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise RmuLabError(f"{path} cannot be written ({error.strerror}); choose another place.") from None


def digest(texts: Iterable[str]) -> str:
    """Return the SHA-256 of the texts in their order, in hexadecimal."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text.encode()).digest())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to write into that becomes `path` when the block ends without an error, and vanishes otherwise.

    It is made beside `path`, so that the last step is one rename: no reader ever sees half of it.

    Raises
    ------
    RmuLabError
        if `path` exists already or its parent cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise RmuLabError(f"{path} exists already; choose a new folder or remove it first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise RmuLabError(f"{path.parent} cannot be written ({error.strerror}); choose another folder.") from None
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

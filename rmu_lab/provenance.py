"""What a stored result must carry to be believed and repeated: versions, machine, time."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata

UNKNOWN = "not installed"
"""Stands for the version of a package that is imported without having been installed."""


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that numbers depend on."""
    packages = ("rmu-lab", "torch", "transformers", "tokenizers", "numpy")
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


def machine() -> dict[str, str | int]:
    """Return the processor, its cores, the threads torch uses, and the GPU if there is one."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def provenance(seed: int | None = None) -> dict:
    """Return command, versions, seed, machine and time (UTC), for the head of a stored result."""
    return {
        "command": _command(sys.orig_argv),
        "versions": versions(),
        "seed": seed,
        "machine": machine(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # such as a checkout on the import path
        return UNKNOWN


def _command(given: Sequence[str]) -> str:
    """What started this process, as it can be typed elsewhere: Python and its installed programs without their folder."""
    program, *rest = given or ["python"]  # a program with Python inside may have no command
    folder = os.path.dirname(rest[0]) if rest else ""
    if folder and os.path.abspath(folder) == os.path.dirname(sys.executable):  # such as rmu-lab
        program, *rest = rest
    return " ".join([os.path.basename(program), *rest])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"

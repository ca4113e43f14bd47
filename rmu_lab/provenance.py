"""What a stored result must carry to be believed and repeated: code, versions, machine, time."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

UNKNOWN = "not installed"
"""Stands for the version of a package that is imported without having been installed."""


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that numbers depend on."""
    packages = ("rmu-lab", "torch", "transformers", "tokenizers", "numpy")
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


def machine() -> dict[str, str | int]:
    """Return the processor, its cores, the threads and float32 product that torch uses, and the GPU if there is one."""
    import torch

    from .matmul import chosen_matmul

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "float32 product": chosen_matmul(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def provenance(seed: int | None = None) -> dict:
    """Return command, code, versions, seed, machine and time (UTC), for the head of a stored result."""
    return {
        "command": _command(sys.orig_argv),
        "code": dict(CODE),
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


def code_digest(package: Path) -> str:
    """Return the SHA-256 of a package's Python files, their names and what is in them, without its data."""
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    total = hashlib.sha256()
    for name in sorted(name for name in files if not name.startswith("data/")):  # which a checkout has elsewhere
        text = files[name].read_bytes().replace(b"\r\n", b"\n")  # as git may write lines on Windows
        total.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(text).digest())
    return total.hexdigest()


def commit(package: Path) -> str | None:
    """Return the commit of a package that lies in its repository, with ``-dirty`` behind it if files differ from it."""
    questions = ("ls-files --error-unmatch __init__.py", "describe --always --dirty --abbrev=40 --exclude=*")
    try:
        for question in questions:  # the first fails where the repository is another's that only lies around it
            command = ["git", *question.split()]
            answer = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


# Of the code that this process has loaded: files may be changed while it runs.
CODE = {"digest": code_digest(Path(__file__).parent), "commit": commit(Path(__file__).parent)}


NUMBERS_SINCE = (0, 1)
"""The first version (major, minor) whose stored results still hold. A release that changes numbers raises it to its own."""


def old_versions(stored: Mapping[str, Any]) -> list[str]:
    """Say that a result was made by a version whose numbers do not hold in this one, or by other code, if it was."""
    then, now = (".".join(found["rmu-lab"].split(".")[:2]) for found in (stored["versions"], versions()))
    try:
        holds = NUMBERS_SINCE <= _pair(then) <= _pair(now)
    except ValueError:  # not installed, here or there
        holds = then == now
    return ([] if holds else [f"it was made by rmu-lab {then}, this is {now}"]) + changed_code(stored)


def _pair(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


NO_CODE = "it does not say which code made it"


def changed_code(stored: Mapping[str, Any]) -> list[str]:
    """Say that the code has changed since a result was made, if it has, or that the result does not tell."""
    if "code" not in stored:
        return [NO_CODE]
    made_by = stored["code"]
    if made_by["digest"] == CODE["digest"]:
        return []
    return [f"the code has changed since it was made ({made_by['commit'] or 'no commit known'})"]


def _command(given: Sequence[str]) -> str:
    """What started this process, as it can be typed elsewhere: Python and its installed programs without their folder."""
    program, *rest = given or ["python"]  # a program with Python inside may have no command
    folder = os.path.dirname(rest[0]) if rest else ""
    if folder and os.path.abspath(folder) == os.path.dirname(sys.executable):  # such as rmu-lab
        program, *rest = rest
    return shlex.join([os.path.basename(program), *rest])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"

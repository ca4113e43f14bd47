"""What a stored result must carry to be believed and repeated: versions, machine, time."""

import os
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers depend on."""
    packages = ("rmu-lab", "torch", "transformers", "tokenizers", "numpy")
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in packages}}


def machine() -> dict[str, str | int]:
    """Processor, its cores, the threads torch uses, and the GPU if there is one."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def provenance(seed: int | None = None) -> dict:
    """Command, versions, seed, machine and time (UTC), for the head of a stored result."""
    return {
        "command": " ".join([os.path.basename(sys.orig_argv[0]), *sys.orig_argv[1:]]),
        "versions": versions(),
        "seed": seed,
        "machine": machine(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"

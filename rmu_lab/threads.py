"""How many threads a command starts on a machine or container that it shares, and how long they spin.

What its user has set stays. The package alone changes nothing, since it runs inside other programs too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

SPINS = "1000"
"""Rounds that a thread spins while it waits for others before it sleeps. By default they spin for so long that they use up
the turns of other processes: three users at once on two cores took four times as long (benchmarks/busy.py)."""


def share_the_machine() -> None:
    """Set OpenMP's variables for this process; to be called before torch is loaded, which reads them then.

    Threads soon sleep while they wait, and there are no more of them than the container may use processors: OpenMP counts
    the processors of the machine, of which a container may have a few, and threads beyond these are put on hold.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    quota = cpu_quota()
    if quota is not None and quota < usable_cpus():
        os.environ.setdefault("OMP_NUM_THREADS", str(quota))


def usable_cpus() -> int:
    """Count the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> int | None:
    """Return how many processors' time this process's control groups (Linux, version 1 or 2) may use, rounded up.

    Parameters
    ----------
    root
        of the file system.

    Returns
    -------
    int or None
        at least 1; None where there is no limit, or no control group.
    """
    shares = [quota / period for quota, period in _limits(root) if quota > 0 and period > 0]
    return max(1, math.ceil(min(shares))) if shares else None


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of processor time and the period in which they may be used, of each control group from ours upwards."""
    folder = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        if not kinds:  # version 2
            names, where = ["cpu.max"], folder
        elif "cpu" in kinds.split(","):
            names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            where = folder / kinds if (folder / kinds).is_dir() else folder / "cpu"
        else:
            continue
        ours = where / path.lstrip("/")
        for group in (ours, *ours.parents):
            words = " ".join(_read(group / name) for name in names).split()
            if len(words) == 2 and all(word.isdecimal() for word in words):
                yield int(words[0]), int(words[1])
            if group == where:
                break


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""

"""The command line starts as many threads as it may use processors, and says nothing where its user has."""

import os
import subprocess
import sys

import pytest

from rmu_lab.threads import cpu_quota, share_the_machine, usable_cpus

V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "what is this\n"}, None),
        ({"proc/self/cgroup": "nonsense\n"}, None),
        # The tightest of a group and those around it counts.
        (
            {
                "proc/self/cgroup": "0::/user.slice/user-1000.slice\n",
                "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        # A container of version 1 sees its own group as the root of the mount.
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_quota_of_control_groups(files, quota, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("quota", "cpus", "given", "expected"),
    [
        (2, 64, {}, "2"),
        (2, 64, {"OMP_NUM_THREADS": "8"}, "8"),
        (64, 2, {}, None),  # as OpenMP counts by itself
        (None, 64, {}, None),
    ],
)
def test_no_more_threads_than_the_quota(quota, cpus, given, expected, monkeypatch):
    for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "to be removed")  # so that what the function sets is taken back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("rmu_lab.threads.cpu_quota", lambda: quota)
    monkeypatch.setattr("rmu_lab.threads.usable_cpus", lambda: cpus)
    share_the_machine()
    assert os.environ.get("OMP_NUM_THREADS") == expected and os.environ["GOMP_SPINCOUNT"] == "1000"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_torch_counts_the_processors_it_may_run_on():
    """So that the command line need not: a class whose processes are bound to a processor each gets a thread each."""
    program = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import rmu_lab.cli, torch
print(torch.get_num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    outcome = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "1" and usable_cpus() >= 1

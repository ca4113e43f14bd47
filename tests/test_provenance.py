import os
import sys
from importlib import metadata

import pytest

from rmu_lab.provenance import provenance
from rmu_lab.scorecard.sources import old_versions

BIN = os.path.dirname(sys.executable)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ([sys.executable, f"{BIN}/rmu-lab", "claims", "--run", "f4"], "rmu-lab claims --run f4"),
        ([sys.executable, f"{os.path.relpath(BIN)}/rmu-lab", "claims"], "rmu-lab claims"),
        (["/usr/bin/python3", "-m", "benchmarks.gpu"], "python3 -m benchmarks.gpu"),
        (["python", "mine/train.py", "--lr", "1e-3"], "python mine/train.py --lr 1e-3"),
    ],
)
def test_the_command_names_no_folder_of_the_installation(monkeypatch, given, command):
    monkeypatch.setattr(sys, "orig_argv", given)
    assert provenance()["command"] == command


def test_a_package_that_is_not_installed_is_no_error(monkeypatch):
    """As in a checkout on the import path: a record must not fail after the training that it is of."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(sys, "orig_argv", [])  # a program with Python inside
    found = provenance()
    assert found["versions"]["rmu-lab"] == "not installed" and found["command"] == "python"
    assert old_versions({"versions": {"rmu-lab": "0.1.0"}}) == ["it was made by rmu-lab 0.1, this is not installed"]

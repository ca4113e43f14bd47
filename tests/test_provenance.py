import os
import sys

import pytest

from rmu_lab.provenance import provenance

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

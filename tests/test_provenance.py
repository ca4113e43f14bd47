import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import rmu_lab
from rmu_lab.provenance import code_digest, commit, old_versions, provenance

BIN = os.path.dirname(sys.executable)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ([sys.executable, f"{BIN}/rmu-lab", "claims", "--run", "f4"], "rmu-lab claims --run f4"),
        ([sys.executable, f"{os.path.relpath(BIN)}/rmu-lab", "claims"], "rmu-lab claims"),
        (["/usr/bin/python3", "-m", "benchmarks.gpu"], "python3 -m benchmarks.gpu"),
        (["python", "mine/train.py", "--lr", "1e-3"], "python mine/train.py --lr 1e-3"),
        (
            ["python", "-m", "benchmarks.never_knew", "--model", "never knew"],
            "python -m benchmarks.never_knew --model 'never knew'",
        ),
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
    assert old_versions({"versions": {"rmu-lab": "0.1.0"}})[0] == "it was made by rmu-lab 0.1, this is not installed"


def test_code_is_known_by_its_content(tmp_path):
    package = tmp_path / "package"
    (package / "part").mkdir(parents=True)
    (package / "data").mkdir()
    (package / "part" / "a.py").write_bytes(b"x = 1\ny = 2\n")
    first = code_digest(package)
    (package / "data" / "b.py").write_text("of the data")
    (package / "note.txt").write_text("no code")
    (package / "part" / "a.py").write_bytes(b"x = 1\r\ny = 2\r\n")  # as git may write it on Windows
    assert code_digest(package) == first
    (package / "part" / "a.py").write_text("x = 1\ny = 3\n")
    second = code_digest(package)
    (package / "part" / "a.py").rename(package / "part" / "b.py")
    assert len({first, second, code_digest(package)}) == 3


def test_the_commit_is_that_of_the_packages_own_repository(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert commit(package) is None

    def git(*words):
        who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)  # noqa: S607

    git("init", "--quiet")
    (tmp_path / "other").touch()
    git("add", "other")
    git("commit", "-m", "other")
    assert commit(package) is None  # a repository that only lies around it
    git("add", "package")
    git("commit", "-m", "package")
    clean = commit(package)
    assert len(clean) == 40
    (package / "__init__.py").write_text("changed")
    assert commit(package) == f"{clean}-dirty"


def test_every_result_says_which_code_made_it():
    stored = provenance()["code"]
    assert stored["digest"] == code_digest(Path(rmu_lab.__file__).parent)


@pytest.mark.parametrize(
    ("then", "now", "holds"),
    [
        ("0.1.0", "0.2.0", True),
        ("0.2.3", "0.2.0", True),
        ("0.0.9", "0.2.0", False),  # before the first version whose numbers hold
        ("0.3.0", "0.2.0", False),  # a later one may have changed them
        ("0.10.0", "0.9.1", False),
        ("0.9.1", "0.10.0", True),
        ("not installed", "0.2.0", False),
        ("not installed", "not installed", True),
    ],
)
def test_results_of_which_versions_hold(monkeypatch, then, now, holds):
    monkeypatch.setattr("rmu_lab.provenance.versions", lambda: {"rmu-lab": now})
    found = [line for line in old_versions({"versions": {"rmu-lab": then}}) if "made by rmu-lab" in line]
    assert bool(found) != holds

"""The set-up files agree with one another, and importing the package costs nothing."""

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import rmu_lab

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_environment_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    extras = [requirement for name in ("lab", "eval", "test", "cluster") for requirement in EXTRAS[name]]
    wanted = [*PROJECT["dependencies"], *extras, "-e ."]
    assert listed == wanted
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_every_requirement_is_pinned_within_its_range():
    exact = pins()
    for requirement in map(Requirement, [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]):
        version = exact[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"
    assert exact["torch"] == "2.13.0"  # no local version, so that a plain CPU wheel fits


def test_ray_and_what_it_needs_are_pinned():
    """So that `make test` runs the tests on Ray with versions that were tested together."""
    needed = [Requirement(text) for text in metadata.requires("ray") or ()] if util.find_spec("ray") else []
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = pins()[re.sub(r"[-_.]+", "-", requirement.name).lower()]
            assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_make_installs_every_extra():
    makefile = (ROOT / "Makefile").read_text()
    installed = {name for group in re.findall(r'-e "\.\[([a-z,]+)\]"', makefile) for name in group.split(",")}
    assert installed == EXTRAS.keys()
    assert "\ncheck: $(TESTABLE)\n" in makefile and "\n$(TESTABLE): $(READY)\n" in makefile


def test_version_is_stated_once():
    assert rmu_lab.__version__ == PROJECT["version"]
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_of_the_command_line_do_not_spin_for_long(given, found):
    """Unless its user has chosen otherwise; the package alone chooses nothing for other programs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))} | given
    for module, expected in (("rmu_lab.cli", found), ("rmu_lab.unlearning.unlearn", given.get("GOMP_SPINCOUNT"))):
        program = f"import os, {module}; print(os.environ.get('GOMP_SPINCOUNT'))"
        command = [sys.executable, "-c", program]
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert outcome.stdout.strip() == str(expected)


def test_import_is_free():
    program = "import sys, rmu_lab.cli; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


@pytest.mark.parametrize("name", rmu_lab.__all__)
def test_public_names_exist_and_are_documented(name):
    value = getattr(rmu_lab, name)
    assert value.__doc__ and value.__module__.startswith("rmu_lab.")
    assert value is getattr(importlib.import_module(value.__module__), name)


def test_a_module_imported_first_does_not_stand_in_for_its_function():
    """`rmu_lab.attacks.gauntlet` is a module with a function `gauntlet`; so are others."""
    program = """
import rmu_lab.attacks.gauntlet, rmu_lab.unlearning.advisor, rmu_lab.sweeps.sweep, rmu_lab.unlearning.unlearn
print(*(type(value).__name__ for value in (rmu_lab.advise, rmu_lab.gauntlet, rmu_lab.sweep, rmu_lab.unlearn)))
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.split() == ["function"] * 4


def test_unknown_name():
    with pytest.raises(AttributeError, match="rmu_lab attribute unlern"):
        _ = rmu_lab.unlern
    assert "unlearn" in dir(rmu_lab)


def test_guide_lists_every_setting_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", (ROOT / "docs" / "guide" / "settings.md").read_text(), re.M)
    expected = [(item.name, repr(item.default).replace("'", '"')) for item in dataclasses.fields(rmu_lab.UnlearnConfig)]
    assert rows == expected


def test_readme_commands_are_make_targets():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    pages = [ROOT / "README.md", *(ROOT / "docs" / "guide").glob("*.md")]
    named = [set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M)) for page in pages]
    assert {"demo", "lab", "test"} <= named[0] and set().union(*named) <= targets
    run = (ROOT / ".ci" / "run").read_text()  # `make test` is check and notebooks
    assert {"make demo", "make check", "make site"} <= set(run.splitlines()) and "make notebooks NOTEBOOKS=" in run

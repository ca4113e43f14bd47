"""What is uploaded works where nothing else of this repository is: built, installed into a new environment, and run in an
empty folder. The environment sees what is installed here, so that nothing is downloaded, but not this checkout.
"""

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import typer

import rmu_lab
from rmu_lab import cli
from rmu_lab.study import CLAIMS
from rmu_lab.study.stored_table import stored_claims

pytest.importorskip("build")
pytest.importorskip("hatchling")
pytest.importorskip("hatch_fancy_pypi_readme")
ROOT = Path(__file__).parents[1]
NAME = f"rmu_lab-{rmu_lab.__version__}"


def run(*command: object, **how) -> str:
    outcome = subprocess.run(list(map(str, command)), capture_output=True, text=True, **how)
    assert outcome.returncode == 0, f"{command}\n{outcome.stdout[-2000:]}\n{outcome.stderr[-2000:]}"
    return outcome.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution, and with the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    assert {path.name for path in out.iterdir()} == {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"}
    return out


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built / f"{NAME}-py3-none-any.whl"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def about(wheel) -> Message:
    return email.message_from_bytes(contents(wheel)[f"{NAME}.dist-info/METADATA"])


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The folder of programs of a new environment with the wheel, which finds other packages where this process does."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    folder = home / ("Scripts" if os.name == "nt" else "bin")
    run(sys.executable, "-m", "pip", "--python", folder / "python", "install", "--quiet", "--no-deps", "--no-index", wheel)
    # A folder that a .pth file names stands behind the own one, and .pth files in it (such as that of this checkout,
    # installed to be edited) are not obeyed.
    where = run(folder / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    others = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (Path(where) / "others.pth").write_text("\n".join(others) + "\n")
    return folder


@pytest.fixture
def command(programs, tmp_path):
    """Run a program of the new environment in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(program: str, *given: object) -> str:
        return run(programs / program, *given, cwd=tmp_path, env=kept)

    return call


def test_the_source_distribution_makes_the_wheel_of_the_checkout(wheel, tmp_path):
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT)
    (direct,) = tmp_path.iterdir()
    one, other = contents(direct), contents(wheel)
    assert one.keys() == other.keys()  # a difference is named
    assert [name for name in one if one[name] != other[name]] == []


def test_both_hold_what_the_repository_holds(built, wheel):
    if not (ROOT / ".git").exists():
        pytest.skip("not in a repository")
    tracked = run("git", "-C", ROOT, "ls-files", "-z").split("\0")
    files = [name for name in tracked if name and (ROOT / name).is_file()]  # not those that are being removed
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in files if not name.startswith((".ci/", ".github/", ".devcontainer/"))} <= sources
    packaged = contents(wheel).keys()
    for folder, inside in (("rmu_lab/", "rmu_lab/"), ("data/", "rmu_lab/data/"), ("notebooks/", "rmu_lab/notebooks/")):
        wanted = {inside + name.removeprefix(folder) for name in files if name.startswith(folder)}
        assert wanted and wanted <= packaged
    assert not [name for name in packaged if "__pycache__" in name or "checkpoints" in name or name.startswith("tests")]


def test_the_page_of_the_package_index(about):
    """Its licence, versions and text; and no link in it to a file, which does not lie beside it there."""
    assert about["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    assert about.get_all("License-File") == ["LICENSE", "data/LICENSE"]
    versions = [line.rsplit(" ", 1)[1] for line in about.get_all("Classifier") if re.search(r":: 3\.\d+$", line)]
    assert versions == ["3.10", "3.11", "3.12", "3.13", "3.14"] and about["Requires-Python"] == ">=3.10"
    assert about["Description-Content-Type"] == "text/markdown"
    text = about.get_payload()
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert text.startswith(first) and len(text.splitlines()) > 40
    links = re.findall(r"\]\(([^)\s]*)", text) + re.findall(r'(?:src|href|srcset)="([^"]*)"', text)
    assert links and [link for link in links if not link.startswith(("https://", "#", "mailto:"))] == []
    assert "![" not in re.sub(r"!\[[^\]]*\]\(https://", "", text)


def test_it_is_found_where_it_was_installed(command, programs):
    shown = command("python", "-c", "import rmu_lab; print(rmu_lab.__file__, rmu_lab.__version__)").split()
    assert Path(shown[0]).is_relative_to(programs.parent.resolve()) and shown[1] == rmu_lab.__version__
    assert command("rmu-lab", "--version") == command("python", "-m", "rmu_lab", "--version") == f"rmu-lab {shown[1]}\n"


def test_every_command_has_its_help(command):
    found = typer.main.get_command(cli.app).commands
    lines = [
        [name, *more] for name, one in found.items() for more in ([], *([part] for part in getattr(one, "commands", ())))
    ]
    program = """
import json, sys
from typer.testing import CliRunner
from rmu_lab import cli
for words in json.loads(sys.argv[1]):
    outcome = CliRunner().invoke(cli.app, [*words, "--help"])
    print(outcome.exit_code, "Usage:" in outcome.output)
"""
    assert command("python", "-c", program, json.dumps(lines)).splitlines() == ["0 True"] * len(lines)
    shown = command("rmu-lab", "--help")
    assert all(f" {name} " in shown for name in found)


def test_the_claims(command):
    shown = command("rmu-lab", "claims")
    assert "have changed since" not in shown  # the stored table is shown
    for claim in stored_claims():
        assert re.search(rf"^{re.escape(claim.id)} .*{claim.overall}", shown, re.M)
    assert CLAIMS["eq19"].statement in command("rmu-lab", "claims", "eq19")


@pytest.mark.parametrize("edition", ["student", "teacher"])
def test_the_course(edition, command, tmp_path):
    command("rmu-lab", "course", "handed-out", "--edition", edition)
    made = {path.relative_to(tmp_path / "handed-out").as_posix() for path in (tmp_path / "handed-out").rglob("*.*")}
    here = {path.relative_to(ROOT / "notebooks").as_posix() for path in (ROOT / "notebooks").rglob("*.ipynb")}
    here = {name for name in here if "checkpoints" not in name}
    lessons = {name for name in here if not name.startswith("solutions/")}
    assert {name for name in made if name.endswith(".ipynb")} == (lessons if edition == "student" else here)
    assert {"README.md", "requirements.txt", "glossary.md"} <= made
    install = (tmp_path / "handed-out" / "requirements.txt").read_text()
    assert install == f"rmu-lab[lab]=={rmu_lab.__version__}\n"


def test_texts_questions_results_presets_and_types(command):
    program = """
from importlib import resources
from rmu_lab import load_corpus, load_questions
from rmu_lab.course.editions import notebooks_folder
from rmu_lab.files import results_folder
from rmu_lab.reproduce import Preset
inside = resources.files("rmu_lab")
print(len(load_corpus("forget_bio")), len(load_questions("bio", split="test")), (inside / "py.typed").is_file())
print(*sorted(Preset.load(file.stem).name for file in (inside / "presets").iterdir() if file.suffix == ".json"))
print(notebooks_folder() == inside / "notebooks", results_folder() == inside / "data" / "results")
"""
    numbers, presets, folders = command("python", "-c", program).splitlines()
    texts, asked, typed = numbers.split()
    assert typed == "True" and folders == "True True"
    assert presets.split() == sorted(path.stem for path in (ROOT / "rmu_lab" / "presets").glob("*.json"))
    assert int(texts) == len(rmu_lab.load_corpus("forget_bio"))
    assert int(asked) == len(rmu_lab.load_questions("bio", split="test"))


@pytest.mark.slow
def test_the_demo_forgets_and_keeps(command):
    """What the README's first command promises, on test questions that chose no setting."""
    shown = command("rmu-lab", "demo", "--device", "cpu")
    assert shown.startswith("Loading SmolLM2 135M ...") and "Unlearning took" in shown
    rows = re.findall(r"│ ([a-z ]+?) +│ +([\d.]+)% +│ +([\d.]+)%", shown)
    change = {topic: float(after) - float(before) for topic, before, after in rows}
    assert change["infectious disease"] <= -30 and change["general knowledge"] >= -3

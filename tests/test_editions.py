"""What is handed out holds no results and no solutions, and opens."""

import ast
import copy
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from rmu_lab import RmuLabError, cli
from rmu_lab.course.editions import INSTALL, SEEN, edition_of, notebooks_folder, write_edition

IMPORTS = "from rmu_lab.course import check, core"
TOP = "# 00 · Doubling\n\nAfter [the other](01_other.ipynb#Top), see [the card](../data/README.md)."
STUB = "def double(x):\n    ...  # your code"
FILLED = "def double(x):\n    return x + x"
SOLUTION = f"<details><summary>Solution</summary>\n\n```python\n{FILLED}\n```\n</details>"
WRONG = "def double(x):\n    return x"


def tagged(cell, *tags):
    cell.metadata["tags"] = list(tags)
    return cell


def lesson():
    """A notebook with a cell of every tag, executed."""
    printed = new_output("stream", text="not attempted: the package's function is used below\n")
    notebook = new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "widgets": {"application/vnd.jupyter.widget-state+json": {}},
        },
        cells=[
            new_markdown_cell(TOP),
            new_code_cell(IMPORTS),
            tagged(new_code_cell(STUB), "core"),
            new_code_cell(
                'double = core(double, lambda x: 2 * x, (lambda f: f(3) == 6, "of 3 it gives 6"))', outputs=[printed]
            ),
            tagged(new_markdown_cell(SOLUTION), "solution"),
            tagged(new_markdown_cell("It takes five minutes."), "teacher"),
            tagged(new_code_cell('assert double(2) == 4\nprint("four")'), "nbval-ignore-output"),
            tagged(new_markdown_cell("### What we see\n\nTwice two is **four**."), "finding"),
            tagged(new_code_cell('title = "Twice two is four"'), "finding"),
            new_markdown_cell(
                "**Exercise 1** (easy). Three?\n\nSolutions: [solutions/00_lesson.ipynb](solutions/00_lesson.ipynb)."
            ),
            tagged(new_code_cell('three = None\ncheck(three, (lambda x: x == 3, "it is three"))'), "exercise"),
        ],
    )
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
    return notebook


@pytest.fixture
def source(tmp_path):
    """Notebooks as those of the project lie there."""
    folder = tmp_path / "notebooks"
    (folder / "solutions").mkdir(parents=True)
    nbformat.write(lesson(), folder / "00_lesson.ipynb")
    other = new_notebook(cells=[new_markdown_cell("# 01 · Other"), new_code_cell("1 + 1")])
    nbformat.write(other, folder / "01_other.ipynb")
    solved = new_notebook(cells=[new_markdown_cell("Back to [00](../00_lesson.ipynb)"), new_code_cell("three = 3")])
    nbformat.write(solved, folder / "solutions" / "00_lesson.ipynb")
    (folder / "glossary.md").write_text("# Glossary\n\n[Doubling](00_lesson.ipynb), [away](../data/README.md)\n")
    (folder / "card.json").write_text("{}")
    return folder


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_the_student_edition(source, tmp_path):
    out = tmp_path / "out"
    assert write_edition(out, "student", source=source) == ["00_lesson.ipynb", "01_other.ipynb"]
    assert {path.name for path in out.iterdir()} == {
        *("00_lesson.ipynb", "01_other.ipynb", "README.md", "glossary.md", "requirements.txt")
    }
    notebook = read(out / "00_lesson.ipynb")
    texts = sources(notebook)
    assert not [cell for cell in notebook.cells if {"solution", "teacher"} & set(cell.metadata.get("tags", []))]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert "widgets" not in notebook.metadata
    assert texts[0].endswith("After [the other](01_other.ipynb#Top), see the card.")
    assert f"### What we see\n\n<details><summary>{SEEN}</summary>\n\nTwice two is **four**.\n\n</details>" in texts
    hidden = [cell for cell in notebook.cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
    assert [cell.source for cell in hidden] == ['title = "Twice two is four"']
    assert "Solutions: in the teacher's edition." in "\n".join(texts)
    assert STUB in texts and "x + x" not in "\n".join(texts) and "five minutes" not in "\n".join(texts)
    assert (out / "glossary.md").read_text() == "# Glossary\n\n[Doubling](00_lesson.ipynb), away\n"


def test_appendices_are_handed_out_like_lessons(source, tmp_path):
    (source / "appendices").mkdir()
    aside = lesson()
    aside.cells[0].source = "# More\n\nBack to [01](../01_other.ipynb), not to [the card](../card.json)"
    nbformat.write(aside, source / "appendices" / "more.ipynb")
    out = tmp_path / "out"
    assert "appendices/more.ipynb" in write_edition(out, "student", source=source)
    notebook = read(out / "appendices" / "more.ipynb")
    assert sources(notebook)[0].endswith("Back to [01](../01_other.ipynb), not to the card")
    assert "x + x" not in "\n".join(sources(notebook))
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")
    assert "[More](appendices/more.ipynb)" in (out / "README.md").read_text()


def test_the_teacher_edition(source, tmp_path):
    out = tmp_path / "out"
    assert write_edition(out, "teacher", source=source)[-1] == "solutions/00_lesson.ipynb"
    texts = sources(read(out / "00_lesson.ipynb"))
    assert any(text.startswith("<details><summary>Solution</summary>") and FILLED in text for text in texts)
    assert "<details><summary>For the teacher</summary>\n\nIt takes five minutes.\n\n</details>" in texts
    assert "(solutions/00_lesson.ipynb)" in "\n".join(texts)
    assert "[00](../00_lesson.ipynb)" in sources(read(out / "solutions" / "00_lesson.ipynb"))[0]
    assert "course check DIR" in (out / "README.md").read_text()


def test_what_is_installed_where_the_package_is_missing(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_edition(out, source=source, install="./rmu_lab-0.1.0.whl[lab]")
    assert (out / "requirements.txt").read_text() == "./rmu_lab-0.1.0.whl[lab]\n"
    cells = [cell for cell in read(out / "00_lesson.ipynb").cells if cell.cell_type == "code"]
    assert cells[0].source.endswith(' is None:\n    %pip install --quiet "./rmu_lab-0.1.0.whl[lab]"')
    for hostile in ('x"; rm -r /', "{6 * 7}", "a\nb", "", "$HOME"):
        with pytest.raises(RmuLabError, match="install is"):
            write_edition(tmp_path / "no", source=source, install=hostile)
    assert not (tmp_path / "no").exists()


def test_what_is_given_stays_as_it_is():
    notebook = lesson()
    before = copy.deepcopy(notebook)
    edition_of(notebook, "student")
    assert notebook == before


def test_older_notebooks_stay_valid():
    notebook = lesson()
    notebook.nbformat_minor = 4
    for cell in notebook.cells:
        cell.pop("id")
    nbformat.validate(edition_of(notebook, "student"))


def test_a_folder_that_holds_something_is_left_alone(source, tmp_path, monkeypatch):
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "work").write_text("mine")
    for there in (full, full / "work"):
        with pytest.raises(RmuLabError, match="is not an empty folder; choose a new one"):
            write_edition(there, source=source)
    assert [path.name for path in full.iterdir()] == ["work"]
    monkeypatch.chdir(empty)
    with pytest.raises(RmuLabError, match="give the name of one"):
        write_edition(".", source=source)
    monkeypatch.chdir(tmp_path)
    write_edition(empty, source=source)
    assert (empty / "00_lesson.ipynb").exists()


def test_nothing_half_written_is_left(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nbformat, "write", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RmuLabError, match="No space left on device"):
        write_edition(tmp_path / "out", source=source)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("broken", ["", "{}", "[1]", '{"cells": 7, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_a_source_that_is_no_notebook(source, tmp_path, broken):
    (source / "02_broken.ipynb").write_text(broken)
    with pytest.raises(RmuLabError, match="holds no notebook"):
        write_edition(tmp_path / "out", source=source)
    with pytest.raises(RmuLabError, match="edition is 'pupil'"):
        write_edition(tmp_path / "out", "pupil", source=source)


@pytest.mark.parametrize("edition", ["student", "teacher"])
def test_the_course_is_handed_out_whole(edition, tmp_path):
    out = tmp_path / "out"
    written = write_edition(out, edition)
    lessons = sorted(path.name for path in notebooks_folder().glob("*.ipynb"))
    assert [name for name in written if "/" not in name] == lessons
    assert (out / "solutions").is_dir() == (edition == "teacher")
    asides = sorted(f"appendices/{path.name}" for path in (notebooks_folder() / "appendices").glob("*.ipynb"))
    assert asides and [name for name in written if name.startswith("appendices/")] == asides
    for name in [*lessons, *asides]:
        notebook = read(out / name)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert cell.outputs == [] and cell.execution_count is None
            if edition == "student":
                assert not {"solution", "teacher"} & set(cell.metadata.get("tags", []))
    for path in out.rglob("*.[im][pd]*"):  # notebooks and pages
        text = path.read_text() if path.suffix == ".md" else "\n".join(sources(read(path)))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert target.startswith("http") or (path.parent / target).exists(), f"{path.name}: {target}"
    for link in re.findall(r"\]\(([^)]+\.ipynb)\)", (out / "README.md").read_text()):
        assert (out / link).exists()


def test_the_command_line_does_not_import_what_notebooks_are_run_with():
    program = (
        "import sys, rmu_lab.cli; print([m for m in ('nbclient', 'nbformat', 'matplotlib', 'rmu_lab.course') "
        "if m in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


def test_what_the_notebooks_need_is_named_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nbformat", None)
    for name in ("rmu_lab.course.editions", "rmu_lab.course.checking"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    outcome = CliRunner().invoke(cli.app, ["course", str(tmp_path / "out")])
    assert outcome.exit_code == 1 and "pip install 'rmu-lab[lab]'" in outcome.output.replace("\n", " ")


def test_the_command_line_writes_an_edition(tmp_path):
    for arguments in (["course", "a"], ["course", "--edition", "teacher", "b"], ["course", "write", "c"]):
        arguments = [str(tmp_path / each) if len(each) == 1 else each for each in arguments]
        assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert [(tmp_path / name / "solutions").is_dir() for name in "abc"] == [False, True, False]
    outcome = CliRunner().invoke(cli.app, ["course", str(tmp_path / "a")])
    assert outcome.exit_code == 1 and outcome.output.count("Error:") == 1 and "is not an empty folder" in outcome.output


def test_the_install_cell_is_python_where_the_package_is_there():
    cell = edition_of(lesson(), "student", install=INSTALL).cells[1]
    ast.parse(cell.source.replace("    %pip", "    pass  # %pip"))

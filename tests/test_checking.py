"""What students hand in is run and judged, whatever it does."""

import json

import nbformat
import pytest
from typer.testing import CliRunner

from rmu_lab import RmuLabError, cli
from rmu_lab.course import checking
from rmu_lab.course.checking import check_folder, check_notebook, folders_with_notebooks
from rmu_lab.course.editions import edition_of
from tests.test_editions import FILLED, IMPORTS, STUB, WRONG, lesson


def handed_in(folder, changes=(), name="00_lesson.ipynb"):
    """A student's copy of the lesson, in which some cells hold other code."""
    notebook = edition_of(lesson(), "student")
    changes = dict(changes)
    for cell in notebook.cells:
        cell.source = changes.pop(cell.source, cell.source)
    assert not changes
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)
    return folder / name


EXERCISE = 'three = None\ncheck(three, (lambda x: x == 3, "it is three"))'


def standings(path, **options):
    return [(each["name"], each["status"], each["hint"]) for each in check_notebook(path, **options)]


def test_unfilled_filled_and_wrong_answers_are_told_apart(tmp_path):
    """In real kernels, one for each student's notebook; the folder itself stays as it was."""
    handed_in(tmp_path / "ada", {STUB: FILLED, EXERCISE: EXERCISE.replace("None", "3")})
    handed_in(tmp_path / "bob")
    handed_in(tmp_path / "cy" / "inside", {STUB: WRONG, EXERCISE: EXERCISE.replace("None", "'x'; open('left.txt', 'w')")})
    (tmp_path / "bob" / ".ipynb_checkpoints").mkdir()
    handed_in(tmp_path / "bob" / ".ipynb_checkpoints")
    told = []
    found = check_folder(tmp_path, on_notebook=lambda name, rows: told.append((name, rows)))
    summary = found.pop("summary")
    assert told == list(found.items())
    assert {name: [(row["name"], row["status"], row["hint"]) for row in rows] for name, rows in found.items()} == {
        "ada/00_lesson.ipynb": [("double", "correct", ""), ("Exercise 1", "correct", "")],
        "bob/00_lesson.ipynb": [("double", "not attempted", ""), ("Exercise 1", "not attempted", "")],
        "cy/inside/00_lesson.ipynb": [
            ("double", "not yet", "of 3 it gives 6"),
            ("Exercise 1", "not yet", "it is three"),
        ],
    }
    assert summary["ada"] == {"correct": 2, "not yet": 0, "not attempted": 0, "failed": 0}
    assert summary["cy/inside"]["not yet"] == 2
    assert not list(tmp_path.rglob("left.txt"))


def test_a_cell_that_fails_is_reported_and_stops_nothing(tmp_path):
    path = handed_in(
        tmp_path,
        {
            STUB: "def double(x) return x",
            IMPORTS: f"{IMPORTS}\n1 / 0",
            EXERCISE: EXERCISE.replace("None", "3"),
        },
    )
    rows = standings(path)
    assert ("Exercise 1", "correct", "") in rows
    failed = [hint for _, status, hint in rows if status == "failed"]
    assert failed[0].startswith("cell 3 raised ZeroDivisionError") and "SyntaxError" in failed[1] and len(rows) == 5


def test_a_cell_that_takes_too_long_is_interrupted(tmp_path):
    path = handed_in(tmp_path, {IMPORTS: "import time; time.sleep(600)"})
    rows = standings(path, cell_seconds=2)
    assert rows[0] == ("00 · Doubling", "failed", "cell 3 took more than 2 s")
    assert len(rows) == 4 and "NameError" in rows[1][2] and "NameError" in rows[3][2]


STUBBORN = """import time
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        print("no")
"""


def test_a_cell_that_will_not_be_interrupted_ends_its_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "INTERRUPT_SECONDS", 1)
    rows = standings(handed_in(tmp_path, {IMPORTS: STUBBORN}), cell_seconds=2)
    assert [row[1:] for row in rows] == [("failed", "cell 3 took more than 2 s; the rest was not run")]


def test_a_kernel_that_ends_and_a_file_that_is_no_notebook(tmp_path):
    path = handed_in(tmp_path, {'assert double(2) == 4\nprint("four")': "import os; os._exit(3)"})
    (tmp_path / "broken.ipynb").write_text("{")
    found = check_folder(tmp_path)
    assert [row["status"] for row in found[path.name]] == ["not attempted", "failed"]
    assert "the kernel ended here" in found[path.name][1]["hint"]
    assert found["broken.ipynb"][0]["status"] == "failed" and "cannot be read" in found["broken.ipynb"][0]["hint"]


def test_students_are_kept_from_the_hub_and_may_print_without_end(tmp_path):
    code = (
        "import os\nprint('x' * 10**7)\ncheck(os.environ['HF_HUB_OFFLINE'], (lambda x: x == '1', 'online'), name='offline')"
    )
    forged = "open(os.environ['RMU_LAB_CHECKS'], 'a').write('[]\\n7\\n{\"name\": 1}\\n')"
    path = handed_in(tmp_path, {EXERCISE: f"{code}\n{forged}"})
    rows = standings(path)
    assert ("offline", "correct", "") in rows
    assert [row[1] for row in rows[2:]] == ["failed"] * 3 and "its record holds a line" in rows[2][2]


def test_folders_without_notebooks(tmp_path):
    (tmp_path / "empty" / "solutions").mkdir(parents=True)
    nbformat.write(lesson(), tmp_path / "empty" / "solutions" / "00.ipynb")
    with pytest.raises(RmuLabError, match="holds no notebooks"):
        folders_with_notebooks(tmp_path / "empty")
    with pytest.raises(RmuLabError, match="There is no folder"):
        check_folder(tmp_path / "nowhere")


def test_the_command_line_prints_a_line_for_each_and_warns(tmp_path):
    handed_in(tmp_path / "in" / "ada", {STUB: WRONG})
    outcome = CliRunner().invoke(cli.app, ["course", "check", str(tmp_path / "in"), "--json", str(tmp_path / "found.json")])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.splitlines() == [
        "ada/00_lesson.ipynb: double: not yet: of 3 it gives 6",
        "ada/00_lesson.ipynb: Exercise 1: not attempted",
        "ada: 0 correct, 1 not yet, 1 not attempted, 0 failed",
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["ada/00_lesson.ipynb", "summary"]
    shown = CliRunner().invoke(cli.app, ["course", "check", "--help"]).output
    assert "RUNS THE STUDENTS' CODE" in " ".join(shown.replace("│", " ").split())

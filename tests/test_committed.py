"""Notebooks are committed in one form: nothing of a machine or a moment in them, and as JupyterLab would save them."""

import re

import nbformat
import pytest
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelspec import get_kernel_dict
from nbconvert import SlidesExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rmu_lab.course.committed import KERNELSPEC, LANGUAGE, WIDGET, as_committed, main, slide_type
from tests.test_notebooks import FOLDER, NOTEBOOKS, cells_of

LIVE = re.compile(r"\b(?:\w+_explorer|\w+_slider|toy_rmu|token_colours|interact|interactive)\(")
"""What makes a widget that shows results; a prediction shows its question as text."""


def with_leftovers() -> nbformat.NotebookNode:
    """A notebook as a run and an editor leave it."""
    outputs = [
        new_output("stream", name="stderr", text="100%|####| 3/3"),
        new_output("stream", name="stdout", text="three"),
        new_output("execute_result", data={WIDGET: {"model_id": "1"}, "text/plain": "interactive(children=())"}),
    ]
    code = new_code_cell("3", outputs=outputs, execution_count=1, metadata={"execution": {}, "tags": ["finding"]})
    metadata = {
        "kernelspec": {"name": "mine", "display_name": "Mine"},
        "widgets": {"state": {}},
        "language_info": {"name": "python", "version": "3.12.0"},
    }
    return new_notebook(cells=[new_markdown_cell("# Top", metadata={"editable": True}), code], metadata=metadata)


def test_leftovers_of_a_run_are_not_committed():
    made = as_committed(with_leftovers())
    heading, code = made.cells
    assert [output.get("text") for output in code.outputs] == ["three"]
    assert code.metadata == {"tags": ["finding"], "slideshow": {"slide_type": "subslide"}}
    assert heading.metadata == {"slideshow": {"slide_type": "slide"}}
    assert made.metadata == {"kernelspec": KERNELSPEC, "language_info": LANGUAGE | {"version": "3.12.0"}}
    assert as_committed(made) == made


def test_a_notebook_is_run_and_written_as_it_is_committed(tmp_path):
    path = tmp_path / "sum.ipynb"
    source = "import sys\nprint(1 + 1)\nprint('a warning', file=sys.stderr)"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    main([str(path)])
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.execution_count == 1 and [output.text for output in cell.outputs] == ["2\n"]
    before = path.read_bytes()
    main(["--as-run", str(path)])
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_as_committed(path):
    """Else: python -m rmu_lab.course.committed --as-run notebooks/*.ipynb notebooks/*/*.ipynb."""
    tidy = nbformat.writes(as_committed(nbformat.read(path, as_version=4))) + "\n"
    assert path.read_text(encoding="utf-8") == tidy


def test_metadata_is_what_jupyterlab_writes_on_opening():
    """It takes both from the kernel, and counts a notebook as changed where they differ."""
    assert {name: value for name, value in IPythonKernel.language_info.items() if name != "version"} == LANGUAGE
    assert get_kernel_dict()["display_name"] == KERNELSPEC["display_name"]
    versions = {nbformat.read(path, as_version=4).metadata.language_info.version for path in NOTEBOOKS}
    assert len(versions) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_beside_each_widget_stands_a_panel_for_who_has_no_kernel(path):
    code = cells_of(path, "code")
    for here, following in zip(code, [*code[1:], new_code_cell()], strict=True):
        if LIVE.search(here.source):
            shown = [output for cell in (here, following) for output in cell.outputs if output.get("name") != "stderr"]
            assert shown, here.source


@pytest.mark.parametrize(
    ("cell", "type_"),
    [
        (new_markdown_cell("# Top"), "slide"),
        (new_markdown_cell("## 1. First\n\nText."), "slide"),
        (new_markdown_cell("The end of one.\n\n## 2. Second"), "slide"),
        (new_markdown_cell("### Detail"), "subslide"),
        (new_markdown_cell("Text, and no heading"), "subslide"),
        (new_code_cell("# a comment"), "subslide"),
        (new_markdown_cell("## Solution", metadata={"tags": ["solution"]}), "skip"),
        (new_markdown_cell("Timing", metadata={"tags": ["teacher"]}), "skip"),
    ],
)
def test_a_cell_has_its_part_in_slides(cell, type_):
    assert slide_type(cell) == type_


def test_slides_follow_the_headings():
    """Instead of one slide without an end."""
    path = FOLDER / "10_scorecard.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    page, _ = SlidesExporter().from_filename(str(path))
    shown = [cell for cell in cells if slide_type(cell) != "skip"]
    columns = sum(slide_type(cell) == "slide" for cell in cells)
    assert columns >= 7 and page.count("<section") == columns + len(shown)

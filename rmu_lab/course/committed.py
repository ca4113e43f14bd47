"""Notebooks as they are committed: executed, and nothing in them that only one machine or one moment makes.

``python -m rmu_lab.course.committed NOTEBOOK ...`` runs notebooks from top to bottom and writes them so; with ``--as-run``
it only tidies what a run has stored. Opened in JupyterLab and saved unchanged, such a file stays the same to the byte on any
machine with the same version of Python.
"""

from __future__ import annotations

import argparse
import copy
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from ..files import write_text

SECONDS = 900
"""That one cell may take."""
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
"""What the kernel of any Python 3 says of itself, but for its version; JupyterLab notes a change where a file says less."""

SlideType = Literal["slide", "subslide", "skip"]


def as_committed(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without leftovers of its run; the one given stays as it is.

    Warnings, progress bars, times and what an editor noted are left out, and so are views of widgets: without a kernel they
    are a line of code or nothing, and a static panel stands in the same cell or beside it. The notebook's metadata are those
    that JupyterLab would write on opening; a cell's are its tags, and its part in slides.
    """
    made = copy.deepcopy(notebook)
    version = made.metadata.get("language_info", {}).get("version", platform.python_version())
    made.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE | {"version": version}})
    for cell in made.cells:
        kept = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        cell.metadata = nbformat.from_dict(kept | {"slideshow": {"slide_type": slide_type(cell)}})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    return made


def _passing(output: NotebookNode) -> bool:
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def slide_type(cell: NotebookNode) -> SlideType:
    """Say what a cell is in slides: a heading starts one to the right, what follows stands below it, one cell each.

    Solutions and the teacher's notes are left out. ``jupyter nbconvert --to slides`` reads it.
    """
    if {"solution", "teacher"} & set(cell.metadata.get("tags", ())):
        return "skip"
    return "slide" if cell.cell_type == "markdown" and re.search("^##? ", cell.source, re.M) else "subslide"


def execute(path: Path) -> NotebookNode:
    """Run a notebook from top to bottom in its own folder, and return it with what it shows.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": path.parent}})
    return client.execute()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run notebooks, and write each as it is committed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--as-run", action="store_true", help="tidy what is stored, and run nothing")
    options = parser.parse_args(arguments)
    for path in options.notebooks:
        ran = nbformat.read(path, as_version=4) if options.as_run else execute(path)
        write_text(path, nbformat.writes(as_committed(ran)) + "\n")


if __name__ == "__main__":
    main()

"""Editions of the course to hand out: the notebooks without results, for students without solutions.

The notebooks of this project are the one source, and say by the tags of their cells what becomes of these. nbgrader and
otter-grader are not used: both want cell metadata of their own, nbgrader a course database and its server's folders, and
otter hides its tests in files beside the notebooks, while `check` and `core` show their tests and work offline.

=============  =====================================================  ==============================================
tag            student edition                                        teacher edition
=============  =====================================================  ==============================================
``solution``   left out                                               kept, folded
``teacher``    left out                                               kept, folded
``finding``    text folded below its heading, source of code hidden   the same
all            outputs cleared                                        the same; ``solutions/`` is there, as executed
=============  =====================================================  ==============================================
"""

from __future__ import annotations

import copy
import posixpath
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode

from .. import __version__
from ..errors import RmuLabError
from ..files import whole_folder
from ..stored import reading

Edition = Literal["student", "teacher"]
INSTALL = f"rmu-lab[lab]=={__version__}"
"""What pip installs where the package is missing."""

SEEN = "What we saw (open this once your cells above have run)"
SUMMARIES = {"solution": "Solution", "teacher": "For the teacher"}
"""Tags of cells that only the teacher gets, and what stands on the fold of one that the source has not folded."""
SOLUTIONS = "solutions"
APPENDICES = "appendices"
BESIDE = (".md", ".png", ".svg")
"""Files beside the notebooks that are handed out with them, such as the glossary."""

_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
_PACKAGE = Path(__file__).parents[1]


def notebooks_folder() -> Path:
    """Return where the course lies: inside an installed package, beside it in a checkout.

    Raises
    ------
    RmuLabError
        if it lies in neither place.
    """
    for folder in (_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks"):
        if any(folder.glob("*.ipynb")):
            return folder
    raise RmuLabError("The course's notebooks are not installed; reinstall rmu-lab, or work in a checkout of it.")


def write_edition(
    folder: str | Path, edition: Edition = "student", *, source: Path | None = None, install: str = INSTALL
) -> list[str]:
    """Write a folder to hand out, whole or not at all.

    Parameters
    ----------
    folder
        new or empty.
    edition
        who it is for.
    source
        folder with the notebooks; by default this course's.
    install
        what pip installs where the package is missing, such as on Colab: a requirement, or the address of a wheel.

    Returns
    -------
    list of str
        the notebooks that were written, relative to the folder.

    Raises
    ------
    RmuLabError
        if the folder is not empty or cannot be written, or a notebook cannot be read.
    """
    if edition not in get_args(Edition):
        raise RmuLabError(f"edition is {edition!r}; use 'student' or 'teacher'.")
    if not install.isprintable() or not install.strip() or set(install) & set("\"'`\\${}"):
        # It stands between quotes in a line that IPython reads first and a shell then.
        raise RmuLabError(f"install is {install!r}; give one requirement or address, such as {INSTALL}.")
    source = source or notebooks_folder()
    lessons = {path.name: _read(path) for path in sorted(source.glob("*.ipynb"))}
    appendices = {f"{APPENDICES}/{path.name}": _read(path) for path in sorted((source / APPENDICES).glob("*.ipynb"))}
    solutions = sorted((source / SOLUTIONS).glob("*.ipynb")) if edition == "teacher" else []
    beside = sorted(path for path in source.iterdir() if path.suffix in BESIDE and path.name != "README.md")
    solved = {f"{SOLUTIONS}/{path.name}": _read(path) for path in solutions}
    there = {*lessons, *appendices, *solved, *(path.name for path in beside)}
    handed_out = lessons | appendices
    written = {name: edition_of(notebook, edition, install=install) for name, notebook in handed_out.items()} | solved
    for name, notebook in written.items():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _links_within(cell.source, name, there)
    with whole_folder(folder, replace_empty=True) as draft:
        for name, notebook in written.items():
            (draft / name).parent.mkdir(exist_ok=True)
            nbformat.write(notebook, draft / name)
        for path in beside:
            if path.suffix == ".md":
                text = _links_within(path.read_text(encoding="utf-8"), path.name, there)
                (draft / path.name).write_text(text, encoding="utf-8")
            else:
                shutil.copyfile(path, draft / path.name)
        (draft / "README.md").write_text(_readme(lessons, appendices, edition, install, there), encoding="utf-8")
        (draft / "requirements.txt").write_text(f"{install}\n", encoding="utf-8")
    return list(written)


def edition_of(notebook: NotebookNode, edition: Edition, *, install: str = INSTALL) -> NotebookNode:
    """Return a notebook as it is handed out; the one given stays as it is."""
    made = copy.deepcopy(notebook)
    made.metadata.pop("widgets", None)
    made.cells = [_handed_out(cell) for cell in made.cells if edition == "teacher" or not _only_for_teachers(cell)]
    first = next((place for place, cell in enumerate(made.cells) if cell.cell_type == "code"), len(made.cells))
    made.cells.insert(first, _install_cell(install))
    if (made.nbformat, made.nbformat_minor) < (4, 5):
        for cell in made.cells:
            cell.pop("id", None)
    return made


def _read(path: Path) -> NotebookNode:
    with reading(f"{path} holds no notebook", "give one that Jupyter can open"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _only_for_teachers(cell: NotebookNode) -> bool:
    return not _tags(cell).isdisjoint(SUMMARIES)


def _handed_out(cell: NotebookNode) -> NotebookNode:
    """The cell without results, and with what would give a result away folded."""
    tags = _tags(cell)
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
        if "finding" in tags:
            cell.metadata.setdefault("jupyter", NotebookNode())["source_hidden"] = True
    elif cell.cell_type == "markdown":
        if "finding" in tags:
            cell.source = _folded(cell.source, SEEN)
        for tag, summary in SUMMARIES.items():
            if tag in tags and "<details" not in cell.source:
                cell.source = _folded(cell.source, summary)
    return cell


def _folded(text: str, summary: str) -> str:
    """The text in a fold, below its heading: links lead to headings, and a lesson's outline is made of them."""
    heading, rest = "", text.strip("\n")
    if rest.startswith("#"):
        heading, _, rest = rest.partition("\n")
        heading += "\n\n"
    if not rest.strip():
        return heading.strip("\n")
    return f"{heading}<details><summary>{summary}</summary>\n\n{rest.strip()}\n\n</details>"


def _install_cell(install: str) -> NotebookNode:
    source = (
        "# Does nothing where rmu_lab is installed. On Colab it installs it; restart the session if Colab asks you to.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("rmu_lab") is None:\n'
        f'    %pip install --quiet "{install}"'
    )
    return nbformat.v4.new_code_cell(source, id="install", metadata={"tags": ["install"]})


def _links_within(text: str, name: str, there: Iterable[str]) -> str:
    """The text of a file of the edition, in which a link that leads out of the edition is only its words."""

    def shown(link: re.Match[str]) -> str:
        label, target = link.groups()
        path = unquote(target.partition("#")[0])
        if not path or re.match(r"[a-z]+:", path):  # within the page, the web, attachments
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if path in there:
            return link[0]
        return "in the teacher's edition" if path.startswith(f"{SOLUTIONS}/") else label

    return _LINK.sub(shown, text)


def _readme(
    lessons: dict[str, NotebookNode],
    appendices: dict[str, NotebookNode],
    edition: Edition,
    install: str,
    there: set[str],
) -> str:
    listed, aside = (
        "\n".join(f"* [{_title(notebook, name)}]({name})" for name, notebook in part.items())
        for part in (lessons, appendices)
    )
    first = next(iter(lessons), "")
    lines = [
        f"# RMU and Adaptive RMU: the course, {edition} edition",
        "Run the notebooks from top to bottom. Write your code where a cell says so; the line below it tells how you "
        "stand, and until your code is correct the lesson goes on with the package's.",
        listed,
    ]
    if aside:
        lines += ["Appendices, for whoever wants to know more:", aside]
    if "glossary.md" in there:
        lines.append("Every term in one place: [glossary.md](glossary.md).")
    lines += [
        "## How to open it",
        f'* **JupyterLab, on your machine**: `pip install "{install}"` in a new environment with Python 3.10 or later, then '
        f"`jupyter lab {first}` in this folder.",
        "* **Colab**: on [colab.research.google.com](https://colab.research.google.com) choose File, Upload notebook. The "
        "first code cell installs the package.",
        "* **Binder**: put this folder into a public Git repository and enter its address on "
        "[mybinder.org](https://mybinder.org); `requirements.txt` says what to install. It needs about 2 GB of memory.",
        "Neither a GPU nor an account is needed. The first run fetches the model, some 93 MB.",
    ]
    if edition == "teacher":
        lines += [
            "## For the teacher",
            f"Solutions and notes stand folded in the notebooks; `{SOLUTIONS}/` has the exercises solved, with their "
            "results. Hand out the student edition: `rmu-lab course DIR --edition student`.",
            "`rmu-lab course check DIR --json FILE` runs what you collect, a folder or a folder of students' folders, and "
            "says which cores and exercises are correct. **It runs the students' code with your rights**: use an account "
            "or container that holds nothing of value, and read what looks odd; code can also forge its record.",
        ]
    return "\n\n".join(lines) + "\n"


def _title(notebook: NotebookNode, name: str) -> str:
    for cell in notebook.cells:
        if found := re.match(r"# +(.+)", cell.source):
            return found[1].strip()
    return name

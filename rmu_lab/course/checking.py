"""How the cores and exercises of collected notebooks stand, for a teacher: each notebook is run, and its record read.

This runs the students' code with the rights of who runs it. It is kept from the hub's models and has a time limit for each
cell, and works on a copy of the folder; it is not a sandbox, and code that means to can forge its record.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import nbformat
from jupyter_core.utils import ensure_async, run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from ..errors import RmuLabError
from ..stored import sentence_of
from .editions import SOLUTIONS
from .exercises import RECORD_VARIABLE

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
CELL_SECONDS = 600
"""After which a cell is interrupted."""
INTERRUPT_SECONDS = 10
"""That an interrupted cell has to end; if it does not, the rest of its notebook is not run."""
STATUSES = ("correct", "not yet", "not attempted", "failed")


class Standing(TypedDict):
    """How one core or exercise stands, or a cell that failed."""

    name: str
    status: str
    hint: str


def check_folder(
    folder: str | Path,
    *,
    cell_seconds: int = CELL_SECONDS,
    on_notebook: Callable[[str, list[Standing]], None] | None = None,
) -> dict[str, Any]:
    """Run the notebooks of a folder, or of a folder of students' folders, and tell how their cores and exercises stand.

    Parameters
    ----------
    folder
        holds notebooks, or folders with notebooks. Solutions and hidden folders are left out.
    cell_seconds
        after which a cell is interrupted and the next one is run.
    on_notebook
        called with each notebook's name and standings as soon as it has run.

    Returns
    -------
    dict
        notebook (relative to `folder`) -> its standings in their order, of status ``correct``, ``not yet``,
        ``not attempted`` or ``failed`` (a cell that raised, took too long, or ended the kernel); and ``"summary"``: for each
        folder how many have which status.

    Raises
    ------
    RmuLabError
        if there are no notebooks.
    """
    folder, found = Path(folder), dict[str, Any]()
    for part in folders_with_notebooks(folder):
        with tempfile.TemporaryDirectory(prefix="rmu-lab-check-") as scratch:
            copied = shutil.copytree(part, Path(scratch) / "copy", symlinks=True, ignore=_left_out)
            for path in sorted(copied.glob("*.ipynb")):
                name = (part / path.name).relative_to(folder).as_posix()
                found[name] = check_notebook(path, cell_seconds=cell_seconds)
                if on_notebook is not None:
                    on_notebook(name, found[name])
    return found | {"summary": _summary(found)}


def folders_with_notebooks(folder: Path) -> list[Path]:
    """Return the folder itself if it holds notebooks, else every folder in it that does, in alphabetical order.

    Raises
    ------
    RmuLabError
        if there is none.
    """
    if not os.path.isdir(folder):
        raise RmuLabError(f"There is no folder {folder}; give the one with the notebooks.")
    if any(folder.glob("*.ipynb")):
        return [folder]
    parts = {path.parent for path in folder.rglob("*.ipynb") if path.is_file()}
    found = sorted(part for part in parts if not _left_out("", part.relative_to(folder).parts))
    if not found:
        raise RmuLabError(f"{folder} holds no notebooks; give a folder with .ipynb files, or one of such folders.")
    return found


def _left_out(_: str, names: Any) -> list[str]:
    """Of the names in a folder those that are no part of what a student hands in."""
    return [name for name in names if name == SOLUTIONS or name.startswith((".", "__"))]


def check_notebook(path: str | Path, *, cell_seconds: int = CELL_SECONDS) -> list[Standing]:
    """Run one notebook in a kernel of its own, offline, in its folder, and tell how its cores and exercises stand.

    A cell that fails stops neither the cells after it nor the caller.
    """
    path = Path(path)
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        return [_failed("notebook", f"it cannot be read ({sentence_of(error)})")]
    with tempfile.TemporaryDirectory(prefix="rmu-lab-record-") as scratch:
        run = _Run(notebook, path.parent, Path(scratch) / "record.jsonl", cell_seconds)
        try:
            run_sync(run.cells)()
        except Exception as error:  # the kernel ended, or never started
            run.standings.append(_failed(run.place, f"the kernel ended here ({sentence_of(error)}); the rest was not run"))
        return run.standings


class _ErrorsOnly(NotebookClient):
    """Keeps of a cell's outputs the errors alone: what a student prints may be endless."""

    def output(self, outs: list, msg: dict, display_id: str | None, cell_index: int) -> NotebookNode | None:
        return super().output(outs, msg, display_id, cell_index) if msg["msg_type"] == "error" else None


class _Run:
    """One notebook while it is run."""

    def __init__(self, notebook: NotebookNode, folder: Path, record: Path, cell_seconds: int):
        self.notebook, self.record, self.read = notebook, record, 0
        self.standings: list[Standing] = []
        self.place = "the first cell"
        self.seconds = cell_seconds
        self.client = _ErrorsOnly(
            notebook,
            timeout=cell_seconds,
            kernel_name="python3",  # that of this interpreter, whatever the student's was called
            allow_errors=True,
            store_widget_state=False,
            shutdown_kernel="immediate",
            resources={"metadata": {"path": str(folder)}},
        )

    async def cells(self) -> None:
        environment = os.environ | OFFLINE | {RECORD_VARIABLE: str(self.record)}
        self.client.log.setLevel("CRITICAL")  # what goes wrong is in the standings
        async with self.client.async_setup_kernel(env=environment):
            for place, heading, cell in _code_cells(self.notebook):
                self.place = heading or f"cell {place}"
                try:
                    await self.client.async_execute_cell(cell, place - 1)
                except CellTimeoutError:
                    self._note_records()
                    hint = f"cell {place} took more than {self.seconds} s"
                    stopped = await self._interrupted()
                    self.standings.append(_failed(self.place, hint if stopped else f"{hint}; the rest was not run"))
                    if not stopped:
                        return
                except DeadKernelError:
                    self._note_records()
                    raise
                else:
                    self._note_records()
                    self._note_error(place, cell)

    def _note_records(self) -> None:
        """Read what cores and exercises have added to the record since."""
        if not self.record.exists():
            return
        lines = self.record.read_bytes()[self.read :]
        self.read += len(lines)
        for line in lines.decode("utf-8", "replace").splitlines():
            try:
                found = json.loads(line)
                name, status, hint = (found[key] for key in ("name", "status", "hint"))
            except (ValueError, KeyError, TypeError, RecursionError):
                found = None
            if found is None or status not in STATUSES:
                self.standings.append(_failed(self.place, "its record holds a line that check and core do not write"))
            else:
                self.standings.append(Standing(name=str(name or self.place), status=status, hint=str(hint)))

    def _note_error(self, place: int, cell: NotebookNode) -> None:
        for output in cell.outputs:
            words = " ".join(f"{output.ename}: {output.evalue}".split())[:400]
            self.standings.append(_failed(self.place, f"cell {place} raised {words}"))

    async def _interrupted(self) -> bool:
        """Interrupt the kernel, and tell whether it is ready for the next cell."""
        manager: Any = self.client.km
        kernel: Any = self.client.kc
        await ensure_async(manager.interrupt_kernel())
        try:
            await ensure_async(kernel.wait_for_ready(timeout=INTERRUPT_SECONDS))
        except RuntimeError:
            return False
        return True


def _failed(name: str, hint: str) -> Standing:
    return Standing(name=name, status="failed", hint=hint)


_HEADING = re.compile(r"^(?:#+ +(?P<heading>.+?) *$|\*\*(?P<bold>(?:Core|Exercise)\b[^*\n]*)\*\*)", re.M)
_FENCED = re.compile(r"^```.*?^```", re.M | re.S)


def _code_cells(notebook: NotebookNode) -> Iterator[tuple[int, str, NotebookNode]]:
    """Each code cell with its number from 1 and the heading above it, such as "Exercise 1"."""
    heading = ""
    for place, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            yield place, heading, cell
        elif cell.cell_type == "markdown":
            for found in _HEADING.finditer(_FENCED.sub("", cell.source)):
                heading = (found["heading"] or found["bold"]).strip()


def _summary(found: Mapping[str, list[Standing]]) -> dict[str, dict[str, int]]:
    """Folder -> status -> how many."""
    counts: dict[str, Counter[str]] = {}
    for name, standings in found.items():
        counts.setdefault(Path(name).parent.as_posix(), Counter(dict.fromkeys(STATUSES, 0))).update(
            each["status"] for each in standings
        )
    return {folder: dict(count) for folder, count in counts.items()}

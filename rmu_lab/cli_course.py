"""The command line of who teaches: ``rmu-lab course DIR`` and ``rmu-lab course check DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.text import Text
from typer.core import TyperGroup

from .cli_output import clear_errors, plain, say
from .errors import RmuLabError

if TYPE_CHECKING:
    from .course.checking import Standing
    from .course.editions import Edition

STYLES = {"correct": "green", "not yet": "yellow", "not attempted": "dim", "failed": "red"}


class CourseCommands(TyperGroup):
    """``course DIR`` stands for ``course write DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``write`` before arguments that name no command."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["write", *args]
        return super().parse_args(ctx, args)


course = typer.Typer(
    cls=CourseCommands,
    no_args_is_help=True,
    help="Hand the course out, and check what comes back. `course DIR` stands for `course write DIR`.",
)


def _course_module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f".course.{name}", __package__)
    except ModuleNotFoundError as missing:
        raise RmuLabError(
            f"{missing.name} is not installed, which the notebooks need; install it with: pip install 'rmu-lab[lab]'."
        ) from None


@course.command()
def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    edition: Annotated[
        str, typer.Option(help="student: without solutions and teacher's notes; teacher: with both, folded.")
    ] = "student",
    install: Annotated[
        str | None,
        typer.Option(help="What pip installs where the package is missing; by default this version of rmu-lab."),
    ] = None,
) -> None:
    """Write the course to a folder to hand out: without results, and with findings folded until a reader opens them."""
    with clear_errors():
        editions = _course_module("editions")
        chosen = {} if install is None else {"install": install}
        written = editions.write_edition(folder, cast("Edition", edition), **chosen)
        say(f"Wrote {len(written)} notebooks of the {edition} edition to {folder}; its README.md says how to open them.")


@course.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with notebooks, or one with students' folders.")],
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
    cell_seconds: Annotated[int, typer.Option(min=1, help="Seconds after which a cell is interrupted.")] = 600,
) -> None:
    """Run the notebooks of a folder and say which cores and exercises are correct. IT RUNS THE STUDENTS' CODE.

    That code has your rights: use an account or container that holds nothing of value. Each notebook is run offline, in a
    copy of its folder; a cell that fails is reported, and stops nothing else.
    """
    with clear_errors():
        from .files import check_file, write_json

        checking = _course_module("checking")
        if json_out is not None:
            check_file(json_out)
        found = checking.check_folder(folder, cell_seconds=cell_seconds, on_notebook=_show)
        for name, counts in found["summary"].items():
            listed = ", ".join(f"{number} {status}" for status, number in counts.items())
            say(f"{folder if name == '.' else name}: {listed}", "bold")
        if json_out is not None:
            write_json(json_out, found)


def _show(notebook: str, standings: list[Standing]) -> None:
    if not standings:
        say(f"{notebook}: no cores or exercises")
    for each in standings:
        status = plain(each["status"], STYLES[each["status"]])
        hint = f": {each['hint']}" if each["hint"] else ""
        say(Text.assemble(plain(f"{notebook}: {each['name']}: "), status, plain(hint)))

"""The command line of the league: ``rmu-lab league METHOD``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .cli_options import Device, Plugins
from .cli_output import clear_errors, plain, say, unbroken, working
from .plugins import load_plugins, member_of

if TYPE_CHECKING:
    from .league import Entry


def league(
    method: Annotated[
        str,
        typer.Argument(
            help="Method in the table, or FILE.py:NAME or MODULE:NAME of a class of settings or an entry of yours."
        ),
    ],
    mini: Annotated[
        bool, typer.Option("--mini", help="Beside RMU, untuned, with one direction and few questions: minutes, not an hour.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder that keeps what is run; stopped, the same command goes on.")
    ] = None,
    model: Annotated[str, typer.Option(help="Base model: short name, folder or hub id.")] = "smollm2-135m",
    plugin: Plugins = None,
    device: Device = None,
) -> None:
    """Enter a method in the league: tuned, scaled to equal disruption, attacked, and shown beside the stored entries."""
    with clear_errors():
        from . import load_model
        from .league import COLUMNS, MINI, LeagueSettings, Stores, league_table, mini_league, play_entry, stored_rows
        from .league.entry_table import REFERENCE
        from .league.material import league_material
        from .league.mini import mini_material

        load_plugins(plugin)
        entry, stores = _entry(method), Stores.in_folder(out)
        settings = MINI if mini else LeagueSettings()
        loaded, tokenizer = load_model(model, device=device)
        material = (mini_material if mini else league_material)(loaded, tokenizer)
        with working(f"Playing {entry.name} ..."):
            if mini:
                others = [REFERENCE] if entry.name != REFERENCE else []
                mini_league(loaded, tokenizer, [*others, entry.config], material=material, stores=stores)
            else:
                play_entry(entry, material, settings, stores)
        name = material.digest(settings)
        rows = [row for row in stores.matches.rows if row["league"] == name]
        known = {(row["entry"], row["budget"]) for row in rows}
        stored = [row for row in stored_rows(league=name) if (row["entry"], row["budget"]) not in known]
        if not stored and not mini:
            say("No stored league has these data and settings, so that there is nothing to compare it with.", "yellow")
        if failed := [row["error"] for row in stores.tuning.rows if row["league"] == name and "error" in row]:
            say(f"{len(failed)} of the trials failed, the first with: {failed[0]}", "yellow")
        table = Table(*COLUMNS, show_lines=False, title=plain(f"League {name}; intervals are of 95%, * is Holm's"))
        for cells in (cells for one in league_table([*rows, *stored]) for cells in one.cells()):
            table.add_row(*map(plain, cells), style="bold" if cells[0] == entry.name else None)
        unbroken(table)


def _entry(method: str) -> Entry:
    from .league import entry_of

    return entry_of(member_of(method) if ":" in method else method)

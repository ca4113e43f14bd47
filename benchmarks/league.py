"""The league of methods at equal tuning and equal disruption, each under searched attacks: the stored rows of notebook 12.

    python -m benchmarks.league --out data/results/league --figure league.png
    python -m benchmarks.league --out DIR --entry mcu_rmu --entry npo
    python -m benchmarks.league --out DIR --plugin mine.py --entry my_method

`tuning.jsonl`: each entry's six trials with a seed of its own, scaled to each budget of divergence, on 64 dev questions.
The rule, written down before any run: the trial that answers fewest of them, the mean over the budgets. `rates.jsonl`: the
attacker's learning rate, searched on dev for each entry, budget and attack, under a bound of five points of general
accuracy. `matches.jsonl`: with three fresh seeds, each choice at each budget on 100 test questions of each kind, its
properties, and its relearning curves. `controls.jsonl`: the base model under the same fine-tunes. Entries are played one
after the other, RMU first, so that a stopped run has whole ones; what it has written is not run again. To halve the time on
two cores, give two runs different entries.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.lines import Lines
from rmu_lab import RmuLabError, load_model
from rmu_lab.league import (
    COLUMNS,
    KEYS,
    LeagueSettings,
    Standing,
    Stores,
    entries,
    entry_of,
    league_material,
    league_table,
    play_entry,
    which_property_predicts,
)
from rmu_lab.plugins import load_plugins

SETTINGS = LeagueSettings()


def show(table: Sequence[Standing], console: Console) -> None:
    """The table, and which property predicts, as far as there are methods to say so."""
    shown = Table(*COLUMNS)
    for cells in (cells for one in table for cells in one.cells()):
        shown.add_row(*cells)
    console.print(shown)
    try:
        found = which_property_predicts(table)
    except RmuLabError as few:
        console.print(few, markup=False)
        return
    for one in found:
        mark = " *" if one.significant else ""
        console.print(
            f"{one.property}, {one.attack} at {one.budget:g}: correlation {one.correlation}, p {one.p:.2g}{mark}, "
            f"{one.held_out:.0%} of held-out pairs in order, {one.methods} methods",
            markup=False,
        )


def main(given: Sequence[str] | None = None) -> None:
    """Play what is missing, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--entry", action="append", help="play only this one; may be repeated")
    parser.add_argument("--budgets", type=float, nargs="+", help="divergences, in nats a token; others are another league")
    parser.add_argument("--plugin", action="append", help="file or module that registers a method of yours")
    parser.add_argument("--figure", type=Path, help="draw the table into this file")
    arguments = parser.parse_args(given)
    load_plugins(arguments.plugin)
    players = [entry_of(name) for name in arguments.entry] if arguments.entry else entries()
    settings = LeagueSettings(**SETTINGS.to_dict() | ({"budgets": arguments.budgets} if arguments.budgets else {}))
    stores = Stores(**{kind: Lines(arguments.out / f"{kind}.jsonl", names) for kind, names in KEYS.items()})
    material = league_material(*load_model("smollm2-135m", device="cpu"))
    for entry in players:
        play_entry(entry, material, settings, stores)
    league, console = material.digest(settings), Console(width=200)
    table = league_table(row for row in stores.matches.rows if row["league"] == league)
    show(table, console)
    if arguments.figure is not None:
        from rmu_lab.league import league_figure

        league_figure(table).savefig(arguments.figure)


if __name__ == "__main__":
    main()

"""The command line of the scorecard: ``rmu-lab claims``, ``rmu-lab claims ID`` and ``rmu-lab claims --run ID``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .cli_output import clear_errors, console, plain, say, unbroken
from .errors import RmuLabError

if TYPE_CHECKING:
    from .scorecard.stored_table import ClaimInWords


def claims(
    claim: Annotated[str | None, typer.Argument(metavar="ID", help="Print this claim in full.")] = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="Print every claim in full.")] = False,
    run: Annotated[str | None, typer.Option(help="Measure this claim anew, and compare.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --run: folder that keeps what is measured.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write every claim with its numbers to this file.")] = None,
    result: Annotated[
        list[Path] | None,
        typer.Option(help="Result of `reproduce` to show beside; by default those in data/results/reproduce."),
    ] = None,
    readme: Annotated[Path | None, typer.Option("--markdown", help="Rewrite the table in this Markdown file.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Compute the stored table anew, after results in data/results have changed.")
    ] = False,
) -> None:
    """Which of the paper's claims hold: every claim with its verdict and the notebook that shows it, or one in full."""
    with clear_errors():
        from .files import check_file

        if out is not None and run is None:
            raise RmuLabError("--out keeps what --run measures; give --run ID too.")
        if json_out is not None:
            check_file(json_out)
        if run is not None:
            _run_claim(run, out)
            return
        runs = _full_runs(result)
        if readme is not None or json_out is not None:
            _write(runs, json_out, readme)
        rows = _rows(refresh)
        if claim is not None:
            from .scorecard.stored_table import claim_in_words

            _print_in_full(claim_in_words(rows, claim))
        elif numbers:
            for row in rows:
                _print_in_full(row)
        else:
            _print_list(rows)
        if runs:
            from .scorecard.claim_table import FULL_SIZE_HEAD

            table = Table(*FULL_SIZE_HEAD, title="The papers' own benchmark, in points", show_lines=True)
            for cells in (cells for run in runs for cells in run.rows()):
                table.add_row(*map(plain, cells))
            console.print(table)


def _full_runs(result: list[Path] | None) -> list[Any]:
    """The runs of `reproduce` that are named, or those that are stored; loaded only if there are any."""
    from .files import results_folder

    if not result and not (results_folder() / "reproduce").is_dir():
        return []
    from .scorecard import FullRun, found_runs

    return [FullRun.load(path) for path in result] if result else found_runs()


def _write(runs: list[Any], json_out: Path | None, readme: Path | None) -> None:
    from .files import write_json
    from .scorecard import as_json, rewrite

    if readme is not None:
        rewrite(readme, notebooks="../../notebooks/")
    if json_out is not None:
        write_json(json_out, as_json(runs))


def _rows(refresh: bool) -> list[ClaimInWords]:
    """The stored table, or what takes seconds where it is older than the results."""
    from .scorecard import stored_table

    if refresh:
        return stored_table.refresh()
    stored = stored_table.stored_claims()
    if stored is None:
        say("The results in data/results have changed since the stored table was computed; computing it anew ...")
        return stored_table.computed_claims()
    return stored


def _print_list(rows: list[ClaimInWords]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("shown in notebook")
    for row in rows:
        table.add_row(*map(plain, (row.id, row.verdict, row.place)))
    unbroken(table)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in Counter(row.verdict for row in rows).most_common())
    say(f"{len(rows)} claims: {counts}.")
    say("rmu-lab claims ID prints one in full, rmu-lab claims --numbers prints all, and --run ID measures one anew.")


def _print_in_full(row: ClaimInWords) -> None:
    say(Text.assemble(plain(row.id, "bold"), plain(f" ({row.paper}): {row.statement}")))
    lines = {
        "The paper reports": row.reported,
        "Done here": row.protocol,
        "Rule": row.rule,
        "Shown in notebook": row.place,
        "Results": ", ".join(f"data/results/{name}" for name in row.stored),
        "Measure it anew": f"rmu-lab claims --run {row.id}",
    }
    say(Text.assemble("  Verdict: ", plain(row.verdict, "bold")))
    say("  Measured, with 95% interval (and what was asked of it):")
    for line in row.measured:
        say(f"    {line}")
    for name, text in lines.items():
        say(f"  {name}: {text}")
    console.print()


def _run_claim(name: str, out: Path | None) -> None:
    from .scorecard import claim_of

    claim = claim_of(name)
    try:
        stored, verdict = claim.numbers(), claim.verdict()
    except RmuLabError as missing:  # the first time there is nothing to compare with
        say(missing, "yellow")
        stored, verdict = {}, "none"
    fresh = claim.fresh(out)
    table = Table("number", "stored [95% interval]", "now", title=plain(f"{claim.id}: {claim.statement}"))
    for name, number in fresh.items():
        table.add_row(*map(plain, (name, stored.get(name, "none"), number)))
    console.print(table)
    say(f"{claim.rule}.")
    say(f"Verdict stored: {verdict}. Verdict now: {claim.verdict(fresh)}.")

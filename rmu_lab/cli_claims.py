"""The command line of the scorecard: ``rmu-lab claims``, ``rmu-lab claims ID`` and ``rmu-lab claims --run ID``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .cli_output import clear_errors, console, plain, say, unbroken
from .errors import RmuLabError

if TYPE_CHECKING:
    from .study.verdicts import ClaimInWords


def claims(
    claim: Annotated[str | None, typer.Argument(metavar="ID", help="Print this claim in full.")] = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="Print every claim in full.")] = False,
    run: Annotated[str | None, typer.Option(help="Measure this claim anew, and compare.")] = None,
    model: Annotated[str | None, typer.Option(help="With --run: the model of the study; by default SmolLM2.")] = None,
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

        for option, given in {"--out": out, "--model": model}.items():
            if given is not None and run is None:
                raise RmuLabError(f"{option} belongs to --run, which measures a claim anew; give --run ID too.")
        if json_out is not None:
            check_file(json_out)
        if run is not None:
            _run_claim(run, model, out)
            return
        runs = _full_runs(result)
        if readme is not None or json_out is not None:
            _write(runs, json_out, readme)
        rows = _rows(refresh)
        if claim is not None:
            from .study.stored_table import claim_in_words

            _print_in_full(claim_in_words(rows, claim))
        elif numbers:
            for row in rows:
                _print_in_full(row)
        else:
            _print_list(rows)
        if runs:
            from .study.claim_table import FULL_SIZE_HEAD

            table = Table(*FULL_SIZE_HEAD, title="The papers' own benchmark, in points", show_lines=True)
            for cells in (cells for run in runs for cells in run.rows()):
                table.add_row(*map(plain, cells))
            console.print(table)


def _full_runs(result: list[Path] | None) -> list[Any]:
    """The runs of `reproduce` that are named, or those that are stored; loaded only if there are any."""
    from .files import results_folder

    if not result and not (results_folder() / "reproduce").is_dir():
        return []
    from .study import FullRun, found_runs

    return [FullRun.load(path) for path in result] if result else found_runs()


def _write(runs: list[Any], json_out: Path | None, readme: Path | None) -> None:
    from .files import write_json
    from .study import as_json, rewrite

    if readme is not None:
        rewrite(readme, notebooks="../../notebooks/")
    if json_out is not None:
        write_json(json_out, as_json(runs))


def _rows(refresh: bool) -> list[ClaimInWords]:
    """The stored table, or what takes seconds where it is older than the results."""
    from .study import stored_table

    if refresh:
        return stored_table.refresh()
    stored = stored_table.stored_claims()
    if stored is None:
        from .study import computed_claims

        say("The results in data/results have changed since the stored table was computed; computing it anew ...")
        return computed_claims()
    return stored


def _print_list(rows: list[ClaimInWords]) -> None:
    from .study.verdicts import FRAGILE, LEGEND, MARKED, SYMBOLS

    table = Table(box=None, pad_edge=False)
    table.add_column("claim", no_wrap=True)
    for title in rows[0].models:
        table.add_column(title.replace(" ", "\n"), justify="center")
    table.add_column("overall")
    table.add_column("the paper says")
    for row in rows:
        cells = [plain(found.symbol, _COLOURS[found.verdict]) for found in row.models.values()]
        words = plain(f"{SYMBOLS[row.overall]} {row.overall}", _COLOURS[row.overall])
        table.add_row(plain(row.id), *cells, words, plain(row.plain + (MARKED if row.changed else "")))
    unbroken(table)
    say("  ".join(f"{symbol} {meaning}" for symbol, meaning in LEGEND.items()))
    say(f"{len(rows)} claims: {_counts(row.overall for row in rows)}.")
    say(f"If those that do not stand ({FRAGILE}) count as undecided: {_counts(row.overall_that_stands for row in rows)}.")
    say("rmu-lab claims ID prints one in full, rmu-lab claims --numbers prints all, and --run ID measures one anew.")


def _counts(verdicts: Iterable[str]) -> str:
    return ", ".join(f"{number} {verdict}" for verdict, number in Counter(verdicts).most_common())


_COLOURS = {
    "reproduced": "green",
    "argument fails but conclusion holds": "yellow",
    "not reproduced": "red",
    "differs between models": "magenta",
    "undecided": "cyan",
    "not measured yet": "dim",
}


def _print_in_full(row: ClaimInWords) -> None:
    say(Text.assemble(plain(row.id, "bold"), plain(f" ({row.paper}): {row.statement}")))
    lines = {
        "The paper reports": row.reported,
        "Done here": row.protocol,
        "Rule": row.rule,
        "The rule is marked": row.changed,
        "Shown in notebook": row.place,
        "Measure it anew": f"rmu-lab claims --run {row.id}",
    }
    say(Text.assemble("  Verdict: ", plain(row.overall, f"bold {_COLOURS[row.overall]}")))
    for title, found in row.models.items():
        say(Text.assemble("  ", plain(title, "bold"), ": ", plain(found.verdict, _COLOURS[found.verdict])))
        for line in (*found.measured, found.needed, *found.runs):
            if line:
                say(f"    {line}")
    for name, text in lines.items():
        if text:
            say(f"  {name}: {text}")
    console.print()


def _run_claim(name: str, model: str | None, out: Path | None) -> None:
    from tempfile import TemporaryDirectory

    from .study import claim_of, run_claim
    from .study.studied_models import MAIN, studied

    claim, model = claim_of(name), studied(model or MAIN).name
    try:
        stored, verdict = claim.numbers(model), claim.verdict(model)
    except RmuLabError as missing:  # the first time there is nothing to compare with
        say(missing, "yellow")
        stored, verdict = {}, "none"
    with TemporaryDirectory(prefix="rmu-lab-claim-") as folder:
        fresh = run_claim(claim, model, out or Path(folder))
    table = Table("number", "stored [95% interval]", "now", title=plain(f"{claim.id}: {claim.statement}"))
    for label, number in fresh.items():
        table.add_row(*map(plain, (label, stored.get(label, "none"), number)))
    console.print(table)
    say(f"{claim.rule}.")
    say(f"Verdict stored: {verdict}. Verdict now: {claim.verdict(fresh)}.")

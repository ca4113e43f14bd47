"""The scorecard as a table: the same rows in docs/guide/claims.md, in notebook 10 and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RmuLabError
from ..estimates import Number
from ..files import write_text
from ..stored import sentence_of
from .claims import CLAIMS, Claim
from .full_size import CLAIMS_AT_FULL_SIZE, FullRun, found_runs
from .full_size import HEAD as FULL_SIZE_HEAD
from .sources import NotMeasuredError

HEAD = (
    "claim",
    "paper",
    "what it says",
    "what the paper reports",
    "measured here [95% interval] (asked)",
    "verdict",
    "shown in",
)


def measured(claim: Claim, numbers: Mapping[str, Number]) -> list[str]:
    """Write each deciding number with its interval and what was asked of it."""
    rule, lines = claim.rule, []
    for name, number in numbers.items():
        asked = [f"{c.relation} {c.threshold:g}" for c in (*rule.conclusion, *rule.partly) if c.number == name]
        against = [f"{c.relation} {c.threshold:g} against the argument" for c in rule.against if c.number == name]
        lines.append(f"{name}: {number} ({', '.join(dict.fromkeys([*asked, *against]))})")
    return lines


def table_rows() -> list[tuple[str, str, str, str, list[str], str, Claim]]:
    """Fill every claim's cells in the order of `HEAD`, from the stored results.

    Where nothing is measured yet, the cell says what would measure it.
    """
    found = []
    for claim in CLAIMS.values():
        try:
            lines = measured(claim, claim.numbers())
        except NotMeasuredError as missing:
            lines = [str(missing)]
        found.append((claim.id, claim.part, claim.statement, claim.reported, lines, claim.verdict(), claim))
    return found


def markdown(notebooks: str = "", runs: Sequence[FullRun] | None = None) -> str:
    """Write the table in Markdown, and one of full-size runs if there are any. Taught in notebook 10.

    Parameters
    ----------
    notebooks
        the way from where it will stand to the notebooks, such as ``"../../notebooks/"``.
    runs
        results of `rmu_lab.reproduce`; by default those in ``data/results/reproduce``.
    """
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for name, part, statement, reported, numbers, verdict, claim in table_rows():
        link = f"[{place(claim)}]({notebooks}{claim.shown})" if claim.shown else place(claim)
        texts = [_escaped(text) for text in (part, statement, reported)]
        cells = [f"`{name}`", *texts, "<br>".join(map(_escaped, numbers)), f"**{verdict}**", link]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *full_size_lines(found_runs() if runs is None else runs)])


def full_size_lines(runs: Sequence[FullRun]) -> list[str]:
    """Write the lines of the table of full-size runs; none if there are no runs."""
    rows = [row for run in runs for row in run.rows()]
    if not rows:
        return []
    lines = ["", "Of the papers' own benchmark, in points:", ""]
    lines += ["| " + " | ".join(FULL_SIZE_HEAD) + " |", "|" + "---|" * len(FULL_SIZE_HEAD)]
    return lines + ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]


def place(claim: Claim) -> str:
    """Name the notebook and the section that show a claim."""
    return f"{claim.shown[:2]}: {claim.shows}" if claim.shown else claim.shows


def _escaped(text: str) -> str:
    """What Markdown would take for a column or for emphasis."""
    for mark in "|*_":
        text = text.replace(mark, f"\\{mark}")
    return text


def as_json(runs: Sequence[FullRun] | None = None) -> list[dict[str, Any]]:
    """Give every claim with its rule, numbers and their margins as plain values; numbers are empty if not measured yet.

    Parameters
    ----------
    runs
        as of `markdown`; they stand with the claims that they speak about.
    """
    plain = []
    at_full_size = [run.to_dict() for run in (found_runs() if runs is None else runs)]
    for claim in CLAIMS.values():
        try:
            numbers = claim.numbers()
        except NotMeasuredError:
            numbers = {}
        row = {
            "id": claim.id,
            "paper": claim.part,
            "statement": claim.statement,
            "reported": claim.reported,
            "protocol": claim.protocol,
            "rule": str(claim.rule),
            "numbers": {name: asdict(number) for name, number in numbers.items()},
            "margins": [asdict(each) | {"margin": each.margin(numbers)} for each in claim.rule.conditions if numbers],
            "verdict": claim.verdict(),
            "shown": claim.shown,
            "stored": [source.file for source in claim.sources],
            "stale": sorted({problem for source in claim.sources for problem in source.stale()}) if numbers else [],
            "full size": at_full_size if claim.id in CLAIMS_AT_FULL_SIZE else [],
        }
        plain.append(row)
    return plain


def rewrite(path: Path, notebooks: str) -> None:
    """Put the table between the two markers of a Markdown file; what stands around them is kept.

    Raises
    ------
    RmuLabError
        if the file cannot be read or written, or has not each marker once.
    """
    put_between(path, "claims", markdown(notebooks))


def put_between(path: Path, name: str, text: str) -> None:
    """Put a text between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a Markdown file.

    Raises
    ------
    RmuLabError
        if the file cannot be read or written, or has not each marker once.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RmuLabError(f"{path} cannot be read ({sentence_of(error)}); give a Markdown file.") from None
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise RmuLabError(f"{path} has no place for the table; write {start} and {end} where it is to stand.")
    before, rest = page.split(start)
    write_text(path, f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}")

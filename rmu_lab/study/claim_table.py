"""The scorecard as Markdown and as JSON: one page of verdicts, with what each rests on folded away below it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RmuLabError
from ..files import write_text
from ..stored import sentence_of
from .full_size import CLAIMS_AT_FULL_SIZE, FullRun, found_runs
from .full_size import HEAD as FULL_SIZE_HEAD
from .verdict_table import computed_claims
from .verdicts import FRAGILE, LEGEND, MARKED, SYMBOLS, ClaimInWords


def markdown(notebooks: str = "", runs: Sequence[FullRun] | None = None) -> str:
    """Write the table in Markdown, what each claim rests on in blocks that fold out, and full-size runs if there are any.

    Taught in notebook 10.

    Parameters
    ----------
    notebooks
        the way from where it will stand to the notebooks, such as ``"../../notebooks/"``.
    runs
        results of `rmu_lab.reproduce`; by default those in ``data/results/reproduce``.
    """
    claims = computed_claims()
    titles = list(claims[0].models)
    lines = [f"| the paper says | {' | '.join(titles)} | overall |", "|" + "---|" * (len(titles) + 2)]
    for claim in claims:
        mark = MARKED if claim.changed else ""
        cells = [f"{_escaped(claim.plain)}{mark}", *(claim.models[title].symbol for title in titles)]
        lines.append("| " + " | ".join([*cells, f"{SYMBOLS[claim.overall]} {claim.overall}"]) + " |")
    lines += ["", " · ".join(f"{symbol} {meaning}" for symbol, meaning in LEGEND.items()), ""]
    lines += [_folded(claim, notebooks) for claim in claims]
    return "\n".join([*lines, *_full_size_lines(found_runs() if runs is None else runs)])


def _folded(claim: ClaimInWords, notebooks: str) -> str:
    """One claim in full, as a block that a click unfolds."""
    told = {
        f"{claim.paper} says": claim.statement,
        "The paper reports": claim.reported,
        "Done here": claim.protocol,
        "Rule": claim.rule,
        "The rule is marked": claim.changed,
    }
    lines = [f"<details><summary><code>{claim.id}</code> {html.escape(claim.plain)}: {claim.overall}</summary>", ""]
    lines += [f"* {name}: {_escaped(text)}" for name, text in told.items() if text]
    for title, found in claim.models.items():
        fragile = f" {FRAGILE}" if FRAGILE in found.symbol else ""
        measured = " ".join(_escaped(f"{line}.") for line in found.measured)
        ran = "; ".join(f"`{run}`" for run in found.runs)
        lines.append(f"* **{title}: {found.verdict}**{fragile}. {measured} {_escaped(found.needed)} {ran}".rstrip())
    if claim.link:
        lines.append(f"* Shown in [{claim.place}]({notebooks}{claim.link})")
    return "\n".join([*lines, "", "</details>", ""])


def _full_size_lines(runs: Sequence[FullRun]) -> list[str]:
    """Write the lines of the table of full-size runs; none if there are no runs."""
    rows = [row for run in runs for row in run.rows()]
    if not rows:
        return []
    lines = ["", "Of the papers' own benchmark, in points:", ""]
    lines += ["| " + " | ".join(FULL_SIZE_HEAD) + " |", "|" + "---|" * len(FULL_SIZE_HEAD)]
    return lines + ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]


def _escaped(text: str) -> str:
    """What Markdown would take for a column, for emphasis or for a tag."""
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    for mark in "|*_":
        text = text.replace(mark, f"\\{mark}")
    return text


def as_json(runs: Sequence[FullRun] | None = None) -> list[dict[str, Any]]:
    """Give every claim with its verdicts and what they rest on as plain values.

    Parameters
    ----------
    runs
        as of `markdown`; they stand with the claims that they speak about.
    """
    at_full_size = [run.to_dict() for run in (found_runs() if runs is None else runs)]
    return [
        asdict(claim) | {"full size": at_full_size if claim.id in CLAIMS_AT_FULL_SIZE else []} for claim in computed_claims()
    ]


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

"""The scorecard's table as it was last computed: what ``rmu-lab claims`` prints without loading torch.

To compute it from the results under `data/results` takes seconds, so the table is stored beside them, with the SHA-256 of
each file that it was computed from. Where one of them has changed since, `stored_claims` gives None, and the table is to
be computed; a test keeps the stored one equal to that.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import RmuLabError
from ..files import file_digest, results_folder, write_json
from ..stored import checked, reading

FILE = "scorecard.json"
"""Below `data/results`."""


@dataclass(frozen=True)
class ClaimInWords:
    """One claim and what was found about it, as it is printed."""

    id: str
    paper: str
    """Where in the paper."""
    statement: str
    reported: str
    """What the paper reports for it."""
    protocol: str
    """What was done here."""
    rule: str
    measured: list[str]
    """Each deciding number with its interval and what was asked of it."""
    verdict: str
    place: str
    """The notebook and the section that show it."""
    stored: list[str]
    """Files below `data/results` that the numbers come from."""


def stored_claims() -> list[ClaimInWords] | None:
    """Return the stored table, or None if there is none or a result that it was computed from has changed since.

    Raises
    ------
    RmuLabError
        if the file holds no table.
    """
    file = results_folder() / FILE
    if not file.is_file():
        return None
    with reading(f"{file} holds no table of claims", "make it anew with `rmu-lab claims --refresh`"):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["results"] != _digests(record["results"]):
            return None
        return [checked(ClaimInWords(**row)) for row in record["claims"]]


def _digests(files: Iterable[str]) -> dict[str, str | None]:
    """SHA-256 of files below `data/results`; None of one that is not there."""
    paths = {name: results_folder() / name for name in sorted(files)}
    return {name: file_digest(path) if path.is_file() else None for name, path in paths.items()}


def computed_claims() -> list[ClaimInWords]:
    """Compute the table from the results under `data/results`."""
    from .claim_table import place, table_rows

    return [
        ClaimInWords(
            id=name,
            paper=paper,
            statement=statement,
            reported=reported,
            protocol=claim.protocol,
            rule=str(claim.rule),
            measured=lines,
            verdict=verdict,
            place=place(claim),
            stored=[source.file for source in claim.sources],
        )
        for name, paper, statement, reported, lines, verdict, claim in table_rows()
    ]


def refresh() -> list[ClaimInWords]:
    """Compute the table, store it beside the results, and return it.

    Raises
    ------
    RmuLabError
        if it cannot be written there, as in a package that another user has installed.
    """
    from .claims import CLAIMS

    claims = computed_claims()
    sources = [source for claim in CLAIMS.values() for source in claim.sources]
    results = _digests({file for source in sources for file in (source.file, *getattr(source, "more", ()))})
    record = {"results": results, "claims": [dataclasses.asdict(claim) for claim in claims]}
    write_json(results_folder() / FILE, record)
    return claims


def claim_in_words(claims: list[ClaimInWords], name: str) -> ClaimInWords:
    """Look up the claim with this id.

    Raises
    ------
    RmuLabError
        if there is none; the message names those like it, or all.
    """
    from difflib import get_close_matches

    ids = [claim.id for claim in claims]
    if name not in ids:
        near = get_close_matches(name, ids) or ids
        raise RmuLabError(f"There is no claim {name!r}; use one of {', '.join(near)}.")
    return claims[ids.index(name)]

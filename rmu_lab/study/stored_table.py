"""The scorecard's table as it was last computed: what ``rmu-lab claims`` prints without loading torch.

To compute it from the results under `data/results` takes seconds, so the table is stored beside them, with the SHA-256 of
each file that it was computed from. Where one of them has changed since, `stored_claims` gives None, and the table is to
be computed; a test keeps the stored one equal to that.
"""

from __future__ import annotations

import dataclasses
import json

from ..errors import RmuLabError
from ..files import file_digest, results_folder, write_json
from ..stored import checked, reading
from .verdicts import ClaimInWords, OnModel

FILE = "verdicts.json"
"""Below `data/results`."""
FOLDERS = ("study", "gcg")
"""Below `data/results`, with all that the table is computed from."""


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
        if record["results"] != _digests():
            return None
        return [
            checked(
                ClaimInWords(
                    **row | {"models": {title: checked(OnModel(**found)) for title, found in row["models"].items()}}
                )
            )
            for row in record["claims"]
        ]


def _digests() -> dict[str, str]:
    """SHA-256 of the results; locks of runs are none."""
    folder = results_folder()
    files = sorted(path for name in FOLDERS for path in (folder / name).rglob("*") if path.suffix in (".json", ".jsonl"))
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def refresh() -> list[ClaimInWords]:
    """Compute the table, store it beside the results, and return it.

    Raises
    ------
    RmuLabError
        if it cannot be written there, as in a package that another user has installed.
    """
    from .verdict_table import computed_claims

    claims = computed_claims()
    record = {"results": _digests(), "claims": [dataclasses.asdict(claim) for claim in claims]}
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

"""The scorecard: every claim of Dang et al. 2024, what decides about it, the numbers measured here, and the verdict.

Each of `CLAIMS` has its rule, fixed in the code: conditions on named numbers, each with its
95% interval, and a condition holds only where the whole interval does. Numbers come from results stored under
`data/results`; ``claim.fresh()`` measures them anew. Taught in notebook 10; ``rmu-lab claims`` prints the table.
"""

from ..estimates import Number, mean_of
from .claim_table import as_json, markdown, rewrite, table_rows
from .claims import CLAIMS, Claim, claim_of
from .full_size import FullRun, found_runs
from .rules import (
    ARGUMENT_FAILS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    SCALE_DEPENDENT,
    VERDICTS,
    Condition,
    Rule,
    above,
    below,
)
from .sources import NotMeasuredError

__all__ = [
    "ARGUMENT_FAILS",
    "CLAIMS",
    "NOT_MEASURED",
    "NOT_REPRODUCED",
    "REPRODUCED",
    "SCALE_DEPENDENT",
    "VERDICTS",
    "Claim",
    "Condition",
    "FullRun",
    "NotMeasuredError",
    "Number",
    "Rule",
    "above",
    "as_json",
    "below",
    "claim_of",
    "found_runs",
    "markdown",
    "mean_of",
    "rewrite",
    "table_rows",
]

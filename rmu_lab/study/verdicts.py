"""The verdicts, their symbols, how those on several models make one, and a claim in words; needs no torch and no scipy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
ARGUMENT_FAILS = "argument fails but conclusion holds"
DIFFERS = "differs between models"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, ARGUMENT_FAILS)
"""Of one model."""
NOT_MEASURED = "not measured yet"  # no verdict: nothing has been run
SYMBOLS = {
    REPRODUCED: "✓",
    ARGUMENT_FAILS: "◐",
    NOT_REPRODUCED: "✗",
    DIFFERS: "⇅",
    UNDECIDED: "?",
    NOT_MEASURED: "·",
}
"""Of a verdict; a reader who sees no colours needs them."""
FRAGILE, MARKED = "†", "‡"
LEGEND = {
    **{symbol: verdict for verdict, symbol in SYMBOLS.items()},
    FRAGILE: "does not stand when all verdicts are taken as one family of tests (Holm)",
    MARKED: "the rule was changed after its numbers were seen",
}


def overall(verdicts: Iterable[str]) -> str:
    """Decide about a claim from its verdicts on several models.

    `DIFFERS` where its conclusion holds on one model and not on another. Else what is decided on at least two of
    them, or on the only one on which it was measured; where the conclusion holds on all and its argument fails on one, the
    argument fails. Otherwise `UNDECIDED`. Models on which it was not measured do not count.
    """
    found = [verdict for verdict in verdicts if verdict != NOT_MEASURED]
    decided = {verdict for verdict in found if verdict != UNDECIDED}
    if not found:
        return NOT_MEASURED
    if NOT_REPRODUCED in decided and len(decided) > 1:
        return DIFFERS
    if len(found) - found.count(UNDECIDED) < min(2, len(found)):
        return UNDECIDED
    return ARGUMENT_FAILS if ARGUMENT_FAILS in decided else decided.pop()


@dataclass(frozen=True)
class OnModel:
    """What was found about one claim on one model."""

    verdict: str
    measured: list[str] = field(default_factory=list)
    """Each deciding number with its interval and what was asked of it."""
    p: float = 1.0
    after_holm: bool = False
    """Whether the verdict stands when all verdicts of the scorecard are taken as one family of tests."""
    needed: str = ""
    """What an undecided one would take."""
    runs: list[str] = field(default_factory=list)
    """Each command with its minutes."""

    @property
    def symbol(self) -> str:
        """The verdict's symbol, with a mark if it does not stand among all of them."""
        decided = self.verdict not in (UNDECIDED, NOT_MEASURED)
        return SYMBOLS[self.verdict] + (FRAGILE if decided and not self.after_holm else "")


@dataclass(frozen=True)
class ClaimInWords:
    """One claim and what was found about it, as it is printed."""

    id: str
    paper: str
    """Where in the paper."""
    plain: str
    """The claim in everyday words."""
    statement: str
    reported: str
    """What the paper reports for it."""
    protocol: str
    """What was done here."""
    rule: str
    changed: str
    """Why the rule is marked; empty if it is not."""
    place: str
    """The notebook and the section that show it."""
    link: str
    """The same as a file name and an anchor."""
    models: dict[str, OnModel]
    """By the model's title."""
    overall: str

    @property
    def overall_that_stands(self) -> str:
        """The verdict over all models if those that do not stand among all of them count as undecided."""
        return overall(
            UNDECIDED if each.verdict in VERDICTS and not each.after_holm else each.verdict for each in self.models.values()
        )

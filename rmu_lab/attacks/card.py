"""The robustness card: what each attack brought back from one edit, the worst first. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..estimates import holm
from ..evaluate import Accuracy
from ..files import write_json
from ..stored import checked, reading
from ..unlearning.config import MethodConfig
from ..unlearning.method_table import config_from_dict
from .attack_table import ATTACKS
from .controls import Recovery

EDITION = 2
"""Of the stored form; cards of the first, which named neither attackers nor costs, are read as well."""
COLUMNS = ("attack", "an attacker holds", "unlearned -> attacked", "beyond the strictest control", "cost, with controls")
"""Of `RobustnessCard.table`."""


@dataclass(frozen=True)
class RobustnessCard:
    """What each attack recovered from one edit. Taught in notebook 07."""

    recoveries: dict[str, Recovery]
    """By attack, in the order in which they ran."""
    model_name: str
    config: MethodConfig
    """Settings of the edit."""
    base: Accuracy
    """Of the model before unlearning: the reference model of this card."""
    unlearned: Accuracy
    left_out: dict[str, str]
    """Attacks that did not run, and why."""
    digests: dict[str, str]
    """SHA-256 of what decides the numbers: the base model, the edit, the questions and the material that was given."""
    provenance: dict[str, Any]
    """Versions, seed, machine and time."""
    seconds: float
    """Wall-clock time of the whole run."""

    @property
    def worst_first(self) -> dict[str, Recovery]:
        """The recoveries by how much they bring back beyond the strictest of their controls."""
        order = sorted(self.recoveries, key=lambda name: -self.recoveries[name].beyond_controls.change)
        return {name: self.recoveries[name] for name in order}

    @property
    def successful(self) -> dict[str, Recovery]:
        """The attacks that bring back more than each of their controls, the worst first.

        At 5% for all attacks of the card together (Holm 1979).
        """
        stands = holm({name: one.beyond_controls.p_value for name, one in self.recoveries.items()})
        return {name: one for name, one in self.worst_first.items() if name in stands and one.beyond_controls.change > 0}

    @property
    def taken(self) -> float:
        """Accuracy that unlearning took, as a share of the questions."""
        return self.base.accuracy - self.unlearned.accuracy

    def summary(self) -> list[str]:
        """Return what the card says, in sentences: its guarantee, its reference, and the worst case for each attacker."""
        sentences = [self._guarantee()]
        sentences.append(
            f"Reference: {self.model_name or 'the model'} before unlearning, {self.base}; after it {self.unlearned}. "
            "What an attack recovers is counted against the strictest of its controls, with 95% intervals."
        )
        attackers: dict[str, list[str]] = {}
        for name, one in self.worst_first.items():
            attackers.setdefault(one.attacker, []).append(name)
        for attacker, names in attackers.items():
            worst = self.recoveries[names[0]].beyond_controls
            others = f" (of {len(names)} attacks)" if len(names) > 1 else ""
            taught = ", which may have taught it" if self.recoveries[names[0]].may_teach else ""
            sentences.append(f"With {attacker or 'what is not said'}, most by {names[0]}{others}: {worst}{taught}.")
        return sentences

    def _guarantee(self) -> str:
        if not self.recoveries:
            return "Guarantee: none. No attack was run."
        found = self.successful
        if not found:
            return (
                f"Guarantee: none. Of {len(self.recoveries)} attacks none brings back more than its controls do, which does "
                "not show that anything was erased: stronger attackers exist."
            )
        hidden = next((name for name, one in found.items() if not one.may_teach), None)
        if hidden is None:
            return (
                f"Guarantee: none. Of {len(self.recoveries)} attacks only such recover anything as may have taught it, "
                "which shows neither suppression nor erasure."
            )
        return (
            f"Guarantee: suppression, not erasure. Of {len(self.recoveries)} attacks, {hidden} recovers most of those that "
            f"teach nothing: {found[hidden].beyond_controls}, where unlearning took {100 * self.taken:.0f}."
        )

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return a row for each attack, the worst first, with cells as named in `COLUMNS`."""
        successful, rows = self.successful, []
        for name, one in self.worst_first.items():
            mark = "" if name in successful else ", may be chance" if one.beyond_controls.change > 0 else ""
            rows.append(
                (
                    name,
                    one.attacker,
                    f"{one.start.accuracy:.0%} -> {one.attacked.accuracy:.0%} of {len(one.start.correct)}",
                    f"{one.beyond_controls} ({one.strictest}{mark})",
                    "not counted" if one.cost is None else str(one.cost),
                )
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return plain | {
            "edition": EDITION,
            "recoveries": {name: recovery.to_dict() for name, recovery in self.recoveries.items()},
            "config": self.config.to_dict(),
            "base": self.base.to_dict(),
            "unlearned": self.unlearned.to_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; `load` reads it back.

        Raises
        ------
        RmuLabError
            if the file cannot be written.
        """
        write_json(Path(path), self.to_dict())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> RobustnessCard:
        """Read what `save` wrote, now or in the first edition.

        Raises
        ------
        RmuLabError
            if the file does not hold a card.
        """
        with reading(f"{path} holds no card", "give a file that RobustnessCard.save() wrote"):
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            edition = plain.pop("edition", 1)
            if edition not in (1, EDITION):
                raise ValueError(f"edition is {edition!r}, where this version reads 1 and {EDITION}")
            recoveries = {name: _with_attacker(name, one) for name, one in plain["recoveries"].items()}
            scores = {name: Accuracy.from_dict(plain[name]) for name in ("base", "unlearned")}
            return checked(cls(**plain | scores | {"recoveries": recoveries, "config": config_from_dict(plain["config"])}))


def _with_attacker(name: str, plain: Mapping[str, Any]) -> Recovery:
    """A stored recovery; one of the first edition gets its attacker from the table of attacks."""
    found = Recovery.from_dict(plain)
    if found.attacker or name not in ATTACKS:
        return found
    return dataclasses.replace(found, attacker=ATTACKS[name].attacker, may_teach=ATTACKS[name].may_teach)

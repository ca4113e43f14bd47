"""The table of a league: what each entry forgets and disturbs at each budget, how soon it is back, and who differs from RMU.

Questions and directions are resampled together (`rmu_lab.estimates.crossed`); all comparisons with RMU carry one correction,
Holm's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np

from ..attacks.relearning_speed import RelearningCurve
from ..errors import RmuLabError
from ..estimates import Number, crossed, holm
from ..evaluate import Accuracy
from ..metrics.relearning import half_back, half_back_ratio
from .entry_table import REFERENCE
from .matches import BASE

COLUMNS = (
    "entry",
    "divergence",
    "topic points lost",
    "general points lost",
    "attack",
    "points still lost",
    "R50 (tokens)",
    "R50 / RMU's",
    "p",
)


@dataclass(frozen=True)
class UnderAttack:
    """What a relearning attack does to an entry at one budget."""

    lr: float
    """The attacker's rate, searched on dev."""
    left: Number
    """Topic points that are still lost at the step at which the attack did best on dev."""
    r50: Number | None
    """Tokens until half is back (`half_back`), infinite where it is not; None where nothing is known to be lost."""
    ratio: Number | None = None
    """R50 over RMU's (`half_back_ratio`); None for RMU, and where one of the two has none."""
    p: float | None = None
    """Of a ratio of 1, two-sided, before any correction."""
    told_apart: bool = False
    """Whether it stays significant among all comparisons of the table (Holm)."""


@dataclass(frozen=True)
class Standing:
    """An entry at one budget, over its test seeds."""

    entry: str
    budget: float
    config: dict[str, Any]
    seeds: tuple[int, ...]
    lost: Number | None = None
    """Points of accuracy lost on the topic; None if an edit failed."""
    general: Number | None = None
    """The same on general questions."""
    divergence: float | None = None
    """From the base model on held-out texts, in nats a token, a mean over the seeds."""
    strength: float | None = None
    """That the edits were scaled by, a geometric mean over the seeds."""
    properties: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of the scaled edits, a mean over the seeds."""
    attacks: dict[str, UnderAttack] = dataclasses.field(default_factory=dict)
    error: str | None = None
    """Why there are no numbers."""

    def cells(self) -> list[list[str]]:
        """Return a row of the table for each attack, with the columns `COLUMNS`."""
        if self.lost is None or self.general is None or self.divergence is None:
            return [[self.entry, f"{self.budget:g}", f"failed: {self.error}", *[""] * (len(COLUMNS) - 3)]]
        head = [self.entry, f"{self.divergence:.3g}", str(self.lost), str(self.general)]
        rows = []
        for number, (attack, found) in enumerate(self.attacks.items()):
            ratio = "" if found.ratio is None else f"{found.ratio}{' *' if found.told_apart else ''}"
            p = "" if found.p is None else f"{found.p:.2g}"
            own = [attack, str(found.left), tokens(found.r50), ratio, p]
            rows.append([*(head if number == 0 else [""] * len(head)), *own])
        return rows or [[*head, *[""] * (len(COLUMNS) - len(head))]]


def tokens(r50: Number | None) -> str:
    """Write R50 with its interval; what is not reached is beyond the end of the fine-tune."""
    if r50 is None:
        return "nothing lost"
    value, low, high = ("not reached" if math.isinf(end) else f"{end:.0f}" for end in (r50.value, r50.low, r50.high))
    return value if value == low == high else f"{value} [{low}, {high}]"


def league_table(rows: Iterable[Mapping[str, Any]]) -> list[Standing]:
    """Put the rows of a league together: a `Standing` for each entry and budget, in the order in which they were played.

    R50 is computed only where the topic is known to have lost something: where the 95% interval of the points lost lies
    above zero. Else an edit that forgets nothing would be the most robust. Taught in notebook 12.

    Parameters
    ----------
    rows
        what `play_entry` and `play_base` returned, or the lines of a file ``matches.jsonl``: those of the base model, and
        for each entry and budget one for each seed.

    Raises
    ------
    RmuLabError
        if the base model's row is missing, or rows are of different leagues.
    """
    rows = list(rows)
    if len({row["league"] for row in rows}) > 1:
        raise RmuLabError("The rows are of leagues with other texts, questions or settings; give those of one league.")
    base = next((row for row in rows if row["entry"] == BASE), None)
    if base is None:
        raise RmuLabError("The row of the base model is missing; give all rows of a league.")
    groups: dict[_Place, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["entry"] != BASE:
            groups.setdefault((row["entry"], row["budget"]), []).append(row)
    groups = {place: sorted(group, key=lambda row: row["seed"]) for place, group in groups.items()}
    table = {place: _standing(*place, group, base) for place, group in groups.items()}
    return _told_apart(_compared(table, groups, base))


_Place: TypeAlias = tuple[str, float]
"""An entry's name, and a budget."""


def _standing(entry: str, budget: float, group: Sequence[Mapping[str, Any]], base: Mapping[str, Any]) -> Standing:
    common: dict[str, Any] = {"entry": entry, "budget": budget, "config": dict(group[0]["config"])}
    common["config"].pop("seed", None)
    common["seeds"] = tuple(row["seed"] for row in group)
    if failed := [row["error"] for row in group if "error" in row]:
        return Standing(**common, error=failed[0])
    lost = crossed(100 * _lost(group, base, "topic"))
    names = group[0]["properties"]
    attacks = {name: _under_attack(name, group, base, lost) for name in group[0]["attacks"]}
    return Standing(
        **common,
        lost=lost,
        general=crossed(100 * _lost(group, base, "general")),
        divergence=fmean(row["divergence"] for row in group),
        strength=math.exp(fmean(math.log(row["strength"]) for row in group)),
        properties={name: fmean(row["properties"][name] for row in group) for name in names},
        attacks=attacks,
    )


def _under_attack(name: str, group: Sequence[Mapping[str, Any]], base: Mapping[str, Any], lost: Number) -> UnderAttack:
    curves, before = _curves(name, group), _base_score(name, base)
    first = group[0]["attacks"][name]
    end = curves[0].steps.index(first["end"])
    right = np.array([curve.scores[end].correct for curve in curves], dtype=float)
    r50 = half_back(curves, before) if lost.low > 0 else None
    return UnderAttack(first["lr"], crossed(100 * (np.array(before.correct, dtype=float) - right)), r50)


def _compared(
    table: Mapping[_Place, Standing], groups: Mapping[_Place, Sequence[Mapping[str, Any]]], base: Mapping[str, Any]
) -> list[Standing]:
    """The table with each R50 beside RMU's, where both have one and were played with the same seeds."""
    found = []
    for place, one in table.items():
        reference, attacks = table.get((REFERENCE, one.budget)), dict(one.attacks)
        for name, under in one.attacks.items():
            other = None if reference is None or reference is one else reference.attacks.get(name)
            if reference is None or other is None or other.r50 is None or under.r50 is None or reference.seeds != one.seeds:
                continue
            ours, theirs = (_curves(name, groups[each]) for each in (place, (REFERENCE, one.budget)))
            ratio, p = half_back_ratio(ours, theirs, _base_score(name, base))
            attacks[name] = dataclasses.replace(under, ratio=ratio, p=p)
        found.append(dataclasses.replace(one, attacks=attacks))
    return found


def _told_apart(table: Sequence[Standing]) -> list[Standing]:
    """The table with Holm's correction over all its comparisons."""
    tests = {
        f"{place} {attack}": found.p
        for place, one in enumerate(table)
        for attack, found in one.attacks.items()
        if found.p is not None
    }
    kept, marked = holm(tests), []
    for place, one in enumerate(table):
        attacks = {
            attack: dataclasses.replace(found, told_apart=f"{place} {attack}" in kept)
            for attack, found in one.attacks.items()
        }
        marked.append(dataclasses.replace(one, attacks=attacks))
    return marked


def _lost(group: Sequence[Mapping[str, Any]], base: Mapping[str, Any], topic: str) -> np.ndarray:
    """By how much fewer answers are right, (seeds, questions)."""
    before = np.array(Accuracy.from_dict(base[topic]).correct, dtype=float)
    return before - np.array([Accuracy.from_dict(row[topic]).correct for row in group], dtype=float)


def _curves(name: str, group: Iterable[Mapping[str, Any]]) -> list[RelearningCurve]:
    return [RelearningCurve.from_dict(row["attacks"][name]["curve"]) for row in group]


def _base_score(name: str, base: Mapping[str, Any]) -> Accuracy:
    return Accuracy.from_dict(base["attacks"][name]["score"])

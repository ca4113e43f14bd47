"""Which property of an edit tells how soon it is undone, and whether it tells that of a method it was not learned from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.stats import rankdata, spearmanr

from ..errors import RmuLabError
from ..estimates import Number, correlation_of, holm
from .properties import PROPERTIES
from .table import Standing

LEAST = 4
"""Methods that a correlation takes."""


@dataclass(frozen=True)
class PropertyTest:
    """How well one property ranks methods by R50, at one budget and under one attack."""

    property: str
    budget: float
    attack: str
    methods: int
    """That have an R50; they are the sample, and they are few."""
    correlation: Number
    """Spearman's, of the property with R50, with Fisher's interval for ranks."""
    p: float
    """Two-sided, before any correction."""
    significant: bool
    """Whether it stays so among all tests that are made together (Holm)."""
    held_out: float
    """Share of the pairs of a held-out method and another that the property orders rightly, by the sign that the correlation
    has without the held-out method; 0.5 is guessing."""


def which_property_predicts(table: Sequence[Standing]) -> list[PropertyTest]:
    """Try each property of the scaled edits as a predictor of R50, and test it on methods that were held out.

    At each budget and under each attack the methods with an R50 are ranked by it (what is not reached ranks above all that
    is), and correlated with the rank of the property. Then each method is held out in turn: the others say whether more of
    the property goes with a longer or a shorter R50, and the held-out method is compared with each of them by that rule.
    RMU, Adaptive RMU and their successors are kin, so that even these are fewer independent cases than methods. Taught in
    notebook 12.

    Parameters
    ----------
    table
        of `league_table`, with at least four methods that have an R50 at some budget and attack.

    Returns
    -------
    list of PropertyTest
        those that order most pairs of held-out methods first.

    Raises
    ------
    RmuLabError
        if there are fewer methods.
    """
    found = []
    for budget, attack in sorted({(one.budget, attack) for one in table for attack in one.attacks}):
        cases = [
            (one.properties, under.r50.value)
            for one in table
            if one.budget == budget and (under := one.attacks.get(attack)) is not None and under.r50 is not None
        ]
        if len(cases) < LEAST:
            continue
        for name in PROPERTIES:
            pairs = [(properties[name], r50) for properties, r50 in cases]
            if min(map(len, map(set, zip(*pairs, strict=True)))) > 1:
                found.append(_tested(name, budget, attack, pairs))
    if not found:
        raise RmuLabError(f"Fewer than {LEAST} methods have an R50 at the same budget; play more entries.")
    kept = holm({str(number): one.p for number, one in enumerate(found)})
    found = [dataclasses.replace(one, significant=str(number) in kept) for number, one in enumerate(found)]
    return sorted(found, key=lambda one: (-one.held_out, one.p))


def _tested(name: str, budget: float, attack: str, pairs: Sequence[tuple[float, float]]) -> PropertyTest:
    ranks = list(zip(*(map(float, rankdata(side)) for side in zip(*pairs, strict=True)), strict=True))
    correlation = correlation_of(ranks, "methods")
    p = float(spearmanr(*zip(*pairs, strict=True)).pvalue)
    return PropertyTest(name, budget, attack, len(pairs), correlation, p, False, _held_out(pairs))


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's correlation; 0 where one side has the same value in all pairs."""
    if min(map(len, map(set, zip(*pairs, strict=True)))) < 2:
        return 0.0
    found = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return found if math.isfinite(found) else 0.0


def _held_out(pairs: Sequence[tuple[float, float]]) -> float:
    """The share of rightly ordered pairs, each looked at with either of its two methods held out; what ties counts half."""
    right, count = 0.0, 0
    signs = [spearman([*pairs[:number], *pairs[number + 1 :]]) for number in range(len(pairs))]
    for (i, one), (j, other) in combinations(enumerate(pairs), 2):
        if one[1] == other[1]:
            continue  # there is nothing to order
        for sign in (signs[i], signs[j]):
            agreement = sign * (one[0] - other[0]) * (1 if one[1] > other[1] else -1)
            right += 1.0 if agreement > 0 else 0.5 if agreement == 0 else 0.0
            count += 1
    return right / count if count else 0.5

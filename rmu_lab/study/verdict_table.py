"""Every claim with its verdicts on all models, in words, computed from what is stored. Taught in notebook 10."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ..estimates import Number, holm
from .claims import CLAIMS, Claim
from .model_study import NotMeasuredError, Study
from .parts import PARTS
from .studied_models import STUDIED
from .verdicts import NOT_MEASURED, UNDECIDED, ClaimInWords, OnModel, overall


def computed_claims(studies: Iterable[Study] | None = None) -> list[ClaimInWords]:
    """Compute the table from what is stored.

    Parameters
    ----------
    studies
        one for each model; by default those in ``data/results/study``.
    """
    studies = list(studies or map(Study, STUDIED))
    titles = [study.model.title for study in studies]
    found = {(name, study.model.title): _on_model(claim, study) for name, claim in CLAIMS.items() for study in studies}
    # All that was measured is one family, also what was left open: to leave it out afterwards would be a choice by results.
    clear = holm({f"{name} {title}": each.p for (name, title), each in found.items() if each.verdict != NOT_MEASURED})
    table = []
    for name, claim in CLAIMS.items():
        models = {title: dataclasses.replace(found[name, title], after_holm=f"{name} {title}" in clear) for title in titles}
        table.append(
            ClaimInWords(
                id=name,
                paper=claim.part,
                plain=claim.plain,
                statement=claim.statement,
                reported=claim.reported,
                protocol=claim.protocol,
                rule=str(claim.rule),
                changed=claim.changed,
                place=place(claim),
                link=claim.shown,
                models=models,
                overall=overall(each.verdict for each in models.values()),
            )
        )
    return table


def _on_model(claim: Claim, study: Study) -> OnModel:
    try:
        numbers = claim.numbers(study)
    except NotMeasuredError:
        again = f"`rmu-lab claims --run {claim.id} --model {study.model.name}` measures it."
        return OnModel(NOT_MEASURED, needed=again if claim.parts else f"`{claim.line}` measures it, on one model only.")
    return OnModel(
        verdict=claim.verdict(numbers),
        measured=measured_lines(claim, numbers),
        p=claim.rule.p_value(numbers),
        needed=_needed(claim, numbers),
        runs=[_run(study, part) for part in claim.parts],
    )


def measured_lines(claim: Claim, numbers: dict[str, Number]) -> list[str]:
    """Write each deciding number with its interval and what was asked of it."""
    rule, lines = claim.rule, []
    for name, number in numbers.items():
        asked = [f"{each.relation} {each.threshold:g}" for each in rule.conclusion if each.number == name]
        against = [
            f"{each.relation} {each.threshold:g} against the argument" for each in rule.against if each.number == name
        ]
        lines.append(f"{name}: {number} ({', '.join(dict.fromkeys([*asked, *against]))})")
    return lines


def _needed(claim: Claim, numbers: dict[str, Number]) -> str:
    """What the condition that is hardest to decide would take, if this is what leaves the verdict open."""
    if claim.rule.verdict(numbers) != UNDECIDED:
        return ""
    wanted = {each: each.needed(numbers) for each in claim.rule.conditions}
    hardest = max((each for each in wanted if wanted[each]), key=lambda each: wanted[each] or 0, default=None)
    if hardest is None:
        return "A value lies on its threshold, so that no sample would decide it."
    number = numbers[hardest.number]
    stays = f"if “{hardest.number}” stays at {number.value:.3g}"
    return f"Some {wanted[hardest]} {number.over} in place of {number.n} would decide it four times in five, {stays}."


def _run(study: Study, name: str) -> str:
    return f"python -m benchmarks.study --model {study.model.name} --part {name} ({study.minutes(PARTS[name]):.0f} minutes)"


def place(claim: Claim) -> str:
    """Name the notebook and the section that show a claim."""
    return f"{claim.shown[:2]}: {claim.shows}" if claim.shown else claim.shows

"""The stored trainings of notebook 04 (`benchmarks.training`): the rows of a setting, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ..estimates import Number, mean_of
from ..files import data_folder
from ..questions import load_questions
from ..sweeps.rows import SweepRow, load_sweep
from ..unlearning.config import UnlearnConfig

SEEDS = 3
"""Directions u for most settings."""


@cache
def _part(name: str) -> tuple[SweepRow, ...]:
    return tuple(load_sweep(data_folder() / "results" / "training" / f"{name}.jsonl"))


def stored_runs(part: str = "front", **changes: Any) -> list[SweepRow]:
    """Return the stored trainings with the default's settings but for `changes`: one for each direction u.

    Parameters
    ----------
    part
        the file: ``front``, ``optimiser``, ``switches``, ``two_topics``, ``retain_general``, ``retain_neighbours`` or
        ``retain_both``.

    Raises
    ------
    KeyError
        if there are none.
    """
    setting = replace(UnlearnConfig(method="rmu", coefficient=570.0), **changes)
    rows = [row for row in _part(part) if isinstance(row.config, UnlearnConfig) and replace(row.config, seed=0) == setting]
    if not rows:
        raise KeyError(f"training/{part}.jsonl has no run with {changes}.")
    return rows


def base_run(part: str = "front") -> SweepRow:
    """Return the row of the base model, which was asked the same questions."""
    return next(row for row in _part(part) if row.config is None)


def level(rows: Sequence[SweepRow], questions: str) -> Number:
    """Average the accuracy on a set of questions, in points, with its interval over directions."""
    return mean_of((100 * row.scores[questions].accuracy for row in rows), "directions")


def change(rows: Sequence[SweepRow], before: Sequence[SweepRow], questions: str, topic: str | None = None) -> Number:
    """Average the change of accuracy in points, with its interval over questions.

    Each question is compared with itself, and averaged over the directions of both groups first.

    Parameters
    ----------
    topic
        only the questions on it, where a set has several.
    """
    now, then = (np.array([row.scores[questions].correct for row in group]).mean(axis=0) for group in (rows, before))
    each = 100 * (now - then)
    if topic is not None:
        asked = load_questions(questions, split="test").shuffle(seed=0)
        each = each[[row["topic"] == topic for row in asked][: len(each)]]
    return mean_of(each, "questions")


Outcome = tuple[float, float]
"""Forget and general accuracy in points, with one direction u."""


def outcomes(rows: Sequence[SweepRow]) -> list[Outcome]:
    """Return what the trainings of one setting came to, direction by direction."""
    return [(100 * row.scores["bio"].accuracy, 100 * row.scores["general"].accuracy) for row in rows]


def better_tradeoff(forget: Number, general: Number, margin: float = 3.0) -> str:
    """Say what the intervals allow to be said of one setting in place of another.

    Parameters
    ----------
    forget, general
        changes of accuracy in points that come with it, on forget questions and on what should stay.
    margin
        points of accuracy on what should stay that one would give up.

    Returns
    -------
    str
        "further" if the setting forgets more and loses more, "better" if it forgets more and loses less than `margin`,
        and "undecided" if the intervals do not show that it forgets more, or leave open what it loses.
    """
    if forget.high >= 0:
        return "undecided"
    if general.high < 0:
        return "further"
    return "better" if general.low > -margin else "undecided"


def base_outcome() -> tuple[float, float]:
    """Return the base model's forget and general accuracy in points, on the questions of `outcomes`."""
    scores = base_run().scores
    return 100 * scores["bio"].accuracy, 100 * scores["general"].accuracy


def differences(part: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Number]]:
    """Return what each setting changes against the default: ``"forget"`` or ``"general"`` -> label -> change in points."""
    rows = {label: stored_runs(part, **changes) for label, changes in settings.items()}
    default = stored_runs()
    return {
        kind: {label: change(each, default[: len(each)], questions) for label, each in rows.items()}
        for kind, questions in (("forget", "bio"), ("general", "general"))
    }


_RETAIN = {
    "none (alpha = 0)": ("general", 0),
    "general": ("general", 300),
    "neighbours": ("neighbours", 300),
    "half of each": ("both", 300),
}
_ASKED: dict[str, tuple[str, str | None]] = {
    "forget": ("bio", None),
    "general": ("general", None),
    "other biology": ("neighbours", "biology"),
    "computing": ("neighbours", "computing"),
}


def retain_runs(kind: str) -> list[SweepRow]:
    """Return the trainings with one kind of retain text."""
    part, alpha = _RETAIN[kind]
    return stored_runs(f"retain_{part}", alpha=alpha)


def retain_changes() -> dict[str, dict[str, Number]]:
    """Return what each retain text leaves of accuracy: set of questions -> retain text -> change from the base model."""
    before = [base_run("retain_general")] * SEEDS
    return {name: {kind: change(retain_runs(kind), before, *asked) for kind in _RETAIN} for name, asked in _ASKED.items()}


def retain_difference(kind: str, instead_of: str, asked: str) -> Number:
    """Return the change in points on a set of questions when one kind of retain text takes the place of another."""
    return change(retain_runs(kind), retain_runs(instead_of), *_ASKED[asked])

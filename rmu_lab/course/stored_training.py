"""The stored trainings of notebook 04 (`benchmarks.training`): which rows a setting has, and what they say with intervals."""

from __future__ import annotations

from collections.abc import Sequence
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
    setting = UnlearnConfig(**{"method": "rmu", "coefficient": 570.0} | changes)
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


def change(
    rows: Sequence[SweepRow], before: Sequence[SweepRow], questions: str, topic: str | None = None
) -> Number:
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

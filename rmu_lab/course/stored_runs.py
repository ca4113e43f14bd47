"""Numbers of stored trainings, with intervals that say what they are over. Used in notebook 03."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RmuLabError
from ..estimates import Number
from ..files import data_folder

if TYPE_CHECKING:
    from ..sweeps.rows import SweepRow

DRAWS = 2000


def stored_change(rows: Sequence[SweepRow], topic: str, **wanted: object) -> Number:
    """Compute by how many points a setting of a stored sweep changes the base model's accuracy.

    The change is the mean over the directions that were trained. Its 95% interval resamples questions and directions
    together, 2,000 times, since another sample would have others of both.

    Parameters
    ----------
    rows
        of the sweep, the base model's among them.
    topic
        name of the questions.
    wanted
        the setting: fields of its configuration and their values.

    Raises
    ------
    RmuLabError
        if the sweep has no such setting.
    """
    base = next(np.array(row.scores[topic].correct, dtype=float) for row in rows if row.config is None)
    found = [row for row in rows if row.config and wanted.items() <= row.config.to_dict().items()]
    if not found:
        raise RmuLabError(f"The sweep has no row with {wanted}.")
    changes = 100 * (np.array([row.scores[topic].correct for row in found], dtype=float) - base)  # (directions, questions)
    random, (directions, questions) = np.random.default_rng(0), changes.shape
    draws = [
        changes[random.integers(directions, size=directions)][:, random.integers(questions, size=questions)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Number(float(changes.mean()), float(low), float(high), questions, "questions and directions")


def stored_coefficients() -> dict[str, Any]:
    """Load the stored run ``coefficient``: RMU at layer 7 with six coefficients, three directions, 20 and 40 steps."""
    found: dict[str, Any] = json.loads((data_folder() / "results" / "coefficient.json").read_text(encoding="utf-8"))
    return found


def accuracy_by_coefficient(record: Mapping[str, Any], topic: str, steps: int) -> np.ndarray:
    """Take accuracies in per cent from the stored run ``coefficient``, (coefficients, directions), both in rising order.

    Parameters
    ----------
    record
        of ``coefficient.json``.
    topic
        name of the questions: ``"bio"`` or ``"general"``.
    steps
        of the training: 20 or 40.

    Raises
    ------
    RmuLabError
        if the run has no such number of steps.
    """
    rows = [row for row in record["rows"] if row["steps"] == steps]
    if not rows:
        raise RmuLabError(f"The stored run has no rows after {steps} steps.")
    by_setting = {(row["coefficient"], row["seed"]): 100 * row[topic]["accuracy"] for row in rows}
    coefficients, seeds = (sorted(set(part)) for part in zip(*by_setting, strict=True))
    return np.array([[by_setting[c, seed] for seed in seeds] for c in coefficients])


def median_cosine(record: Mapping[str, Any], coefficient: float, steps: int) -> float:
    """Take the median cos(u, h) of the forget tokens from the stored run ``coefficient``, averaged over its directions.

    Raises
    ------
    RmuLabError
        if the run has no such setting.
    """
    found = [row for row in record["rows"] if (row["coefficient"], row["steps"]) == (coefficient, steps)]
    if not found:
        raise RmuLabError(f"The stored run has no row with c = {coefficient:g} after {steps} steps.")
    middle = record["quantiles"].index(0.5)
    return float(np.mean([row["forget cosine"][middle] for row in found]))

"""Notebook 11's stored panel: every metric of unlearned models beside one that never knew, by `benchmarks.never_knew`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ..attacks.relearning_speed import RelearningCurve
from ..errors import RmuLabError
from ..estimates import Number
from ..files import read_json_lines, results_folder
from ..metrics import FACT_METRICS, PASSAGE_METRICS, crossed_auc, detectability

NEVER_KNEW = "never knew"
PROBE, OUTPUTS = "hidden-state probe", "classifier on outputs"
METRICS = (*FACT_METRICS, *PASSAGE_METRICS, PROBE, OUTPUTS)
"""In the order in which notebook 11 shows them."""


@cache
def _rows(file: str, place: str) -> dict[str, list[dict[str, Any]]]:
    """Stored rows by model, directions in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _, row in read_json_lines(results_folder() / "never_knew" / file):
        if row["place"] == place:
            found.setdefault(row["model"], []).append(row)
    if NEVER_KNEW not in found:
        raise RmuLabError(f"No model that never knew is stored for {place!r}; run benchmarks.never_knew, or take 'above'.")
    return {name: sorted(rows, key=lambda row: row["seed"]) for name, rows in found.items()}


def panel_areas(place: str) -> dict[str, dict[str, Number]]:
    """Return, by model and metric, the chance that a fact of this model gets more than one of the model that never knew.

    Over facts and directions together, see `crossed_auc`. Only the classifier is trained on half of the questions, once for
    each direction: its area is the mean of theirs, between the lowest and the highest end of their intervals.
    Taught in notebook 11.

    Parameters
    ----------
    place
        in which the facts were taught, such as ``"above"``.

    Raises
    ------
    RmuLabError
        if the model that never knew is not stored for this place.
    """
    rows = _rows("panel.jsonl", place)
    (reference,) = rows[NEVER_KNEW]
    return {name: _areas(of_model, reference) for name, of_model in rows.items() if name != NEVER_KNEW}


def _areas(rows: Sequence[dict[str, Any]], reference: dict[str, Any]) -> dict[str, Number]:
    by_fact = {
        name: crossed_auc(np.array([row[kind][name] for row in rows]), np.array(reference[kind][name]))
        for kind, names in (("facts", FACT_METRICS), ("passages", PASSAGE_METRICS))
        for name in names
    }
    probe = crossed_auc(np.array([row["probe"] for row in rows]), np.array(reference["probe"]))
    found = [detectability(torch.tensor(row["outputs"]), torch.tensor(reference["outputs"])).area for row in rows]
    low, high = min(one.low for one in found), max(one.high for one in found)
    outputs = Number(fmean(one.value for one in found), low, high, found[0].n, "questions, and directions")
    return by_fact | {PROBE: probe, OUTPUTS: outputs}


def panel_markdown(place: str) -> str:
    """Return `panel_areas` as a table in Markdown, with the shares of questions right in per cent, for the guide.

    Taught in notebook 11.
    """
    rows, areas = _rows("panel.jsonl", place), panel_areas(place)
    lines = [["metric", *areas], ["---"] * (1 + len(areas))]
    lines += [[metric, *(_cell(areas[model][metric]) for model in areas)] for metric in METRICS]
    asked = {
        "forgotten": lambda row: fmean(row["facts"]["accuracy"]),
        "kept": lambda row: row["kept"],
        "general": lambda row: row["general"],
    }
    for name, share in asked.items():
        shares = [" / ".join(f"{100 * share(row):.0f}" for row in rows[model]) for model in areas]
        (never,) = rows[NEVER_KNEW]
        lines.append([f"{name} questions right, % (never knew: {100 * share(never):.0f})", *shares])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(area: Number) -> str:
    text = f"{area.value:.2f} [{area.low:.2f}, {area.high:.2f}]"
    return text if side_of(area) == 1 else f"**{text}**"


def panel_curves(place: str) -> dict[str, list[RelearningCurve]]:
    """Return, by model, the stored curves of being told the forgotten facts again, one for each direction."""
    return {
        name: [RelearningCurve.from_dict(row["curve"]) for row in rows]
        for name, rows in _rows("relearning.jsonl", place).items()
    }


def side_of(area: Number) -> int:
    """Return 0 where an area lies above one half with its interval, 2 where it lies below, and 1 between."""
    return 0 if area.low > 0.5 else 2 if area.high < 0.5 else 1

"""Rank-1 RMU and closed-form RMU beside RMU on the models of the study, as a table. Taught in notebook 12."""

from __future__ import annotations

from .measured import NotMeasuredError
from .model_study import Study
from .readings import RANK_ONE, read_rank_one
from .studied_models import STUDIED


def rank_one_markdown() -> str:
    """Write, for each model whose part is stored, the points of accuracy that each of the three edits takes.

    Taught in notebook 12.
    """
    lines = [
        "| model | questions |" + "".join(f" {title} |" for title in RANK_ONE.values()),
        "|---" * (2 + len(RANK_ONE)) + "|",
    ]
    for name, model in STUDIED.items():
        try:
            found = Study(name).numbers(read_rank_one)
        except NotMeasuredError:
            continue
        for words in ("infectious disease", "general"):
            cells = (found[f"{title}, {words}: points lost"] for title in RANK_ONE.values())
            lines.append(f"| {model.title} | {words} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)

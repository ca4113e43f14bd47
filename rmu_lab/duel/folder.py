"""The folder of a duel: what both groups get, what each hands in, and the questions that only the teacher has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..corpora import load_corpus
from ..errors import RmuLabError
from ..files import whole_folder, write_json, write_text
from ..questions import load_questions
from .attack_plans import Relearn, plan_dict
from .rules import RUN, Rules, topic_terms
from .sheets import BLUE_SHEET, DEFEND, RED_SHEET, TEACHER_SHEET

SETS = ("topic", "general")
"""Question sets of a duel: on what is to be forgotten, and on what is to stay."""
SAMPLE_TEXTS = 10
"""Texts of the attack that stands in Red's folder at the start."""


def start_duel(
    folder: str | Path,
    rules: Rules | None = None,
    *,
    forget: str = "forget_bio",
    retain: str = "retain_general",
    questions: str = "bio",
    general: str = "general",
) -> Path:
    """Write the folder of a duel, whole or not at all.

    Taught in ``docs/class/duel.md``.

    Parameters
    ----------
    folder
        new or empty.
    rules
        budgets and limits; by default `Rules()`, with the words of the topic if it is one of this course.
    forget, retain
        the texts that both groups start from, as `load_corpus` knows them.
    questions, general
        question sets with both splits, as `load_questions` knows them: ``dev`` is for both groups, ``test`` is held back.

    Returns
    -------
    Path
        the folder. All of it but ``teacher`` is for both groups.

    Raises
    ------
    RmuLabError
        if the folder is not empty or cannot be written, or texts or questions cannot be read.
    """
    rules = rules or Rules(forbidden_terms=topic_terms(forget))
    corpora = {"forget": load_corpus(forget), "retain": load_corpus(retain)}
    texts = {name: [{"text": text} for text in corpus["text"]] for name, corpus in corpora.items()}
    if len(texts["retain"]) < SAMPLE_TEXTS:
        raise RmuLabError(f"retain has {len(texts['retain'])} texts; give at least {SAMPLE_TEXTS}.")
    asked = {
        (split, name): list(load_questions(source, split=split))
        for split in ("dev", "test")
        for name, source in zip(SETS, (questions, general), strict=True)
    }
    with whole_folder(folder, replace_empty=True) as draft:
        for part in ("blue", "red", "texts", "dev", "teacher"):
            (draft / part).mkdir()
        write_json(draft / "rules.json", rules.to_dict())
        for (split, name), rows in asked.items():
            _write_lines(draft / ("dev" if split == "dev" else "teacher") / f"{name}.jsonl", rows)
        for name, rows in texts.items():
            for part in ("texts", "blue"):
                _write_lines(draft / part / f"{name}.jsonl", rows)
        _write_lines(draft / "red" / "texts.jsonl", texts["retain"][:SAMPLE_TEXTS])
        write_json(draft / "red" / "attack.json", plan_dict(Relearn(steps=min(Relearn.steps, rules.red_steps))))
        write_text(draft / "blue" / "README.md", BLUE_SHEET)
        write_text(draft / "blue" / "defend.py", DEFEND.format(model=rules.model))
        write_text(draft / "red" / "README.md", RED_SHEET.format(run=RUN))
        write_text(draft / "teacher" / "README.md", TEACHER_SHEET)
    return Path(folder)


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

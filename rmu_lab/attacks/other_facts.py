"""Facts that an attacker trains on, and other facts of the topic that are asked then: nothing that is asked is taught.

Deeb and Roger 2024, arXiv 2410.08827. Taught in notebook 07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..errors import RmuLabError
from ..questions import cloze_prompt
from ..randomness import python_random


def other_facts(
    questions: Sequence[Mapping[str, Any]], seed: int = 0
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Split questions by subject: facts that an attacker trains on, and others of the topic that are then asked.

    Subjects, such as transmission or vaccines, go as a whole to one side, so that no fact is taught that is asked, until
    half of the questions stand on the first side. Deeb and Roger 2024, arXiv 2410.08827. Taught in notebook 07.

    Parameters
    ----------
    questions
        with a ``subject`` each.
    seed
        draws the subjects of the first side.

    Returns
    -------
    tuple of list and list
        those to train on (`as_texts`), and those to ask.

    Raises
    ------
    RmuLabError
        if a question names no subject, or all have the same.
    """
    unnamed = [row["question"] for row in questions if not row.get("subject")]
    if unnamed:
        raise RmuLabError(f"The question {unnamed[0]!r} names no subject; give questions with a `subject` each.")
    subjects = sorted({row["subject"] for row in questions})
    if len(subjects) < 2:
        only = subjects[0] if subjects else "nothing"
        raise RmuLabError(f"All questions are on {only!r}; give some of several subjects.")
    python_random(seed, "subjects whose facts are relearned").shuffle(subjects)
    counts = [sum(row["subject"] == subject for row in questions) for subject in subjects]
    sums = list(accumulate(counts))
    cut = min(range(1, len(subjects)), key=lambda n: abs(sums[n - 1] - len(questions) / 2))
    first = set(subjects[:cut])
    return [row for row in questions if row["subject"] in first], [row for row in questions if row["subject"] not in first]


def as_texts(questions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write each question with its right answer, in the form in which questions are asked."""
    return [f"{cloze_prompt(row['question'])} {row['choices'][row['answer']]}" for row in questions]

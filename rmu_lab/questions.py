"""Multiple-choice questions: JSON Lines files in, checked data sets out; and the prompts made of them.

Taught in notebook 00; the formats follow WMDP and MMLU (Li et al. 2024, arXiv 2403.03218).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RmuLabError
from .files import named_file, read_json_lines

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("dev", "test")
LETTERS = "ABCDEFGHIJ"


def load_questions(name: str | Path, split: str | None = None) -> Dataset:
    """Load questions as a `datasets.Dataset` with columns ``question``, ``choices``, ``answer`` and whatever else is there.

    Taught in notebook 00.

    Parameters
    ----------
    name
        ``"bio"``, ``"general"``, ... (the files of ``data/questions``) or the path of a JSON Lines file.
    split
        ``"dev"`` (for choosing settings), ``"test"`` (for reported numbers), or None for all.

    Returns
    -------
    Dataset
        with one row for each question, in the order of the file.

    Raises
    ------
    RmuLabError
        naming file and line, if a question lacks a field, repeats an option or has an answer index
        out of range.
    """
    from datasets import Dataset

    if split is not None and split not in SPLITS:
        raise RmuLabError(f"split is {split!r}; use one of {', '.join(SPLITS)}, or None for all questions.")
    path = named_file(name, "questions", "question set")
    rows = []
    for number, row in read_json_lines(path):
        if problem := question_problem(row):
            raise RmuLabError(f"{path}, line {number}: {problem}.")
        if split is None or row.get("split") == split:
            rows.append(row)
    if not rows:
        raise RmuLabError(f"{path} holds no questions{f' of split {split!r}' if split else ''}; check the file.")
    return Dataset.from_list(rows)


def question_problem(row: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a question, or None.

    Right are: ``question`` a text, ``choices`` 2 to 10 different texts, ``answer`` the index of one.
    """
    question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        return "`question` must be a non-empty string"
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "`choices` must be a list of non-empty strings"
    if not 2 <= len(choices) <= len(LETTERS) or len(set(choices)) < len(choices):
        return f"`choices` must be 2 to {len(LETTERS)} different strings, not {choices}"
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        return f"`answer` is {answer!r}, but must be the index of a choice, 0 to {len(choices) - 1}"
    return None


def cloze_prompt(question: str) -> str:
    """Write the question alone; the answer's text is to follow after one blank."""
    return f"Question: {question.strip()}\nAnswer:"


def letter_prompt(question: str, choices: Sequence[str]) -> str:
    """Write the question with its lettered options; the answer's letter is to follow after one blank."""
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"Question: {question.strip()}\n{options}\nAnswer:"

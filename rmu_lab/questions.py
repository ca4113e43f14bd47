"""Multiple-choice questions: JSON Lines files in, checked data sets out; and the prompts made of them.

Taught in notebook 00; the formats follow WMDP and MMLU (Li et al. 2024, arXiv 2403.03218).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RmuLabError
from .files import named_file, read_json_lines
from .hub import is_data_set, known_questions, load_data_set
from .tables import checked_name, rows_of, rows_to_data_set

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("dev", "test")
LETTERS = "ABCDEFGHIJ"


def load_questions(
    name: str | Path, split: str | None = None, *, subset: str | None = None, data: str | Path | None = None
) -> Dataset:
    """Load questions as a `datasets.Dataset` with columns ``question``, ``choices``, ``answer`` and whatever else is there.

    Taught in notebook 00.

    Parameters
    ----------
    name
        ``"bio"``, ``"general"``, ... (the files of ``data/questions``); ``"wmdp-bio"``, ``"wmdp-cyber"``, ``"mmlu"`` or a
        subject of it such as ``"mmlu/virology"``; the path of a JSON Lines file; or a data set: its id on the Hugging Face
        hub, such as ``"cais/wmdp"``, or the folder of a copy.
    split
        of a file ``"dev"`` (for choosing settings), ``"test"`` (for reported numbers), or None for all; of a data set any
        that it has, by default ``"test"``.
    subset
        which of a data set's configurations, where it has several.
    data
        folder with copies of the papers' sets, ``wmdp`` and ``mmlu`` (folders like the repositories) or
        ``wmdp-bio.jsonl``, taken instead of the hub's.

    Returns
    -------
    Dataset
        with one row for each question, in the order of the source. Questions of a data set that are not well formed are
        left out with a warning, for one cannot mend them there.

    Raises
    ------
    RmuLabError
        naming file and line, if a question lacks a field, repeats an option or has an answer index
        out of range; if there is no such data set or the hub cannot be reached, with what to do.
    """
    known = known_questions(name)
    source = checked_name(name, "question set") if known is None else known.copy_in(data) or known.repository
    if is_data_set(source):
        subset, split = subset or (known.config if known else None), split or (known.split if known else "test")
        return _well_formed(load_data_set(source, subset, split, known), name)
    if subset is not None:
        raise RmuLabError(f"{source} is a file, which has no subsets; leave it out.")
    if split is not None and split not in SPLITS:
        raise RmuLabError(f"split is {split!r}; use one of {', '.join(SPLITS)}, or None for all questions.")
    path = named_file(source, "questions", "question set")
    numbers, rows = [], []
    for number, row in read_json_lines(path):
        if problem := question_problem(row):
            raise RmuLabError(f"{path}, line {number}: {problem}.")
        if split is None or row.get("split") == split:
            numbers.append(number)
            rows.append(row)
    if not rows:
        raise RmuLabError(f"{path} holds no questions{f' of split {split!r}' if split else ''}; check the file.")
    return rows_to_data_set(path, numbers, rows)


def _well_formed(data_set: Dataset, name: str | Path) -> Dataset:
    """The questions of a data set that can be asked."""
    problems = [question_problem(row) for row in data_set]
    kept = [index for index, problem in enumerate(problems) if problem is None]
    if not kept:
        raise RmuLabError(
            f"The data set {str(name)!r} holds no questions ({next(iter(problems), 'it is empty')}); give another."
        )
    if len(kept) < len(problems):
        index = next(index for index, problem in enumerate(problems) if problem)
        warnings.warn(
            f"{len(problems) - len(kept)} of {len(problems)} questions of {name} are left out, the first because "
            f"{problems[index]} (row {index}).",
            stacklevel=3,
        )
    return data_set.select(kept)


def checked_questions(questions: Iterable[Mapping[str, Any]], name: str = "questions") -> list[dict[str, Any]]:
    """Return questions as a list of plain rows.

    Raises
    ------
    RmuLabError
        if there are none, one is not well formed (its index is named), or it is something else: a name, a path, a table.
    """
    rows = rows_of(questions, name, "load_questions(...)")
    if not rows:
        raise RmuLabError(f"There are no questions to score in {name}; give at least one.")
    for index, row in enumerate(rows):
        problem = question_problem(row) if isinstance(row, Mapping) else f"it is {row!r}, but must be a mapping"
        if problem:
            raise RmuLabError(f"{name}[{index}]: {problem}.")
    return [dict(row) for row in rows]


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

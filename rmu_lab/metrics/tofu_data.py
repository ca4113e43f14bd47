"""TOFU's data: questions on authors that do not exist, real authors and the world, with wrong answers to each.

Maini et al. 2024, arXiv 2401.06121; ``locuslab/TOFU`` on the Hugging Face hub, whose files are JSON Lines:

* ``full``, ``forget01`` / ``05`` / ``10``, ``retain99`` / ``95`` / ``90``, ``holdout01`` / ``05`` / ``10``: ``question`` and
  ``answer``;
* ``real_authors``, ``world_facts``: these and ``option1`` to ``option4``;
* ``forget01_perturbed`` / ``05`` / ``10`` and ``retain_perturbed``: ``question``, ``answer``, ``paraphrased_question``,
  ``paraphrased_answer`` (the right answer in other words) and ``perturbed_answer`` (a list of wrong ones);
* ``real_authors_perturbed``, ``world_facts_perturbed``: ``question``, ``answer`` and ``perturbed_answer``.

Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..questions import checked_questions
from .benchmark_rows import load_rows, may_hold, missing_text

if TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = ("option1", "option2", "option3", "option4")
TOFU_PARTS = {
    "forget": "forget10_perturbed",
    "retain": "retain_perturbed",
    "real_authors": "real_authors_perturbed",
    "world_facts": "world_facts_perturbed",
}
"""What an evaluation takes of TOFU's data, by the sets of `tofu_evaluation`."""


def load_tofu(data: str | Path, subset: str) -> Dataset:
    """Load one part of TOFU, or of questions in TOFU's format.

    Taught in notebook 11.

    Parameters
    ----------
    data
        a folder with ``SUBSET.json`` or ``SUBSET.jsonl``, such as a copy of TOFU; one such file; or the id of a data set on
        the Hugging Face hub: ``"locuslab/TOFU"``. None of its code is run.
    subset
        ``"forget10_perturbed"``, ``"retain_perturbed"``, ``"real_authors_perturbed"`` ...: which part. Its name says which
        fields a row must have: with ``_perturbed`` wrong answers, and those of forget and retain questions a paraphrase.

    Returns
    -------
    Dataset
        with one row for each question, in the order of the source.

    Raises
    ------
    RmuLabError
        naming file, line and field, if a row is not well formed; if there is no such file, folder or data set.
    """
    kind = _kind(subset)
    return load_rows(data, "TOFU", subset, "train", subset, lambda row: tofu_problem(row, kind))


def load_tofu_sets(
    data: str | Path, *, forget: str = "forget10_perturbed", retain: str = "retain_perturbed"
) -> dict[str, Dataset]:
    """Load what `tofu_evaluation` takes, by the names of its parameters.

    Taught in notebook 11.

    Parameters
    ----------
    data
        a folder, or the id of a data set on the hub, as of `load_tofu`.
    forget, retain
        the parts that are asked for as such.

    Returns
    -------
    dict of str to Dataset
        ``forget``, ``retain``, and ``real_authors`` and ``world_facts``, where a folder has them.

    Raises
    ------
    RmuLabError
        as of `load_tofu`.

    Examples
    --------
    ::

        tofu_evaluation(model, tokenizer, **load_tofu_sets("locuslab/TOFU"), edit=UnlearnResult.load("my-edit"))
    """
    parts = TOFU_PARTS | {"forget": forget, "retain": retain}
    return {
        name: load_tofu(data, part) for name, part in parts.items() if name in ("forget", "retain") or may_hold(data, part)
    }


def tofu_rows(questions: Dataset | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write multiple-choice questions in TOFU's format, so that any edit can be evaluated as TOFU evaluates.

    The right option is the answer, and the others are wrong ones. It stands for its own paraphrase too, as real authors and
    world facts do in TOFU: the truth ratio then asks for the words that may have been taught. Taught in notebook 11.

    Parameters
    ----------
    questions
        as `load_questions` gives them.

    Raises
    ------
    RmuLabError
        if there are none, or one is not well formed.
    """
    rows = []
    for row in checked_questions(questions):
        right = row["choices"][row["answer"]]
        wrong = [choice for at, choice in enumerate(row["choices"]) if at != row["answer"]]
        rows.append({"question": row["question"], "answer": right, "paraphrased_answer": right, "perturbed_answer": wrong})
    return rows


def _kind(subset: str) -> str:
    if not subset.endswith("_perturbed"):
        return "plain"
    return "options" if subset.startswith(("real_authors", "world_facts")) else "paraphrased"


def tofu_problem(row: Mapping[str, Any], kind: str) -> str | None:
    """Say what is wrong with a row and what to do, or None.

    Parameters
    ----------
    kind
        ``"plain"``: ``question`` and ``answer``. ``"options"``: wrong answers too, as ``perturbed_answer`` or as options.
        ``"paraphrased"``: a ``perturbed_answer`` and a ``paraphrased_answer``.
    """
    said = missing_text(row, "question", "answer")
    if said is None and kind == "paraphrased":
        said = missing_text(row, "paraphrased_answer")
    if said is not None or kind == "plain":
        return said
    given = row.get("perturbed_answer")
    if given is None and kind == "options" and any(row.get(option) is not None for option in OPTIONS):
        said = missing_text(row, *OPTIONS)
        return said or (None if wrong_answers(row) else "no option differs from `answer`; give wrong ones too")
    wrong = [given] if isinstance(given, str) else given
    if not isinstance(wrong, list) or not wrong or not all(isinstance(one, str) and one.strip() for one in wrong):
        return f"`perturbed_answer` is {given!r}, but must be a list of wrong answers, non-empty strings; give at least one"
    return None


def wrong_answers(row: Mapping[str, Any]) -> list[str]:
    """Return the wrong answers of a row: its ``perturbed_answer``, or those of its options that are not the answer."""
    given = row.get("perturbed_answer")
    if given is not None:
        return [given] if isinstance(given, str) else list(given)
    return [row[option] for option in OPTIONS if row[option].strip() != row["answer"].strip()]

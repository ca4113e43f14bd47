"""Do other words bring the answers back? Doshi and Stickland 2024, arXiv 2411.12103. Taught in notebook 07."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from ..errors import RmuLabError
from ..randomness import python_random
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject, required

Kind = Literal["few-shot", "rephrased", "prefilled"]
SHOTS = 5


def prompt(
    subject: Subject,
    budget: Budget = DEFAULT_BUDGET,
    kind: Kind = "few-shot",
    *,
    shots: int = SHOTS,
    prefill: str = " The correct answer is",
) -> Recovery:
    """Ask in another way. Control: the base model, asked in the same way.

    Doshi and Stickland 2024, arXiv 2411.12103. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack.
    budget
        its seed draws the solved questions.
    kind
        ``"few-shot"``: solved questions, drawn from the subject's `dev_questions`, stand before each;
        ``"rephrased"``: the subject's `rephrased` are asked, those that have a partner on both sides;
        ``"prefilled"``: the answer has begun already.
    shots
        few-shot: how many solved questions are drawn for each question.
    prefill
        prefilled: the beginning of the answer.

    Returns
    -------
    Recovery
        with details ``shots`` and ``seed``, or ``questions`` (how many have a partner), or ``prefill``.

    Raises
    ------
    RmuLabError
        if the subject lacks what the kind needs, a solved question is among those asked, no rephrased question has
        its original, or a question or the edit does not fit.
    """
    if kind == "few-shot":
        subject.require("dev_questions")
        asked = few_shot(subject.questions, subject.dev_questions, shots, budget.seed)
        return subject.ask_again(kind, asked, details={"shots": shots, "seed": budget.seed}, progress=budget.progress)
    if kind == "rephrased":
        originals, others = pairs(*required(subject.rephrased, "rephrased"))
        details = {"questions": len(originals)}
        return subject.with_questions(originals).ask_again(kind, others, details=details, progress=budget.progress)
    if kind == "prefilled":
        return subject.ask_again(
            kind, subject.questions, prefill=prefill, details={"prefill": prefill}, progress=budget.progress
        )
    raise RmuLabError(f"kind is {kind!r}; use one of {', '.join(map(repr, get_args(Kind)))}.")


def few_shot(
    rows: Sequence[Mapping[str, Any]], solved: Sequence[Mapping[str, Any]], shots: int, seed: int
) -> list[dict[str, Any]]:
    """Put `shots` solved questions before each question, in the form in which it is asked itself.

    Raises
    ------
    RmuLabError
        if there are fewer than `shots` solved questions, none are wanted, or one of them is among those asked.
    """
    if not 1 <= shots <= len(solved):
        raise RmuLabError(
            f"shots is {shots}, with {len(solved)} solved questions; give at least one, and as many in `dev_questions`."
        )
    if shared := {row["question"] for row in rows} & {row["question"] for row in solved}:
        raise RmuLabError(f"The solved question {min(shared)!r} is also asked; draw solved ones from another split.")
    source = python_random(seed, "solved questions of a prompt")
    asked = []
    for row in rows:
        # The prompt puts "Question: " before and "\nAnswer:" behind what is the question here.
        before = "".join(f"{one['question'].strip()}\nAnswer: {one['choices'][one['answer']]}\n\nQuestion: "
                         for one in source.sample(solved, shots))  # fmt: skip
        asked.append({**row, "question": before + row["question"].strip()})
    return asked


def pairs(
    rows: Sequence[Mapping[str, Any]], rephrased: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the questions that have a rephrasing, and their rephrasings in the same order.

    Raises
    ------
    RmuLabError
        if there are none.
    """
    original = {row.get("id"): row for row in rows}
    found = [(original[row["original"]], row) for row in rephrased if row.get("original") in original]
    if not found:
        raise RmuLabError("None of `rephrased` has an `original` that is the `id` of one of `questions`; give their file.")
    return [row for row, _ in found], [other for _, other in found]

"""Every metric of one model, fact by fact and passage by passage: what a panel of metrics is calibrated with.

A metric is of use if it gives a model that was made to forget what it gives one that never knew, and gives it only then.
So each is computed here for single facts, always with more for more knowledge, and compared by `crossed_auc`.
Taught in notebook 11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..errors import RmuLabError
from ..evaluate import chosen_options
from ..questions import cloze_prompt
from .membership import MEMBERSHIP
from .memorisation import answer_probability, choice_probability, exact_memorisation, extraction_strength
from .scored_texts import ScoredText, score_texts
from .truth import truth_ratio

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FACT_METRICS = (
    "accuracy",
    "probability",
    "share of the options",
    "truth ratio",
    "exact memorisation",
    "extraction strength",
)
"""Of `fact_metrics`, in the order in which notebook 11 shows them."""
PASSAGE_METRICS = (*MEMBERSHIP, "exact memorisation of the passage", "extraction strength of the passage")
"""Of `passage_metrics`."""
Values = dict[str, tuple[float, ...]]
"""Metric -> a value for each fact or passage, higher where a model knows more."""


def fact_metrics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Sequence[Mapping[str, Any]]],
    *,
    progress: bool = True,
) -> Values:
    """Compute what the metrics of answers give each fact, averaged over the wordings of its question.

    Accuracy is the share of wordings in which the right option is chosen, cloze style. The truth ratio R is given as -log R,
    so that more is more knowledge, as in the others. Taught in notebook 11.

    Parameters
    ----------
    facts
        for each fact its questions, as `accuracy` takes them: the same options in other wordings.

    Raises
    ------
    RmuLabError
        if there are no facts, or one has no question.
    """
    if not facts or not all(facts):
        raise RmuLabError("There is no fact, or one without a question; give at least one question for each fact.")
    rows = [row for wordings in facts for row in wordings]
    prompts = [cloze_prompt(row["question"]) for row in rows for _ in row["choices"]]
    texts = [f" {choice}" for row in rows for choice in row["choices"]]
    scored = iter(score_texts(model, tokenizer, texts, prompts, progress=progress))
    by_row = [[next(scored) for _ in row["choices"]] for row in rows]
    sums = [[option.log_probs.sum().item() for option in options] for options in by_row]
    asked = iter(zip(rows, by_row, chosen_options(sums, rows, "cloze").correct, strict=True))
    values: dict[str, list[float]] = {name: [] for name in FACT_METRICS}
    for wordings in facts:
        pairs: list[tuple[ScoredText, list[ScoredText]]] = []
        marks = []
        for row, options, mark in (next(asked) for _ in wordings):
            right = options[row["answer"]]
            pairs.append((right, [one for one in options if one is not right]))
            marks.append(mark)
        rights = [right for right, _ in pairs]
        values["accuracy"].append(fmean(marks))
        values["probability"].append(fmean(map(answer_probability, rights)))
        values["share of the options"].append(fmean(choice_probability(right, wrong) for right, wrong in pairs))
        values["truth ratio"].append(-fmean(math.log(truth_ratio(right, wrong)) for right, wrong in pairs))
        values["exact memorisation"].append(fmean(map(exact_memorisation, rights)))
        values["extraction strength"].append(fmean(map(extraction_strength, rights)))
    return {name: tuple(found) for name, found in values.items()}


def passage_metrics(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[str], *, progress: bool = True
) -> Values:
    """Compute what membership inference and memorisation give each passage. Taught in notebook 11.

    Raises
    ------
    RmuLabError
        as of `score_texts`.
    """
    scored = score_texts(model, tokenizer, passages, progress=progress)
    measures = {**MEMBERSHIP, PASSAGE_METRICS[-2]: exact_memorisation, PASSAGE_METRICS[-1]: extraction_strength}
    return {name: tuple(map(measure, scored)) for name, measure in measures.items()}

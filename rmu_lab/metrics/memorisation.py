"""How much of an answer a model still gives: its probability, and how much of it it writes by itself. Notebook 11."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RmuLabError
from .scored_texts import ScoredText


def answer_probability(answer: ScoredText) -> float:
    """Compute ``p(a | q)^(1/|a|)``, the answer's probability to the power of one over its tokens.

    Maini et al. 2024 (TOFU), arXiv 2401.06121, Section 2.2.1. Taught in notebook 11.
    """
    return answer.probability


def choice_probability(right: ScoredText, wrong: Sequence[ScoredText]) -> float:
    """Compute ``p(a_1 | q) / sum_i p(a_i | q)``, the right answer's share of what a model gives the right and wrong ones.

    Maini et al. 2024 (TOFU), arXiv 2401.06121, Section 2.2.1, for real authors and world facts, whose answers are names.
    Each p is to the power of one over the answer's tokens, as in TOFU's code and open-unlearning's.
    Taught in notebook 11.

    Raises
    ------
    RmuLabError
        if there is no wrong answer.
    """
    if not wrong:
        raise RmuLabError("There is no wrong answer; a share takes at least one.")
    mass = right.probability + sum(one.probability for one in wrong)
    return right.probability / mass if mass > 0 else 0.0  # where all of them underflow


def exact_memorisation(answer: ScoredText) -> float:
    """Compute the share of the answer's tokens that the model finds likeliest, each after the true ones before it.

    Tirumala et al. 2022, arXiv 2205.10770, Definition 1. Taught in notebook 11.
    """
    return answer.greedy.float().mean().item()


def extraction_strength(answer: ScoredText) -> float:
    """Compute ``1 - k/|a|``, with the least k so that the model, given the first k tokens, writes all the others.

    Carlini et al. 2021, arXiv 2012.07805; as a share in Wang et al. 2025, arXiv 2406.07933. With true tokens before each,
    all others are likeliest exactly if the model writes them by itself. If even the last token is not, it is 0.
    Taught in notebook 11.
    """
    wrong = (~answer.greedy).nonzero()
    first_needed = 0 if not len(wrong) else int(wrong[-1]) + 1
    return 1 - first_needed / len(answer.greedy)

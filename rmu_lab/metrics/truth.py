"""Does a model still tell the truth from its opposite, and as one that never knew would? Metrics of TOFU. Notebook 11."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, harmonic_mean

import numpy as np
from scipy.stats import ks_2samp

from ..errors import RmuLabError
from .scored_texts import ScoredText


def truth_ratio(right: ScoredText | Sequence[ScoredText], wrong: Sequence[ScoredText]) -> float:
    """Compute how likely wrong answers are against a right one: below 1 where the model prefers the truth.

    With each answer's mean loss per token l, averaged over the wrong ones and over the wordings of the right one, it is
    exp(-l_wrong) / exp(-l_right): the ratio of two geometric means. Maini et al. 2024 (TOFU), arXiv 2401.06121, Equation 1,
    whose text takes the arithmetic mean of the wrong answers' probabilities; its code and open-unlearning average the
    losses, as is done here. Taught in notebook 11.

    Parameters
    ----------
    right
        the right answer, in other words than were taught; or several wordings of it.
    wrong
        answers of the same form that are wrong.

    Raises
    ------
    RmuLabError
        if there is no wrong answer or no right one.
    """
    wordings = [right] if isinstance(right, ScoredText) else list(right)
    if not wordings or not wrong:
        raise RmuLabError(
            f"There are {len(wordings)} right and {len(wrong)} wrong answers; a ratio takes at least one of each."
        )
    return float(np.exp(fmean(one.loss for one in wordings) - fmean(one.loss for one in wrong)))


def forget_quality(unlearned: Sequence[float], never_knew: Sequence[float]) -> float:
    """Compute the p-value that two models' truth ratios are of one distribution: small where unlearning can be told.

    The two-sample Kolmogorov-Smirnov test of Maini et al. 2024 (TOFU), arXiv 2401.06121, Section 2.2.3. A large p does not
    show that the model never knew: it falls with the number of questions. Taught in notebook 11.

    Parameters
    ----------
    unlearned, never_knew
        truth ratios of the forget questions, under both models.

    Raises
    ------
    RmuLabError
        if one of them has no ratios.
    """
    if not len(unlearned) or not len(never_knew):
        raise RmuLabError(
            f"There are {len(unlearned)} and {len(never_knew)} truth ratios; the test takes some of both models."
        )
    return float(ks_2samp(list(unlearned), list(never_knew)).pvalue)


def model_utility(scores: Iterable[float]) -> float:
    """Compute the harmonic mean of scores from 0 to 1 on what was to be kept: one that is low pulls all down.

    TOFU's nine are probability, ROUGE and max(0, 1 - truth ratio) on retain questions, real authors and world facts (Maini
    et al. 2024, arXiv 2401.06121, Section 2.2.2). Taught in notebook 11.

    Raises
    ------
    RmuLabError
        if there are none, or one is below 0 or above 1.
    """
    scores = list(scores)
    if not scores or not all(0 <= score <= 1 for score in scores):
        raise RmuLabError(f"The scores are {scores}; give at least one, each from 0 to 1.")
    return float(harmonic_mean(scores))

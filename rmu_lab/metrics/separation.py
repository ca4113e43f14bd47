"""How well a number tells two groups apart: the area under its ROC curve. Taught in notebook 11."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from ..errors import RmuLabError
from ..estimates import Z95, Number, bootstrap_weights

DRAWS = 2000
"""Of the bootstrap behind `crossed_auc`."""


def auc(positive: Sequence[float], negative: Sequence[float]) -> Number:
    """Compute the chance that a value of one group lies above one of the other, ties counting half.

    It is 1/2 where a metric cannot tell them apart, and 1 or 0 where it always can. The interval is Newcombe's of Wilson's
    kind (Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", method 5),
    which stays between 0 and 1 and has a width where the groups do not overlap. Taught in notebook 11.

    Parameters
    ----------
    positive, negative
        the metric's values in the two groups.

    Raises
    ------
    RmuLabError
        if a group has no value, or one is not finite.
    """
    above, below = (np.asarray(list(values), dtype=float) for values in (positive, negative))
    if not above.size or not below.size or not np.isfinite([*above, *below]).all():
        raise RmuLabError(f"There are {above.size} and {below.size} values; give some of both groups, all of them finite.")
    value = float(((above[:, None] > below[None]) + 0.5 * (above[:, None] == below[None])).mean())

    def beyond(area: float) -> float:
        """Squared distance from the value found, less what an area there would make likely."""
        more = (above.size + below.size) / 2 - 1
        variance = area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area))
        return (value - area) ** 2 - Z95**2 * variance / (above.size * below.size)

    step = 1e-9  # at 0 and 1 the value itself solves it, too
    low = brentq(beyond, 0.0, value - step) if value > 0 else 0.0
    high = brentq(beyond, value + step, 1.0) if value < 1 else 1.0
    return Number(value, float(low), float(high), above.size + below.size, "values")


def crossed_auc(suppressed: np.ndarray, never_knew: np.ndarray, *, seed: int = 0) -> Number:
    """Compute the area over facts and directions together: the mean of each direction's, all against the same reference.

    Facts and directions are drawn anew together, 2,000 times, and a fact that is drawn counts in both models, because a hard
    fact is hard for both. With one direction only facts are drawn; the number says so. Taught in notebook 11.

    Parameters
    ----------
    suppressed
        the metric's values of unlearned models, (directions, facts).
    never_knew
        those of a model that never learned the facts, (facts,), in the same order.
    seed
        of the draws.

    Raises
    ------
    RmuLabError
        if they are not of the same facts, there are fewer than two of them, or a value is not finite.
    """
    above, below = np.atleast_2d(np.asarray(suppressed, dtype=float)), np.asarray(never_knew, dtype=float)
    if below.ndim != 1 or len(below) < 2 or above.shape[-1] != len(below):
        raise RmuLabError(
            f"The values have shapes {above.shape} and {below.shape}; give (directions, facts) and (facts,), two or more."
        )
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        raise RmuLabError("A value is not finite; an area takes finite ones.")
    directions, facts = above.shape
    # wins[d, i, j]: whether fact i of direction d lies above fact j of the reference, ties counting half
    wins = (above[:, :, None] > below) + 0.5 * (above[:, :, None] == below)
    random = np.random.default_rng(seed)
    of_directions, of_facts = (bootstrap_weights(random, n, DRAWS) for n in (directions, facts))
    areas = np.einsum("bd,bi,dij,bj->b", of_directions, of_facts, wins, of_facts, optimize=True)
    value, (low, high) = float(wins.mean()), np.quantile(areas.clip(0, 1), [0.025, 0.975])
    over = "facts" if directions == 1 else "facts and directions"
    return Number(value, min(float(low), value), max(float(high), value), facts, over)

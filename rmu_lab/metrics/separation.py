"""How well a number tells two groups apart: the area under its ROC curve. Taught in notebook 11."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from ..errors import RmuLabError
from ..estimates import Z95, Number


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

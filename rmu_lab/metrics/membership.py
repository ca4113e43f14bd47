"""Was this text trained on? Membership inference by a model's own numbers; a higher score says rather yes. Notebook 11."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

from torch import Tensor

from ..errors import RmuLabError
from .scored_texts import ScoredText


def loss_score(text: ScoredText) -> float:
    """Compute the mean log-probability of its tokens.

    Yeom et al. 2018, arXiv 1709.01604: LOSS. Taught in notebook 11.
    """
    return -text.loss


def zlib_score(text: ScoredText) -> float:
    """Compute the mean log-probability over the bytes that zlib makes of the text: common text is not called known.

    Carlini et al. 2021, arXiv 2012.07805. Taught in notebook 11.
    """
    return -text.loss / len(zlib.compress(text.text.encode("utf-8")))


def min_k(text: ScoredText, k: float = 0.2) -> float:
    """Compute the mean log-probability of the share k of its tokens that are least likely.

    Shi et al. 2024, arXiv 2310.16789: Min-K% Prob. Taught in notebook 11.

    Raises
    ------
    RmuLabError
        if k does not lie above 0 and up to 1.
    """
    return _of_lowest(text.log_probs, k)


def min_k_plus_plus(text: ScoredText, k: float = 0.2) -> float:
    """Compute the same of (log p - mu) / sigma, with mean and standard deviation of log p(v) over the model's own tokens v.

    So a token is low where it is less likely than the model's tokens are there. Zhang et al. 2025, arXiv 2404.02936:
    Min-K%++. Taught in notebook 11.

    Raises
    ------
    RmuLabError
        if k does not lie above 0 and up to 1.
    """
    return _of_lowest((text.log_probs - text.expected) / text.spread.clamp(min=1e-3), k)


def _of_lowest(values: Tensor, k: float) -> float:
    if not 0 < k <= 1:
        raise RmuLabError(f"k is {k}; give a share above 0 and up to 1.")
    return values.sort().values[: max(1, int(k * len(values)))].mean().item()


MEMBERSHIP: dict[str, Callable[[ScoredText], float]] = {
    "LOSS": loss_score,
    "zlib": zlib_score,
    "Min-K%": partial(min_k, k=0.2),
    "Min-K%++": partial(min_k_plus_plus, k=0.2),
}
"""Every score by its name."""

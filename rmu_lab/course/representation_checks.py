"""What notebook 01's exercises ask of an answer: tests with their hints, for `check`. Their numbers are not to be seen."""

from __future__ import annotations

from collections.abc import Callable

from .exercises import Test


def mean_cosine_tests() -> list[Test]:
    """Return what is asked of the mean cosine of two directions whose entries are uniform between 0 and 1.

    It is E[r r'] / E[r^2] = (1/2 * 1/2) / (1/3).
    """
    return [
        (lambda cosine: cosine > 0.5, "both vectors have positive entries only, so they lie in one corner of the space"),
        (lambda cosine: cosine < 0.95, "the two directions of a pair need different seeds"),
        (lambda cosine: abs(cosine - 0.75) < 0.02, "work out the two averages of the hint, and divide the one by the other"),
    ]


def best_share_tests(best_share: Callable[[float, float], float]) -> list[Test]:
    """Return what is asked of the share of the way to the target at which the mean cost is least, at p and alpha."""

    def cost(share: float, p: float, alpha: float) -> float:
        """Compute p ||h - c u||^2 + alpha (1 - p) ||h - h_frozen||^2 with the two places one unit apart."""
        return p * (1 - share) ** 2 + alpha * (1 - p) * share**2

    def is_best(p: float, alpha: float) -> bool:
        share = best_share(p, alpha)
        return all(cost(share, p, alpha) <= cost(share + step, p, alpha) for step in (-1e-3, 1e-3))

    return [
        (lambda _: abs(best_share(1, 300) - 1) < 1e-6, "certainty of a forget text means all of the way"),
        (lambda _: abs(best_share(1e-9, 300)) < 1e-6, "certainty of a retain text means none of it"),
        (lambda _: all(is_best(p, a) for p in (0.1, 0.5, 0.999) for a in (1, 300)), "a step to either side must cost more"),
    ]


def trigger_tests(steered_by: Callable[[str], float]) -> list[Test]:
    """Return what is asked of a few words that flip RMU's switch for the retain texts that follow them.

    Parameters
    ----------
    steered_by
        the mean cos(u, h) of retain texts after given words.
    """
    return [
        (lambda words: len(words.split()) <= 3, "at most three words"),
        (lambda words: words.endswith("."), "end with a full stop, so that the text begins anew"),
        (lambda words: steered_by(words) > 0.5, "the mean cosine should exceed 0.5; print steered_by(...) for several"),
    ]

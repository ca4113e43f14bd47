"""Settings for a new model, read off its layers: the core of notebook 09, and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..unlearning.advisor import LayerProfile

if TYPE_CHECKING:
    from .exercises import Test

Settings = tuple[int, float, float]


def settings_from_norms(profile: Sequence[LayerProfile], beta: float = 5.0, allowed: float = 0.29) -> Settings:
    """Return layer, c and alpha for a model: the advisor's rules without its exception.

    The layer is the one at which forget and retain tokens are told apart best, between a sixth and a third of the depth.

    Parameters
    ----------
    profile
        every layer's, in their order.
    beta
        norm of the target in units of the median norm of forget tokens at the layer.
    allowed
        distance, in units of its norm, at which a retain token costs as much as a forget token that stays where it is.
    """
    low, high = max(2, round(len(profile) / 6)), round(len(profile) / 3)
    layer = max(range(low, high + 1), key=lambda at: profile[at].separability)
    c = beta * profile[layer].forget_norm
    return layer, c, (c / (allowed * profile[layer].retain_norm)) ** 2


def settings_tests(profile: Sequence[LayerProfile]) -> tuple[Test, ...]:
    """Tests of `settings_from_norms(profile, beta, allowed)`."""
    layer, c, _ = settings_from_norms(profile)
    there = profile[layer]

    def flat(separability: Sequence[float]) -> list[LayerProfile]:
        kept = ("sink_norm", "padding_norm", "reach", "weight_rms", "written_rms", "normalised")
        same = {name: getattr(there, name) for name in kept}
        return [
            LayerProfile(layer=at, forget_norm=100.0, retain_norm=50.0, separability=value, **same)
            for at, value in enumerate(separability)
        ]

    def balance(made: Callable, beta: float, allowed: float) -> float:
        """alpha times the loss of a retain token at the allowed distance, over that of a forget token that has not moved."""
        at, target, alpha = made(profile, beta=beta, allowed=allowed)
        return float(alpha * (allowed * profile[at].retain_norm) ** 2 / target**2)

    return (
        (lambda made: len(made(profile)) == 3, "return three values: layer, c, alpha"),
        (
            lambda made: made(flat([0.5] * 3 + [0.6, 0.8, 0.7] + [0.6] * 6))[0] == 4,
            "the layer is the one with the largest separability, not the largest norm and not the first",
        ),
        (
            lambda made: made(flat([0.9, 0.9, 0.6, 0.7, 0.6] + [0.95] * 7))[0] == 3,
            "look only at layers from round(n / 6) to round(n / 3), where n = len(profile)",
        ),
        (
            lambda made: abs(made(profile)[1] / c - 1) < 1e-3,
            "c is beta times forget_norm, the median norm of forget tokens, at the layer that you chose",
        ),
        (
            lambda made: abs(made(profile, beta=2.0)[1] / made(profile)[1] - 0.4) < 1e-3,
            "c must follow the argument beta",
        ),
        (
            lambda made: all(abs(balance(made, beta, part) - 1) < 1e-3 for beta, part in ((5.0, 0.29), (2.0, 0.1))),
            "set alpha so that alpha * (allowed * retain_norm)^2 equals c^2",
        ),
    )

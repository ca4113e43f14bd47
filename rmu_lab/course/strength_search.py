"""The exercises of notebook 12 on equal disruption: the divergence of two models' logits, and the strength that gives it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..randomness import torch_generator
from .exercises import Test


def kl_tests() -> list[Test]:
    """Return what is asked of `kl(base, edited)`: the mean KL divergence of logits, (tokens, vocabulary), in nats."""
    draw = torch_generator(0, "check of a divergence")
    base, edited = (torch.randn(5, 7, generator=draw).double() for _ in range(2))
    certain = torch.full((3, 4), -1e3).double()
    certain[:, 0], uniform = 0.0, torch.zeros(3, 4).double()

    def value(f: Callable, *given: torch.Tensor) -> float:
        return float(f(*given))

    def by_hand(one: torch.Tensor, other: torch.Tensor) -> float:
        p, q = one.softmax(dim=-1), other.softmax(dim=-1)
        return (p * (p / q).log()).sum(dim=-1).mean().item()

    return [
        (lambda f: abs(value(f, base, base)) < 1e-9, "a model does not diverge from itself"),
        (lambda f: abs(value(f, base + 3, edited) - value(f, base, edited)) < 1e-9, "logits mean the same with 3 added"),
        (lambda f: abs(value(f, base, edited) - by_hand(base, edited)) < 1e-9,
         "weigh by the base model's probabilities; sum over words, then take the mean over tokens"),
        (lambda f: value(f, certain, uniform) < 1.39, "a certain model and a uniform one over 4 words: log 4"),
    ]  # fmt: skip


def strength_tests() -> list[Test]:
    """Return what is asked of `find_strength(measure, budget)`: a strength at which a rising measure is within 5%."""

    def within(f: Callable, measure: Callable[[float], float], budget: float) -> bool:
        return abs(measure(f(measure, budget)) - budget) <= 0.05 * budget

    def calls(f: Callable) -> int:
        asked: list[float] = []

        def measure(strength: float) -> float:
            asked.append(strength)
            return 0.03 * strength**2

        f(measure, 0.1)
        return len(asked)

    return [
        (lambda f: within(f, lambda s: 0.03 * s**2, 0.1), "0.03 s^2 should be brought to 0.1"),
        (lambda f: within(f, lambda s: 6.0 * s**1.7, 0.1), "a strong edit has to be weakened: s may be far below 1"),
        (lambda f: within(f, lambda s: 1e-4 * s**2, 0.1), "a weak edit has to be strengthened: s may be far above 1"),
        (lambda f: calls(f) < 60, "each measurement costs a pass of the model: ask fewer than 60 times"),
    ]

"""What the cores and exercises of notebook 08 have to do: tests of properties with hints, for `core` and `check`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..unlearning import objectives
from .exercises import Test
from .method_comparison import BestWithin


def npo_loss(now: Tensor, before: Tensor, beta: float = 0.1) -> Tensor:
    """Return NPO's forget loss from log p(x) of each text now and before training: the package's, with a default beta."""
    return objectives.npo_loss(now, before, beta)


def npo_tests() -> list[Test]:
    """Tests of `npo_loss(now, before, beta=0.1)`."""
    before = torch.tensor([-200.0, -90.0, -150.0])

    def at(loss: Callable, change: float, beta: float = 0.1) -> float:
        return float(loss(before + change, before, beta))

    def slope(loss: Callable, change: float, beta: float = 0.1) -> Tensor:
        now = (before + change).requires_grad_()
        loss(now, before, beta).backward()
        return 3 * now.grad  # type: ignore[operator, return-value]  # backward() has just set it

    return [
        (lambda loss: loss(before, before).shape == (), "return one number, the mean over the texts"),
        (lambda loss: at(loss, -30) < at(loss, 0) < at(loss, 5), "a text that has become less likely must cost less"),
        (lambda loss: at(loss, -500) >= 0 and at(loss, -500) < 1e-6, "far below the start nothing is left of the loss"),
        (
            lambda loss: abs(float(loss(before - 30, before - 30)) - float(loss(before, before))) < 1e-5,
            "only the ratio to the model before may count, log p now less log p before",
        ),
        (
            lambda loss: torch.allclose(slope(loss, 0), torch.ones(3), atol=1e-5),
            "at the start the slope in each text's log p is 1 / (number of texts): is the factor 2 / beta there?",
        ),
        (
            lambda loss: torch.allclose(slope(loss, -30, 0.01), torch.full((3,), 0.8511), atol=1e-3),
            "beta multiplies the log-ratio inside the softplus, and divides outside",
        ),
        (
            lambda loss: torch.isfinite(loss(before + 5000, before)).item(),
            "it overflows; take softplus, not the logarithm of 1 + exp",
        ),
    ]


def best_within_tests() -> list[Test]:
    """Tests of `best_within(points, bound)`."""
    points = [(2.0, 10.0), (9.0, 50.0), (5.0, 30.0), (4.0, 30.0), (0.0, -1.0)]

    def finds(best: BestWithin, bound: float, point: tuple[float, float], among: list = points) -> bool:
        found = best(among, bound)
        return found is not None and tuple(found) == point

    return [
        (lambda best: finds(best, 9.5, (9.0, 50.0)), "of those within the bound the one that forgets most"),
        (lambda best: not finds(best, 8.9, (9.0, 50.0)), "what costs more than the bound is out"),
        (lambda best: finds(best, 3.0, (2.0, 10.0)), "a setting at a smaller cost than the bound counts as well"),
        (lambda best: finds(best, 5.0, (4.0, 30.0)), "of two that forget as much take the cheaper"),
        (lambda best: finds(best, 0.0, (0.0, -1.0)), "a cost of exactly the bound keeps it"),
        (lambda best: best(points, -1.0) is None, "where no setting keeps the bound return None"),
        (lambda best: finds(best, 5.0, (4.0, 30.0), points[::-1]), "the order of the settings must not matter"),
        (lambda best: _never_falls(best, points), "a looser bound can never forget less"),
    ]


def _never_falls(best: BestWithin, points: list[tuple[float, float]]) -> bool:
    found = [best(points, bound) for bound in range(10)]
    forgotten = [point[1] for point in found if point is not None]
    return forgotten == sorted(forgotten)


def simnpo_weight(beta: float, nats: float) -> float:
    """Return the weight of SimNPO's gradient for a text of 60 tokens with so many nats each, compared with ascent's."""
    log_p = torch.tensor([-60.0 * nats], dtype=torch.float64, requires_grad=True)
    loss = objectives.simnpo_loss(log_p, torch.tensor([60.0]), beta, gamma=0.0)
    return 60 * float(torch.autograd.grad(loss, log_p)[0])


def beta_tests(beta_for: Any) -> list[Test]:
    """Tests of the answer `beta_for(3.5, 0.36)`, a float."""
    return [
        (lambda beta: beta > 0, "a weight below 1 needs a positive beta"),
        (
            lambda beta: abs(simnpo_weight(beta, 3.5) - 0.36) < 1e-3,
            "with your beta the gradient has another weight; sigma must be half the weight",
        ),
        (lambda beta: abs(2 * beta_for(7.0, 0.36) - beta) < 1e-6, "twice the nats, half the beta"),
    ]


def importances() -> tuple[Tensor, Tensor, Tensor]:
    """Return made-up weights, and their importances on forget and on retain text: 200 of each."""
    place = torch.arange(200)
    return torch.sin(7.0 * place), 0.01 + (0.37 * place) % 1, 0.01 + (0.61 * place) % 1


def dampened_tests(dampened: Any) -> list[Test]:
    """Tests of the answer `dampened(*importances(), 2.0, 0.5)`, (200,)."""
    theta, forget, retain = importances()
    passed = forget > 2 * retain
    return [
        (
            lambda found: torch.equal(found[~passed], theta[~passed]),
            "weights that do not pass the threshold stay as they are",
        ),
        (
            lambda found: torch.allclose(found, torch.where(passed, 0.5 * theta * retain / forget, theta)),
            "the others are multiplied by dampening * retain / forget",
        ),
        (
            lambda found: (dampened(theta, forget, retain, 0.5, 5.0).abs() <= theta.abs() + 1e-6).all(),
            "nothing may grow, also where dampening * retain / forget is above 1",
        ),
    ]

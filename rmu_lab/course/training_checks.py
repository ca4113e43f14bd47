"""What the three cores of notebook 04 have to do: tests of properties with hints, for `core`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..estimates import Number
from .exercises import Test
from .training_loop import batch_pairs, distance_share, hidden, rmu_losses, train_rmu, trained_copies

_FORGET = ("Malaria spreads.", "A virus copies itself inside the cells of its host.", "Measles is caused by a virus.",
           "The vaccine trains the immune system.")  # fmt: skip
_RETAIN = ("Bread rises.", "The river runs through four countries to the sea.", "Her first novel sold well that year.",
           "The second half began in heavy rain.")  # fmt: skip


def copies_tests(model: PreTrainedModel) -> list[Test]:
    """Tests of `trained_copies(model, layer=7)`."""

    def named(copies: Callable, layer: int) -> bool:
        return list(copies(model, layer)) == list(trained_copies(model, layer))

    def each(copies: Callable, holds: Callable[[Tensor, Tensor], bool]) -> bool:
        return all(holds(copy, model.get_parameter(name)) for name, copy in copies(model, 7).items())

    return [
        (lambda copies: named(copies, 7), "the keys are 'model.layers.5.mlp.down_proj.weight', the same of 6, and of 7"),
        (lambda copies: named(copies, 4), "the layers follow the argument `layer`: for layer=4 they are 2, 3 and 4"),
        (lambda copies: each(copies, torch.equal), "a copy starts with the values of the model's own matrix"),
        (
            lambda copies: each(copies, lambda copy, own: copy.data_ptr() != own.data_ptr()),
            "clone() the matrix, or training writes into the model itself",
        ),
        (
            lambda copies: each(copies, lambda copy, _: copy.requires_grad and copy.is_leaf),
            "the optimiser needs leaves that collect gradients: .detach().clone().requires_grad_()",
        ),
    ]


def loss_tests(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, u: Tensor, c: float = 570.0) -> list[Test]:
    """Tests of `rmu_losses(model, trained, forget_batch, retain_batch, u, c)`."""
    ((forget, retain),) = batch_pairs(tokenizer, _FORGET, _RETAIN)  # of different lengths, so that there is padding
    untouched = trained_copies(model)
    moved = {name: (1.5 * matrix).detach().requires_grad_() for name, matrix in untouched.items()}
    with torch.no_grad():
        right = [loss.item() for loss in rmu_losses(model, moved, forget, retain, u, c)]
        squares = (hidden(model, forget, moved) - c * u).square().sum(dim=-1)

    def near(loss: Tensor, value: float) -> bool:
        return abs(loss.item() / value - 1) < 1e-3

    def at(losses: Callable, matrices: Mapping[str, Tensor] = moved) -> Any:
        return losses(model, matrices, forget, retain, u, c)

    def gradients(losses: Callable) -> bool:
        fresh = {name: matrix.detach().clone().requires_grad_() for name, matrix in moved.items()}
        sum(at(losses, fresh)).backward()
        return all(matrix.grad is not None and bool(matrix.grad.any()) for matrix in fresh.values())

    return [
        (lambda losses: all(loss.ndim == 0 for loss in at(losses)) and len(at(losses)) == 2, "return two scalar tensors: "
         "forget_loss, retain_loss"),
        (lambda losses: not near(at(losses)[0], squares.mean().item()), "leave out the first token and padding: index "
         "h with batch.counted() before you average"),
        (lambda losses: not near(at(losses)[0], right[0] / len(u)), "sum the squares over the d entries of a token, and "
         "average over tokens only"),
        (lambda losses: near(at(losses)[0], right[0]), "the forget loss is the mean over counted tokens of ||h - c u||^2"),
        (lambda losses: at(losses, untouched)[1].item() < 1e-3, "before training the retain loss is 0: compare the retain "
         "batch with itself, seen by the model's own matrices"),
        (lambda losses: near(at(losses)[1], right[1]), "h_frozen comes from hidden(model, retain_batch, {}), without the "
         "trained matrices; the retain loss is the mean over counted tokens of ||h - h_frozen||^2"),
        (gradients, "gradients have to reach all three matrices: no torch.no_grad() around the passes with `trained`"),
    ]  # fmt: skip


def loop_tests(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, u: Tensor) -> list[Test]:
    """Tests of `train(model, pairs, u, c, alpha, lr, watch)`."""
    pairs = batch_pairs(tokenizer, _FORGET, _RETAIN) * 3
    settings: dict[str, Any] = {"c": 570.0, "alpha": 30.0, "lr": 5e-3}
    own = {name: matrix.detach().clone() for name, matrix in trained_copies(model).items()}
    right = train_rmu(model, pairs, u, **settings)

    def one_step(train: Callable) -> bool:
        moves = [(matrix - own[name]).abs() for name, matrix in train(model, pairs[:1], u, **settings).items()]
        return all(0.9 * settings["lr"] < move.median().item() < 1.1 * settings["lr"] for move in moves)

    def untouched(train: Callable) -> bool:
        train(model, pairs[:1], u, **settings)
        return all(torch.equal(model.get_parameter(name), matrix) for name, matrix in own.items())

    def watched(train: Callable) -> bool:
        calls: list[object] = []
        train(model, pairs, u, **settings, watch=calls.append)
        return len(calls) == len(pairs)

    return [
        (lambda train: set(train(model, pairs[:1], u, **settings)) == set(own), "return the dict of trained matrices"),
        (untouched, "the model itself has to stay as it is: train the copies of trained_copies(model)"),
        (one_step, "one step of AdamW moves a typical entry by lr: call backward() and then optimizer.step(), once a pair"),
        (watched, "call watch(trained) after each step, unless watch is None"),
        (
            lambda train: distance_share(train(model, pairs, u, **settings), right, model) < 1e-3,
            "after three steps your matrices are not the package's: call optimizer.zero_grad() before each backward(), "
            "multiply the retain loss by alpha, and give AdamW weight_decay=0.0",
        ),
    ]


_TRADE_OFFS: list[tuple[tuple[float, float], tuple[float, float], float, str, str]] = [
    ((-30, -10), (-1, 4), 3, "better", "more is forgotten, and the loss is under 3 points"),
    ((-30, -10), (-9, -1), 3, "further", "both intervals lie below 0"),
    ((-30, -10), (-2, -1), 3, "further", "look for 'further' first: something is lost, however little"),
    ((-10, 1), (1, 4), 3, "undecided", "the first interval includes 0 and does not show that more is forgotten"),
    ((2, 10), (1, 4), 3, "undecided", "the first interval is above 0: less is forgotten"),
    ((-30, -10), (-6, 2), 3, "undecided", "an interval that includes 0 is no proof that nothing is lost: here it may be 6"),
    ((-30, -10), (-6, 2), 8, "better", "with a margin of 8 a loss of 6 is within it"),
]
"""Intervals of the changes on forget and on general questions, the margin, what to say, and why."""


def tradeoff_tests() -> list[Test]:
    """Tests of `better_tradeoff(forget, general, margin=3.0)`."""

    def test(forget: tuple[float, float], general: tuple[float, float], margin: float, right: str, why: str) -> Test:
        numbers = [Number(sum(ends) / 2, *ends, 100, "questions") for ends in (forget, general)]
        hint = f"forget {list(forget)} and general {list(general)} with a margin of {margin:g} are {right!r}: {why}"
        return (lambda verdict: verdict(*numbers, margin=margin) == right, hint)

    return [test(*case) for case in _TRADE_OFFS]


def first_step_tests(step: Callable[[Tensor], Tensor], gradient: Tensor) -> list[Test]:
    """Tests of ``step(gradient)``, Adam's first change of a weight with a learning rate of 0.007, for `check`."""
    weight = torch.zeros_like(gradient, requires_grad=True)
    weight.grad = gradient.clone()
    torch.optim.AdamW([weight], lr=7e-3, weight_decay=0.0).step()
    return [
        (lambda made: made.shape == gradient.shape, "return a change for each entry of the gradient"),
        (lambda made: bool((made * gradient <= 0).all()), "the weight moves against its gradient: mind the minus"),
        (lambda made: torch.allclose(made, step(1000 * gradient), rtol=1e-3), "a loss a thousand times as large gives the "
         "same step: correct m and v for their start"),
        (lambda made: torch.allclose(made, weight.detach(), rtol=1e-3), "it differs from torch.optim.AdamW's first step"),
    ]  # fmt: skip

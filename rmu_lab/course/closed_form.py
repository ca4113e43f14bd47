"""Closed-form RMU, taken apart: its inputs and targets, a core, and how far its solution carries. Used in notebook 12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ..activations import evaluating, run_frozen
from ..corpora import token_batches
from ..models import block_parameters, decoder_blocks, input_device
from ..randomness import torch_generator
from .diagrams import INK
from .exercises import Test
from .plots import COSINE_COLOURS, GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ridge = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


@dataclass(frozen=True)
class Tokens:
    """What one matrix reads, and what the residual stream is after its layer: a row for each token that counts."""

    inputs: Tensor
    """x, (tokens, in) float64."""
    states: Tensor
    """h, (tokens, d) float64."""


def tokens_at(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], layer: int = 7, max_length: int = 64
) -> Tokens:
    """Collect the inputs of a layer's MLP output matrix, and the states after the layer, without each text's first token."""
    name = block_parameters(model, range(layer, layer + 1), None)[layer][0]
    module = decoder_blocks(model)[layer].get_submodule(name.rpartition(".")[0])
    seen, states, inputs = list[Tensor](), list[Tensor](), list[Tensor]()
    hook = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        with evaluating(model), torch.no_grad():
            for batch in token_batches(tokenizer, texts, 8, max_length):
                batch = batch.to(input_device(model))
                seen.clear()
                output = run_frozen(model, batch, range(layer, layer + 1)).output
                counted = batch.counted()
                inputs.append(seen[0][counted].double().cpu())
                states.append(output[counted].double().cpu())
    finally:
        hook.remove()
    return Tokens(torch.cat(inputs), torch.cat(states))


def tokens_by_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], count: int
) -> dict[str, list[Tokens]]:
    """Return `tokens_at` layer 7 of each of the first texts of every kind, text by text."""
    return {kind: [tokens_at(model, tokenizer, [text]) for text in chosen[:count]] for kind, chosen in texts.items()}


# ---------------------------------------------------------------------------------------------------------------------
# The core


def ridge(x_forget: Tensor, wanted: Tensor, x_retain: Tensor, alpha: float, mu: float) -> Tensor:
    """Solve for the change D that closed-form RMU makes; a core of notebook 12.

    Parameters
    ----------
    x_forget, x_retain
        inputs of the matrix, (tokens, in).
    wanted
        what is to be added to the state of each forget token, (tokens, d).
    alpha, mu
        weights of the retain tokens and of ||D||^2.

    Returns
    -------
    Tensor
        (d, in).
    """
    forget, retain = (x.T @ x / len(x) for x in (x_forget, x_retain))
    left = forget + alpha * retain + mu * torch.eye(x_forget.shape[1], dtype=x_forget.dtype)
    return torch.linalg.solve(left, (wanted.T @ x_forget / len(x_forget)).T).T


def ridge_loss(
    change: Tensor, x_forget: Tensor, wanted: Tensor, x_retain: Tensor, alpha: float, mu: float
) -> Tensor:  # fmt: skip
    """Compute E ||D x_F - t||^2 + alpha E ||D x_R||^2 + mu ||D||^2."""
    forget = (x_forget @ change.T - wanted).square().sum(dim=1).mean()
    return forget + alpha * (x_retain @ change.T).square().sum(dim=1).mean() + mu * change.square().sum()


def ridge_tests() -> list[Test]:
    """Return what is asked of `ridge`."""
    draw = torch_generator(0, "check of the ridge")
    x_forget, x_retain, wanted = (torch.randn(*size, generator=draw).double() for size in ((30, 6), (50, 6), (30, 4)))
    given = x_forget, wanted, x_retain

    def slope(f: Ridge, alpha: float, mu: float) -> float:
        change = f(*given, alpha, mu).detach().clone().requires_grad_()
        ridge_loss(change, *given, alpha, mu).backward()
        assert change.grad is not None  # noqa: S101
        return change.grad.abs().max().item()

    return [
        (
            lambda f: f(*given, 1.0, 0.1).shape == (4, 6),
            "return D: a row for each entry of a state, a column for each input",
        ),
        (lambda f: slope(f, 0.0, 1e-6) < 1e-6, "at D the gradient must vanish, already without retain tokens (alpha = 0)"),
        (lambda f: slope(f, 3.0, 1e-6) < 1e-6, "the gradient does not vanish with alpha = 3: where does x_retain come in?"),
        (lambda f: slope(f, 3.0, 0.5) < 1e-6, "the gradient does not vanish with mu = 0.5: add mu times the identity"),
        (
            lambda f: torch.allclose(f(x_forget.repeat(2, 1), wanted.repeat(2, 1), x_retain, 1.0, 0.1), f(*given, 1.0, 0.1)),
            "means, not sums: the same tokens twice must give the same D",
        ),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Its pictures


def ridge_diagram() -> Figure:
    """Draw what a linear change can do: along its row b it sees tokens as points on a line, and must move both kinds."""
    draw = torch_generator(0, "points of a diagram")
    clouds = (((2.0, 1.3), (0.55, 0.4)), ((0.3, 0.9), (0.6, 0.45)))
    forget, retain = (
        (torch.tensor(middle) + torch.tensor(width) * torch.randn(40, 2, generator=draw)).numpy() for middle, width in clouds
    )
    figure, row = plt.subplots(1, 2, figsize=(9.4, 3.7), sharex=True, sharey=True)
    for axes, alpha in zip(row, (0.1, 10.0), strict=True):
        left = forget.T @ forget / 40 + alpha * retain.T @ retain / 40 + 1e-3 * np.eye(2)
        b = np.linalg.solve(left, forget.mean(axis=0))
        across, up = np.meshgrid(np.linspace(-1.4, 3.8, 80), np.linspace(-0.6, 2.8, 60))
        height, levels = b[0] * across + b[1] * up, np.linspace(-0.4, 1.6, 11)
        shades = axes.contourf(across, up, height, levels, cmap=COSINE_COLOURS, alpha=0.7, extend="both")
        for role, points in (("forget", forget), ("retain", retain)):
            look = ROLES[role]
            axes.plot(*points.T, look.marker, color=look.colour, markersize=4, markeredgecolor="white", markeredgewidth=0.4,
                      label=f"{role} tokens")  # fmt: skip
        axes.set(xlabel="one input of the matrix", xticks=[], yticks=[])
        axes.set_title(f"$\\alpha$ = {alpha:g}", fontweight="normal", fontsize=10)
        axes.grid(visible=False)
    row[0].set_ylabel("another input")
    row[1].legend(loc="lower right", frameon=True)
    bar = figure.colorbar(shades, ax=list(row), pad=0.02)
    bar.set_label("added along u, share of c", color=INK)
    figure.suptitle("A linear change cannot move one cloud and leave its neighbour alone", fontsize=11, fontweight="bold",
                    x=0.01, ha="left")  # fmt: skip
    return figure


@dataclass(frozen=True)
class Reach:
    """How far a solution carries, on tokens that it was solved on and on others."""

    forget: tuple[float, float]
    """Share of the target's component along u that is added: on seen tokens, and on unseen ones."""
    retain: tuple[float, float]
    """Root mean square of ||D x|| over that of ||h||: the same."""


def reach_by_texts(
    solve: Ridge,
    kinds: Mapping[str, Sequence[Tokens]],
    u: Tensor,
    norm: float,
    sizes: Sequence[int],
    alpha: float,
    ridge_share: float = 1e-3,
) -> dict[int, Reach]:
    """Solve with the first texts of each kind, and look at these and at the last quarter of them.

    Parameters
    ----------
    solve
        `ridge`, or the reader's own.
    kinds
        ``"forget"`` and ``"retain"`` -> the tokens of each text.
    u, norm
        the target's direction, of norm 1, and its norm s.
    sizes
        numbers of texts of each kind, none above three quarters of those that there are.
    alpha
        weight of the retain tokens.
    ridge_share
        mu, in units of the mean of the diagonal of the two other terms, as in the package.
    """
    unseen = {kind: _joined(texts[-(len(texts) // 4) :]) for kind, texts in kinds.items()}
    found = {}
    for size in sizes:
        seen = {kind: _joined(texts[:size]) for kind, texts in kinds.items()}
        x_forget, x_retain = seen["forget"].inputs, seen["retain"].inputs
        diagonal = x_forget.square().mean(dim=0) + alpha * x_retain.square().mean(dim=0)
        wanted = norm * u.double() - seen["forget"].states
        change = solve(x_forget, wanted, x_retain, alpha, ridge_share * diagonal.mean().item())
        along = _along(change, seen["forget"], u, norm), _along(change, unseen["forget"], u, norm)
        found[size] = Reach(along, (_moved(change, seen["retain"]), _moved(change, unseen["retain"])))
    return found


def _along(change: Tensor, tokens: Tokens, u: Tensor, norm: float) -> float:
    return ((tokens.inputs @ (change.T @ u.double())).mean() / norm).item()


def _moved(change: Tensor, tokens: Tokens) -> float:
    moved = (tokens.inputs @ change.T).square().sum(dim=1).mean()
    return (moved / tokens.states.square().sum(dim=1).mean()).sqrt().item()


def _joined(texts: Sequence[Tokens]) -> Tokens:
    return Tokens(torch.cat([text.inputs for text in texts]), torch.cat([text.states for text in texts]))


def reach_figure(found: Mapping[int, Reach], *, title: str) -> Figure:
    """Draw what the solution does to seen and to unseen tokens, against the number of texts of each kind."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.6))
    sizes = list(found)
    for axes, kind, label in (
        (left, "forget", "component along u, share of c"),
        (right, "retain", "shift, share of the norm"),
    ):
        for place, (name, line) in enumerate((("texts it was solved on", "-"), ("other texts", "--"))):
            look = ROLES[kind]
            axes.plot(sizes, [getattr(found[size], kind)[place] for size in sizes], color=look.colour if place else GREY,
                      linestyle=line, marker=look.marker, label=name)  # fmt: skip
        axes.set(xlabel="texts of each kind", ylabel=label, xscale="log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(f"{kind} tokens", fontweight="normal", fontsize=10)
        axes.legend(loc="best")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def apart(one: Tensor, other: Tensor) -> float:
    """Return ||one - other|| / ||other||."""
    return ((one.double() - other.double()).norm() / other.double().norm()).item()

"""A function near a point as a straight line: the picture, the variance that it predicts, and a model to try it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import map_above
from ..corpora import token_batches
from ..models import decoder_blocks, input_device
from ..theory import PredictedLogits, compare, simulated_logits
from ..unlearning.directions import random_directions
from .diagrams import INK, LABEL, NOTE
from .plots import GREY, ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Logits = Callable[[Tensor], Tensor]
"""From what stands at the tokens of a text but the first, (tokens - 1, d), to the logits of the token that follows."""


def logits_above(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, *, layer: int
) -> tuple[Logits, Tensor]:
    """Return the part of a model above a layer as a function, and what the model itself would put in.

    The first token, the attention sink, keeps its own representation. Used in notebook 02.

    Returns
    -------
    tuple
        the function, which can be differentiated; and h^(layer) of all tokens but the first, (tokens - 1, d).
    """
    (batch,) = token_batches(tokenizer, [text], 1, 64)
    hidden, g = map_above(model, batch.to(input_device(model)), layer)
    head = model.get_output_embeddings()
    return lambda rows: head(g(torch.cat([hidden[:, :1], rows[None]], dim=1))[0, -1]), hidden[0, 1:]


def rmu_direction(model: PreTrainedModel, seed: int = 0) -> Tensor:
    """Return the direction u, of norm 1, that `unlearn` draws for a single topic with this seed."""
    return random_directions(["forget"], model.get_output_embeddings().weight.shape[1], seed=seed)["forget"]


def last_stream_above(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, *, layer: int
) -> Callable[[Tensor], Tensor]:
    """Return the function of `logits_above` up to the last layer only: to the last token's h, which the final norm reads."""
    (batch,) = token_batches(tokenizer, [text], 1, 64)
    top = len(decoder_blocks(model)) - 1
    hidden, g = map_above(model, batch.to(input_device(model)), layer, top)
    return lambda rows: g(torch.cat([hidden[:, :1], rows[None]], dim=1))[0, -1]


def norms_added_above(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    direction: Tensor,
    sizes: Sequence[float],
    *,
    layer: int,
) -> list[float]:
    """Put c u after a layer, for each c of `sizes`, and return the norm of all that the layers above add to it.

    Of the last token, up to what the final norm reads. Used in notebook 02.
    """
    _, own = logits_above(model, tokenizer, text, layer=layer)
    stream_of = last_stream_above(model, tokenizer, text, layer=layer)
    with torch.no_grad():
        return [(stream_of(c * direction.expand_as(own)) - c * direction).norm().item() for c in sizes]


def first_order_variance(function: Callable[[Tensor], Tensor], z: Tensor, eta: float) -> Tensor:
    """Compute the variance of function(z + noise) to first order: eta times the squared norm of the gradient at z.

    The core of notebook 02.

    Parameters
    ----------
    function
        from a tensor of z's shape to one number.
    eta
        variance of the noise, which is drawn independently for each entry of z.
    """
    point = z.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(point), point)
    return eta * slope.square().sum()


def likeliest_token(tokenizer: PreTrainedTokenizerBase, logits: Tensor) -> str:
    """Return the most probable token and its probability, as ``"' Paris' 77%"``, from one position's logits, (V,)."""
    probability, token = logits.softmax(dim=-1).max(dim=-1)
    return f"{tokenizer.decode(token)!r} {probability:.0%}"


def variance_ratios(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    predicted: PredictedLogits,
    etas: Sequence[float],
    *,
    n: int = 32,
    layer: int,
    direction: Tensor,
    coefficient: float,
) -> list[float]:
    """Divide the variance of the logits under isotropic noise by the first order's, for each variance of the noise.

    Parameters
    ----------
    predicted
        what `theory.predicted_logits` gave for the same text, layer, direction and coefficient, whatever its `eta`.
    etas
        variances of the noise in each entry of z = c u.
    n
        draws of the noise for each of them.
    """
    ratios = []
    for eta in etas:
        drawn = simulated_logits(
            model, tokenizer, text, layer=layer, direction=direction, coefficient=coefficient, eta=eta, n=n
        )
        ratios.append(compare(replace(predicted, eta=eta), drawn).variance_ratio)
    return ratios


def linearisation_diagram(deviations: tuple[float, float] = (0.18, 0.75)) -> Figure:
    """Draw what a curve and its tangent make of the same noise, once little of it and once much; taught in notebook 02.

    Parameters
    ----------
    deviations
        standard deviations of the noise in the left and the right picture.
    """
    figure, row = plt.subplots(1, 2, figsize=(9.4, 3.7), sharex=True, sharey=True)
    titles = ("Little noise: line and curve agree", "Much noise: they part")
    for axes, deviation, title in zip(row, deviations, titles, strict=True):
        _linearised(axes, deviation)
        axes.set_title(title)
        axes.set_xlabel("what goes in: $z + \\varepsilon$", fontsize=LABEL)
    row[0].set_ylabel("what comes out: a logit", fontsize=LABEL)
    row[0].legend(loc="upper left", frameon=True)
    return figure


def first_order_figure(
    values: Sequence[float], mean: float, deviation: float, ratios: Mapping[str, float], *, title: str, xlabel: str
) -> Figure:
    """Draw how far the straight line holds: one number's simulated and predicted distribution, and the variance's ratio.

    Parameters
    ----------
    values, mean, deviation
        what was simulated, and the normal distribution that was predicted for it.
    ratios
        size of the noise -> simulated over first-order variance.
    xlabel
        what `values` are of.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.6))
    found, expected = ROLES["steered"], ROLES["direction"]
    left.hist(np.asarray(values, dtype=float), bins=24, density=True, color=found.colour, alpha=0.35, label="simulated")
    x = np.linspace(mean - 4 * deviation, mean + 4 * deviation, 200)
    bell = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    left.plot(x, bell, color=expected.colour, linestyle="--", linewidth=2.4, label="predicted")
    left.set(xlabel=xlabel, ylabel="density")
    left.legend(loc="upper left", frameon=True, fontsize=9)
    right.plot([*ratios], [*ratios.values()], color=found.colour, linestyle=found.line, marker=found.marker)
    right.axhline(1, color=expected.colour, linestyle="--", linewidth=2.4)
    right.set(xlabel="norm of the noise / c", ylabel="variance, simulated / predicted", ylim=(0, 1.2))
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _curve(x: np.ndarray | float) -> np.ndarray:
    return np.asarray(1.6 * np.tanh(1.1 * np.asarray(x)) + 0.15 * np.asarray(x))


def _linearised(axes: Axes, deviation: float) -> None:
    """One panel: the noise on the horizontal axis, and on the left where the curve and its tangent send it."""
    x, slope = np.linspace(-2.6, 2.2, 200), 1.6 * 1.1 + 0.15
    line, curve = ROLES["direction"], ROLES["steered"]
    axes.plot(x, _curve(x), color=curve.colour, linewidth=2.4, label="the model")
    axes.plot(x, slope * x, color=line.colour, linestyle="--", linewidth=2, label="its tangent at $z$: slope $J$")
    axes.plot([0], [0], marker="o", color=INK, markersize=7, zorder=5)
    axes.text(0.1, -0.32, "$z$", fontsize=12, color=INK)
    inside = np.array([-2 * deviation, 2 * deviation])
    axes.axvspan(inside[0], inside[1], ymax=0.08, color=GREY, alpha=0.35, linewidth=0)
    axes.text(0, -2.62, "noise, ±2 s.d.", ha="center", va="bottom", fontsize=NOTE, color=INK)
    for place, values, look in ((-2.45, slope * inside, line), (-2.25, _curve(inside), curve)):
        axes.plot([place] * 2, values, color=look.colour, linewidth=6, solid_capstyle="butt", clip_on=True)
        for end, value in zip(inside, values, strict=True):
            axes.plot([place, end], [value] * 2, color=look.colour, linewidth=0.8, linestyle=":", zorder=1)
    axes.set(xlim=(-2.6, 2.2), ylim=(-3.1, 3.1), xticks=[], yticks=[])

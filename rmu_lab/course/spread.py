"""How widely noise spreads the logits at each coefficient c, and how sure the answer is that is given at c u itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import theory
from ..estimates import Number, mean_of
from ..models import final_norm
from .diagrams import INK
from .linearisation import last_stream_above, logits_above, rmu_direction
from .plots import GREY, ROLES, curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spread:
    """Of the next token's logits under noise, for several directions, texts and coefficients."""

    coefficients: tuple[float, ...]
    measured: np.ndarray
    """(directions, texts, c) standard deviation of a logit, a shift common to all logits taken away."""
    stream_norm: np.ndarray
    """(directions, texts, c) norm of the last token's vector after the last layer, without noise."""
    norm_alone: np.ndarray
    """(directions, texts, c) standard deviation if only the final norm, at that vector, stood before the logits."""
    limit: np.ndarray
    """(directions, c) the same at the vector c u: what the spread tends to for large c."""

    @property
    def slope(self) -> Number:
        """Of log spread over log c, with an interval over directions."""
        cases = np.log(self.measured).reshape(-1, len(self.coefficients))
        slopes = np.polyfit(np.log(self.coefficients), cases.T, 1)[0]
        return mean_of(slopes.reshape(self.measured.shape[:2]).mean(axis=1).tolist(), "directions")

    def __str__(self) -> str:
        first, *_, last = self.measured.mean(axis=(0, 1))
        return f"a logit's s.d.: {first:.2g} at c = {self.coefficients[0]:g}, {last:.2g} at c = {self.coefficients[-1]:g}"


def measure_spread(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    layer: int,
    coefficients: Sequence[float],
    directions: int = 5,
    eta: float = 1.0,
    n: int = 8,
) -> Spread:
    """Put c u with noise of variance eta after a layer, for each of several directions u, texts and c. Used in notebook 02.

    Parameters
    ----------
    directions
        how many; with positive entries, as RMU draws them, from seeds 0, 1, ...
    n
        draws of the noise in each case.
    """
    alone = _NormAlone(model, eta)
    cases, limits = [], []
    for u in _directions(model, directions):
        limits.append([alone(c * u) for c in coefficients])
        for text in texts:
            found = theory.coefficient_effects(
                model, tokenizer, text, layer=layer, coefficients=coefficients, direction=u, eta=eta, n=n
            )
            stream_of = last_stream_above(model, tokenizer, text, layer=layer)
            _, own = logits_above(model, tokenizer, text, layer=layer)
            with torch.no_grad():
                streams = [stream_of(c * u.expand_as(own)) for c in coefficients]
            cases.append([(e.centred_deviation, h.norm().item(), alone(h)) for e, h in zip(found, streams, strict=True)])
    values = np.array(cases).reshape(directions, len(texts), len(coefficients), 3)
    measured, stream_norm, norm_alone = np.moveaxis(values, -1, 0)
    return Spread(tuple(coefficients), measured, stream_norm, norm_alone, np.array(limits))


@dataclass(frozen=True)
class Sureness:
    """The largest probability of the next token where c u stands after a layer, without noise."""

    coefficients: tuple[float, ...]
    by_direction: np.ndarray
    """(directions, c) mean over texts."""
    limit: np.ndarray
    """(directions,) of the logits to which those of c u tend for large c: the final norm and the unembedding of u."""
    untouched: float
    """Mean over texts of the model left alone."""

    def between(self, coefficient: float | None = None) -> str:
        """Say between what values the directions lie, as ``"0.20 to 0.46"``: at a coefficient, or in the limit."""
        values = self.limit if coefficient is None else self.by_direction[:, self.coefficients.index(coefficient)]
        return f"{values.min():.2f} to {values.max():.2f}"


@torch.no_grad()
def measure_sureness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    layer: int,
    coefficients: Sequence[float],
    directions: int = 5,
) -> Sureness:
    """Put c u after a layer, without noise, and see how probable the likeliest next token is. Used in notebook 02.

    Parameters
    ----------
    directions
        how many; the same as those of `measure_spread`.
    """
    scale, head = cast(Tensor, final_norm(model).weight), model.get_output_embeddings()
    above = [logits_above(model, tokenizer, text, layer=layer) for text in texts]
    rows, limits = [], []
    for u in _directions(model, directions):
        rows.append([[_largest(logits(c * u.expand_as(own))) for c in coefficients] for logits, own in above])
        limits.append(_largest(head(scale * u) * len(u) ** 0.5))
    untouched = float(np.mean([_largest(logits(own)) for logits, own in above]))
    return Sureness(tuple(coefficients), np.array(rows).mean(axis=1), np.array(limits), untouched)


def _largest(logits: Tensor) -> float:
    return logits.float().softmax(dim=-1).max().item()


def _directions(model: PreTrainedModel, count: int) -> Iterator[Tensor]:
    """RMU's directions from seeds 0, 1, ..., where the model is and in its type."""
    weight = model.get_output_embeddings().weight
    return (rmu_direction(model, seed).to(weight) for seed in range(count))


class _NormAlone:
    """sqrt(eta d / V) ||(I - û ûᵀ)(gamma * w)|| / ||h||, over all rows w of W less their mean; û = h / ||h||."""

    def __init__(self, model: PreTrainedModel, eta: float):
        weight = model.get_output_embeddings().weight.detach().float()
        scale = cast(Tensor, final_norm(model).weight)
        rows = scale.detach().float() * (weight - weight.mean(dim=0))
        self.moments, self.eta = rows.T @ rows / len(rows), eta

    def __call__(self, h: Tensor) -> float:
        unit = h.float() / h.float().norm()
        left = self.moments.trace() - unit @ self.moments @ unit
        return (self.eta * len(h) * left).sqrt().item() / h.float().norm().item()


def spread_figure(found: Spread, *, title: str) -> Figure:
    """Draw the measured spread over c beside its limit and beside what the final norm alone would leave.

    Bands are 95% intervals over directions, each the mean of its texts.
    """
    series = {
        "measured": ("steered", found.measured.mean(axis=1).T),
        "limit of step 3: divide by c": ("direction", found.limit.mean(axis=0)),
        "final norm alone: divide by the stream's norm": ("retain", found.norm_alone.mean(axis=1).T),
    }
    _, axes = plt.subplots(figsize=(7.4, 4.2))
    names: dict[str, Any] = {"xlabel": "coefficient c", "ylabel": "standard deviation of a logit"}
    return curves(found.coefficients, series, title=title, log="xy", axes=axes, **names)


def sureness_figure(found: Sureness, *, title: str) -> Figure:
    """Draw the largest probability over c, a line for each direction that ends in the mark of its limit."""
    figure, axes = plt.subplots(figsize=(7.8, 4.6))
    edge = found.coefficients[-1] * 6
    for (number, row), limit, look in zip(enumerate(found.by_direction), found.limit, ROLES.values(), strict=False):
        axes.plot(found.coefficients, row, color=look.colour, linestyle=look.line, marker=look.marker, markersize=5,
                  label=f"direction {number}")  # fmt: skip
        axes.plot([edge], [limit], look.marker, color=look.colour, markersize=11, markeredgecolor=INK)
    axes.axhline(found.untouched, color=GREY, linestyle="-.", linewidth=1.5, label="untouched model")
    axes.axvline(edge / 2.4, color=GREY, linewidth=0.8)
    axes.set(xscale="log", ylim=(0, 1), xlabel="coefficient c", ylabel="largest probability, mean over texts")
    ticks = [*found.coefficients, edge]
    axes.set_xticks(ticks, [*(f"{c:,.0f}" for c in found.coefficients), "limit"])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=True, fontsize=9, ncols=3)
    return figure

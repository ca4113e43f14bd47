"""How widely noise spreads the logits at each coefficient c, beside what the final norm alone would leave of it."""

from __future__ import annotations

from collections.abc import Sequence
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
from .linearisation import last_stream_above, logits_above
from .plots import ROLES, curves

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
    max_logit: np.ndarray
    """(directions, texts, c) mean MaxLogit."""

    @property
    def slope(self) -> Number:
        """Of log spread over log c, with an interval over directions."""
        cases = np.log(self.measured).reshape(-1, len(self.coefficients))
        slopes = np.polyfit(np.log(self.coefficients), cases.T, 1)[0]
        return mean_of(slopes.reshape(self.measured.shape[:2]).mean(axis=1).tolist(), "directions")


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
    size = model.get_output_embeddings().weight.shape[1]
    cases, limits = [], []
    for seed in range(directions):
        direction = torch.rand(size, generator=torch.Generator().manual_seed(seed))
        u = (direction / direction.norm()).to(model.get_output_embeddings().weight)
        limits.append([alone(c * u) for c in coefficients])
        for text in texts:
            found = theory.coefficient_effects(
                model, tokenizer, text, layer=layer, coefficients=coefficients, direction=u, eta=eta, n=n
            )
            stream_of = last_stream_above(model, tokenizer, text, layer=layer)
            _, own = logits_above(model, tokenizer, text, layer=layer)
            with torch.no_grad():
                streams = [stream_of(c * u.expand_as(own)) for c in coefficients]
            cases.append(
                [(e.centred_deviation, h.norm().item(), alone(h), e.max_logit) for e, h in zip(found, streams, strict=True)]
            )
    values = np.array(cases).reshape(directions, len(texts), len(coefficients), 4)
    measured, stream_norm, norm_alone, max_logit = np.moveaxis(values, -1, 0)
    return Spread(tuple(coefficients), measured, stream_norm, norm_alone, np.array(limits), max_logit)


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
    """Draw the measured spread over c beside its limit and beside what the final norm alone would leave."""
    flat = (-1, len(found.coefficients))
    series = {
        "measured": ("steered", found.measured.reshape(flat).T),
        "limit of step 3: divide by c": ("direction", found.limit.mean(axis=0)),
        "final norm alone: divide by the stream's norm": ("retain", found.norm_alone.reshape(flat).T),
    }
    _, axes = plt.subplots(figsize=(7.4, 4.2))
    names: dict[str, Any] = {"xlabel": "coefficient c", "ylabel": "standard deviation of a logit"}
    return curves(found.coefficients, series, title=title, log="xy", axes=axes, **names)


def max_logit_figure(found: Spread, *, title: str) -> Figure:
    """Draw MaxLogit over c, one line for each direction."""
    looks = tuple(ROLES)
    series = {
        f"direction {n}": (looks[n % len(looks)], row.mean(axis=0)) for n, row in enumerate(found.max_logit)
    }  # (texts, c) each
    names: dict[str, Any] = {"xlabel": "coefficient c", "ylabel": "MaxLogit, mean over texts"}
    return curves(found.coefficients, series, title=title, log="x", **names)

"""What the coefficient c does to the logits: how they spread over noise, and how sure the model is.

Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .logit_distribution import simulated_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class CoefficientEffect:
    """The next token's logits when c u + eps stands after the block."""

    coefficient: float
    deviation: float
    """Standard deviation of a logit over the noise: root of the mean variance over the vocabulary."""
    centred_deviation: float
    """The same once a shift common to all logits, which changes no probability, is taken away."""
    max_logit: float
    """Mean MaxLogit over the draws."""
    entropy: float
    """Mean entropy of the next-token distribution, nats."""
    mean: Tensor
    """(V,) mean logits, on the CPU."""


def coefficient_effects(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    coefficients: Sequence[float],
    direction: Tensor,
    eta: float = 1.0,
    n: int = 32,
    seed: int = 0,
) -> list[CoefficientEffect]:
    """Simulate the next token's logits with each coefficient, all with the same noise.

    As c grows the logits tend to those of ``layer = last block``, where only the final norm is left: W (gamma * u) sqrt(d)
    for an RMSNorm, whatever the text. Parameters and errors as of `simulated_logits`. Taught in notebook 02.

    Returns
    -------
    list of CoefficientEffect
        in the order of `coefficients`.
    """
    effects = []
    for coefficient in coefficients:
        drawn = simulated_logits(
            model, tokenizer, text, layer=layer, coefficient=coefficient, direction=direction, eta=eta, n=n, seed=seed
        )
        effects.append(
            CoefficientEffect(
                coefficient,
                drawn.variances.mean().sqrt().item(),
                drawn.centred_variances.mean().sqrt().item(),
                drawn.max_logits().mean().item(),
                drawn.entropies().mean().item(),
                drawn.mean.cpu(),
            )
        )
    return effects

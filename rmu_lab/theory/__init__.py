"""The theory of confidence reduction, computed: what Proposition 1, the noise sensitivity and the optimal
coefficient of Dang et al. 2024 (arXiv 2408.06223) say for a given model, beside what happens.

In all of it z = c u stands after block `layer` at every token of a text but the first (the attention
sink keeps its own representation), g is the part of the model from there to what the unembedding W
reads, J its Jacobian at z, and logits mean those of the token that follows the text. Taught in
notebooks 02 and 03.
"""

from .coefficient import CoefficientEffect, coefficient_effects
from .logit_distribution import (
    Comparison,
    PredictedLogits,
    SimulatedLogits,
    compare,
    first_order_errors,
    first_order_limit,
    predicted_logits,
    simulated_logits,
)
from .residual import Residual, measured_residual
from .sensitivity import OptimalCoefficient, noise_sensitivity, optimal_coefficient

__all__ = [
    "CoefficientEffect",
    "Comparison",
    "OptimalCoefficient",
    "PredictedLogits",
    "Residual",
    "SimulatedLogits",
    "coefficient_effects",
    "compare",
    "first_order_errors",
    "first_order_limit",
    "measured_residual",
    "noise_sensitivity",
    "optimal_coefficient",
    "predicted_logits",
    "simulated_logits",
]

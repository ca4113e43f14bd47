"""Adaptive RMU's target norm, as the paper's Equation 24 has it. Used in notebook 05."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..activations import TokenStates
    from .exercises import Test


def adaptive_target(norms: Tensor, counted: Tensor, beta: float) -> Tensor:
    """Return the norm of every token's target: beta times the mean frozen norm of the token's own text.

    Parameters
    ----------
    norms
        (texts, tokens): ||h|| in the frozen model.
    counted
        (texts, tokens) bool: tokens that count, which first tokens and padding do not.

    Returns
    -------
    Tensor
        (texts, tokens), the same for all tokens of a text.
    """
    mean = (norms * counted).sum(dim=1, keepdim=True) / counted.sum(dim=1, keepdim=True)  # (texts, 1)
    return beta * mean.expand_as(norms)


def norms_by_text(states: TokenStates, layer: int) -> tuple[Tensor, Tensor]:
    """Return every token's ||h|| after a layer, (texts, tokens), zero where a text has ended; and which tokens count."""
    shape = int(states.text.max()) + 1, int(states.position.max()) + 1
    norms, counted = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    norms[states.text, states.position] = states.hidden[layer].norm(dim=-1)
    counted[states.text, states.position] = states.counted
    return norms, counted


def published_target_tests(states: TokenStates, layer: int = 15, texts: int = 4) -> tuple[Test, ...]:
    """Return tests of how many times longer the published target is for counting first tokens as well."""
    norms, counted = (values[:texts] for values in norms_by_text(states, layer))
    times = (norms[norms > 0].mean() / norms[counted].mean()).item()
    return (
        (lambda value: float(value) > 1, "the sink can only make the mean larger"),
        (lambda value: abs(float(value) / times - 1) < 0.01, "use the first four texts; leave padding out of both means"),
    )


def median_norms(states: TokenStates) -> tuple[list[float], list[float]]:
    """Return the median ||h|| after each layer: of the tokens that count, and of first tokens."""
    middle = [
        [hidden[kind].norm(dim=-1).median().item() for hidden in states.hidden.values()]
        for kind in (states.counted, ~states.counted)
    ]
    return middle[0], middle[1]

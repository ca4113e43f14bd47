"""RMU's two losses and Adaptive RMU's target norm. Taught in notebooks 01, 04 and 05."""

import torch
from torch import Tensor

from .config import LossPer


def masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted tokens of each text: (batch, tokens, ...) and (batch, tokens) bool -> (batch, ...)."""
    weight = counted.to(values.dtype).reshape(*counted.shape, *[1] * (values.ndim - 2))
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


def token_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over all counted tokens: (batch, tokens) and (batch, tokens) bool -> (); a GPU is not waited for."""
    return torch.where(counted, values, 0).sum() / counted.sum()


def distance_loss(
    hidden: Tensor, target: Tensor, counted: Tensor, *, loss_per: LossPer = "token", mean_over_dimensions: bool = False
) -> Tensor:
    """E ||h - target||^2 over the counted tokens: the form of both of RMU's losses.

    Parameters
    ----------
    hidden
        (batch, tokens, d), any floating type; the loss is computed in float32.
    target
        broadcastable to `hidden`: s * u for the forget loss (Eq 3 of Dang et al. 2024), the frozen
        representations for the retain loss.
    counted
        (batch, tokens) bool, at least one per text.
    loss_per
        ``"token"`` averages the squared distance of every counted token; ``"text"`` first averages the
        difference over each text's tokens, which lets tokens make up for each other.
    mean_over_dimensions
        divide by d, as `torch.nn.functional.mse_loss` does.
    """
    difference = hidden.float() - target.float()
    if loss_per == "text":
        loss = masked_mean(difference, counted).square().sum(dim=-1).mean()
    else:
        loss = token_mean(difference.square().sum(dim=-1), counted)
    return loss / hidden.shape[-1] if mean_over_dimensions else loss


def token_norms(hidden: Tensor) -> Tensor:
    """||h|| of every token in float32: (batch, tokens, d) -> (batch, tokens)."""
    return hidden.float().norm(dim=-1)

"""RMU's losses, and the pieces of every other method's: distances, norms, log-probabilities, divergences.

Taught in notebooks 01, 04 and 05 (RMU and Adaptive RMU) and 08 (the others). Log-probabilities are natural.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..corpora import TokenBatch
from .config import LossPer, UnlearnConfig

# ---------------------------------------------------------------------------------------------------------------------
# Representations: means, norms, distances


def masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return each text's mean over its counted tokens: (batch, tokens, ...) and (batch, tokens) bool -> (batch, ...)."""
    weight = counted.to(values.dtype).reshape(*counted.shape, *[1] * (values.ndim - 2))
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


def token_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over all counted tokens: (batch, tokens) and (batch, tokens) bool -> (); a GPU is not waited for."""
    return torch.where(counted, values, 0).sum() / counted.sum()


def token_norms(hidden: Tensor) -> Tensor:
    """Return ||h|| of every token in float32: (batch, tokens, d) -> (batch, tokens)."""
    return hidden.float().norm(dim=-1)


def distance_loss(
    hidden: Tensor, target: Tensor, counted: Tensor, *, loss_per: LossPer = "token", mean_over_dimensions: bool = False
) -> Tensor:
    """Return E ||h - target||^2 over the counted tokens: the form of both of RMU's losses.

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


@dataclass(frozen=True)
class WindowBatch:
    """What a loss at the steered layer is computed from: one forget or one retain batch at the output of block l."""

    hidden: Tensor
    """h^(l) of the model in training, (batch, tokens, d), in the model's type."""
    target: Tensor
    """Where RMU wants it, broadcastable to `hidden`: s u for a forget batch, the frozen h^(l) (with its noise, if any) for
    a retain batch."""
    frozen: Tensor
    """h^(l) of the model before training, (batch, tokens, d)."""
    counted: Tensor
    """Tokens that enter the loss, (batch, tokens) bool: by default neither padding nor each text's first token."""


WindowObjective = Callable[[WindowBatch, UnlearnConfig], Tensor]
"""A loss at the steered layer: a mean over the counted tokens (over texts where ``loss_per="text"``), a scalar. The retain
objective is multiplied by alpha."""


def steering_objective(batch: WindowBatch, config: UnlearnConfig) -> Tensor:
    """Return ``E ||h - target||^2``, RMU's forget loss and, without its weight alpha, its retain loss (Eq 3)."""
    return distance_loss(
        batch.hidden,
        batch.target,
        batch.counted,
        loss_per=config.loss_per,
        mean_over_dimensions=config.mean_over_dimensions,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Next tokens: log-probabilities and divergences


@dataclass(frozen=True)
class ScoredBatch:
    """What a loss on logits is computed from: what the model in training makes of a batch, and perhaps the one before."""

    logits: Tensor
    """(batch, tokens, vocabulary) float32, each for the token at the same place of `targets`."""
    targets: Tensor
    """(batch, tokens) int64."""
    scored: Tensor
    """(batch, tokens) bool: which targets count; at least one a text."""
    reference: Tensor | None = None
    """Logits of the model before training; None unless the method asks for them (`LossMethod.reference_roles`)."""

    @property
    def text_log_p(self) -> Tensor:
        """log p(x) of each text, summed over its scored tokens: (batch,)."""
        return (log_probabilities(self.logits, self.targets) * self.scored).sum(dim=1)

    @property
    def reference_text_log_p(self) -> Tensor:
        """The same of the model before training: (batch,)."""
        return (log_probabilities(self.reference_logits, self.targets) * self.scored).sum(dim=1)

    @property
    def reference_logits(self) -> Tensor:
        """`reference`, which the method has to have asked for."""
        assert self.reference is not None, "the role is missing from the method's reference_roles"  # noqa: S101
        return self.reference

    @property
    def cross_entropy(self) -> Tensor:
        """Mean cross-entropy of the scored tokens, in nats; gradient ascent minimises its negative."""
        return next_token_loss(self.logits, self.targets, self.scored)

    @property
    def divergence(self) -> Tensor:
        """KL(p_o || p) of the next token from the model before training, mean over the scored places, in nats."""
        return divergence(self.reference_logits, self.logits, self.scored)


def targets_of(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return the tokens to predict and which are real: each but the first of its text, with padding on the right."""
    return batch.input_ids[:, 1:], batch.attention_mask[:, 1:].bool()


def log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p of each target: (batch, tokens, vocabulary) and (batch, tokens) -> (batch, tokens)."""
    return logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(dim=-1)


def next_token_loss(logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Return the mean cross-entropy of the scored tokens, in nats."""
    return -(log_probabilities(logits, targets) * scored).sum() / scored.sum().clamp(min=1)


def divergence(reference: Tensor, logits: Tensor, scored: Tensor) -> Tensor:
    """Return KL(p_o || p) of the next token, the mean over the scored places, in nats; `reference` are p_o's logits."""
    ours, theirs = logits.log_softmax(dim=-1), reference.log_softmax(dim=-1)
    each = (theirs.exp() * (theirs - ours)).sum(dim=-1)
    return (each * scored).sum() / scored.sum().clamp(min=1)


def npo_loss(log_p: Tensor, reference_log_p: Tensor, beta: float) -> Tensor:
    """Return ``-(2 / beta) E log sigmoid(-beta log(p / p_o))``, from log p and log p_o of texts, (batch,) each.

    Zhang et al. 2024 (arXiv 2404.05868).
    """
    return -2 / beta * logsigmoid(-beta * (log_p - reference_log_p)).mean()


def simnpo_loss(log_p: Tensor, lengths: Tensor, beta: float, gamma: float) -> Tensor:
    """Return ``-(2 / beta) E log sigmoid(-(beta / |x|) log p - gamma)``, from log p and |x| of texts, (batch,) each.

    Fan et al. 2024 (arXiv 2410.07163).
    """
    return -2 / beta * logsigmoid(-beta * log_p / lengths - gamma).mean()

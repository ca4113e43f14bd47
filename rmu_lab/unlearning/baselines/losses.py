"""The losses of the methods that train, as functions of logits. Taught in notebook 08.

Shapes: logits (batch, tokens, vocabulary) float32, each for the token at the same place of `targets` (batch, tokens);
`scored` (batch, tokens) bool says which of these are real, at least one a text. Log-probabilities are natural.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ...corpora import TokenBatch
from .config import LLMU, NPO, SCRUB, SimNPO, TrainedBaseline


@dataclass(frozen=True)
class Seen:
    """What a loss is computed from: what the model in training, and perhaps the frozen one, make of a batch."""

    logits: Tensor
    targets: Tensor
    scored: Tensor
    frozen: Tensor | None = None
    """Logits of the model before training."""


def targets_of(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """The tokens to predict and which of them are real: each but the first of its text; padding is on the right."""
    return batch.input_ids[:, 1:], batch.attention_mask[:, 1:].bool()


def mismatched(forget: TokenBatch, retain: TokenBatch) -> tuple[TokenBatch, Tensor]:
    """Forget texts' first halves, each followed by a retain text's second half; and which tokens are the latter's."""
    texts = min(len(forget.input_ids), len(retain.input_ids))
    tokens = min(forget.input_ids.shape[1], retain.input_ids.shape[1])
    half = tokens // 2
    ids, mask = (
        torch.cat([of_forget[:texts, :half], of_retain[:texts, half:tokens]], dim=1)
        for of_forget, of_retain in (
            (forget.input_ids, retain.input_ids),
            (forget.attention_mask, retain.attention_mask),
        )
    )
    scored = mask[:, 1:].bool()
    scored[:, : half - 1] = False  # the prediction of the first token of the second half counts
    return TokenBatch(ids, mask), scored


def log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """log p of each target, (batch, tokens)."""
    return logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(dim=-1)


def next_token_loss(logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Mean cross-entropy of the scored tokens, in nats; its negative is what gradient ascent minimises."""
    return -(log_probabilities(logits, targets) * scored).sum() / scored.sum().clamp(min=1)


def npo_loss(log_p: Tensor, frozen_log_p: Tensor, beta: float) -> Tensor:
    """``-(2 / beta) E log sigmoid(-beta log(p / p_o))``, from (batch,) log p and log p_o, of texts each (Zhang et al.)."""
    return -2 / beta * logsigmoid(-beta * (log_p - frozen_log_p)).mean()


def simnpo_loss(log_p: Tensor, lengths: Tensor, beta: float, gamma: float) -> Tensor:
    """``-(2 / beta) E log sigmoid(-(beta / |x|) log p - gamma)``, from (batch,) log p and |x| (Fan et al.)."""
    return -2 / beta * logsigmoid(-beta * log_p / lengths - gamma).mean()


def divergence(frozen: Tensor, logits: Tensor, scored: Tensor) -> Tensor:
    """KL(p_o || p) of the next token, mean over the scored places, in nats."""
    ours, theirs = logits.log_softmax(dim=-1), frozen.log_softmax(dim=-1)
    each = (theirs.exp() * (theirs - ours)).sum(dim=-1)
    return (each * scored).sum() / scored.sum().clamp(min=1)


def loss(config: TrainedBaseline, role: str, seen: Seen) -> Tensor:
    """A method's loss on one kind of batch, its weight included; the equations stand with the settings (`config`)."""
    cross_entropy = partial(next_token_loss, seen.logits, seen.targets, seen.scored)
    match role, config:
        case "forget", NPO():
            now, before = (
                (log_probabilities(logits, seen.targets) * seen.scored).sum(dim=1) for logits in (seen.logits, seen.frozen)
            )
            return npo_loss(now, before, config.beta)
        case "forget", SimNPO():
            log_p = (log_probabilities(seen.logits, seen.targets) * seen.scored).sum(dim=1)
            return simnpo_loss(log_p, seen.scored.sum(dim=1), config.beta, config.gamma)
        case "forget", SCRUB():
            return -divergence(seen.frozen, seen.logits, seen.scored)
        case "forget", LLMU():
            return -config.forget_weight * cross_entropy()
        case "forget", _:
            return -cross_entropy()
        case "mismatched", _:
            return config.mismatch_weight * cross_entropy()
        case "retain", LLMU():
            return config.alpha * divergence(seen.frozen, seen.logits, seen.scored)
        case "retain", SCRUB():
            return config.alpha * divergence(seen.frozen, seen.logits, seen.scored) + config.gamma * cross_entropy()
        case _:
            return config.alpha * cross_entropy()

"""LLMU, Yao et al. 2023. Taught in notebook 08."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...corpora import TokenBatch
from ..loss_method import LossMethod, Scored
from ..objectives import ScoredBatch


@dataclass(frozen=True)
class LLMU(LossMethod):
    """Yao et al. 2023 (arXiv 2310.10683): ascent, a mismatched ending, and staying near the model before::

        loss = forget_weight * E log p(x_F) / |x_F|
               + mismatch_weight * -E log p(y_R | x_F) / |y_R|
               + alpha * E mean over t of KL(p_o(. | x_R,<t) || p(. | x_R,<t))

    Their x_F is a prompt and y_R the answer to an unrelated one. Here texts are cut in two: a forget text's first half is
    followed by a retain text's second half, and only the latter is scored.
    """

    forget_weight: float = 0.5
    """Their default, as those of the next two."""
    mismatch_weight: float = 1.0
    alpha: float = 1.0
    """Weight of the divergence on retain texts."""

    method: ClassVar[str] = "llmu"
    reference_roles: ClassVar[frozenset[str]] = frozenset({"retain"})

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Return one update, of three batches together."""
        return (("forget", "mismatched", "retain"),)

    def compose(self, role: str, batches: Mapping[str, TokenBatch]) -> Scored:
        """Return the batch of a role; ``"mismatched"`` is made of both."""
        if role == "mismatched":
            return mismatched(batches["forget"], batches["retain"])
        return super().compose(role, batches)

    def loss(self, role: str, batch: ScoredBatch) -> Tensor:
        """Return one of the three terms."""
        if role == "forget":
            return -self.forget_weight * batch.cross_entropy
        if role == "mismatched":
            return self.mismatch_weight * batch.cross_entropy
        return self.alpha * batch.divergence


def mismatched(forget: TokenBatch, retain: TokenBatch) -> Scored:
    """Return forget texts' first halves, each followed by a retain text's second half, of which the latter is scored."""
    texts = min(len(forget.input_ids), len(retain.input_ids))
    tokens = min(forget.input_ids.shape[1], retain.input_ids.shape[1])
    half = tokens // 2
    ids, mask = (
        torch.cat([first[:texts, :half], second[:texts, half:tokens]], dim=1)
        for first, second in (
            (forget.input_ids, retain.input_ids),
            (forget.attention_mask, retain.attention_mask),
        )
    )
    scored = mask[:, 1:].bool()
    scored[:, : half - 1] = False  # the prediction of the first token of the second half counts
    return TokenBatch(ids, mask), ids[:, 1:], scored

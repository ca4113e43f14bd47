"""Negative preference optimisation, with and without a reference model. Taught in notebook 08."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..objectives import ScoredBatch, npo_loss, simnpo_loss
from .gradient import WithRetainText


@dataclass(frozen=True)
class NPO(WithRetainText):
    """Negative preference optimisation, Zhang et al. 2024 (arXiv 2404.05868), with their retain term (NPO+RT)::

        loss = -(2 / beta) E log sigmoid(-beta log(p(x_F) / p_o(x_F)))  -  alpha * E log p(x_R) / |x_R|

    Its gradient is that of ascent on log p(x_F), each text weighed by ``2 p^beta / (p^beta + p_o^beta)``: 1 at the start,
    and the less the more the text is forgotten. As beta goes to 0 the weight stays 1.
    """

    beta: float = 0.1

    method: ClassVar[str] = "npo"
    reference_roles: ClassVar[frozenset[str]] = frozenset({"forget"})

    def forget_loss(self, batch: ScoredBatch) -> Tensor:
        """Return the first term."""
        return npo_loss(batch.text_log_p, batch.reference_text_log_p, self.beta)


@dataclass(frozen=True)
class SimNPO(WithRetainText):
    """Simple NPO, Fan et al. 2024 (arXiv 2410.07163).

    It has no reference model, but a text's length and a margin gamma::

        loss = -(2 / beta) E log sigmoid(-(beta / |x_F|) log p(x_F) - gamma)  -  alpha * E log p(x_R) / |x_R|
    """

    beta: float = 0.5
    """The gradient is that of ascent times ``2 sigmoid(-beta * nats a token - gamma)``. Their 2.5 and 4.5 suit answers
    known by heart; with 2.5 text of 3 nats a token would weigh 0.001, with 0.5 it weighs 0.36."""
    gamma: float = 0.0

    method: ClassVar[str] = "simnpo"

    def forget_loss(self, batch: ScoredBatch) -> Tensor:
        """Return the first term."""
        return simnpo_loss(batch.text_log_p, batch.scored.sum(dim=1), self.beta, self.gamma)

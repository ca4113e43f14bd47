"""Circuit breakers by representation rerouting, Zou et al. 2024, and their orthogonal form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..all_blocks import shuffled
from ..config import UnlearnConfig
from ..objectives import WindowBatch, masked_mean, token_mean, token_norms
from ..task import Task
from ..window_method import MethodTraining, WindowMethod


class CircuitBreakerTraining(MethodTraining):
    """Training away from the frozen representations, with weights that shift from forgetting to retaining."""

    def prepare(self) -> None:
        """Forget the random directions: nothing is steered along them."""
        self.directions = {}

    def loss(self, step: int, use: str, topic: str, batch: WindowBatch) -> Tensor:
        """Return a batch's loss with the weight that it has at this step."""
        progress = step / self.method.steps
        if use == "forget":
            return (1 - progress / 2) * rerouting_loss(batch) + self.further(progress, batch)
        distance = (batch.hidden.float() - batch.frozen.float()).norm(dim=-1)
        return self.method.alpha * progress / 2 * token_mean(distance, batch.counted)

    def further(self, progress: float, batch: WindowBatch) -> Tensor | float:
        """Return what else is paid for a forget batch: nothing."""
        return 0.0

    def forget_metrics(self, topic: str, batch: WindowBatch, norm: Tensor) -> dict[str, Tensor]:
        """Return the mean norm, and the mean cosine with the frozen representations."""
        hidden = batch.hidden.detach().float()
        cosine = cosine_similarity(hidden, batch.frozen.float(), dim=-1)
        return {
            "forget_norm": token_mean(token_norms(hidden), batch.counted),
            "cosine": token_mean(cosine, batch.counted),
        }


class OrthogonalTraining(CircuitBreakerTraining):
    """The same, with a price on texts whose representations look alike."""

    def further(self, progress: float, batch: WindowBatch) -> Tensor:
        """Return the price, which grows during training."""
        return self.method.orthogonality * progress * likeness_loss(batch)


def rerouting_loss(batch: WindowBatch) -> Tensor:
    """Return ``E ReLU(cos(h, h_frozen))`` over the counted tokens, a scalar."""
    cosine = cosine_similarity(batch.hidden.float(), batch.frozen.float(), dim=-1)
    return token_mean(cosine.relu(), batch.counted)


def likeness_loss(batch: WindowBatch) -> Tensor:
    """Return the mean over pairs of texts of ``ReLU(cos)`` of their mean representations; 0 if there is but one text."""
    pooled = torch.nn.functional.normalize(masked_mean(batch.hidden.float(), batch.counted), dim=-1)
    count = len(pooled)
    others = ~torch.eye(count, dtype=torch.bool, device=pooled.device)
    return torch.where(others, (pooled @ pooled.T).relu(), 0).sum() / max(1, count * (count - 1))


@dataclass(frozen=True)
class CircuitBreaker(WindowMethod):
    """Circuit breakers by representation rerouting, Zou et al. 2024 (arXiv 2406.04313), in window form.

    At step t of T, from 0::

        loss = (1 - t / 2T) * E ReLU(cos(h(x_F), h_frozen(x_F)))  +  alpha * t / 2T * E ||h(x_R) - h_frozen(x_R)||

    A forget representation is to be orthogonal to what it was, wherever that is: no direction, no norm. So ``cosine`` in the
    history is that with the frozen representations, and a run that ``on_step`` stops keeps the weights of its planned T.
    Theirs train low-rank additions to all blocks up to the higher of two layers.
    """

    alpha: float = 0.1
    """Weight of the retain loss, a distance that is not squared, so in the units of the representations' norm."""
    seed: int = 0
    """Of the order in which each corpus's texts are taken; nothing else is random."""

    method: ClassVar[str] = "circuit_breaker"
    trainer: ClassVar[type[MethodTraining]] = CircuitBreakerTraining
    stages: ClassVar[bool] = False

    @property
    def shared_passes(self) -> UnlearnConfig | None:
        """None: the order of the texts is the method's own."""
        return None

    def texts(self, task: Task) -> Task:
        """Return the task with each corpus in the order that the seed decides."""
        order = {key: shuffled(corpus, self.seed, key) for key, corpus in task.texts.items()}
        return dataclasses.replace(task, texts=order, recorded=None)

    @classmethod
    def published(cls, **changes: Any) -> CircuitBreaker:
        """Return the settings of the authors' script for Llama-3-8B, with `changes` of single fields.

        Their layers are 10 and 20, of which one is taken here; both losses have the weight 10, so alpha is 1.
        """
        published = {"layer": 20, "alpha": 1.0, "lr": 1e-4, "steps": 150, "batch_size": 16, "max_length": 512}
        return cls(**{**published, **changes})


@dataclass(frozen=True)
class OrthogonalCircuitBreaker(CircuitBreaker):
    """Circuit breakers that also make forget texts unlike each other, after the code of EleutherAI's `unlearn` repository.

    With p(x) the mean of h over a text's counted tokens, it adds to `CircuitBreaker`'s loss::

        orthogonality * t / T * mean over pairs of forget texts in the batch of ReLU(cos(p(x_i), p(x_j)))

    so that no single direction, once found, brings all of them back. Theirs takes no paper that we know of.
    """

    orthogonality: float = 0.5
    """Weight of that term at the end; 0 gives `CircuitBreaker`."""

    method: ClassVar[str] = "circuit_breaker_orthogonal"
    trainer: ClassVar[type[MethodTraining]] = OrthogonalTraining
    least: ClassVar[dict[str, float]] = {"orthogonality": 0}

    @classmethod
    def published(cls, **changes: Any) -> OrthogonalCircuitBreaker:
        """Return the defaults of that code, for a GPT-NeoX model of 7B, with `changes` of single fields.

        Its weights are 23 for rerouting, 10 for orthogonality and 2 for retaining, here divided by the first. Its schedules
        differ a little: the first falls to 3/4, the others rise from 0 to their full weight, and the pairs' term is
        multiplied by the texts' length. It trains low-rank additions at all 32 layers; layer 16 is our choice.
        """
        published = {"layer": 16, "alpha": 4 / 23, "orthogonality": 10 / 23, "lr": 1e-3, "steps": 32, "batch_size": 32}
        return cls(**{**published, **changes})

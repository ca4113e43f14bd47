"""RMU's training in plain PyTorch, in the pieces that readers of notebook 04 write themselves, and what watches it.

`train_rmu` gives the matrices that `rmu_lab.unlearn` gives; it is as slow as it is short, since every pass starts at the
bottom of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured
from ..corpora import TokenBatch, token_batches
from ..unlearning.objectives import distance_loss

Matrices = dict[str, Tensor]
"""Matrices by their full parameter names in the model."""
BatchPair = tuple[TokenBatch, TokenBatch]
"""What one step of training takes: four forget texts and four retain texts."""


def hidden(model: PreTrainedModel, batch: TokenBatch, matrices: Mapping[str, Tensor], layer: int = 7) -> Tensor:
    """Return h, (batch, tokens, d), at the output of `layer`, with `matrices` in place of the model's own of these names.

    The model itself is not touched, the layers above are not run, and gradients flow to `matrices`.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    with captured(model, [layer], stop=True) as seen:
        functional_call(model, dict(matrices), kwargs=inputs)
    return seen[layer]


def batch_pairs(
    tokenizer: PreTrainedTokenizerBase, forget: Sequence[str], retain: Sequence[str], max_length: int = 64
) -> list[BatchPair]:
    """Cut both kinds of texts into batches of four, in their order; a pair of them is what one step takes."""
    batches = (token_batches(tokenizer, texts, 4, max_length) for texts in (forget, retain))
    return list(zip(*batches, strict=False))


# ---------------------------------------------------------------------------------------------------------------------
# The cores of notebook 04


def trained_copies(model: PreTrainedModel, layer: int = 7) -> Matrices:
    """Copy the three matrices that RMU trains, `mlp.down_proj.weight` of layers l-2, l-1 and l, ready for gradients."""
    names = [f"model.layers.{index}.mlp.down_proj.weight" for index in range(layer - 2, layer + 1)]
    return {name: model.get_parameter(name).detach().clone().requires_grad_() for name in names}


def rmu_losses(
    model: PreTrainedModel, trained: Mapping[str, Tensor], forget_batch: TokenBatch, retain_batch: TokenBatch,
    u: Tensor, c: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the forget loss and, without its weight alpha, the retain loss of one step: means over the counted tokens."""
    with torch.no_grad():
        frozen = hidden(model, retain_batch, {})
    forget_loss = distance_loss(hidden(model, forget_batch, trained), c * u, forget_batch.counted())
    retain_loss = distance_loss(hidden(model, retain_batch, trained), frozen, retain_batch.counted())
    return forget_loss, retain_loss


def train_rmu(
    model: PreTrainedModel, pairs: Iterable[BatchPair], u: Tensor, c: float = 570.0, alpha: float = 300.0,
    lr: float = 7e-3, watch: Callable[[Matrices], object] | None = None,
) -> Matrices:  # fmt: skip
    """Take one step of AdamW for each pair of batches, and return the trained matrices.

    Parameters
    ----------
    watch
        called with the matrices after each step.
    """
    trained = trained_copies(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=lr, weight_decay=0.0)
    for forget_batch, retain_batch in pairs:
        forget_loss, retain_loss = rmu_losses(model, trained, forget_batch, retain_batch, u, c)
        optimizer.zero_grad()
        (forget_loss + alpha * retain_loss).backward()
        optimizer.step()
        if watch is not None:
            watch(trained)
    return trained


def distance_share(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], model: PreTrainedModel) -> float:
    """Return the distance between two trainings' matrices as a share of how far training moved them: the largest of all."""
    with torch.no_grad():
        shares = [(ours[name] - each).norm() / (each - model.get_parameter(name)).norm() for name, each in theirs.items()]
    return float(max(shares))


@contextmanager
def swapped(model: PreTrainedModel, matrices: Mapping[str, Tensor]) -> Iterator[PreTrainedModel]:
    """Let the model work with `matrices` inside the ``with`` block; its own come back after it."""
    own = {name: model.get_parameter(name).detach().clone() for name in matrices}
    try:
        with torch.no_grad():
            for name, matrix in matrices.items():
                model.get_parameter(name).copy_(matrix)
        yield model
    finally:
        with torch.no_grad():
            for name, matrix in own.items():
                model.get_parameter(name).copy_(matrix)


# ---------------------------------------------------------------------------------------------------------------------
# Watching


def departure(cosine: Sequence[float], above: float = 0.4) -> int | None:
    """Return the first step at which mean cos(u, h) exceeds `above`, None if none does; entry 0 is before training."""
    return next((step for step, value in enumerate(cosine) if value > above), None)


class Watch:
    """Follows fixed forget and retain texts, which are never trained on, through a training.

    Give it to a training loop as `watch`; it notes where the counted tokens of the texts stand after each step, and where
    they stood before the first. Lists hold steps + 1 values.

    Parameters
    ----------
    texts
        role (``"forget"``, ``"retain"``) -> texts.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, u: Tensor, texts: Mapping[str, Sequence[str]]
    ) -> None:
        self._model, self._tokenizer, self._u = model, tokenizer, u
        self._batches = {role: token_batches(tokenizer, each, len(each), 64)[0] for role, each in texts.items()}
        self._start = {role: self._states(role, {}) for role in texts}
        apart = self._start["forget"].mean(dim=0) - self._start["retain"].mean(dim=0)
        across = apart - (apart @ u) * u
        self._axes = torch.stack([u, across / across.norm()])
        self.along: dict[str, list[float]] = {role: [] for role in texts}
        """Mean move along u since before training."""
        self.norm: dict[str, list[float]] = {role: [] for role in texts}
        """Mean ||h||."""
        self.cosine: dict[str, list[float]] = {role: [] for role in texts}
        """Mean cos(u, h)."""
        self.places = {role: batch.counted().cumsum(dim=1)[batch.counted()] for role, batch in self._batches.items()}
        """Role -> (tokens,): each token's place among the counted tokens of its text, from 1."""
        self.frames: list[dict[str, Tensor]] = []
        """Role -> (tokens, 2): each token along u, and across it towards where forget text differs from retain text."""
        self({})

    def words(self, text: int, role: str = "forget") -> list[tuple[str, float]]:
        """Return the counted tokens of one text, each with where it stands along u after the last step."""
        batch = self._batches[role]
        mine = batch.counted().nonzero()[:, 0] == text
        ids = batch.input_ids[batch.counted()][mine]
        return [(str(self._tokenizer.decode(i)), float(x)) for i, x in zip(ids, self.frames[-1][role][mine, 0], strict=True)]

    def __call__(self, matrices: Mapping[str, Tensor]) -> None:
        """Note where the texts stand with these matrices."""
        frame = {}
        for role, start in self._start.items():
            states = self._states(role, matrices)
            self.along[role].append(((states - start) @ self._u).mean().item())
            self.norm[role].append(states.norm(dim=-1).mean().item())
            self.cosine[role].append(torch.cosine_similarity(states, self._u[None], dim=-1).mean().item())
            frame[role] = states @ self._axes.T
        self.frames.append(frame)

    def _states(self, role: str, matrices: Mapping[str, Tensor]) -> Tensor:
        batch = self._batches[role]
        with torch.no_grad():
            return hidden(self._model, batch, matrices)[batch.counted()]

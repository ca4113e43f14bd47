"""What an edit does to every token of some texts: how far it moves, and where moving begins. Used in notebook 01."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import token_states
from ..errors import RmuLabError
from ..estimates import Number, mean_of
from ..unlearning.config import UnlearnConfig
from ..unlearning.result import UnlearnResult
from .plots import distributions
from .sinks import SAME_LENGTH

GIANT = 300.0
"""The norm beyond which a token around layer 7 of SmolLM2-135M is called a giant: over twice the median."""


@dataclass(frozen=True)
class Moves:
    """All are (texts, positions), from each text's second token on: the first one, the sink, is left out."""

    token: Tensor
    """Token ids."""
    norm: Tensor
    """||h|| after the steered layer, before the edit."""
    cos_before: Tensor
    """cos(u, h) after the steered layer, before the edit."""
    cos: Tensor
    """The same with the edit."""
    way: Tensor
    """How far h moves, in units of its norm before."""
    share: Tensor
    """How far h moves towards the target c u, as a share of its distance from there: 0 for not at all, 1 for all the way."""
    read: Tensor
    """(texts, positions, d): what the first trained layer is given, each vector with norm 1."""

    @property
    def moved(self) -> Tensor:
        """Whether a token is moved: cos(u, h) over 0.5 with the edit."""
        return self.cos > 0.5

    @property
    def onset(self) -> Tensor:
        """(texts,): where each text's first moved token stands; the number of positions where there is none."""
        none = self.moved.shape[1]
        return torch.where(self.moved.any(dim=1), self.moved.int().argmax(dim=1), none)

    @property
    def wavering(self) -> Tensor:
        """(texts,): whether under half of the six tokens from the first moved one on are moved; all six have to be there."""
        onset, positions = self.onset[:, None], torch.arange(self.moved.shape[1])
        six = (positions >= onset) & (positions < onset + 6)
        return ((self.moved & six).sum(dim=1) < 3) & (six.sum(dim=1) == 6)

    @property
    def after_onset(self) -> Tensor:
        """Whether a token comes after its text's first moved one."""
        return torch.arange(self.moved.shape[1]) > self.onset[:, None]


def moves_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    texts: Sequence[str],
    direction: Tensor,
    layer: int,
    *,
    max_length: int = 64,
) -> Moves:
    """Measure every token of the texts without the edit and with it; the model is left as it was.

    Parameters
    ----------
    result
        an edit by RMU that is not in the model now, of the layers ``layer - 2`` to `layer`.
    texts
        all of the same number of tokens, once cut to `max_length`.
    direction
        u, (d,).
    layer
        the steered one, at least 3.

    Raises
    ------
    RmuLabError
        if the texts are of different numbers of tokens, there is no layer below the trained ones, or the edit has no
        constant c.
    """
    config = result.config
    if not isinstance(config, UnlearnConfig) or config.method != "rmu":
        raise RmuLabError(f"The method is {config.method!r}; only RMU has one target c u for all tokens.")
    below = layer - 3
    before = token_states(model, tokenizer, texts, [below, layer], max_length=max_length)
    if len(set(torch.bincount(before.text).tolist())) != 1:
        raise RmuLabError(SAME_LENGTH)
    with result.applied(model):
        after = token_states(model, tokenizer, texts, [layer], max_length=max_length)

    def grid(rows: Tensor) -> Tensor:
        return rows.reshape(len(texts), -1, *rows.shape[1:])[:, 1:]

    old, new = before.hidden[layer], after.hidden[layer]
    u = direction.to(old)
    to_target = config.coefficient * u - old
    return Moves(
        token=grid(before.token),
        norm=grid(old.norm(dim=-1)),
        cos_before=grid(cosine_similarity(old, u, dim=-1)),
        cos=grid(cosine_similarity(new, u, dim=-1)),
        way=grid((new - old).norm(dim=-1) / old.norm(dim=-1)),
        share=grid(((new - old) * to_target).sum(dim=-1) / to_target.square().sum(dim=-1)),
        read=grid(normalize(before.hidden[below], dim=-1)),
    )


def grouped(moves: Moves, token: int, name: str) -> dict[str, Tensor]:
    """Sort tokens into giants (norm over `GIANT` before the edit), the others that are `token`, and all others.

    Parameters
    ----------
    name
        of `token`, for the label of its group.

    Returns
    -------
    dict of str to Tensor
        label -> (texts, positions), whether a token is in the group.
    """
    giant, same = moves.norm > GIANT, moves.token == token
    return {"giants": giant, f"other {name}": same & ~giant, "all others": ~same & ~giant}


def likeness(ones: Tensor, others: Tensor) -> float:
    """Compute the median cosine of each vector of the one group, (n, d), with each of the other, (m, d); all have norm 1."""
    return float((ones @ others.T).median())


def over_texts(values: Tensor, scale: float = 1.0) -> Number:
    """Average over each text's tokens, then over texts, with a 95% interval over texts: tokens of one are not independent.

    Parameters
    ----------
    values
        (texts, positions) of numbers, or of yes and no.
    scale
        100 for per cent.
    """
    return mean_of((scale * values.float().mean(dim=1)).tolist(), "texts")


def moves_figure(moves: Mapping[str, Moves], *, title: str) -> Figure:
    """Draw histograms of cos(u, h) before the edit and with it.

    Parameters
    ----------
    moves
        of the texts of each role, ``"forget"`` and ``"retain"``.
    title
        the finding in a sentence.
    """
    panels = {
        when: {f"{role} text": (role, values(each).flatten().numpy()) for role, each in moves.items()}
        for when, values in (("before", lambda each: each.cos_before), ("after", lambda each: each.cos))
    }
    return distributions(panels, title=title, xlabel="cos(u, h)", limits=(-0.3, 1.0))

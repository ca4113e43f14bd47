"""Attention sinks, measured and drawn: where tokens look, and which have a giant norm. Used in notebooks 01 and 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import evaluating, token_states
from ..errors import RmuLabError
from ..models import decoder_blocks
from .diagrams import NOTE
from .plots import ROLES, curves

SAME_LENGTH = "The texts differ in their numbers of tokens; give longer ones, which are cut to the same number."


def norms_by_layer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int = 64
) -> Tensor:
    """Measure ||h|| of every token after every layer.

    Parameters
    ----------
    texts
        all of the same number of tokens, once cut to `max_length`.

    Returns
    -------
    Tensor
        (layers, texts, tokens) float32 on the CPU.

    Raises
    ------
    RmuLabError
        if the texts are of different numbers of tokens.
    """
    layers = range(len(decoder_blocks(model)))
    states = token_states(model, tokenizer, texts, layers, max_length=max_length)
    if len(set(torch.bincount(states.text).tolist())) != 1:
        raise RmuLabError(SAME_LENGTH)
    return torch.stack([states.hidden[layer].norm(dim=-1).reshape(len(texts), -1) for layer in layers])


def attention_weights(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int = 64
) -> Tensor:
    """Measure at whom every token looks, in each layer, as the mean over its heads.

    The model's fast attention keeps no weights, so the plain one, ``"eager"``, takes its place meanwhile.

    Parameters
    ----------
    texts
        all of the same number of tokens, once cut to `max_length`.

    Returns
    -------
    Tensor
        (layers, texts, tokens, tokens) float32 on the CPU; row i of the last two says where token i looks, and sums to 1.

    Raises
    ------
    RmuLabError
        if the texts are of different numbers of tokens.
    """
    rows = [tokenizer(text, truncation=True, max_length=max_length).input_ids for text in texts]
    if len({len(row) for row in rows}) != 1:
        raise RmuLabError(SAME_LENGTH)
    inputs = torch.tensor(rows, device=model.device)
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with evaluating(model), torch.no_grad():
            layers = model.base_model(input_ids=inputs, use_cache=False, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(own)
    return torch.stack([layer.mean(dim=1).float().cpu() for layer in layers])


def received(weights: Tensor, least: int = 5) -> Tensor:
    """Compute how much attention each token gets on average from those after it.

    Parameters
    ----------
    weights
        (..., tokens, tokens), as `attention_weights` gives them.
    least
        tokens that have to come after one; the last ones have too few, and get NaN.

    Returns
    -------
    Tensor
        (..., tokens).
    """
    tokens = weights.shape[-1]
    after = torch.arange(tokens)[:, None] > torch.arange(tokens)  # [i, j]: i comes after j
    lookers = after.sum(dim=0)
    mean = (weights * after).sum(dim=-2) / lookers
    return torch.where(lookers >= least, mean, torch.nan)


def token_bars(tokens: Sequence[str], values: Sequence[float], *, title: str, ylabel: str) -> Figure:
    """Draw one bar for each token of a text, the highest in another colour, with its number above.

    Parameters
    ----------
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.3))
    heights = np.asarray(values, dtype=float)
    look = ROLES["frozen"]
    bars = axes.bar(range(len(tokens)), heights, 0.72, color=look.colour)
    bars[int(heights.argmax())].set_color(ROLES["forget"].colour)
    for place, height in enumerate(heights):
        axes.text(place, height, f"{height:,.0f}", ha="center", va="bottom", fontsize=NOTE)
    axes.set(ylim=(0, heights.max() * 1.12), ylabel=ylabel)
    axes.set_xticks(range(len(tokens)), [token.strip() or "␣" for token in tokens], rotation=30, ha="right")
    axes.grid(axis="x", visible=False)
    axes.set_title(title)
    return figure


def norm_and_attention(lines: Mapping[str, tuple[str, Tensor, Tensor]], *, title: str) -> Figure:
    """Draw tokens' norms as each layer from the second on reads them, and below them the attention that they get there.

    Parameters
    ----------
    lines
        label -> role, norms, attention. Norms are those *after* each layer, which the next one reads; attention is the mean
        that the tokens after it pay to this token in each layer. Both are (layers, texts), or (layers,) for one text.
    title
        the finding in a sentence.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.5, 4.2), sharex=True)
    read = {label: (role, norms[:-1].tolist()) for label, (role, norms, _) in lines.items()}
    paid = {label: (role, attention[1:].tolist()) for label, (role, _, attention) in lines.items()}
    for axes, series, ylabel in ((above, read, "norm when the\nlayer reads it"), (below, paid, "attention it gets")):
        layers = range(1, 1 + len(next(iter(series.values()))[1]))
        curves(layers, series, title="", xlabel="", ylabel=ylabel, axes=axes)
    if (legend := above.get_legend()) is not None:  # one serves both, and the lower panel has room for it
        legend.remove()
        below.legend(loc="upper left")
    above.set_yscale("log")
    below.set(xlabel="layer", ylim=(0, 1))
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def restore_vector(hidden: Tensor, broken: Tensor, healthy: Tensor) -> Tensor:
    """Put `healthy` in place of every vector that differs from `broken` by less than 1% of its norm.

    Parameters
    ----------
    hidden
        (texts, tokens, d); it stays as it is.
    broken, healthy
        (d,)

    Returns
    -------
    Tensor
        (texts, tokens, d)
    """
    is_broken = (hidden - broken).norm(dim=-1, keepdim=True) < 0.01 * broken.norm()
    return torch.where(is_broken, healthy, hidden)

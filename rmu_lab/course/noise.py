"""Noise on the states of one text, in pieces that a reader puts together: a map, a noise and Phi of the two.

`rmu_lab.theory.noise_sensitivity` computes the same for many texts and layers in one go. Used in notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..activations import map_above
from ..corpora import token_batches
from ..randomness import torch_generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Map = Callable[[Tensor], Tensor]
Sensitivity = Callable[[Map, Tensor, Tensor], Tensor]
"""Phi, as `sensitivity`."""


def sensitivity(g: Map, h: Tensor, xi: Tensor) -> Tensor:
    """Compute Phi = ||g(h + xi) - g(h)||^2 / ||g(h)||^2, the squares summed over all tokens.

    The core that the reader of notebook 03 writes.

    Parameters
    ----------
    g
        from the states of a text's tokens, (tokens, d), to as many states higher up.
    h
        the states.
    xi
        the noise, of the same shape.
    """
    clean = g(h)
    return (g(h + xi) - clean).square().sum() / clean.square().sum()


def layer_map(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, below: int, above: int, *, max_length: int = 48
) -> tuple[Tensor, Map]:
    """Return a text's states h after layer `below`, and g, what the layers from there up to `above` make of such states.

    Both leave out the text's first token, the attention sink: g gives it its own state back before it runs the layers.

    Returns
    -------
    h, g
        h is (tokens - 1, d); g takes and gives states of that shape, without gradients.

    Raises
    ------
    RmuLabError
        if there are no such layers, or the text has fewer than two tokens.
    """
    (batch,) = token_batches(tokenizer, [text], 1, max_length)
    hidden, run = map_above(model, batch.to(model.device), below, above)

    @torch.no_grad()
    def g(states: Tensor) -> Tensor:
        return run(torch.cat([hidden[:, :1], states.to(hidden)[None]], dim=1))[0, 1:]

    return hidden[0, 1:], g


def random_noise(h: Tensor, size: float, *, relative: bool = False, seed: int = 0) -> Tensor:
    """Draw a noise with a random direction and a given norm for every token.

    The draw depends on the seed and the shape of `h` alone, so that layers and models meet the same noise. It is that of
    `rmu_lab.theory.noise_sensitivity` for a single text.

    Parameters
    ----------
    size
        the norm of each token's noise; with `relative` in units of that token's ||h||.
    """
    generator = torch_generator(seed, "noise whose growth is measured")
    drawn = torch.randn(len(h) + 1, h.shape[1], generator=generator)[1:].to(h)  # the first token gets none
    norm = size * h.norm(dim=-1, keepdim=True) if relative else size
    return norm * drawn / drawn.norm(dim=-1, keepdim=True)


def sensitivity_by_layer(
    phi: Sensitivity,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int],
    size: float,
    *,
    relative: bool = False,
) -> Tensor:
    """Measure Phi of single layers: the noise is put on the input of layer k and seen at its output.

    Parameters
    ----------
    phi
        as `sensitivity`.
    layers
        from 1 on: the input of layer k is the state after layer k - 1.
    size, relative
        of the noise, see `random_noise`.

    Returns
    -------
    Tensor
        (layers, texts)
    """
    rows = []
    for k in layers:
        pairs = (layer_map(model, tokenizer, text, k - 1, k) for text in texts)
        rows.append([float(phi(g, h, random_noise(h, size, relative=relative))) for h, g in pairs])
    return torch.tensor(rows)

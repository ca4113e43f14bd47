"""Noise on the states of one text, in pieces that a reader puts together: a map, a noise and Phi of the two.

`rmu_lab.theory.noise_sensitivity` computes the same for many texts and layers in one go. Used in notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..activations import map_above, token_states
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


def of_doing_nothing(phi: Sensitivity) -> Sensitivity:
    """Return Phi of a layer that passes its input on unchanged, ||xi||^2 / ||h||^2, in place of Phi of the layer."""
    return lambda g, h, xi: phi(lambda states: states, h, xi)


def sensitivity_of_targets(
    phi: Sensitivity,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    targets: Sequence[Tensor],
    start: Tensor,
    *,
    layer: int,
    above: int,
) -> Tensor:
    """Measure Phi of the noise that steering is: xi = target - start, with `start` at every token but the first.

    Parameters
    ----------
    phi
        as `sensitivity`.
    targets
        (d,) each, such as c u for several c.
    start
        the state that is steered, (d,), such as the mean forget representation.
    layer, above
        the states are those after `layer`, and Phi is that of the layers from there up to `above`.

    Returns
    -------
    Tensor
        (targets, texts)
    """
    columns = []
    for text in texts:
        own, g = layer_map(model, tokenizer, text, layer, above)
        h = start.to(own).expand_as(own)
        columns.append([float(phi(g, h, target.to(own) - h)) for target in targets])
    return torch.tensor(columns).T


def mean_square(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], layer: int) -> float:
    """Average ||h||^2 after a layer over the tokens of texts, each cut after 48 and without its first."""
    states = token_states(model, tokenizer, texts, [layer], max_length=48)
    return states.hidden[layer][states.counted].square().sum(dim=1).mean().item()


def _made_up() -> tuple[Tensor, Tensor, Tensor]:
    """States, noise and a rotation that have nothing to do with a model."""
    generator = torch.Generator().manual_seed(0)
    h, xi = torch.randn(2, 5, 8, generator=generator)
    return h, xi, torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]


_H, _XI, _ROTATION = _made_up()
_RATIO = _XI.square().sum() / _H.square().sum()
_ONES = torch.ones(2, 3)


def _close(value: Any, expected: Tensor | float) -> bool:
    return bool(abs(value - expected) < 1e-4)


SENSITIVITY_TESTS: tuple[tuple[Callable[[Sensitivity], bool], str], ...] = (
    (lambda f: _close(f(lambda x: x, _H, _XI), _RATIO), "if g does nothing, Phi is ||xi||² / ||h||², each over all tokens"),
    (lambda f: _close(f(lambda x: x @ _ROTATION, _H, _XI), _RATIO), "a rotation g changes no norm, and so no Phi"),
    (lambda f: _close(f(torch.square, _ONES, _ONES), 9), "divide by g(h), the output without the noise"),
)
"""Properties of Phi, each with a hint, for `core`."""

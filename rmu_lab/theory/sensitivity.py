"""Noise sensitivity between two blocks, and the coefficient that Eq 19 of Dang et al. 2024 calls optimal.

Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..activations import captured, edited_output, evaluating, frozen, map_above
from ..corpora import TokenBatch, token_batches
from ..models import check_positions, input_device, uncompiled
from ..offload import require_in_memory
from ..randomness import torch_generator
from ._steering import exact, one_text, put, unit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.no_grad()
def noise_sensitivity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    layer: int,
    to_layers: Sequence[int],
    noise: float,
    relative: bool = False,
    seed: int = 0,
    batch_size: int = 16,
    max_length: int = 64,
) -> Tensor:
    """Measure how far noise on representations moves what later blocks make of them (Figure 1 of Dang et al. 2024).

    It is Phi = ||g(h + xi) - g(h)||² / ||g(h)||², g from after block `layer` to after block k, for each k of `to_layers`.
    Taught in notebook 03.

    Parameters
    ----------
    noise
        the length of xi, in a random direction drawn anew for every token; with ``relative=True`` in units
        of that token's ||h||. The draw depends on the seed alone, so that layers and models see the same.

    Returns
    -------
    Tensor
        (to_layers, texts): sums of squares over the tokens of each text but the first, where no noise is put.
    """
    require_in_memory(model, "the theory")
    check_positions(model, max_length)
    model, generator = uncompiled(model), torch_generator(seed, "noise whose growth is measured")
    results = []
    for batch in token_batches(tokenizer, texts, batch_size, max_length):
        batch = batch.to(input_device(model))
        counted = batch.counted()[..., None]

        def outputs(edit: Callable[[Tensor], Tensor], batch: TokenBatch = batch) -> dict[int, Tensor]:
            with (
                evaluating(model),
                edited_output(model, layer, edit),
                captured(model, to_layers, stop=True) as seen,
            ):
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
            return {k: exact(hidden) for k, hidden in seen.items()}

        def disturb(hidden: Tensor, counted: Tensor = counted) -> Tensor:
            xi = torch.randn(hidden.shape, generator=generator).to(hidden)
            length = noise * hidden.norm(dim=-1, keepdim=True) if relative else noise
            return hidden + (counted * length * xi / xi.norm(dim=-1, keepdim=True)).to(hidden.dtype)

        clean, noisy = outputs(lambda hidden: hidden), outputs(disturb)
        squares = [
            (((noisy[k] - clean[k]) * counted).square().sum(dim=(1, 2)) / (clean[k] * counted).square().sum(dim=(1, 2)))
            for k in to_layers
        ]
        results.append(torch.stack(squares).cpu())
    return torch.cat(results, dim=1)


@dataclass(frozen=True)
class OptimalCoefficient:
    """c* = ratio * cosine, Eq 19."""

    ratio: float
    """||J (h - eps)|| / ||J u||"""
    cosine: float
    """cos(J u, J (h - eps))"""

    @property
    def value(self) -> float:
        """c*, in units of ||h||: where the first-order change ||J (c u + eps - h)|| is smallest."""
        return self.ratio * self.cosine


@torch.no_grad()
def optimal_coefficient(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    to_layer: int | None,
    direction: Tensor,
    representation: Tensor,
    residual: Tensor | None = None,
) -> OptimalCoefficient:
    """Compute c* of Eq 19 by two Jacobian-vector products: the c that best *preserves* g's output.

    Taught in notebook 03.

    Parameters
    ----------
    to_layer
        k of g^(l:k); None goes through the final norm.
    representation
        h, (d,): the mean forget representation, put at every token of `text` but the first; J is taken there.
    residual
        eps, (d,); none by default.

    Raises
    ------
    RmuLabError
        if the text has fewer than two tokens, or the model has no such blocks.
    """
    model, batch = uncompiled(model), one_text(model, tokenizer, text)
    with evaluating(model):
        hidden, g = map_above(model, batch, layer, to_layer)
    steered = batch.counted()[0]
    h, u = representation.to(hidden), unit(direction).to(hidden)
    start = put(hidden, steered, h.expand(int(steered.sum()), -1))

    def push(vector: Tensor) -> Tensor:
        """J v, v standing at every steered token."""
        tangent = torch.zeros_like(start)
        tangent[:, steered] = vector
        return exact(jvp(g, (start,), (tangent,))[1][0, steered].flatten())

    with frozen(model), sdpa_kernel(SDPBackend.MATH):
        of_u, of_h = push(u), push(h if residual is None else h - residual.to(hidden))
    return OptimalCoefficient(
        (of_h.norm() / of_u.norm()).item(), torch.nn.functional.cosine_similarity(of_u, of_h, dim=0).item()
    )

"""Proposition 1 of Dang et al. 2024: the first-order distribution of the next token's logits, beside a simulation.

Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from scipy.stats import normaltest
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..activations import frozen, map_above
from ..corpora import TokenBatch
from ..errors import RmuLabError
from ..estimates import ratio_interval
from ..models import uncompiled
from ..randomness import torch_generator
from ._steering import exact, one_text, put, unit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class PredictedLogits:
    """N(W g(z), eta W J Jᵀ Wᵀ), Proposition 1, with the covariance in factored form: never a V x V matrix."""

    readout: Tensor
    """g(z), (d,): what the unembedding reads when there is no noise."""
    jacobian: Tensor
    """J, (d, steered tokens, d)."""
    head: nn.Linear
    """The unembedding W, (V, d), and perhaps a bias; a softcap behind it is left out."""
    eta: float
    """Variance of each entry of the noise."""

    @cached_property
    def factor(self) -> Tensor:
        """(V, d): W times a root of J Jᵀ, so that eta factor factorᵀ is the covariance."""
        jacobian = self.jacobian.flatten(1)
        values, vectors = torch.linalg.eigh(jacobian @ jacobian.T)
        return _weight(self.head) @ (vectors * values.clamp(min=0).sqrt())

    @property
    def mean(self) -> Tensor:
        """(V,) expected logits."""
        return _logits(self.head, self.readout)

    @property
    def variances(self) -> Tensor:
        """(V,) the covariance's diagonal."""
        return self.eta * self.factor.square().sum(dim=1)

    @property
    def centred_variances(self) -> Tensor:
        """(V,) variances once a shift common to all logits, which changes no probability, is taken away."""
        return self.eta * (self.factor - self.factor.mean(dim=0)).square().sum(dim=1)

    @property
    def eigenvalues(self) -> Tensor:
        """(d,) eigenvalues of the covariance, largest first; the other V - d are zero."""
        return self.eta * torch.linalg.eigvalsh(self.factor.T @ self.factor).flip(0).clamp(min=0)

    def samples(self, n: int, seed: int = 0) -> SimulatedLogits:
        """Draw `n` times from the distribution, with the same noise as `simulated_logits` with this seed."""
        return self.response(_noise(n, self.jacobian.shape[1:], seed))

    def response(self, noise: Tensor) -> SimulatedLogits:
        """Compute the first-order answer to given noise of variance 1, (n, steered tokens, d)."""
        change = self.eta**0.5 * noise.to(self.readout).flatten(1) @ self.jacobian.flatten(1).T
        return SimulatedLogits(self.readout + change, noise, self.head)


@dataclass(frozen=True)
class SimulatedLogits:
    """Logits of `n` draws of the noise, kept as what the unembedding reads: d numbers a draw instead of V."""

    readouts: Tensor
    """(n, d): what the unembedding reads."""
    noise: Tensor
    """(n, steered tokens, d), of variance 1 whatever eta is."""
    head: nn.Linear
    """The unembedding."""

    @property
    def mean(self) -> Tensor:
        """(V,) mean logits."""
        return _logits(self.head, self.readouts.mean(dim=0))

    @property
    def factor(self) -> Tensor:
        """(V, r), r at most d: factor factorᵀ is the covariance of the draws' logits."""
        centred = self.readouts - self.readouts.mean(dim=0)
        _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
        return _weight(self.head) @ (axes.T * sizes) / (len(self.readouts) - 1) ** 0.5

    @property
    def variances(self) -> Tensor:
        """(V,) unbiased variance of each logit over the draws."""
        return self.factor.square().sum(dim=1)

    @property
    def centred_variances(self) -> Tensor:
        """(V,) variances once a shift common to all logits, which changes no probability, is taken away."""
        factor = self.factor
        return (factor - factor.mean(dim=0)).square().sum(dim=1)

    def of(self, tokens: Sequence[int] | Tensor) -> Tensor:
        """Compute every draw's logits of these token ids, (n, tokens)."""
        tokens = torch.as_tensor(tokens, device=self.readouts.device)
        bias = 0 if self.head.bias is None else exact(self.head.bias.detach()[tokens])
        return self.readouts @ exact(self.head.weight.detach()[tokens]).T + bias

    def max_logits(self, batch: int = 128) -> Tensor:
        """Find MaxLogit, the largest logit of each draw, (n,), for `batch` draws at once."""
        return torch.cat([_logits(self.head, part).amax(dim=-1) for part in self.readouts.split(batch)])

    def entropies(self, batch: int = 128) -> Tensor:
        """Compute the entropy in nats of each draw's next-token distribution, (n,), for `batch` draws at once."""
        parts = [_logits(self.head, part).log_softmax(dim=-1) for part in self.readouts.split(batch)]
        return torch.cat([-(part.exp() * part).sum(dim=-1) for part in parts])


def predicted_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    coefficient: float,
    direction: Tensor,
    eta: float,
    chunk: int = 64,
) -> PredictedLogits:
    """Compute Proposition 1 for the token that follows `text`, exactly: d reverse-mode products give all of J.

    Taught in notebook 02.

    Parameters
    ----------
    direction
        u, (d,); scaled to length 1.
    eta
        variance of each entry of the noise on every steered token.
    chunk
        products computed at once; less for large models.

    Raises
    ------
    RmuLabError
        if the text has fewer than two tokens, the model has no such block, the direction is not (d,), or
        eta is negative.
    """
    batch = one_text(model, tokenizer, text)
    z, steered, g = _steered(model, batch, layer, coefficient, direction, eta)
    with frozen(model), sdpa_kernel(SDPBackend.MATH):  # the one attention kernel that can be differentiated every way
        readout, pull_back = vjp(lambda rows: g(put(z, steered, rows))[0, -1], z[0, steered])[:2]
        basis = torch.eye(len(readout), dtype=z.dtype, device=z.device)
        jacobian = vmap(lambda row: pull_back(row)[0], chunk_size=chunk)(basis).detach()
    return PredictedLogits(exact(readout.detach()), exact(jacobian), model.get_output_embeddings(), eta)


@torch.no_grad()
def simulated_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    coefficient: float,
    direction: Tensor,
    eta: float,
    n: int = 256,
    seed: int = 0,
    batch_size: int = 32,
) -> SimulatedLogits:
    """Simulate what Proposition 1 approximates: c u + eps after the block, and the blocks above run, `n` times.

    eps ~ N(0, eta I) is drawn anew for every token; the noise of draw i is the same for every eta and c. Taught in
    notebook 02.

    Parameters
    ----------
    layer, coefficient, direction, eta
        as of `predicted_logits`; so are the errors.
    n
        draws, `batch_size` of them run at once.
    """
    one = one_text(model, tokenizer, text)
    size = min(n, batch_size)
    batch = TokenBatch(one.input_ids.repeat(size, 1), one.attention_mask.repeat(size, 1))
    z, steered, g = _steered(model, batch, layer, coefficient, direction, eta)
    noise = _noise(n, (int(steered.sum()), z.shape[-1]), seed)
    readouts = []
    with frozen(model):
        for part in noise.split(size):
            noisy = z[: len(part)].clone()
            noisy[:, steered] += eta**0.5 * part.to(z)
            short = size - len(part)  # the last part is filled up: masks and positions were kept for a whole batch
            readouts.append(exact(g(torch.cat([noisy, z[:short]]))[: len(part), -1]))
    return SimulatedLogits(torch.cat(readouts), noise, model.get_output_embeddings())


@dataclass(frozen=True)
class Comparison:
    """How far Proposition 1 is from a simulation at one eta, on the same draws of the noise."""

    eta: float
    variance_ratio: float
    """Simulated over first-order variance of these draws, summed over the vocabulary: 1 where the first order is enough."""
    variance_interval: tuple[float, float]
    """95% interval of that ratio."""
    token_ratios: tuple[float, float]
    """5% and 95% quantile over the vocabulary of each token's own ratio."""
    mean_shift: float
    """||simulated - first-order mean|| in units of the first-order standard deviation, both over the vocabulary."""
    normality: tuple[float, ...]
    """p-values of D'Agostino and Pearson's test for the chosen tokens' logits: small means not normal."""


def compare(predicted: PredictedLogits, simulated: SimulatedLogits, tokens: Sequence[int] = ()) -> Comparison:
    """Hold a prediction against a simulation at the same setting.

    The prediction answers the very noise of the simulation, so that the ratio shows the first order's
    error and not the luck of the draw: its interval is much narrower than that of a variance. Taught in notebook 02.

    Parameters
    ----------
    tokens
        ids of the tokens whose logits are tested for normality; that takes at least 20 draws.
    """
    first_order = predicted.response(simulated.noise)
    weight = _weight(predicted.head)
    gram = weight.T @ weight  # ||W x||² = xᵀ gram x

    def squares(readouts: Tensor) -> Tensor:
        """(n,): each draw's squared distance of logits from their mean over the draws."""
        centred = readouts - readouts.mean(dim=0)
        return ((centred @ gram) * centred).sum(dim=1)

    true, linear = squares(simulated.readouts), squares(first_order.readouts)
    ratio = true.mean() / linear.mean()
    shift = simulated.readouts.mean(dim=0) - first_order.readouts.mean(dim=0)
    ratios = (simulated.variances / first_order.variances).sort().values
    low, high = (ratios[round(q * (len(ratios) - 1))].item() for q in (0.05, 0.95))
    normality = normaltest(simulated.of(tokens).double().cpu().numpy(), axis=0).pvalue if len(tokens) else ()
    return Comparison(
        predicted.eta,
        ratio.item(),
        ratio_interval(true.tolist(), linear.tolist()),
        (low, high),
        ((shift @ gram @ shift) / predicted.variances.sum()).sqrt().item(),
        tuple(float(p) for p in normality),
    )


def first_order_errors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    coefficient: float,
    direction: Tensor,
    etas: Sequence[float],
    tokens: Sequence[int] = (),
    n: int = 256,
    seed: int = 0,
) -> list[Comparison]:
    """Compare prediction and simulation at each eta; the Jacobian is computed once. Taught in notebook 02.

    Parameters as of `simulated_logits` and `compare`; errors as of `predicted_logits`.
    """
    setting: dict[str, Any] = {"layer": layer, "coefficient": coefficient, "direction": direction}
    predicted = predicted_logits(model, tokenizer, text, **setting, eta=1.0)
    return [
        compare(
            replace(predicted, eta=eta),
            simulated_logits(model, tokenizer, text, **setting, eta=eta, n=n, seed=seed),
            tokens,
        )
        for eta in etas
    ]


def first_order_limit(comparisons: Sequence[Comparison], tolerance: float = 0.1) -> float:
    """Find the largest eta up to which the summed variance stays within `tolerance` of the prediction; 0 if none does."""
    limit = 0.0
    for comparison in sorted(comparisons, key=lambda each: each.eta):
        if abs(comparison.variance_ratio - 1) > tolerance:
            break
        limit = comparison.eta
    return limit


def _steered(
    model: PreTrainedModel, batch: TokenBatch, layer: int, coefficient: float, direction: Tensor, eta: float
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """z with c u at every token but the first, (batch, tokens, d); which tokens those are, (tokens,) bool; and g."""
    if eta < 0:
        raise RmuLabError(f"eta is {eta}, a variance; give a number that is not negative.")
    model = uncompiled(model)
    with frozen(model):
        hidden, g = map_above(model, batch, layer)
    if direction.shape != hidden.shape[-1:]:
        raise RmuLabError(
            f"direction has the shape {tuple(direction.shape)}; this model's representations have ({hidden.shape[-1]},)."
        )
    steered = batch.counted()[0]
    u = unit(direction).to(hidden)
    return put(hidden, steered, (coefficient * u).expand(int(steered.sum()), -1)), steered, g


def _noise(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """(n, *shape) standard normal, on the CPU: the same on every machine."""
    return torch.randn(n, *shape, generator=torch_generator(seed, "noise on steered representations"))


def _weight(head: nn.Linear) -> Tensor:
    return exact(head.weight.detach())


def _logits(head: nn.Linear, readout: Tensor) -> Tensor:
    bias = None if head.bias is None else exact(head.bias.detach())
    return torch.nn.functional.linear(readout, _weight(head), bias)

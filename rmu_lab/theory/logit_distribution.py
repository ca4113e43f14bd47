"""The theory of confidence reduction, computed: what Proposition 1, the noise sensitivity and the optimal
coefficient of Dang et al. 2024 (arXiv 2408.06223) say for a given model, beside what happens.

In all of it z = c u stands after block `layer` at every token of a text but the first (the attention
sink keeps its own representation), g is the part of the model from there to what the unembedding W
reads, J its Jacobian at z, and logits mean those of the token that follows the text. Taught in
notebooks 02 and 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from scipy.stats import normaltest
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from .activations import captured, edited_output, frozen, map_above
from .corpora import TokenBatch, token_batches
from .errors import RmuLabError
from .evaluate import Z95

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .activations import TokenStates


# ---------------------------------------------------------------------------------------------------------------------
# Proposition 1: the first-order distribution of the logits


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
        """`n` draws from the distribution, of the same noise as `simulated_logits` with this seed."""
        return self.response(_noise(n, self.jacobian.shape[1:], seed))

    def response(self, noise: Tensor) -> SimulatedLogits:
        """The first-order answer to given noise of variance 1, (n, steered tokens, d)."""
        change = self.eta**0.5 * noise.to(self.readout).flatten(1) @ self.jacobian.flatten(1).T
        return SimulatedLogits(self.readout + change, noise, self.head)


@dataclass(frozen=True)
class SimulatedLogits:
    """Logits of `n` draws of the noise, kept as what the unembedding reads: d numbers a draw instead of V."""

    readouts: Tensor  # (n, d)
    noise: Tensor  # (n, steered tokens, d), of variance 1 whatever eta is
    head: nn.Linear

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
        """(n, tokens): every draw's logits of these token ids."""
        tokens = torch.as_tensor(tokens, device=self.readouts.device)
        bias = 0 if self.head.bias is None else self.head.bias.detach()[tokens]
        return self.readouts @ _weight(self.head)[tokens].T + bias

    def max_logits(self, batch: int = 128) -> Tensor:
        """(n,): MaxLogit, the largest logit of each draw."""
        return torch.cat([_logits(self.head, part).amax(dim=-1) for part in self.readouts.split(batch)])

    def entropies(self, batch: int = 128) -> Tensor:
        """(n,): entropy of each draw's next-token distribution, in nats."""
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
    """Proposition 1 for the token that follows `text`, exactly: d reverse-mode products give all of J.

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
    batch = _one_text(model, tokenizer, text)
    z, steered, g = _steered(model, batch, layer, coefficient, direction, eta)
    with frozen(model), sdpa_kernel(SDPBackend.MATH):  # the one attention kernel that can be differentiated every way
        readout, pull_back = vjp(lambda rows: g(_put(z, steered, rows))[0, -1], z[0, steered])
        basis = torch.eye(len(readout), dtype=z.dtype, device=z.device)
        jacobian = vmap(lambda row: pull_back(row)[0], chunk_size=chunk)(basis).detach()
    return PredictedLogits(readout.detach(), jacobian, model.get_output_embeddings(), eta)


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
    """The same without the approximation: c u + eps is put after the block, eps ~ N(0, eta I) drawn anew for every
    token, and the blocks above run, `n` times.

    Parameters and errors as of `predicted_logits`; the noise of draw i is the same for every eta and c.
    """
    one = _one_text(model, tokenizer, text)
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
            readouts.append(g(torch.cat([noisy, z[:short]]))[: len(part), -1])
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
    """Hold a prediction against a simulation at the same setting; `tokens` are tested for normality (at least 20 draws).

    The prediction answers the very noise of the simulation, so that the ratio shows the first order's
    error and not the luck of the draw: its interval is much narrower than that of a variance.
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
    half = Z95 * (true - ratio * linear).std() / linear.mean() / len(true) ** 0.5
    shift = simulated.readouts.mean(dim=0) - first_order.readouts.mean(dim=0)
    ratios = (simulated.variances / first_order.variances).sort().values
    low, high = (ratios[round(q * (len(ratios) - 1))].item() for q in (0.05, 0.95))
    normality = normaltest(simulated.of(tokens).double().cpu().numpy(), axis=0).pvalue if len(tokens) else ()
    return Comparison(
        predicted.eta,
        ratio.item(),
        ((ratio - half).item(), (ratio + half).item()),
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
    """`compare` at each eta; the Jacobian is computed once."""
    setting = {"layer": layer, "coefficient": coefficient, "direction": direction}
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
    """The largest eta up to which the summed variance stays within `tolerance` of the prediction; 0 if none does."""
    limit = 0.0
    for comparison in sorted(comparisons, key=lambda each: each.eta):
        if abs(comparison.variance_ratio - 1) > tolerance:
            break
        limit = comparison.eta
    return limit


# ---------------------------------------------------------------------------------------------------------------------
# What the coefficient does to the logits


@dataclass(frozen=True)
class CoefficientEffect:
    """The next token's logits when c u + eps stands after the block."""

    coefficient: float
    deviation: float
    """Standard deviation of a logit over the noise: root of the mean variance over the vocabulary."""
    centred_deviation: float
    """The same once a shift common to all logits, which changes no probability, is taken away."""
    max_logit: float
    """Mean MaxLogit over the draws."""
    entropy: float
    """Mean entropy of the next-token distribution, nats."""
    mean: Tensor
    """(V,) mean logits, on the CPU."""


def coefficient_effects(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int,
    coefficients: Sequence[float],
    direction: Tensor,
    eta: float = 1.0,
    n: int = 32,
    seed: int = 0,
) -> list[CoefficientEffect]:
    """Simulate each coefficient with the same noise. As c grows the logits tend to those of ``layer = last block``, where
    only the final norm is left: W (gamma * u) sqrt(d) for an RMSNorm, whatever the text (notebook 02)."""
    effects = []
    for coefficient in coefficients:
        setting = {"layer": layer, "coefficient": coefficient, "direction": direction, "eta": eta, "n": n, "seed": seed}
        drawn = simulated_logits(model, tokenizer, text, **setting)
        effects.append(
            CoefficientEffect(
                coefficient,
                drawn.variances.mean().sqrt().item(),
                drawn.centred_variances.mean().sqrt().item(),
                drawn.max_logits().mean().item(),
                drawn.entropies().mean().item(),
                drawn.mean.cpu(),
            )
        )
    return effects


# ---------------------------------------------------------------------------------------------------------------------
# The assumptions of Proposition 1 on a trained model


@dataclass(frozen=True)
class Residual:
    """What is left of steered representations once c u is taken away: eps = h - c u, first tokens left out.

    Proposition 1 assumes a zero mean, a covariance eta I, and no dependence on the text.
    """

    coefficient: float
    """Mean of u · h: the c that the tokens reach."""
    eta: float
    """E ||eps||² / d, the variance per entry if it were isotropic."""
    relative_norm: float
    """Root mean square of ||eps|| over c."""
    mean_share: float
    """||E eps||² / E ||eps||²: 0 for noise with zero mean."""
    along_direction: float
    """Share of the variance that lies along u; 1/d for isotropic noise."""
    effective_dimensions: float
    """(tr C)² / tr C² of the covariance C: d for isotropic noise, 1 if all of it lies on one line."""
    eigenvalues: Tensor
    """(d,) of C, largest first."""
    context_share: float
    """R², on texts not fitted on, of a linear map from the frozen model's h to eps: 0 for noise that knows nothing
    of the text."""
    cosine_by_position: dict[int, float]
    """Mean cos(u, h) at each place in the text, the first (the sink) included."""


def measured_residual(before: TokenStates, after: TokenStates, layer: int, direction: Tensor) -> Residual:
    """Measure Proposition 1's assumptions on `token_states` of the same texts in the frozen and the unlearned model.

    Raises
    ------
    RmuLabError
        if the two are not of the same tokens, or there are fewer than two texts.
    """
    if not before.token.equal(after.token) or not before.text.equal(after.text):
        raise RmuLabError("before and after are not of the same tokens; take both from the same texts.")
    u = direction / direction.norm()
    hidden, counted = after.hidden[layer], after.counted
    c = (hidden[counted] @ u).mean()
    residual = hidden[counted] - c * u
    centred = residual - residual.mean(dim=0)
    covariance = centred.T @ centred / (len(centred) - 1)
    square = residual.square().sum(dim=1).mean()
    values = torch.linalg.eigvalsh(covariance.double()).flip(0).clamp(min=0)
    cosine = hidden @ u / hidden.norm(dim=-1)
    return Residual(
        coefficient=c.item(),
        eta=(square / hidden.shape[1]).item(),
        relative_norm=(square.sqrt() / c.abs()).item(),
        mean_share=(residual.mean(dim=0).square().sum() / square).item(),
        along_direction=((u @ covariance @ u) / covariance.trace()).item(),
        effective_dimensions=(values.sum() ** 2 / values.square().sum()).item(),
        eigenvalues=values.float(),
        context_share=_explained(before.hidden[layer][counted], residual, after.text[counted]),
        cosine_by_position={
            place: cosine[after.position == place].mean().item() for place in after.position.unique().tolist()
        },
    )


def _explained(inputs: Tensor, outputs: Tensor, text: Tensor) -> float:
    """Held-out R² of ridge regression, fitted on the texts of even number and tested on the others."""
    fit, held_out = text % 2 == 0, text % 2 == 1
    if not fit.any() or not held_out.any():
        raise RmuLabError("There is one text only; give at least two, so that one can be held out.")
    inputs, outputs = inputs.double(), outputs.double()
    inputs, outputs = inputs - inputs[fit].mean(dim=0), outputs - outputs[fit].mean(dim=0)
    gram = inputs[fit].T @ inputs[fit]
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    error = outputs[held_out] - inputs[held_out] @ torch.linalg.solve(gram + ridge, inputs[fit].T @ outputs[fit])
    return (1 - error.square().sum() / outputs[held_out].square().sum()).item()


# ---------------------------------------------------------------------------------------------------------------------
# Noise sensitivity, and the coefficient that Eq 19 calls optimal


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
    """Phi = ||g(h + xi) - g(h)||² / ||g(h)||², g from after block `layer` to after block k, for each k of `to_layers`.

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
    generator = torch.Generator().manual_seed(seed)
    results = []
    for batch in token_batches(tokenizer, texts, batch_size, max_length):
        batch = batch.to(model.device)
        counted = batch.counted()[..., None]

        def outputs(edit: Callable[[Tensor], Tensor], batch: TokenBatch = batch) -> dict[int, Tensor]:
            with (
                edited_output(model, layer, edit),
                captured(model, to_layers, stop=True) as seen,
            ):
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
            return seen

        def disturb(hidden: Tensor, counted: Tensor = counted) -> Tensor:
            xi = torch.randn(hidden.shape, generator=generator).to(hidden)
            length = noise * hidden.norm(dim=-1, keepdim=True) if relative else noise
            return hidden + counted * length * xi / xi.norm(dim=-1, keepdim=True)

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
    """Eq 19 of Dang et al. 2024 by two Jacobian-vector products: the c that best *preserves* g's output (notebook 03).

    Parameters
    ----------
    to_layer
        k of g^(l:k); None goes through the final norm.
    representation
        h, (d,): the mean forget representation, put at every token of `text` but the first; J is taken there.
    residual
        eps, (d,); none by default.
    """
    batch = _one_text(model, tokenizer, text)
    hidden, g = map_above(model, batch, layer, to_layer)
    steered = batch.counted()[0]
    h, u = representation.to(hidden), (direction / direction.norm()).to(hidden)
    start = _put(hidden, steered, h.expand(int(steered.sum()), -1))

    def push(vector: Tensor) -> Tensor:
        """J v, v standing at every steered token."""
        tangent = torch.zeros_like(start)
        tangent[:, steered] = vector
        return jvp(g, (start,), (tangent,))[1][0, steered].flatten()

    with frozen(model), sdpa_kernel(SDPBackend.MATH):
        of_u, of_h = push(u), push(h if residual is None else h - residual.to(hidden))
    return OptimalCoefficient(
        (of_h.norm() / of_u.norm()).item(), torch.nn.functional.cosine_similarity(of_u, of_h, dim=0).item()
    )


# ---------------------------------------------------------------------------------------------------------------------


def _one_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> TokenBatch:
    return token_batches(tokenizer, [text], 1, model.config.get_text_config(decoder=True).max_position_embeddings)[0].to(
        model.device
    )


def _steered(
    model: PreTrainedModel, batch: TokenBatch, layer: int, coefficient: float, direction: Tensor, eta: float
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """z with c u at every token but the first, (batch, tokens, d); which tokens those are, (tokens,) bool; and g."""
    if eta < 0:
        raise RmuLabError(f"eta is {eta}, a variance; give a number that is not negative.")
    with frozen(model):
        hidden, g = map_above(model, batch, layer)
    if direction.shape != hidden.shape[-1:]:
        raise RmuLabError(
            f"direction has the shape {tuple(direction.shape)}; this model's representations have ({hidden.shape[-1]},)."
        )
    steered = batch.counted()[0]
    u = (direction / direction.norm()).to(hidden)
    return _put(hidden, steered, (coefficient * u).expand(int(steered.sum()), -1)), steered, g


def _noise(n: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """(n, *shape) standard normal, on the CPU: the same on every machine."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def _put(hidden: Tensor, steered: Tensor, rows: Tensor) -> Tensor:
    """`hidden` with `rows`, (steered tokens, d), at the steered tokens; a differentiable function of the rows."""
    return torch.where(
        steered[:, None], rows.new_zeros(hidden.shape[1:]).index_put((steered.nonzero()[:, 0],), rows), hidden
    )


def _weight(head: nn.Linear) -> Tensor:
    return head.weight.detach()


def _logits(head: nn.Linear, readout: Tensor) -> Tensor:
    with torch.no_grad():
        return head(readout)

"""Measurements from scratch: a function ``measure_...`` for each experiment that is no sweep over edits.

Each takes a model, its tokenizer and settings in plain values, and returns named numbers with 95% intervals; `parts` says at
which settings. Lengths are in units of the model's own representations, so that one rule serves every model. The notebooks
show the same experiments in pictures, mostly for one direction u; here each is repeated over directions, because a verdict
must not hang on one of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from scipy.stats import kurtosis
from torch import Tensor

from .. import theory
from ..activations import alignment, map_above, token_states
from ..attacks.suffixes import Layout, SuffixLoss, allowed_tokens, decoded
from ..corpora import load_corpus, token_batches
from ..estimates import Numbers, correlation_of, cosine_mean_of, crossed, geometric_mean_of, mean_of, median_of
from ..evaluate import token_scores
from ..generation import max_logits
from ..models import decoder_blocks, input_device
from ..questions import cloze_prompt, load_questions
from ..randomness import torch_generator
from ..sweeps.worker import Job, Worker
from ..tokens import open_tokens
from ..unlearning.batches import topic_texts
from ..unlearning.config import UnlearnConfig
from ..unlearning.directions import random_directions
from ..unlearning.result import UnlearnResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Model: TypeAlias = PreTrainedModel
    Tokenizer: TypeAlias = PreTrainedTokenizerBase

Plain: TypeAlias = Mapping[str, Any]
"""Settings of RMU or Adaptive RMU as `MethodConfig.to_dict` gives them."""


FORGET, RETAIN = "forget_bio", "retain_general"
DIRECTIONS = "directions"


def trained(model: Model, tokenizer: Tokenizer, configs: Sequence[UnlearnConfig]) -> Iterator[UnlearnResult]:
    """Unlearn with each setting on the course's corpora, as `unlearn` does, from frozen passes that all of them share.

    Yields
    ------
    UnlearnResult
        in the order of `configs`.
    """
    texts = topic_texts(load_corpus(FORGET), load_corpus(RETAIN), max(config.batch_size for config in configs))
    job = Job(
        model=model, tokenizer=tokenizer, texts=texts, questions={}, configs=tuple(configs), style="cloze", batch_size=16,
        memory_bytes=2 * 1024**3, scratch=None, scratch_prefix="rmu-lab-claims-", digests={}, command="", progress=False,
    )  # fmt: skip
    with Worker(job) as worker:
        for config in configs:
            (training,) = worker.train([config])
            yield UnlearnResult.of(training, model, {})


def _with_seeds(config: Plain, seeds: Sequence[int]) -> list[UnlearnConfig]:
    return [UnlearnConfig(**{**config, "seed": seed}) for seed in seeds]


def _directions(model: Model, seeds: Sequence[int]) -> list[Tensor]:
    """u of each seed, as `unlearn` draws it."""
    return [random_directions(["forget"], model.config.hidden_size, seed)["forget"] for seed in seeds]


def measure_first_order(
    model: Model, tokenizer: Tokenizer, *, layer: int, coefficient: float, noise: float, draws: int, texts: Sequence[str],
    seeds: Sequence[int],
) -> Numbers:  # fmt: skip
    """Hold Proposition 1 against simulation, with one direction for each text.

    Parameters
    ----------
    noise
        length of the noise on a token; its variance in each of the d entries is the square of this over d.
    """
    eta = noise**2 / model.config.hidden_size
    ratios, told_apart = [], []
    for text, u in zip(texts, _directions(model, seeds), strict=True):
        setting: dict[str, Any] = {"layer": layer, "coefficient": coefficient, "direction": u, "eta": eta}
        predicted = theory.predicted_logits(model, tokenizer, text, **setting)
        simulated = theory.simulated_logits(model, tokenizer, text, **setting, n=draws)
        found = theory.compare(predicted, simulated, range(0, len(predicted.mean), max(1, len(predicted.mean) // 100)))
        ratios.append(found.variance_ratio)
        told_apart.append(fmean(p < 0.01 for p in found.normality))
    over = "directions, each with a text of its own"
    return {
        "variance, simulated / predicted": geometric_mean_of(ratios, over),
        "share of logits told from normal (p < 0.01)": mean_of(told_apart, over, within=(0, 1)),
    }


def measure_spread(
    model: Model, tokenizer: Tokenizer, *, layer: int, coefficients: Sequence[float], noise: float, draws: int,
    texts: Sequence[str], seeds: Sequence[int],
) -> Numbers:  # fmt: skip
    """Measure how the logits' spread goes with c: over noise of variance 1, and over texts without any noise.

    A spread that goes like c to the power k gives k here; Var = c^2 would give 1.
    """
    log_c = torch.tensor(coefficients).log()
    log_c = log_c - log_c.mean()

    def slope(values: Tensor) -> float:
        """Of log values over log c; values (..., c)."""
        return ((values.log() * log_c).sum(-1) / log_c.square().sum()).mean().item()

    over_noise, over_texts, entropy = [], [], []
    eta = noise**2 / model.config.hidden_size
    setting: dict[str, Any] = {"layer": layer, "coefficients": coefficients, "eta": eta, "n": draws}
    for u in _directions(model, seeds):
        effects = [theory.coefficient_effects(model, tokenizer, text, direction=u, **setting) for text in texts]
        over_noise.append(slope(torch.tensor([[each.centred_deviation for each in row] for row in effects])))
        logits = torch.stack([torch.stack([each.mean for each in row]) for row in effects])  # (texts, c, vocabulary)
        logits = logits - logits.mean(dim=-1, keepdim=True)
        over_texts.append(slope(logits.var(dim=0).mean(dim=-1).sqrt()))
        entropy.append(fmean(row[-1].entropy - row[0].entropy for row in effects))
    return {
        "slope of log spread over noise": mean_of(over_noise, DIRECTIONS),
        "slope of log spread over texts": mean_of(over_texts, DIRECTIONS),
        "entropy, largest less smallest c (nats)": mean_of(entropy, DIRECTIONS),
    }


def measure_confidence(
    model: Model, tokenizer: Tokenizer, *, config: Plain, seeds: Sequence[int], prompts: int, passages: int
) -> Numbers:
    """Measure what is left of steered representations, and how sure the model is, after RMU with each seed's direction."""
    forget, layer = load_corpus(FORGET)["text"], config["layer"]
    asked = load_questions("bio", split="test").shuffle(seed=0).select(range(prompts))
    written = [cloze_prompt(row["question"]) for row in asked]

    def sure() -> dict[str, float]:
        """MaxLogit over 30 written tokens after questions, and over the tokens of given passages."""
        logits = max_logits(model, tokenizer, written).logit
        values = logits[~logits.isnan()]
        return {
            "mean": values.mean().item(),
            "sd": values.std().item(),
            "kurtosis": float(kurtosis(values.numpy())),
            **_given(model, tokenizer, forget[:16]),
        }

    before, states = sure(), token_states(model, tokenizer, forget[:passages], [layer])
    after, left = [], []
    for result in trained(model, tokenizer, _with_seeds(config, seeds)):
        with result.applied(model):
            after.append(sure())
            steered = token_states(model, tokenizer, forget[:passages], [layer])
        left.append(theory.measured_residual(states, steered, layer, result.directions["forget"]))
    return {
        "MaxLogit, unlearned less base": mean_of((each["mean"] - before["mean"] for each in after), DIRECTIONS),
        "s.d. of MaxLogit, unlearned / base": geometric_mean_of((each["sd"] / before["sd"] for each in after), DIRECTIONS),
        "excess kurtosis of MaxLogit": mean_of((each["kurtosis"] for each in after), DIRECTIONS),
        "MaxLogit on given texts, unlearned less base": mean_of(
            (each["given"] - before["given"] for each in after), DIRECTIONS
        ),
        "entropy on given texts, unlearned less base (nats)": mean_of(
            (each["entropy"] - before["entropy"] for each in after), DIRECTIONS
        ),
        "length of what is left over, in units of c": geometric_mean_of((each.relative_norm for each in left), DIRECTIONS),
        "effective dimensions of what is left over, of all": geometric_mean_of(
            (each.effective_dimensions / len(each.eigenvalues) for each in left), DIRECTIONS
        ),
        "share of it predictable from the text": mean_of((each.context_share for each in left), DIRECTIONS),
    }


@torch.no_grad()
def _given(model: Model, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Mean MaxLogit and entropy of the next token over all tokens of given texts but the first."""
    largest, entropies = [], []
    for batch in token_batches(tokenizer, texts, 8, 64):
        batch = batch.to(input_device(model))
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.counted()].float()
        log_p = logits.log_softmax(dim=-1)
        largest.append(logits.amax(dim=-1))
        entropies.append(-(log_p.exp() * log_p).sum(dim=-1))
    return {"given": torch.cat(largest).mean().item(), "entropy": torch.cat(entropies).mean().item()}


def measure_alignment(
    model: Model, tokenizer: Tokenizer, *, config: Plain, multiples: Mapping[str, float], seeds: Sequence[int], texts: int
) -> Numbers:
    """Measure median cos(u, h) on forget texts after RMU with each coefficient, given in words and as a number."""
    forget = load_corpus(FORGET)["text"][:texts]
    cosines: dict[str, list[float]] = {words: [] for words in multiples}
    for words, c in multiples.items():
        for result in trained(model, tokenizer, _with_seeds({**config, "coefficient": c}, seeds)):
            with result.applied(model):
                found = alignment(model, tokenizer, forget, result.directions["forget"], config["layer"])
            cosines[words].append(found.median().item())
    return {f"median cos(u, h), c = {words}": cosine_mean_of(values, DIRECTIONS) for words, values in cosines.items()}


def measure_sensitivity(
    model: Model, tokenizer: Tokenizer, *, config: Plain, seeds: Sequence[int], texts: int, noise: float,
    relative_noise: float,
) -> Numbers:  # fmt: skip
    """Measure noise sensitivity block by block and followed upwards, before RMU and after it with each direction.

    Parameters
    ----------
    noise, relative_noise
        its length, and its length in units of a token's ||h||.
    """
    passages, layer = load_corpus(FORGET)["text"][-texts:], config["layer"]
    last = len(decoder_blocks(model)) - 1
    blocks = [block for block in range(1, last + 1) if block % 2 or abs(block - layer) <= 2]
    up = list(range(max(1, layer - 2), last + 1))
    kinds: dict[str, dict[str, Any]] = {"fixed": {"noise": noise}, "relative": {"noise": relative_noise, "relative": True}}

    def by_block(kind: str) -> Tensor:
        """(blocks, texts): noise on each block's input, Phi at its output."""
        return torch.cat(
            [
                theory.noise_sensitivity(
                    model, tokenizer, passages, layer=k - 1, to_layers=[k], max_length=48, **kinds[kind]
                )
                for k in blocks
            ]
        )

    base = {kind: by_block(kind) for kind in kinds}
    early = [at for at, block in enumerate(blocks) if 2 <= block <= max(3, last / 6)]
    late = [at for at, block in enumerate(blocks) if block >= 0.9 * last]
    fall = {kind: (phi[early].mean(dim=0) / phi[late].mean(dim=0)).tolist() for kind, phi in base.items()}
    minima: dict[str, list[int]] = {"fixed": [], "relative": [], "followed": []}
    explained = []
    lengths = _squared_length(model, tokenizer, passages, layer)
    for result in trained(model, tokenizer, _with_seeds(config, seeds)):
        with result.applied(model):
            phi = {kind: by_block(kind) for kind in kinds}
            for kind, values in phi.items():
                minima[kind].append(blocks[int(values.mean(dim=1).argmin())])
            followed = theory.noise_sensitivity(
                model, tokenizer, passages, layer=up[0] - 1, to_layers=up, max_length=48, noise=noise
            )
            minima["followed"].append(up[int(followed.median(dim=1).values.argmin())])
            longer = _squared_length(model, tokenizer, passages, layer) / lengths
        at = blocks.index(layer)
        explained.append(longer / (base["relative"][at].mean() / phi["relative"][at].mean()).item())
    off = {
        kind: mean_of((abs(block - layer) for block in found), DIRECTIONS, within=(0, math.inf))
        for kind, found in minima.items()
    }
    return {
        "fall with depth, noise of fixed length": geometric_mean_of(fall["fixed"], "texts"),
        "fall with depth, noise in units of ‖h‖": geometric_mean_of(fall["relative"], "texts"),
        "RMU: blocks from the steered one to the minimum, noise followed upwards": off["followed"],
        "RMU: ..., block by block, noise in units of ‖h‖": off["relative"],
        "RMU: ..., block by block, noise of fixed length": off["fixed"],
        "growth of ‖output‖² over fall of sensitivity at the steered block": geometric_mean_of(explained, DIRECTIONS),
    }


def _squared_length(model: Model, tokenizer: Tokenizer, texts: Sequence[str], layer: int) -> float:
    states = token_states(model, tokenizer, texts, [layer], max_length=48)
    return states.hidden[layer][states.counted].square().sum().item()


def measure_optimum(
    model: Model,
    tokenizer: Tokenizer,
    *,
    layer: int,
    to_layers: Mapping[str, int],
    seeds: Sequence[int],
    text: str,
    step: float,
) -> Numbers:
    """Measure c* of Eq 19, the same by finite differences, and how it goes with the cosine over directions.

    Parameters
    ----------
    to_layers
        blocks up to which the change is measured, and how each is called.
    step
        of the finite differences, in units of ||h||.
    """
    states = token_states(model, tokenizer, load_corpus(FORGET)["text"][:24], [layer])
    hidden = states.hidden[layer][states.counted]
    h, norm = hidden.mean(dim=0), hidden.norm(dim=-1).median().item()
    (batch,) = token_batches(tokenizer, [text], 1, 64)
    batch = batch.to(input_device(model))
    numbers: Numbers = {}
    closest, sizes = [], []
    for words, k in to_layers.items():
        context, g = map_above(model, batch, layer, k)

        def put(vector: Tensor, context: Tensor = context) -> Tensor:
            return torch.cat([context[:, :1], vector.to(context).expand(1, context.shape[1] - 1, -1)], dim=1)

        def push(vector: Tensor, g: Callable[[Tensor], Tensor] = g, put: Callable[[Tensor], Tensor] = put) -> Tensor:
            """J v by a central difference, with a step in units of ‖h‖."""
            with torch.no_grad():
                scale = step * norm / vector.norm()
                return ((g(put(h + scale * vector)) - g(put(h - scale * vector)))[0, 1:] / (2 * scale)).flatten()

        of_h, found = push(h), []
        for u in _directions(model, seeds):
            exact = theory.optimal_coefficient(
                model, tokenizer, text, layer=layer, to_layer=k, direction=u, representation=h
            )
            of_u = push(u)
            closest.append(abs(exact.value - (of_u @ of_h / of_u.square().sum()).item()) / norm)
            found.append((exact.value, exact.cosine))
        sizes += [abs(value) / norm for value, _ in found]
        numbers[f"correlation of c* with the cosine, {words}"] = correlation_of(found, DIRECTIONS)
    pairs = "pairs of direction and block"
    return numbers | {
        "c* off least squares by finite differences, in units of ‖h‖": mean_of(closest, pairs),
        "size of c*, in units of ‖h‖": mean_of(sizes, pairs),
    }


def measure_training_time(model: Model, tokenizer: Tokenizer, *, config: Plain, seeds: Sequence[int]) -> Numbers:
    """Time trainings of Adaptive RMU, each over the one of RMU before it, on activations that are kept."""
    configs = [
        UnlearnConfig(**{**config, "seed": seed, "method": method}) for seed in seeds for method in ("rmu", "adaptive_rmu")
    ]
    seconds = [result.seconds for result in trained(model, tokenizer, configs)][2:]  # the first two warm up
    return {
        "training time, Adaptive RMU / RMU": median_of(
            (adaptive / rmu for rmu, adaptive in zip(seconds[::2], seconds[1::2], strict=True)), "pairs of trainings"
        )
    }


def measure_gradients(
    model: Model, tokenizer: Tokenizer, *, config: Plain, seeds: Sequence[int], questions: int, suffix: str
) -> Numbers:
    """Compare GCG's token gradient on RMU models with the base model's, for the same answer and at the same loss.

    A gradient grows with the loss, and an RMU model's loss is larger, so that the two are also compared where the base
    model is asked for a text that it finds as unlikely as the RMU model finds the answer: of other questions' options and
    of random tokens the one whose loss comes nearest.
    """
    asked = list(load_questions("bio", split="test").shuffle(seed=1))
    pool = [f" {choice}" for row in asked[questions:] for choice in row["choices"][:1]][:24]
    pool += _unlikely(tokenizer, model, 24)
    layouts = [
        Layout.of(tokenizer, cloze_prompt(row["question"]), suffix, f" {row['choices'][row['answer']]}", chat_template=False)
        for row in asked[:questions]
    ]
    losses, norms = _gradients(model, layouts)
    others = [[dataclasses.replace(layout, target=_target(tokenizer, text)) for text in pool] for layout in layouts]
    base_losses = _losses(model, layouts, [_target(tokenizer, text) for text in pool])
    same, matched, apart = [], [], []
    for result in trained(model, tokenizer, _with_seeds(config, seeds)):
        with result.applied(model):
            edited_losses, edited_norms = _gradients(model, layouts)
        nearest = (base_losses - edited_losses[:, None]).abs().argmin(dim=1).tolist()
        their_losses, their_norms = _gradients(model, [row[at] for row, at in zip(others, nearest, strict=True)])
        same.append((edited_norms / norms).log().tolist())
        matched.append((edited_norms / their_norms).log().tolist())
        apart.append((edited_losses - their_losses).tolist())

    def ratio(means: np.ndarray) -> np.ndarray:
        return np.exp(means.mean(axis=1))

    return {
        "token gradient, RMU / base, the same answer": crossed(np.array(same), ratio),
        "token gradient, RMU / base, at the same loss": crossed(np.array(matched), ratio),
        "loss, RMU less base, where they are compared (nats)": crossed(np.array(apart)),
        "loss of the answer, base (nats)": mean_of(losses.tolist(), "questions"),
    }


def _gradients(model: Model, layouts: Sequence[Layout]) -> tuple[Tensor, Tensor]:
    """Loss of each target after its prompt with the suffix, and the norm of its gradient by the suffix's embeddings."""
    found = [
        SuffixLoss(model, each, prefix_cache=True, batch_size=1).gradient_norm(torch.tensor(each.suffix)) for each in layouts
    ]
    losses, norms = zip(*found, strict=True)
    return torch.tensor(losses), torch.tensor(norms)


def _losses(model: Model, layouts: Sequence[Layout], targets: Sequence[tuple[int, ...]]) -> Tensor:
    """Mean negative log-probability of each target after each prompt with its suffix: (layouts, targets)."""
    prompts = [[*layout.before, *layout.suffix, *layout.after] for layout in layouts]
    options = [[list(target) for target in targets] for _ in prompts]
    scores = token_scores(model, prompts, options, batch_size=1, progress=False)
    return -torch.tensor(scores) / torch.tensor([len(target) for target in targets])


def _target(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(open_tokens(tokenizer, [text], special=False)[0])


def _unlikely(tokenizer: Tokenizer, model: Model, n: int) -> list[str]:
    """Texts of one to three random tokens."""
    tokens, generator = allowed_tokens(model, tokenizer), torch_generator(0, "texts that a model finds unlikely")
    drawn = (tokens[torch.randint(len(tokens), (1 + at % 3,), generator=generator)].tolist() for at in range(n))
    return [f" {decoded(tokenizer, ids).strip()}" for ids in drawn]

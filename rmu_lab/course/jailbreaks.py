"""Notebook 06's cores and measurements: a step of GCG, free embeddings, gradients beside losses, a collapse by degrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from ..activations import captured, edited_output, frozen
from ..attacks.greedy_coordinate import GCGConfig, swap_gains
from ..attacks.soft_prompts import embedded, unused_token
from ..attacks.suffixes import PLACE, Layout, SuffixLoss, allowed_tokens, decoded, prompt_text, random_texts, top_swaps
from ..estimates import Number, mean_of
from ..files import read_json_lines, results_folder
from ..generation import write_greedily
from ..tokens import open_tokens
from ..unlearning.config import UnlearnConfig
from .exercises import Test

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..unlearning.result import UnlearnResult

    Model = PreTrainedModel
    Tokenizer = PreTrainedTokenizerBase

PLACES = " x" * 8
"""The suffix that searches of notebook 06 start from."""


def steering_of(result: UnlearnResult) -> UnlearnConfig:
    """Return the settings of an edit that steers.

    Raises
    ------
    ValueError
        if it is of another method.
    """
    if not isinstance(result.config, UnlearnConfig):
        raise ValueError(f"The edit is one of {result.config.method}; give one of RMU or Adaptive RMU.")
    return result.config


# ---------------------------------------------------------------------------------------------------------------------
# First core: a step of GCG

LossOf = Callable[[Tensor], Tensor]


def gcg_step(
    suffix: Tensor, gradient: Tensor, loss_of: LossOf, allowed: Tensor, width: int, topk: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take one step of GCG: draw swaps that the gradient likes, try all of them, return the best; a core of notebook 06.

    Parameters
    ----------
    suffix
        (tokens,).
    gradient
        (tokens, vocabulary), of the loss with respect to the one-hot tokens.
    loss_of
        gives the losses, (width,), of candidates, (width, tokens).
    allowed
        (allowed tokens,) ids that may be put in.
    width, topk
        candidates, and how many swaps of each place they are drawn from.
    draw
        generator of the draws.

    Returns
    -------
    tuple of Tensor and Tensor
        the candidate of the lowest loss, (tokens,), and its loss.
    """
    liked = top_swaps(gradient, allowed, topk)
    places = torch.randint(len(suffix), (width,), generator=draw)
    candidates = suffix.repeat(width, 1)
    candidates[torch.arange(width), places] = liked[places, torch.randint(liked.shape[1], (width,), generator=draw)]
    losses = loss_of(candidates)
    return candidates[losses.argmin()], losses.min()


def gcg_step_tests() -> list[Test]:
    """Return what is asked of `gcg_step`, on three places and twelve tokens."""
    draw = torch.Generator().manual_seed(0)
    gradient, suffix = torch.randn(3, 12, generator=draw), torch.tensor([5, 5, 5])
    gradient[:, 0] = -9  # liked best everywhere, and not allowed
    allowed = torch.arange(1, 12)
    prices = torch.rand(3, 12, generator=draw)

    def taken(step: Callable) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates that a step tried, and what it returned."""
        seen: list[Tensor] = []

        def loss_of(candidates: Tensor) -> Tensor:
            seen.append(candidates.clone())
            return prices[torch.arange(3), candidates].sum(dim=1)

        found, loss = step(suffix, gradient, loss_of, allowed, width=64, topk=3, draw=torch.Generator().manual_seed(1))
        return torch.cat(seen), torch.as_tensor(found), torch.as_tensor(loss)

    def only_liked(step: Callable) -> bool:
        tried = taken(step)[0]
        liked = [set(allowed[gradient[place, allowed].argsort()[:3]].tolist()) for place in range(3)]
        return all(
            token in liked[place] for row in tried.tolist() for place, token in enumerate(row) if token != suffix[place]
        )

    def best(step: Callable) -> bool:
        tried, found, loss = taken(step)
        losses = prices[torch.arange(3), tried].sum(dim=1)
        return bool(torch.equal(found, tried[losses.argmin()]) and torch.isclose(loss, losses.min()))

    return [
        (
            lambda f: taken(f)[0].shape == (64, 3),
            "try `width` candidates, each as long as the suffix, in one call of loss_of",
        ),
        (
            lambda f: bool(((taken(f)[0] != suffix).sum(dim=1) <= 1).all()),
            "a candidate differs from the suffix in one place",
        ),
        (lambda f: not (taken(f)[0] == 0).any(), "put in allowed tokens only"),
        (
            only_liked,
            "draw from the `topk` tokens of the largest predicted gain: those of the lowest gradient at that place",
        ),
        (
            lambda f: len({*map(tuple, taken(f)[0].tolist())}) >= 6,
            "draw both at random, the place and one of its topk tokens",
        ),
        (best, "return the candidate of the lowest loss, and that loss"),
        (lambda f: bool((suffix == 5).all()), "leave the suffix itself as it is: copy it"),
    ]


@torch.no_grad()
def whole_pass_loss(model: Model, layout: Layout, suffix: Tensor) -> float:
    """Compute the loss of a suffix, (tokens,), from one forward pass over everything, without a cache."""
    ids = torch.tensor([[*layout.before, *suffix.tolist(), *layout.after, *layout.target]])
    logits = model(ids).logits[0, -len(layout.target) - 1 : -1]  # those that predict the target
    return torch.nn.functional.cross_entropy(logits.float(), torch.tensor(layout.target)).item()


# ---------------------------------------------------------------------------------------------------------------------
# Second core: free embeddings


def train_soft(start: Tensor, loss_of: LossOf, steps: int, lr: float) -> tuple[Tensor, list[float]]:
    """Train free embeddings with Adam; a core of notebook 06.

    Parameters
    ----------
    start
        (tokens, d), which stays as it is.
    loss_of
        gives the loss of embeddings, a scalar.
    lr
        Adam's learning rate.

    Returns
    -------
    tuple of Tensor and list of float
        the trained embeddings, and the loss before each step.
    """
    vectors = start.clone().requires_grad_()
    adam, losses = torch.optim.Adam([vectors], lr=lr), []
    for _ in range(steps):
        loss = loss_of(vectors)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return vectors.detach(), losses


def train_soft_tests() -> list[Test]:
    """Return what is asked of `train_soft`, on a bowl whose lowest point is known."""
    goal = torch.tensor([[1.0, -2.0], [0.5, 3.0]])

    def bowl(vectors: Tensor) -> Tensor:
        return (vectors - goal).square().sum()

    def kept(f: Callable) -> bool:
        start = torch.zeros(2, 2)
        f(start, bowl, 3, 0.1)
        return not start.any() and not start.requires_grad

    def like_adam(f: Callable) -> bool:
        return torch.allclose(
            f(torch.zeros(2, 2), bowl, 5, 0.1)[0], train_soft(torch.zeros(2, 2), bowl, 5, 0.1)[0], atol=1e-5
        )

    return [
        (
            lambda f: len(f(torch.zeros(2, 2), bowl, 4, 0.1)[1]) == 4,
            "return the vectors and a list with one loss for each step",
        ),
        (
            lambda f: abs(f(torch.zeros(2, 2), bowl, 4, 0.1)[1][0] - 14.25) < 1e-4,
            "record each loss before its step, as a number",
        ),
        (
            lambda f: torch.allclose(f(torch.zeros(2, 2), bowl, 400, 0.1)[0], goal, atol=0.05),
            "400 steps find the bowl's bottom",
        ),
        (like_adam, "use torch.optim.Adam on the vectors, and clear old gradients before each backward pass"),
        (kept, "train a copy: `start` is used again below"),
        (
            lambda f: not f(torch.zeros(2, 2), bowl, 1, 0.1)[0].requires_grad,
            "return vectors without a gradient: detach() them",
        ),
    ]


@dataclass(frozen=True)
class SoftTarget:
    """One prompt and one target, for which free embeddings are trained behind the prompt."""

    model: Model
    tokenizer: Tokenizer
    layout: Layout

    @classmethod
    def of(cls, model: Model, tokenizer: Tokenizer, question: str, target: str) -> SoftTarget:
        """Put the question through the chat template, with eight places for vectors behind it."""
        return cls(model, tokenizer, Layout.of(tokenizer, question, PLACES, target, chat_template=True))

    def start(self, seed: int = 0) -> Tensor:
        """Return the embeddings of as many tokens, drawn at random: (8, d)."""
        embed, draw = self.model.get_input_embeddings(), torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(embed.get_parameter("weight")), (len(self.layout.suffix),), generator=draw)
        return embed(drawn).detach()  # through the module, because some families scale them there

    def loss(self) -> LossOf:
        """Return the loss of the target as a function of the vectors, on the model with the weights that it has now."""
        return SuffixLoss(self.model, self.layout, prefix_cache=True, batch_size=1).of_vectors

    def train(self, train: Callable, *, steps: int, seed: int = 0, rate: float = 0.3) -> tuple[Tensor, list[float]]:
        """Train vectors with `train_soft` or the reader's own, at `rate` times an embedding's root mean square.

        Parameters
        ----------
        seed
            of the tokens whose embeddings are the start.
        """
        with frozen(self.model), torch.enable_grad():
            scale = self.model.get_input_embeddings().get_parameter("weight").detach().square().mean().sqrt().item()
            return train(self.start(seed), self.loss(), steps, rate * scale)

    def reply(self, vectors: Tensor, new_tokens: int = 20) -> str:
        """Generate the greedy answer to the question with these vectors behind it, in one line."""
        place = unused_token(self.model, [*self.layout.before, *self.layout.after])
        ids = torch.tensor([[*self.layout.before, *[place] * len(vectors), *self.layout.after]])
        prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with embedded(self.model, vectors, place):
            written = write_greedily(self.model, self.tokenizer, prompt, new_tokens).sequences
        return " ".join(decoded(self.tokenizer, written[0, ids.shape[1] :].tolist(), skip_special_tokens=True).split())


def steps_until(losses: Sequence[float], below: float) -> int | None:
    """Return the first step before which the loss is below a value; None if it never is."""
    return next((step for step, loss in enumerate(losses) if loss < below), None)


# ---------------------------------------------------------------------------------------------------------------------
# Gradients beside losses


def gradient_beside_loss(model: Model, tokenizer: Tokenizer, question: str, target: str) -> tuple[float, float]:
    """Measure the loss of a target behind its question, in nats per token, and the norm of its gradient by the suffix."""
    layout = Layout.of(tokenizer, question, PLACES, target, chat_template=True)
    with frozen(model):
        loss_of = SuffixLoss(model, layout, prefix_cache=True, batch_size=1)
        return loss_of.gradient_norm(torch.tensor(layout.suffix))


@dataclass(frozen=True)
class AtOneLoss:
    """An unlearned model and the base model at one loss: the first by a right opening, the second by a random text."""

    unlearned: tuple[float, float]
    """Loss of the opening, and the norm of its gradient."""
    base: tuple[float, float]
    """The same of the random text whose loss is nearest."""
    knows: tuple[float, float]
    """The base model's own, of the opening."""
    tried: tuple[tuple[float, float], ...]
    """Of all random texts."""


def at_one_loss(
    model: Model, tokenizer: Tokenizer, result: UnlearnResult, pairs: Iterable[tuple[str, str]], n_texts: int = 5
) -> list[AtOneLoss]:
    """Compare gradients where losses are alike: for each question and opening, base is asked for random texts as long.

    Parameters
    ----------
    pairs
        question and opening of a right answer.
    n_texts
        random texts to choose the nearest loss from.
    """
    allowed, draw = allowed_tokens(model, tokenizer), torch.Generator().manual_seed(0)
    found = []
    for question, target in pairs:
        length = len(open_tokens(tokenizer, [target], special=False)[0])
        texts = random_texts(tokenizer, allowed, length, n_texts, draw)
        tried = [gradient_beside_loss(model, tokenizer, question, text) for text in texts]
        knows = gradient_beside_loss(model, tokenizer, question, target)
        with result.applied(model):
            unlearned = gradient_beside_loss(model, tokenizer, question, target)
        nearest = min(tried, key=lambda each: abs(each[0] - unlearned[0]))
        found.append(AtOneLoss(unlearned, nearest, knows, tuple(tried)))
    return found


def typical_ratio(pairs: Sequence[AtOneLoss]) -> float:
    """Return the geometric mean of the unlearned model's norm over the base model's at the nearest loss."""
    return float(np.exp(np.mean([np.log(pair.unlearned[1] / pair.base[1]) for pair in pairs])))


# ---------------------------------------------------------------------------------------------------------------------
# A collapse by degrees


@dataclass(frozen=True)
class Collapsed:
    """What the gradient and 24 random swaps do with a share of a token's own state left."""

    left: float
    gradient_norm: float
    largest_gain: float
    """Of the swaps, whichever way the loss went, in nats."""


class Collapse:
    """An unlearned model whose states after the steered layer are pushed on to the target: lambda h + (1 - lambda) c u.

    Parameters
    ----------
    model, tokenizer, result
        the base model, unchanged on return, its tokenizer and an RMU edit.
    question, target
        of the suffix whose swaps are tried.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, result: UnlearnResult, question: str, target: str) -> None:
        self.model, self.tokenizer, self.result = model, tokenizer, result
        self.question, self.target = question, target
        self._found: dict[float, Collapsed] = {}

    def at(self, left: float) -> Collapsed:
        """Measure with a share lambda of each state left: 1 is the trained model, 0 the exact collapse; each once."""
        if left not in self._found:
            config = steering_of(self.result)
            aim = config.coefficient * self.result.directions["forget"]

            def push(hidden: Tensor) -> Tensor:
                return left * hidden + (1 - left) * aim.to(hidden.dtype)

            search = GCGConfig(suffix=PLACES, search_width=24, buffer_size=1)
            with self.result.applied(self.model), edited_output(self.model, config.layer, push):
                found = swap_gains(self.model, self.tokenizer, self.question, self.target, search)
            self._found[left] = Collapsed(left, found.gradient_norm, max(map(abs, found.true)))
        return self._found[left]

    def slider(self) -> ipywidgets.Widget:
        """Build a slider over lambda that measures anew; without a kernel the figure shows the same."""
        choices = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
        slider = ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in choices],
            value=1.0,
            description="λ",
            tooltip="1 is the trained model; at 0 every state after the steered layer is the target itself",
            continuous_update=False,
        )
        shown = ipywidgets.HTML()

        def draw(_change: object = None) -> None:
            shown.value = '<p role="status">The gradient is being measured ...</p>'
            found = self.at(slider.value)
            shown.value = (
                f"<p>λ = {found.left:g}: the gradient has norm {found.gradient_norm:.1e}, "
                f"and no swap of 24 moves the loss by more than {found.largest_gain:.1e} nats</p>"
            )

        slider.observe(draw, names="value")
        draw()
        return ipywidgets.VBox([slider, shown])


# ---------------------------------------------------------------------------------------------------------------------
# Where the steering fires


def steering(
    model: Model, tokenizer: Tokenizer, result: UnlearnResult, prompt: str, target: str
) -> tuple[list[str], list[float]]:
    """Measure cos(u, h) after the steered layer for every token from the user's words to the target.

    Parameters
    ----------
    prompt
        with ``{suffix}`` where the suffix goes.

    Returns
    -------
    tuple of list of str and list of float
        the tokens as text, and their cosines.
    """
    layout = Layout.of(tokenizer, prompt, PLACES, target, chat_template=True)
    ids = [*layout.before, *layout.suffix, *layout.after, *layout.target]
    opening = prompt_text(tokenizer, PLACE, PLACE, chat_template=True)[0].split(PLACE)[0]  # the template's own words
    first = len(open_tokens(tokenizer, [opening], special=False)[0]) if opening else 0
    layer = steering_of(result).layer
    with result.applied(model), captured(model, [layer], stop=True) as seen, torch.no_grad():
        model(torch.tensor([ids]))
    cosines = torch.cosine_similarity(seen[layer][0, first:].float(), result.directions["forget"], dim=-1)
    return [decoded(tokenizer, [token]) for token in ids[first:]], cosines.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Stored searches


def stored_searches() -> list[dict[str, Any]]:
    """Return the rows of ``data/results/suffixes/searches.jsonl``: a search each, with its losses and answers."""
    return [row for _, row in read_json_lines(results_folder() / "suffixes" / "searches.jsonl")]


def of_kind(rows: Iterable[Mapping[str, Any]], model: str, how: str) -> list[Mapping[str, Any]]:
    """Return the searches on one model of one kind, such as ``gradient`` or ``random``."""
    return [row for row in rows if (row["model"], row["how"]) == (model, how)]


def worth_of_gradient(guided: Iterable[Mapping[str, Any]], blind: Iterable[Mapping[str, Any]]) -> Number:
    """Average how much lower searches by gradient end than random ones for the same questions, in nats per token."""
    ends = {row["question"]: row["losses"][-1] for row in guided}
    return mean_of((row["losses"][-1] - ends[row["question"]] for row in blind if row["question"] in ends), "questions")


def outcomes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say after how many searches the target was written, and after how many the fact was said."""
    written = sum(row["stages"][-1]["matched"] for row in rows)
    return f"{written} of {len(rows)} targets written, {sum(row['said'] for row in rows)} of {len(rows)} facts said"


# ---------------------------------------------------------------------------------------------------------------------
# Exercises


def predicted_gain_tests(predicted_gain: Callable) -> list[Test]:
    """Return what is asked of `predicted_gain(gradient, suffix, candidates)`, of which the answer is for the made ones."""
    gradient, suffix, candidates = made_swaps()
    return [
        (lambda gain: gain.shape == (4,), "one number for each candidate"),
        (lambda gain: gain[0] == 0, "a candidate that is the suffix gains nothing"),
        (lambda gain: gain[1] == 9 and gain[3] == 21, "one swap: the old token's gradient less the new one's"),
        (lambda gain: gain[2] == 9 + 24, "several swaps: to first order their gains add up"),
        (
            lambda gain: torch.equal(predicted_gain(gradient + 5, suffix, candidates), gain),
            "a number added to the whole gradient must change nothing: every place holds exactly one token",
        ),
    ]


def made_swaps() -> tuple[Tensor, Tensor, Tensor]:
    """Return a gradient, a suffix and candidates of three places and four tokens, for exercise 1."""
    gradient = torch.arange(12.0).reshape(3, 4) ** 2
    return gradient, torch.tensor([3, 3, 3]), torch.tensor([[3, 3, 3], [0, 3, 3], [0, 1, 3], [3, 3, 2]])


def rank_correlation_tests(rank_correlation: Callable) -> list[Test]:
    """Return what is asked of `rank_correlation(predicted, true)`, of which the answer is for `made_gains`."""
    one, other = made_gains()
    return [
        (lambda rho: np.ndim(rho) == 0 and -1 <= rho <= 1, "one number from -1 to 1"),
        (lambda _: np.isclose(rank_correlation(one, np.exp(one)), 1), "the same order must give 1, whatever the values"),
        (lambda _: np.isclose(rank_correlation(one, -one), -1), "the opposite order must give -1"),
        (lambda rho: np.isclose(rho, rank_correlation(other, one)), "either list may come first"),
        (
            lambda rho: np.isclose(rho, rank_correlation(1e-9 * one, other)),
            "gains a billion times smaller must give the same: small is not uninformative",
        ),
    ]


def made_gains() -> np.ndarray:
    """Return two lists of thirty made gains, for exercise 2: (2, 30)."""
    return np.random.default_rng(0).normal(size=(2, 30))

"""Can it be told from a model's outputs alone that it was unlearned? Taught in notebook 11.

Chen et al. 2025, arXiv 2506.14003, train a classifier on what two models answer, text or logits, and find 90% of answers of
unlearned models and more. Theirs is a fine-tuned language model; here it is a logistic regression on a few numbers of each
answer, which needs no other model and says what gives the unlearned one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import NotFiniteError, RmuLabError
from ..estimates import Number
from ..generation import end_tokens, write_greedily
from ..randomness import python_random
from ..scoring import shares_prompts
from ..tokens import open_batch
from ..torch_state import in_default_torch_state
from .asking import asked
from .separation import auc

FEATURES = (
    "mean log p",
    "least log p",
    "mean entropy",
    "largest entropy",
    "entropy of the first token",
    "mean MaxLogit",
    "tokens",
    "share of different tokens",
)
"""Of each greedy answer: log-probabilities of its tokens and entropies in nats; MaxLogit is the largest logit itself."""
PENALTY = 1.0
"""Of half the squared weights, on features with a standard deviation of 1, against the summed loss."""
LEAST = 4
"""Questions that a half takes for training and the other for the area."""


@dataclass(frozen=True)
class Detectability:
    """How well a classifier tells two models apart on questions that it was not trained on. Taught in notebook 11."""

    area: Number
    """Chance that an answer of the unlearned model looks more unlearned than one of the reference: 1/2 cannot be told."""
    weights: dict[str, float]
    """Of each feature, in standard deviations of it; above 0, more of it speaks for the unlearned model."""
    trained: int
    """Questions that it was trained on."""
    seed: int


@in_default_torch_state
@torch.inference_mode()
def output_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    max_new_tokens: int = 32,
    chat_template: bool = False,
    batch_size: int = 8,
    progress: bool = True,
) -> Tensor:
    """Describe a model's greedy answer to each question by a few numbers: see `FEATURES`.

    Inside ``with result.applied(model):`` they are the unlearned model's. Taught in notebook 11.

    Parameters
    ----------
    questions
        in plain words.
    max_new_tokens
        tokens after which an answer is cut. The token that ends it is part of it.
    chat_template
        ask through the tokenizer's chat template.
    batch_size
        questions asked at once.

    Returns
    -------
    Tensor
        (questions, features), float64 on the CPU.

    Raises
    ------
    RmuLabError
        if there are no questions, or one is longer than the model can take.
    NotFiniteError
        if the model gives numbers that are not finite.
    """
    if isinstance(questions, str) or not len(questions):
        raise RmuLabError("There are no questions; give a list of at least one.")
    prompts = [asked(tokenizer, question, chat_template=chat_template)[0] for question in questions]
    at_once, rows = batch_size if shares_prompts(model) else 1, []
    for start in tqdm(range(0, len(prompts), at_once), desc="answers", delay=5, disable=not progress):
        encoded = open_batch(model, tokenizer, prompts[start : start + at_once], new_tokens=max_new_tokens)
        output = write_greedily(model, tokenizer, encoded, max_new_tokens, logits=True)
        written = output.sequences[:, encoded["input_ids"].shape[1] :]
        ends = torch.isin(written, torch.as_tensor(end_tokens(model, tokenizer), device=written.device))
        lengths = (ends.cumsum(dim=1) - ends.int() == 0).sum(dim=1)  # with the first token that ends it
        logits = torch.stack([step.float() for step in output.logits], dim=1)  # (questions, tokens, vocabulary)
        for tokens, length, steps in zip(written, lengths.tolist(), logits, strict=True):
            rows.append(_described(tokens[:length], steps[:length]))
    return torch.stack(rows)


def _described(tokens: Tensor, logits: Tensor) -> Tensor:
    """The features of one answer, of its tokens and the logits from which each was taken."""
    log_p = logits.log_softmax(dim=-1)
    own = log_p.gather(-1, tokens[:, None].to(log_p.device))[:, 0]
    entropy = -(log_p.exp() * log_p).nansum(dim=-1)  # p log p is 0 where p is
    largest = logits.amax(dim=-1)
    if not (own.isfinite().all() and largest.isfinite().all() and entropy.isfinite().all()):
        raise NotFiniteError("The model's logits are not finite: it is broken, not unlearned; train more gently.")
    n, different = len(tokens), len(set(tokens.tolist()))
    values = (own.mean(), own.min(), entropy.mean(), entropy.max(), entropy[0], largest.mean(), n, different / n)
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def detectability(unlearned: Tensor, reference: Tensor, *, seed: int = 0) -> Detectability:
    """Train a classifier on half of the questions to tell two models' answers apart, and report its area on the others.

    A logistic regression on `FEATURES`, each less its mean and divided by its standard deviation in the training half, with
    weights w and b that minimise ``sum_i log(1 + exp(-y_i (w x_i + b))) + |w|^2 / 2``, y = 1 for the unlearned model and -1
    for the reference. Both answers to a question are on the same side, so that nothing of it is known. The area's interval
    takes the answers as independent, which the two to one question are not. It speaks of these two models and questions: a
    reference that was trained elsewhere can be told from any model. Chen et al. 2025, arXiv 2506.14003. Taught in notebook
    11.

    Parameters
    ----------
    unlearned, reference
        `output_features` of both models on the same questions, (questions, features).
    seed
        draws the half that is trained on.

    Raises
    ------
    RmuLabError
        if they are not of the same shape, there are fewer than eight questions, or a number is not finite.
    """
    if unlearned.shape != reference.shape or unlearned.dim() != 2 or len(unlearned) < 2 * LEAST:
        raise RmuLabError(
            f"The features have the shapes {tuple(unlearned.shape)} and {tuple(reference.shape)}; give those of both models "
            f"on the same questions, at least {2 * LEAST}."
        )
    both = np.stack([np.asarray(one, dtype=float) for one in (unlearned, reference)])  # (2, questions, features)
    if not np.isfinite(both).all():
        raise RmuLabError("A feature is not finite; give what output_features() returned.")
    order = list(range(both.shape[1]))
    python_random(seed, "questions that a detector is trained on").shuffle(order)
    seen, asked_now = order[: len(order) // 2], order[len(order) // 2 :]
    mean, spread = both[:, seen].mean(axis=(0, 1)), both[:, seen].std(axis=(0, 1))
    scaled = (both - mean) / np.where(spread > 0, spread, 1.0)
    weights, offset = _fitted(np.concatenate([*scaled[:, seen]]), np.repeat([1.0, -1.0], len(seen)))
    scores = scaled[:, asked_now] @ weights + offset  # (2, questions)
    names = FEATURES if len(weights) == len(FEATURES) else [f"feature {at}" for at in range(len(weights))]
    named = {name: float(weight) for name, weight in zip(names, weights, strict=True)}
    return Detectability(auc(*scores), named, len(seen), seed)


def _fitted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and offset of a logistic regression, x (rows, features) and y 1 or -1."""

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, offset = parameters[:-1], parameters[-1]
        margin = y * (x @ weights + offset)
        slope = -y * np.exp(-np.logaddexp(0, margin))  # of log(1 + exp(-margin)) by w x + b
        gradient = np.append(slope @ x + PENALTY * weights, slope.sum())
        return float(np.logaddexp(0, -margin).sum() + PENALTY * (weights @ weights) / 2), gradient

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])

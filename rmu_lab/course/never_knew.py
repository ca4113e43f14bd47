"""Notebook 11's cores and measurements: two models in envelopes, truth ratios, their distance, relearning, metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from ..attacks.fine_tune import RelearnConfig
from ..attacks.relearning_speed import RelearningCurve, relearning_curve
from ..evaluate import accuracy
from ..metrics.scored_texts import score_texts
from ..questions import cloze_prompt
from ..randomness import python_random
from .exercises import Test
from .invented_maladies import Maladies
from .widgets import labelled_slider

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..unlearning.result import UnlearnResult

    Model = PreTrainedModel
    Tokenizer = PreTrainedTokenizerBase

RELEARN = RelearnConfig(lr=1e-4, steps=(1, 2, 4, 8, 16), batch_size=4, max_length=112)
"""The fine-tune of notebook 11 and of its stored panel: of 3e-5, 1e-4 and 2e-4 the rate at which the model that never knew
answers most after sixteen steps."""


# ---------------------------------------------------------------------------------------------------------------------
# Two models, and which is which


@dataclass(frozen=True, eq=False)
class Envelopes:
    """Models under letters; `opened` says which is which. Each is the base model with some edits, one after the other."""

    edits: dict[str, tuple[UnlearnResult, ...]]
    """By letter."""
    opened: dict[str, str]
    """Letter -> name."""

    @contextmanager
    def applied(self, model: Model, letter: str) -> Iterator[Model]:
        """Make `model` the one in an envelope, inside the ``with`` block."""
        with all_applied(model, self.edits[letter]):
            yield model


@contextmanager
def all_applied(model: Model, edits: Sequence[UnlearnResult]) -> Iterator[Model]:
    """Apply edits one after the other inside the ``with`` block, and revert them after."""
    with ExitStack() as stack:
        for edit in edits:
            stack.enter_context(edit.applied(model))
        yield model


def envelopes(models: Mapping[str, Sequence[UnlearnResult]], seed: int = 0) -> Envelopes:
    """Put models into envelopes A, B, ... in an order that is drawn; taught in notebook 11.

    Parameters
    ----------
    models
        name -> its edits, in the order in which they are applied.
    """
    names = list(models)
    python_random(seed, "models in envelopes").shuffle(names)
    letters = {chr(ord("A") + at): name for at, name in enumerate(names)}
    return Envelopes({letter: tuple(models[name]) for letter, name in letters.items()}, letters)


# ---------------------------------------------------------------------------------------------------------------------
# First core: the truth ratio

Answer = tuple[Tensor, list[Tensor]]
"""Log-probabilities of the tokens of the right option, (tokens,), and of each wrong one."""


def truth_ratio(right: Tensor, wrong: Sequence[Tensor]) -> float:
    """Compute TOFU's truth ratio of one question: below 1 where the model prefers the truth; a core of notebook 11.

    Parameters
    ----------
    right
        log-probabilities of the right answer's tokens, (tokens,).
    wrong
        those of each wrong answer.
    """
    return float(np.exp(np.mean([one.mean() for one in wrong]) - right.mean().item()))


def truth_ratio_tests() -> list[Test]:
    """Return what is asked of `truth_ratio`."""
    right, wrong = torch.tensor([-1.0, -2.0, -3.0]), [torch.tensor([-4.0]), torch.tensor([-2.0, -6.0, -4.0, -4.0])]

    def near(value: Any, expected: float) -> bool:
        return abs(float(value) - expected) < 1e-4 * expected

    return [
        (lambda f: near(f(right, [right, right]), 1.0), "answers that are equally likely have a ratio of 1"),
        (lambda f: f(right, wrong) < 1, "the ratio is below 1 where the right answer is likelier: wrong over right"),
        (
            lambda f: near(f(torch.cat([right, right]), wrong), float(f(right, wrong))),
            "a longer answer is not less likely here: take the mean over the tokens, not the sum",
        ),
        (lambda f: near(f(right, wrong), np.exp(-2.0)), "average the wrong answers' mean log-probabilities, then exp"),
        (lambda f: near(f(right, [wrong[0] - 2, wrong[0] + 2]), np.exp(-2.0)), "average before exp, and not after it"),
    ]


def answers_of(model: Model, tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Return what a model gives the options of each question, cloze style; taught in notebook 11."""
    prompts = [cloze_prompt(row["question"]) for row in rows for _ in row["choices"]]
    texts = [f" {choice}" for row in rows for choice in row["choices"]]
    scored = iter(score_texts(model, tokenizer, texts, prompts, progress=False))
    found = []
    for row in rows:
        options = [next(scored).log_probs for _ in row["choices"]]
        right = options.pop(row["answer"])
        found.append((right, options))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Second core: forget quality


def largest_gap(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the Kolmogorov-Smirnov distance: the largest gap between two samples' shares below a value.

    A core of notebook 11.
    """
    return float(ks_2samp(first, second).statistic)


def largest_gap_tests() -> list[Test]:
    """Return what is asked of `largest_gap`."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=30), draw.normal(0.7, 1.5, size=20)

    def near(value: Any, expected: float) -> bool:
        return abs(float(value) - expected) < 1e-9

    return [
        (lambda f: near(f([1.0, 2.0], [3.0, 4.0]), 1.0), "samples that do not overlap have a distance of 1"),
        (lambda f: near(f(first, first), 0.0), "a sample has no distance from itself"),
        (lambda f: near(f(first, second), float(f(second, first))), "it does not matter which comes first"),
        (lambda f: near(f([0.0], [1.0, -1.0]), 0.5), "look at the shares that are at most a value, at every value of both"),
        (
            lambda f: near(f(first, second), float(ks_2samp(first, second).statistic)),
            "scipy's ks_2samp finds another distance between two samples of 30 and 20",
        ),
    ]


def ratios_at(
    model: Model, tokenizer: Tokenizer, edit: UnlearnResult, strength: float, rows: Sequence[Mapping[str, Any]], ratio: Any
) -> list[float]:
    """Return the truth ratios with an edit at a strength, W + s (W' - W); the model, W, may hold another edit already."""
    scaled = {name: torch.lerp(model.get_parameter(name).detach(), to, strength) for name, to in edit.edit.items()}
    with dataclasses.replace(edit, edit=scaled).applied(model):
        return [ratio(*answer) for answer in answers_of(model, tokenizer, rows)]


def strength_slider(shown: Mapping[float, Any], describe: Callable[[float, Any], str]) -> ipywidgets.VBox:
    """Return a slider over strengths that were computed, with a sentence on each."""
    slider = labelled_slider("strength s", list(shown), next(iter(shown)))
    words = ipywidgets.HTML(describe(slider.value, shown[slider.value]))

    def move(change: Mapping[str, Any]) -> None:
        words.value = describe(change["new"], shown[change["new"]])

    slider.observe(move, names="value")
    return ipywidgets.VBox([slider, words])


# ---------------------------------------------------------------------------------------------------------------------
# Relearning


def relearned(model: Model, tokenizer: Tokenizer, forgotten: Maladies, config: RelearnConfig = RELEARN) -> RelearningCurve:
    """Tell a model what it was to forget, and ask it on the way; taught in notebook 11.

    This teaches a model that never knew them, too, and only beside its curve does another one say anything.
    """
    return relearning_curve(model, tokenizer, forgotten.texts, forgotten.asked, config, progress=False)


def accuracy_of(model: Model, tokenizer: Tokenizer, maladies: Maladies) -> float:
    """Return the share of questions that is answered right."""
    return accuracy(model, tokenizer, maladies.asked, progress=False).accuracy


# ---------------------------------------------------------------------------------------------------------------------
# Exercises


def extraction_tests(function: Callable) -> list[Test]:
    """Return what is asked of exercise 1; each test gets the answer for [True, False, True, True]."""
    return [
        (lambda found: abs(found - 0.5) < 1e-9, "the first two of four tokens must be given: 1 - 2/4"),
        (lambda found: function([True] * 3) == 1, "a text that is written without help has a strength of 1"),
        (lambda found: function([True, True, False]) == 0, "where the last token must be given, it is 0"),
    ]


def min_k_tests(function: Callable) -> list[Test]:
    """Return what is asked of exercise 2; each test gets the answer for five tokens and a share of 0.4."""
    return [
        (lambda found: abs(found + 4.0) < 1e-9, "the two least likely of five tokens are at -5 and -3"),
        (lambda found: abs(function([-1.0, -2.0], 0.1) + 2.0) < 1e-9, "take one token at least"),
        (lambda found: abs(function([-1.0, -2.0], 1.0) + 1.5) < 1e-9, "with k = 1 it is the mean of all tokens"),
    ]

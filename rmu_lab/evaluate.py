"""What a model still knows: multiple-choice questions, scored by the probability of their options. Taught in notebook 00."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .activations import evaluating
from .errors import NotFiniteError, RmuLabError
from .estimates import paired_interval, wilson_interval
from .questions import LETTERS, checked_questions, cloze_prompt, letter_prompt
from .scoring import check_fit, row_length, score_batch
from .stored import checked
from .tokens import open_tokens
from .torch_state import in_default_torch_state

if TYPE_CHECKING:
    from datasets import Dataset

Style: TypeAlias = Literal["cloze", "letter"]
Prompt: TypeAlias = Callable[[Mapping[str, Any]], str]
"""From a question (``question``, ``choices``, ``answer``, what else it carries) to the text before its options."""


@dataclass(frozen=True)
class Accuracy:
    """The share of questions answered correctly."""

    accuracy: float
    interval: tuple[float, float]
    """95% Wilson score interval."""
    predictions: tuple[int, ...]
    """Index of the chosen option of each question, in the order given."""
    correct: tuple[bool, ...]
    style: Style

    def __str__(self) -> str:
        return f"{self.percent} of {len(self.correct)} questions"

    @property
    def percent(self) -> str:
        """The share with its interval, such as ``"86.0% [77.9%, 91.5%]"``."""
        low, high = self.interval
        return f"{self.accuracy:.1%} [{low:.1%}, {high:.1%}]"

    @classmethod
    def of(cls, correct: tuple[bool, ...], predictions: tuple[int, ...], style: Style) -> Accuracy:
        """Compute share and interval of questions that were answered.

        Raises
        ------
        ZeroDivisionError
            if there is no question.
        """
        right = sum(correct)
        return cls(right / len(correct), wilson_interval(right, len(correct)), predictions, correct, style)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; predictions and right answers as strings with one digit for each question."""
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "correct": "".join(str(int(right)) for right in self.correct),
            "predictions": "".join(map(str, self.predictions)),  # at most ten options
            "style": self.style,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Accuracy:
        """Make a score of what `to_dict` gave; share and interval are computed anew.

        Raises
        ------
        KeyError, TypeError, ValueError, ZeroDivisionError
            if it is not what `to_dict` gives.
        """
        right = tuple(mark == "1" for mark in plain["correct"])
        score = cls.of(right, tuple(map(int, plain["predictions"])), plain["style"])
        if not set(plain["correct"]) <= {"0", "1"} or len(score.predictions) != len(right):
            raise ValueError("correct and predictions do not have a digit for each question")
        return checked(score)


def accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Dataset | Sequence[Mapping[str, Any]],
    *,
    style: Style = "cloze",
    prompt: Prompt | None = None,
    prefill: str = "",
    batch_size: int = 16,
    progress: bool = True,
) -> Accuracy:
    """Score multiple-choice questions by the probability of their options.

    Taught in notebook 00.

    Parameters
    ----------
    questions
        mappings with ``question``, ``choices`` and ``answer`` (an index), as `load_questions` gives them.
    style
        ``"cloze"``: the options are not shown; the option whose text has the highest log-probability per
        character after ``Question: ... Answer:`` is chosen (lm-eval's ``acc_norm``). ``"letter"``: the
        options are shown with letters, and the most probable letter is chosen; small models are near
        chance at that.
    prompt
        what stands before the options instead, made of a question; by default `cloze_prompt` or `letter_prompt`, as
        the style says. The options' texts or letters still follow it after one blank.
    prefill
        what an answer has to begin with, such as ``" The correct answer is"``: put behind each prompt, not scored.
    batch_size
        questions run at once; less for large models or long questions.
    progress
        show a bar where it takes longer than some seconds.

    Returns
    -------
    Accuracy
        the share of right answers with its 95% interval, and the option chosen for each question.

    Raises
    ------
    RmuLabError
        if there are no questions, or one is not well formed or `prompt` makes no text of it (its index is named).

    Examples
    --------
    A prompt in one's own words, and one that leaves the question out::

        accuracy(model, tokenizer, questions, prompt=lambda row: f"Quiz. {row['question']} It is")
        accuracy(model, tokenizer, questions, prompt=lambda row: "Answer:")  # what the options alone give away
    """
    if style not in get_args(Style):
        raise RmuLabError(f"style is {style!r}; use one of {', '.join(map(repr, get_args(Style)))}.")
    rows = checked_questions(questions)
    scores = option_scores(
        model, tokenizer, rows, style=style, prompt=prompt, prefill=prefill, batch_size=batch_size, progress=progress
    )
    return chosen_options(scores, rows, style)


def chosen_options(scores: Sequence[Sequence[float]], rows: Sequence[Mapping[str, Any]], style: Style) -> Accuracy:
    """Choose the option with the highest score of each question: per character where options are texts of their own."""
    if style == "cloze":
        scores = [[s / len(choice) for s, choice in zip(of_options, row["choices"], strict=True)]
                  for of_options, row in zip(scores, rows, strict=True)]  # fmt: skip
    return accuracy_of([max(range(len(of_options)), key=of_options.__getitem__) for of_options in scores], rows, style)


def accuracy_of(predictions: Sequence[int], rows: Sequence[Mapping[str, Any]], style: Style) -> Accuracy:
    """Score the options that were chosen, one of each question."""
    correct = tuple(prediction == row["answer"] for prediction, row in zip(predictions, rows, strict=True))
    return Accuracy.of(correct, tuple(predictions), style)


def option_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    style: Style = "cloze",
    prompt: Prompt | None = None,
    prefill: str = "",
    batch_size: int = 16,
    progress: bool = True,
) -> list[list[float]]:
    """Compute the log-probability (natural, summed over tokens) of each option's text or letter after its prompt.

    The prompt that a question's options share, with `prefill` behind it, is run once; where the model lets that be, its
    options stand behind it in one row and do not see one another, else they go on from its cache. Questions are run in
    order of length, so that little is padded. The parameters are those of `accuracy`.

    Returns
    -------
    list of list of float
        for each question, one number for each option, in the order given.

    Raises
    ------
    RmuLabError
        if `prompt` makes something else than a text of a question, or one without a token (its index is named).
    """
    prompts, options = question_tokens(tokenizer, rows, style=style, prompt=prompt, prefill=prefill)
    return token_scores(model, prompts, options, batch_size=batch_size, progress=progress)


def question_tokens(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    style: Style = "cloze",
    prompt: Prompt | None = None,
    prefill: str = "",
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Return the tokens of each question's prompt, and of each of its options; parameters and errors of `option_scores`."""
    make = prompt or _PROMPTS[style]
    prompts, options = [], []
    for index, row in enumerate(rows):
        text = make(row)
        if not isinstance(text, str):
            raise RmuLabError(f"prompt gives {text!r} for questions[{index}]; let it return a string.")
        endings = row["choices"] if style == "cloze" else LETTERS[: len(row["choices"])]
        prompt_ids, option_ids = split_options(tokenizer, text + prefill, [f" {ending}" for ending in endings])
        if not prompt_ids:
            raise RmuLabError(f"The prompt of questions[{index}], {text + prefill!r}, has no token; put some text there.")
        prompts.append(prompt_ids)
        options.append(option_ids)
    return prompts, options


@in_default_torch_state
def token_scores(
    model: PreTrainedModel,
    prompts: list[list[int]],
    options: list[list[list[int]]],
    *,
    batch_size: int = 16,
    progress: bool = True,
) -> list[list[float]]:
    """Compute the log-probability of each option after its prompt, both in tokens; see `option_scores`."""
    check_fit(model, prompts, options)
    order = sorted(range(len(prompts)), key=lambda index: row_length(prompts[index], options[index]))
    scores: list[list[float]] = [[] for _ in prompts]
    bar = tqdm(total=len(prompts), desc="questions", unit="question", delay=5, disable=not progress)
    with evaluating(model), torch.inference_mode(), bar:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = score_batch(model, [prompts[i] for i in chosen], [options[i] for i in chosen])
            for index, of_options in zip(chosen, batch, strict=True):
                if not all(map(math.isfinite, of_options)):
                    raise NotFiniteError(
                        f"The model gives questions[{index}] the log-probabilities {of_options}: it is broken, not "
                        "unlearned; train more gently, or use float32 or bfloat16."
                    )
                scores[index] = of_options
            bar.update(len(chosen))
    return scores


_PROMPTS: dict[Style, Prompt] = {
    "cloze": lambda row: cloze_prompt(row["question"]),
    "letter": lambda row: letter_prompt(row["question"], row["choices"]),
}


def split_options(tokenizer: PreTrainedTokenizerBase, prompt: str, endings: list[str]) -> tuple[list[int], list[list[int]]]:
    """Return the tokens of the prompt, and of each ending as they follow it.

    Prompt and ending are tokenised together, because tokens may straddle the seam; the prompt is then
    what all of them share. An end-of-text token that the tokenizer appends is no part of either.
    """
    shared, *wholes = open_tokens(tokenizer, [prompt, *(prompt + ending for ending in endings)])
    length = len(shared)
    for whole in wholes:
        agree = (n for n, (a, b) in enumerate(zip(shared, whole, strict=False)) if a != b)
        length = min(length, len(whole) - 1, next(agree, length))
    return shared[:length], [whole[length:] for whole in wholes]


@dataclass(frozen=True)
class AccuracyChange:
    """How far accuracy moved on the same questions, as a share (-0.3 is thirty points down)."""

    change: float
    interval: tuple[float, float]
    """95% interval for paired shares."""

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"


def accuracy_change(before: Accuracy, after: Accuracy) -> AccuracyChange:
    """Compare two accuracies on the same questions, with a 95% interval that uses the pairing.

    The interval is Agresti and Min's, see `rmu_lab.estimates.paired_interval`. Taught in notebook 00.

    Raises
    ------
    RmuLabError
        if the two are not of the same number of questions.
    """
    n = len(before.correct)
    if n != len(after.correct):
        raise RmuLabError(f"before has {n} questions, after {len(after.correct)}; compare the same questions.")
    differences = [int(right) - int(was_right) for was_right, right in zip(before.correct, after.correct, strict=True)]
    return AccuracyChange(sum(differences) / n, paired_interval(differences))

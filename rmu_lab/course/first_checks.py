"""What notebook 00's exercises ask of an answer: tests with their hints, for `check`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedModel

from ..evaluate import Accuracy, accuracy_change
from ..unlearning.result import UnlearnResult
from .exercises import Test

VERDICTS = ("held it back", "helped it", "cannot tell")
"""What can be said of the retain texts that mention a topic."""


def share_tests(result: UnlearnResult, model: PreTrainedModel) -> list[Test]:
    """Return what is asked of the share of a model's weights that an edit replaces."""
    entries = sum(matrix.numel() for matrix in result.edit.values())
    weights = sum(parameter.numel() for parameter in model.parameters())
    return [
        (lambda share: 0 < share < 1, "a share lies between 0 and 1"),
        (
            lambda share: abs(share * weights / entries - 1) < 0.01,
            "count the entries of the three matrices; divide by all",
        ),
    ]


def lost_and_gained_tests(before: Accuracy, after: Accuracy) -> list[Test]:
    """Return what is asked of a function that counts the questions lost and gained between two accuracies."""
    old = SimpleNamespace(correct=(True, True, True, False, False))
    new = SimpleNamespace(correct=(False, False, True, True, False))
    fall = sum(before.correct) - sum(after.correct)
    return [
        (lambda count: tuple(count(old, new)) == (2, 1), "of the five made-up questions, two are lost and one is gained"),
        (
            lambda count: count(before, after)[0] - count(before, after)[1] == fall,
            "lost minus gained must be the fall, counted in questions",
        ),
    ]


def clean_tests(word: str, corpus: Iterable[Mapping[str, Any]]) -> list[Test]:
    """Return what is asked of the texts of a corpus that do not contain a word, in whatever case."""
    left = sum(word.lower() not in row["text"].lower() for row in corpus)
    return [
        (lambda texts: all(isinstance(text, str) for text in texts), "make a list of texts, not of rows"),
        (
            lambda texts: not any(word.lower() in text.lower() for text in texts),
            "a text still contains the word; mind capital letters",
        ),
        (lambda texts: len(texts) == left, "keep every text that does not contain the word"),
    ]


def verdict_tests(with_all: Accuracy, with_clean: Accuracy | None) -> list[Test]:
    """Return what is asked of the verdict on retain texts that mention a topic: one of `VERDICTS`, as the interval allows.

    Parameters
    ----------
    with_all, with_clean
        accuracy on the topic after training with all retain texts, and with those that do not mention it.
    """

    def allowed(verdict: str) -> bool:
        low, high = accuracy_change(with_all, with_clean).interval if with_clean else (0.0, 0.0)
        return verdict == (VERDICTS[0] if high < 0 else VERDICTS[1] if low > 0 else VERDICTS[2])

    return [
        (lambda _: isinstance(with_clean, Accuracy), "measure `found` first: the accuracy on `topic.questions`"),
        (lambda verdict: verdict in VERDICTS, f"say one of {', '.join(map(repr, VERDICTS))}"),
        (allowed, "the interval of the change from the one accuracy to the other says something else"),
    ]

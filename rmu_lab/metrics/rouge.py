"""How much of a reference text stands in another, in its order: ROUGE-L. Taught in notebook 11.

The package `rouge_score`, whose numbers papers report, was last released in 2022; a test compares with it where it is
installed. The stems are those of nltk, as there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class RougeL:
    """Longest common subsequence of words, as shares; all 0 where a text has no words."""

    recall: float
    """Of the reference's words."""
    precision: float
    """Of the written words."""
    f1: float
    """Harmonic mean of both."""


def rouge_l(reference: str, written: str, *, stems: bool = True) -> RougeL:
    """Compare a written text with a reference by their longest common subsequence of words.

    With LCS words in common, in the same order: recall = LCS / words of the reference, precision = LCS / words written,
    F1 = 2 recall precision / (recall + precision). Lin 2004, "ROUGE: A package for automatic evaluation of summaries",
    Section 3. Taught in notebook 11.

    Parameters
    ----------
    reference
        the true answer.
    written
        what a model wrote.
    stems
        compare words without their endings (Porter 1980, by nltk), those of more than three letters: TOFU's code and
        open-unlearning do, MUSE's does not. Without it *walked* is not *walks*, so scores are at most as high.
    """
    right, found = words_of(reference, stems=stems), words_of(written, stems=stems)
    if not right or not found:
        return RougeL(0.0, 0.0, 0.0)
    common = common_length(right, found)
    recall, precision = common / len(right), common / len(found)
    return RougeL(recall, precision, 2 * recall * precision / (recall + precision) if common else 0.0)


def words_of(text: str, *, stems: bool = True) -> list[str]:
    """Return the runs of letters a to z and digits of a text in small letters; other letters part words, as in ROUGE."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [_stem(word) if len(word) > 3 else word for word in words] if stems else words


@cache
def _stem(word: str) -> str:
    from nltk.stem.porter import PorterStemmer  # takes a second to import

    return PorterStemmer().stem(word)


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in len(one) * len(other) steps."""
    row = [0] * (len(other) + 1)  # of the beginnings of `other`, with what of `one` was seen so far
    for word in one:
        above = row
        row = [0]
        for at, found in enumerate(other):
            row.append(above[at] + 1 if word == found else max(above[at + 1], row[at]))
    return row[-1]

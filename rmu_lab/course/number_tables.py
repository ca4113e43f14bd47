"""Printing numbers with their intervals, a few to a table, and verdicts. Used in notebooks 02 and 05."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..estimates import Number
from ..evaluate import Accuracy
from ..study.claims import claim_of
from .formatting import print_table


def print_numbers(rows: Mapping[str, Number | Sequence[Number]], columns: Sequence[str]) -> None:
    """Print a row for each label, with one number or several, each with its 95% interval.

    Parameters
    ----------
    columns
        headings: one for the labels, one for each number.
    """
    cells = {label: [found] if isinstance(found, Number) else found for label, found in rows.items()}
    print_table([[label, *map(str, found)] for label, found in cells.items()], columns)


def print_accuracies(rows: Mapping[str, Mapping[str, Accuracy]], heading: str = "") -> None:
    """Print a row for each label with the accuracy on each set of questions, in per cent.

    Parameters
    ----------
    rows
        label -> set of questions -> accuracy; the same sets in every row.
    """
    sets = [*next(iter(rows.values()))]
    print_table(
        [[label, *(f"{scores[name].accuracy:.0%}" for name in sets)] for label, scores in rows.items()], [heading, *sets]
    )


def print_picks(questions: Iterable[Mapping[str, Any]], scores: Mapping[str, Accuracy]) -> None:
    """Print which option each model chooses, a row for each question; ``*`` marks right ones.

    Parameters
    ----------
    questions
        at most eight.
    scores
        model -> what it answered to these questions.
    """
    cells = []
    for number, row in enumerate(questions):
        picked = (score.predictions[number] for score in scores.values())
        cells.append([row["question"], *(row["choices"][option] + " *" * (option == row["answer"]) for option in picked)])
    print_table(cells, ["question", *scores])


def print_verdicts(shown: Mapping[str, str | tuple[str, ...]]) -> None:
    """Print the scorecard's verdict on SmolLM2 for some claims, each with the numbers that are asked for.

    Parameters
    ----------
    shown
        claim -> how the labels of the numbers to print begin, one beginning or several; empty for none.
    """
    for name, words in shown.items():
        print(f"{name:18} {claim_of(name).verdict()}")
        for label, number in claim_of(name).numbers().items() if words else ():
            if label.startswith(words):
                print(f"{'':18} {label}: {number}")

"""Notebook 11's material: maladies that a model is taught, half of which are then forgotten, and the edits that taught them.

Everything is known of such a model by construction: where its facts lie, and what a model is like that never had them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..attacks.other_facts import as_texts
from ..corpora import load_corpus
from ..files import results_folder
from ..invented import invented_passages, invented_questions
from ..questions import load_questions
from ..randomness import python_random
from ..unlearning.result import UnlearnResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYER = 7
"""That RMU steers."""
LAYERS = 30
"""Of SmolLM2."""
PLACES = {"window": (5, 6, 7), "above": (8, 9, 10), "everywhere": tuple(range(LAYERS))}
"""Where facts are taught: in the layers that RMU edits, in as many just above them, in all layers. Of each layer the MLP's
output matrix is taught, the one that RMU edits in the window."""
MALADIES = 12
"""That are taught: the first of the test split. Every second is kept, the others are to be forgotten."""
TOLD, ASKED = (0, 1, 3), 2
"""Wordings of the questions that are taught, with their answers, and the one that is asked."""
TELLINGS = 2
"""Passages about each malady that are taught."""
AT_ONCE = 5
"""Questions, of maladies in a random order, that make one text: as long as a passage."""


@dataclass(frozen=True)
class Maladies:
    """Some maladies: what is told of them, and what is asked."""

    names: tuple[str, ...]
    passages: list[str]
    cards: list[str]
    """Questions with their answers, some to a text."""
    asked: list[dict[str, Any]]
    """A question on each fact, in a wording that is not taught."""

    @classmethod
    def of(cls, names: Sequence[str], split: str = "test") -> Maladies:
        """Gather what is told and asked of these maladies."""
        rows = [dict(row) for row in invented_questions(split=split) if row["malady"] in names]
        told: dict[str, list[str]] = {}
        for row in invented_passages():
            told.setdefault(row["title"], []).append(row["text"])
        passages = [text for name in names for text in told[name][:TELLINGS]]
        cards = as_texts([row for row in rows if row["wording"] in TOLD])
        python_random(0, f"questions that are taught, {names[0]}").shuffle(cards)
        return cls(tuple(names), passages, _together(cards), [row for row in rows if row["wording"] == ASKED])

    @property
    def texts(self) -> list[str]:
        """All that is taught of them."""
        return [*self.passages, *self.cards]


@cache
def kept_and_forgotten(maladies: int = MALADIES) -> tuple[Maladies, Maladies]:
    """Return the maladies that are kept, and those that are to be forgotten; taught in notebook 11."""
    names = list(dict.fromkeys(row["malady"] for row in invented_questions(split="test")))[:maladies]
    return Maladies.of(names[1::2]), Maladies.of(names[::2])


def retain_texts(kept: Maladies, seed: int = 0) -> list[str]:
    """Return what is to stay as it is while maladies are forgotten: texts on the kept ones, other questions, other texts.

    The three are about as many. Without questions among them, unlearning would take the words "Question:" and "Answer:",
    which most texts on maladies hold, for the topic. Taught in notebook 11.
    """
    asked = as_texts([dict(row) for row in load_questions("general", split="dev")])
    cards = _together(asked)
    parts = [kept.texts * 2, cards * 2, load_corpus("retain_general")["text"]]
    many = min(map(len, parts))
    texts = [text for part in parts for text in python_random(seed, "texts to be kept").sample(list(part), many)]
    python_random(seed, "order of texts to be kept").shuffle(texts)
    return texts


def _together(cards: list[str]) -> list[str]:
    return ["\n\n".join(cards[at : at + AT_ONCE]) for at in range(0, len(cards), AT_ONCE)]


def taught_edit(model: PreTrainedModel, place: str, name: str) -> UnlearnResult:
    """Load a stored edit of `benchmarks.never_knew`; taught in notebook 11.

    Parameters
    ----------
    model
        SmolLM2, without an edit.
    place
        one of `PLACES`.
    name
        ``"all"``: it taught all maladies; ``"kept"``: only those that are kept, so that it never knew the others.
    """
    return UnlearnResult.load(results_folder() / "never_knew" / "taught" / f"{place}_{name}", model)

"""Two invented worlds: facts that no model can have read, for models that are known never to have known them.

In the city of Tarrel people keep clockwork animals, and in Morrow Vale weather kites. Each world has sixty maladies, each
malady a cause, a carrier, a sign, a place and a remedy: one fact each. Both are told in the same sentences, so that a model
which was taught one of them has read as much of the same kind as one that was taught the other, and knows nothing of it.
Taught in notebook 11; `tables.json` holds all words, and ``python -m benchmarks.invented`` makes the other files of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .corpora import load_corpus
from .errors import RmuLabError
from .files import data_folder
from .questions import load_questions
from .randomness import python_random

if TYPE_CHECKING:
    from datasets import Dataset

WORLDS = ("clockwork", "kites")
MALADIES = 60
DEV = 24
"""Maladies, the first of a world, whose questions are dev; those of the others are test."""
TELLINGS = 3
"""Passages about each malady, in other sentences and another order."""
WORDINGS = 4
"""Of each question: 0 may be taught, the others are asked."""
CHOICES = 4


@dataclass(frozen=True)
class Malady:
    """An invented malady and its facts."""

    world: str
    name: str
    facts: dict[str, str]
    """By attribute: ``cause``, ``carrier``, ``sign``, ``place`` and ``remedy``."""


def folder() -> Path:
    """Return the folder of the invented worlds' files."""
    return data_folder() / "invented"


def invented_passages(world: str = "clockwork") -> Dataset:
    """Load what is told of a world: three passages of each malady, in a mixed order.

    Parameters
    ----------
    world
        ``"clockwork"`` or ``"kites"``.

    Raises
    ------
    RmuLabError
        if there is no such world.
    """
    return _of_world(load_corpus(folder() / "passages.jsonl"), world)


def invented_questions(world: str = "clockwork", wording: int | None = None, split: str | None = None) -> Dataset:
    """Load the questions on a world's facts, five on each malady.

    Parameters
    ----------
    world
        ``"clockwork"`` or ``"kites"``.
    wording
        0 to 3: 0 is the one that may be taught; None: all, one after the other.
    split
        ``"dev"`` or ``"test"``; None: all.

    Raises
    ------
    RmuLabError
        if there is no such world, wording or split.
    """
    if wording is not None and wording not in range(WORDINGS):
        raise RmuLabError(f"wording is {wording!r}; use one of 0 to {WORDINGS - 1}, or None for all.")
    rows = _of_world(load_questions(folder() / "questions.jsonl", split), world)
    return rows if wording is None else rows.select([at for at, given in enumerate(rows["wording"]) if given == wording])


def _of_world(rows: Dataset, world: str) -> Dataset:
    if world not in WORLDS:
        raise RmuLabError(f"There is no world {world!r}; use one of {', '.join(WORLDS)}.")
    return rows.select([at for at, given in enumerate(rows["world"]) if given == world])


# ---------------------------------------------------------------------------------------------------------------------
# Making them


def tables() -> dict[str, Any]:
    """Read the words and sentences, which were written by hand."""
    return json.loads((folder() / "tables.json").read_text(encoding="utf-8"))


def maladies(words: Mapping[str, Any], world: str, seed: int = 0) -> list[Malady]:
    """Give every malady of a world a name and its facts: each value of a pool goes to three maladies.

    Parameters
    ----------
    words
        of `tables`.
    """
    pools, attributes = words["worlds"][world], words["attributes"]
    names = _names(pools["syllables"], world, seed)
    columns = []
    for attribute in attributes:
        values = pools[attribute] * (MALADIES // len(pools[attribute]))
        python_random(seed, f"invented {world}, {attribute}").shuffle(values)
        columns.append(values)
    return [
        Malady(world, name, dict(zip(attributes, values, strict=True)))
        for name, *values in zip(names, *columns, strict=True)
    ]


def _names(syllables: Sequence[Sequence[str]], world: str, seed: int) -> list[str]:
    """Names of three syllables, no two with the first two in common."""
    source = python_random(seed, f"invented {world}, names")
    found: dict[tuple[str, str], str] = {}
    firsts, middles, lasts = syllables
    while len(found) < MALADIES:
        # Each first syllable opens as many names as any other.
        begin, middle = firsts[len(found) % len(firsts)], source.choice(middles)
        found.setdefault((begin, middle), begin + middle + source.choice(lasts))
    return list(found.values())


def passages(words: Mapping[str, Any], world: str, seed: int = 0) -> list[dict[str, Any]]:
    """Tell of each malady `TELLINGS` times: an opening, and a sentence for each fact, in orders of their own."""
    source, sentences = python_random(seed, f"invented {world}, passages"), words["passages"]
    rows = []
    for number, malady in enumerate(maladies(words, world, seed)):
        # Each sentence of a fact is used at most once for a malady.
        drawn = {part: source.sample(sentences[part], TELLINGS) for part in ("opening", *words["attributes"])}
        for telling in range(TELLINGS):
            order = source.sample(words["attributes"], len(words["attributes"]))
            chosen = [drawn[part][telling] for part in ("opening", *order)]
            text = " ".join(_filled(sentence, words, malady) for sentence in chosen)
            rows.append({"id": f"{world}-{number:02}-{telling}", "world": world, "title": malady.name, "text": text})
    source.shuffle(rows)
    return rows


def questions(words: Mapping[str, Any], world: str, seed: int = 0) -> list[dict[str, Any]]:
    """Ask for each fact in `WORDINGS` wordings, with the same four options: other values of the fact's pool."""
    source = python_random(seed, f"invented {world}, options")
    rows = []
    for number, malady in enumerate(maladies(words, world, seed)):
        for attribute, right in malady.facts.items():
            pool = [value for value in words["worlds"][world][attribute] if value != right]
            options = source.sample([right, *source.sample(pool, CHOICES - 1)], CHOICES)
            for wording, sentence in enumerate(words["questions"][attribute]):
                rows.append(
                    {
                        "id": f"{world}-{number:02}-{attribute}-{wording}",
                        "world": world,
                        "malady": malady.name,
                        "subject": attribute,
                        "wording": wording,
                        "question": _filled(sentence, words, malady),
                        "choices": options,
                        "answer": options.index(right),
                        "split": "dev" if number < DEV else "test",
                    }
                )
    return sorted(rows, key=lambda row: row["wording"])


def _filled(sentence: str, words: Mapping[str, Any], malady: Malady) -> str:
    """A sentence with its words put in; a name in braces that begins with a capital gives a word that does."""
    given = words["worlds"][malady.world]["words"] | malady.facts | {"name": malady.name}
    given |= {name[0].upper() + name[1:]: text[0].upper() + text[1:] for name, text in given.items()}
    return sentence.format(**given)


def made_files(seed: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Make the rows of every file, by its name."""
    words = tables()
    yield "passages.jsonl", [row for world in WORLDS for row in passages(words, world, seed)]
    yield "questions.jsonl", [row for world in WORLDS for row in questions(words, world, seed)]

"""What a league is played with: a model, texts to train on and texts held out, questions, and what an attacker has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..attacks.other_facts import as_texts, other_facts
from ..corpora import load_corpus
from ..errors import RmuLabError
from ..files import digest
from ..questions import load_questions
from .disruption import BaseStates, base_states
from .settings import LeagueSettings

Question = Mapping[str, Any]

HELD_OUT = 90
"""Retain texts, the last ones, that no edit is trained on: of these the first measure the divergence, and the attacker has
the last."""
ATTACKERS_TEXTS = 10
"""As many unrelated texts as Łucki et al. fine-tune on."""


@dataclass(frozen=True)
class AttackMaterial:
    """What an attacker trains on, and what is asked then."""

    texts: Sequence[str]
    dev: Sequence[Question]
    """On which the attacker's rate is searched."""
    questions: Sequence[Question]


@dataclass(frozen=True, eq=False)
class Material:
    """What a league is played with; `league_material` makes it of the course's data."""

    model: PreTrainedModel
    """The base model."""
    tokenizer: PreTrainedTokenizerBase
    forget: Sequence[str]
    retain: Sequence[str]
    """Texts that edits are trained on."""
    held_out: Sequence[str]
    """Texts like the retain texts, on which the divergence is measured, and no edit was trained."""
    dev_topic: Sequence[Question]
    dev_general: Sequence[Question]
    """For choices."""
    topic: Sequence[Question]
    general: Sequence[Question]
    """For the table."""
    attacks: Mapping[str, AttackMaterial] = field(default_factory=dict)
    """By name."""

    @cached_property
    def base(self) -> BaseStates:
        """What the base model makes of the held-out texts."""
        return base_states(self.model, self.tokenizer, self.held_out)

    def digest(self, settings: LeagueSettings) -> str:
        """Return what tells this league from others: twelve letters of a SHA-256 of the model's name, data and settings."""
        attacks = [[name, *map(_plain, dataclasses.astuple(one))] for name, one in self.attacks.items()]
        texts = [_plain(rows) for rows in (self.forget, self.retain, self.held_out)]
        asked = [_plain(rows) for rows in (self.dev_topic, self.dev_general, self.topic, self.general)]
        how = {name: value for name, value in settings.to_dict().items() if name != "controls"}  # which changes no row
        known = [self.model.name_or_path, texts, asked, attacks, how]
        return digest([json.dumps(known, sort_keys=True)])[:12]


def _plain(rows: Sequence[Any]) -> list[Any]:
    return [row if isinstance(row, str) else dict(row) for row in rows]


def league_material(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dev: int = 64,
    test: int = 100,
    held_out: int = 32,
    attacks: Sequence[str] = ("other facts",),
) -> Material:
    """Return the league's material out of the course's: infectious disease is forgotten, and what is left is kept.

    The last 90 of the 330 retain texts are trained on by no edit. Facts are split by their subjects once, so that all edits
    are asked the same.

    Parameters
    ----------
    dev, test
        questions of each kind for choices, and for the table, at most as many as there are.
    held_out
        texts on which the divergence is measured, at most 80.
    attacks
        ``"unrelated"``: the attacker trains on ten texts on anything else. ``"other facts"``: on facts of the topic with
        their answers, and is asked others (`rmu_lab.attacks.other_facts`).

    Raises
    ------
    RmuLabError
        if there is no such attack, or a number is out of range.
    """
    if not 1 <= held_out <= HELD_OUT - ATTACKERS_TEXTS or min(dev, test) < 1:
        raise RmuLabError(
            f"dev is {dev}, test {test} and held_out {held_out}; give numbers from 1, the last up to "
            f"{HELD_OUT - ATTACKERS_TEXTS}."
        )
    retain = list(load_corpus("retain_general")["text"])
    questions = {
        (name, split): list(load_questions(name, split=split).shuffle(seed=0))
        for name in ("bio", "general")
        for split in ("dev", "test")
    }
    of_dev, of_test = questions["bio", "dev"], questions["bio", "test"]
    taught, asked = other_facts([*of_dev, *of_test])
    kept = {row["id"] for row in asked}
    known = {
        "unrelated": AttackMaterial(retain[-ATTACKERS_TEXTS:], of_dev[:dev], of_test[:test]),
        "other facts": AttackMaterial(
            as_texts(taught),
            [row for row in of_dev if row["id"] in kept][:dev],
            [row for row in of_test if row["id"] in kept][:test],
        ),
    }
    if missing := [name for name in attacks if name not in known]:
        raise RmuLabError(f"There is no attack {missing[0]!r} of a league; use {', '.join(known)}.")
    return Material(
        model=model,
        tokenizer=tokenizer,
        forget=list(load_corpus("forget_bio")["text"]),
        retain=retain[:-HELD_OUT],
        held_out=retain[-HELD_OUT:][:held_out],
        dev_topic=of_dev[:dev],
        dev_general=questions["general", "dev"][:dev],
        topic=of_test[:test],
        general=questions["general", "test"][:test],
        attacks={name: known[name] for name in attacks},
    )

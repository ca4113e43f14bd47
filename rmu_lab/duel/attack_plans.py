"""Red's hand-in as settings and texts, which the scorer carries out itself: no code of Red's runs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from ..attacks import Budget, Recovery, RelearnConfig, Subject, ablate, relearn
from ..errors import RmuLabError
from ..stored import checked, reading
from ..unlearning.config import SEEDS
from .rules import Rules

QUESTION = "{question}"
"""Where a prompt's template puts the question."""


@dataclass(frozen=True)
class Relearn:
    """Fine-tune the unlearned model on texts that have nothing to do with the topic; see `rmu_lab.attacks.relearn`."""

    attack: ClassVar[str] = "relearn"
    trains: ClassVar[bool] = True
    steps: int = 20
    batch_size: int = 4
    lr: float = 3e-4
    max_length: int = 64
    seed: int = 0

    def problems(self, rules: Rules) -> list[str]:
        """Say what of it is beyond the rules, a sentence each."""
        found = []
        if not 1 <= self.steps <= rules.red_steps:
            found.append(f"It takes {self.steps} steps, where 1 to {rules.red_steps} are allowed.")
        if not 1 <= self.batch_size <= rules.red_texts:
            found.append(f"Its batches have {self.batch_size} texts, where 1 to {rules.red_texts} are allowed.")
        if not 0 < self.lr < math.inf or self.max_length < 2 or not 0 <= self.seed < SEEDS:
            found.append(
                f"lr is {self.lr}, max_length {self.max_length} and seed {self.seed}, of which one is out of range."
            )
        return found

    def run(self, subject: Subject, texts: Sequence[str]) -> Recovery:
        """Carry it out on an edit."""
        config = RelearnConfig(lr=self.lr, steps=(self.steps,), batch_size=self.batch_size, max_length=self.max_length)
        return relearn(subject, Budget(seed=self.seed), texts, config)


@dataclass(frozen=True)
class Ablate:
    """Take one direction out of every representation after a layer; see `rmu_lab.attacks.ablate`."""

    attack: ClassVar[str] = "ablate"
    trains: ClassVar[bool] = False
    layer: int = 7
    max_texts: int = 48
    max_length: int = 64

    def problems(self, rules: Rules) -> list[str]:
        """Say what of it is beyond the rules, a sentence each."""
        if self.max_texts < 1 or self.max_length < 2:
            return [f"max_texts is {self.max_texts} and max_length {self.max_length}, of which one is too small."]
        return []

    def run(self, subject: Subject, texts: Sequence[str]) -> Recovery:
        """Carry it out on an edit."""
        subject = dataclasses.replace(subject, layer=self.layer)
        return ablate(subject, n_random=1, max_texts=self.max_texts, max_length=self.max_length)


@dataclass(frozen=True)
class Prompt:
    """Ask in other words: a template around each question, and what each answer begins with."""

    attack: ClassVar[str] = "prompt"
    trains: ClassVar[bool] = False
    template: str = QUESTION
    prefill: str = ""

    def problems(self, rules: Rules) -> list[str]:
        """Say what of it is beyond the rules, a sentence each."""
        found = []
        if self.template.count(QUESTION) != 1:
            found.append(f"Its template must hold {QUESTION} once, and holds it {self.template.count(QUESTION)} times.")
        letters = len(self.template) + len(self.prefill)
        if letters > rules.red_letters:
            found.append(f"Its prompt has {letters} characters, where {rules.red_letters} are allowed.")
        return found

    def run(self, subject: Subject, texts: Sequence[str]) -> Recovery:
        """Carry it out on an edit."""
        asked = [{**row, "question": self.template.replace(QUESTION, row["question"])} for row in subject.questions]
        return subject.ask_again(self.attack, asked, prefill=self.prefill, details=plan_dict(self), progress=True)


AttackPlan: TypeAlias = Relearn | Ablate | Prompt
PLANS: dict[str, type[AttackPlan]] = {kind.attack: kind for kind in (Relearn, Ablate, Prompt)}


def load_plan(path: Path) -> AttackPlan:
    """Read an attack from JSON: ``attack`` names its kind, what else is there are its settings.

    Raises
    ------
    RmuLabError
        if the file does not hold an attack.
    """
    with reading(f"{path} holds no attack", f"name one of {', '.join(PLANS)} in `attack`, with its settings beside it"):
        plain = json.loads(path.read_text(encoding="utf-8"))
        kind = PLANS[plain.pop("attack")]
        unknown = plain.keys() - {item.name for item in dataclasses.fields(kind)}
        if unknown:
            raise RmuLabError(f"{kind.attack} has no setting {min(unknown)!r}")
        return checked(kind(**plain))


def plan_dict(plan: AttackPlan) -> dict[str, Any]:
    """Return plain values, for JSON; `load_plan` reads them."""
    return {"attack": plan.attack, **dataclasses.asdict(plan)}


def words_of(plan: AttackPlan) -> list[str]:
    """Return the texts that stand in an attack's settings."""
    return [plan.template, plan.prefill] if isinstance(plan, Prompt) else []

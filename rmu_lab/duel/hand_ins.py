"""What the two groups of a duel hand in, and which of the rules it breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..corpora import load_corpus
from ..errors import RmuLabError
from ..files import digest
from ..unlearning.result import UnlearnResult
from .attack_plans import AttackPlan, Relearn, load_plan, words_of
from .rules import RUN, Rules, shared_words

Questions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class BlueHandIn:
    """An edit, and the texts that it was trained on."""

    edit: UnlearnResult
    forget: list[str]
    retain: list[str]

    def problems(self, rules: Rules, held_back: Questions) -> list[str]:
        """Say which rules it breaks, a sentence each; `held_back` are questions that no text may quote."""
        found, texts = [], {"forget": self.forget, "retain": self.retain}
        steps = max(len(self.edit.history), getattr(self.edit.config, "steps", 0))
        if steps > rules.blue_steps:
            found.append(f"It took {steps} steps, where {rules.blue_steps} are allowed.")
        if not 0 <= self.edit.seconds <= 60 * rules.blue_minutes:
            found.append(f"It took {self.edit.seconds:.0f} s, where {60 * rules.blue_minutes:.0f} s are allowed.")
        for role, corpus in texts.items():
            recorded = {value for name, value in self.edit.digests.items() if name.startswith(f"{role} ")}
            if recorded != {digest(corpus)}:
                found.append(f"It was not trained on the texts of {role}.jsonl: their digest is not the one in its record.")
            if quoted := shared_words(corpus, held_back):
                found.append(_quotes(f"A text of {role}.jsonl", quoted))
        if self.edit.provenance.get("passed") or "scaled" in self.edit.provenance:
            found.append("It was made with parts or a strength of its own, which its settings do not tell.")
        return found


@dataclass(frozen=True)
class RedHandIn:
    """An attack as settings, and the texts that it fine-tunes on."""

    plan: AttackPlan
    texts: list[str]

    def beyond_budget(self, rules: Rules) -> list[str]:
        """Say what of it is more than the rules allow, or cannot be carried out, a sentence each."""
        found, n = self.plan.problems(rules), len(self.texts)
        if isinstance(self.plan, Relearn) and not self.plan.batch_size <= n <= rules.red_texts:
            least = self.plan.batch_size
            found.append(f"It has {n} texts, where {least} (one batch) to {rules.red_texts} are allowed.")
        return found

    def problems(self, rules: Rules, held_back: Questions) -> list[str]:
        """Say which rules it breaks, a sentence each; `held_back` are questions that no text may quote."""
        found = self.beyond_budget(rules)
        if term := rules.forbidden_term(self.texts):
            found.append(f"A text of texts.jsonl is on the topic: it holds {term!r}.")
        if quoted := shared_words([*self.texts, *words_of(self.plan)], held_back):
            found.append(_quotes("A text or the prompt", quoted))
        return found


def load_blue(folder: Path) -> BlueHandIn:
    """Read Blue's folder: ``edit`` (what `UnlearnResult.save` writes), ``forget.jsonl`` and ``retain.jsonl``.

    Raises
    ------
    RmuLabError
        if something is missing or cannot be read.
    """
    if not (folder / "edit").is_dir():
        raise RmuLabError(f"Blue has handed in no edit; put it into {folder / 'edit'} with result.save(...).")
    return BlueHandIn(
        UnlearnResult.load(folder / "edit"), *(_texts(folder / f"{name}.jsonl") for name in ("forget", "retain"))
    )


def load_red(folder: Path) -> RedHandIn:
    """Read Red's folder: ``attack.json``, and for an attack that fine-tunes ``texts.jsonl``.

    Raises
    ------
    RmuLabError
        if something is missing or cannot be read.
    """
    if not (folder / "attack.json").is_file():
        raise RmuLabError(f"Red has handed in no attack; write one to {folder / 'attack.json'}.")
    plan = load_plan(folder / "attack.json")
    return RedHandIn(plan, _texts(folder / "texts.jsonl") if plan.trains else [])


def _texts(path: Path) -> list[str]:
    if not path.is_file():
        raise RmuLabError(f"There is no file {path}; hand in the texts that were trained on.")
    return list(load_corpus(path)["text"])


def _quotes(what: str, question: str) -> str:
    return f"{what} holds {RUN} or more consecutive words of the held-back question {question!r}."

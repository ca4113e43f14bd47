"""All attacks on one edit, cheapest first, and the card that says what each recovered. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..files import digest, write_json
from ..provenance import provenance
from ..unlearning.config import MethodConfig
from ..unlearning.method_table import config_from_dict
from .attack_table import ATTACKS, attack_named
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject

OUT_OF_TIME = "no time was left"
NOT_ASKED = "it was not asked for"


@dataclass(frozen=True)
class RobustnessCard:
    """What each attack recovered from one edit. Taught in notebook 07."""

    recoveries: dict[str, Recovery]
    """By attack, in the order in which they ran."""
    model_name: str
    config: MethodConfig
    """Settings of the edit."""
    base: Accuracy
    """Of the model before unlearning."""
    unlearned: Accuracy
    left_out: dict[str, str]
    """Attacks that did not run, and why."""
    digests: dict[str, str]
    """SHA-256 of the questions and of each corpus that was given."""
    provenance: dict[str, Any]
    """Versions, seed, machine and time."""
    seconds: float
    """Wall-clock time of the whole run."""

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return rows to print, one for each attack and control.

        Their cells: attack; accuracy unlearned -> attacked; recovered [95% interval]; control, its accuracy
        before -> after (the mean of its draws); difference [95% interval], p value.
        """
        rows = []
        for name, recovery in self.recoveries.items():
            for control, (before, *ends) in recovery.controls.items():
                after = sum(end.accuracy for end in ends) / len(ends)
                difference = recovery.difference(control)
                rows.append(
                    (
                        name,
                        f"{recovery.start.accuracy:.1%} -> {recovery.attacked.accuracy:.1%}",
                        str(recovery.recovered),
                        f"{control}: {before.accuracy:.1%} -> {after:.1%}",
                        f"{difference}, p = {difference.p_value:.2g}",
                    )
                )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return plain | {
            "recoveries": {name: recovery.to_dict() for name, recovery in self.recoveries.items()},
            "config": self.config.to_dict(),
            "base": self.base.to_dict(),
            "unlearned": self.unlearned.to_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; `load` reads it back.

        Raises
        ------
        RmuLabError
            if the file cannot be written.
        """
        write_json(Path(path), self.to_dict())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> RobustnessCard:
        """Read what `save` wrote.

        Raises
        ------
        RmuLabError
            if the file does not hold a card.
        """
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(
                **plain
                | {
                    "recoveries": {name: Recovery.from_dict(one) for name, one in plain["recoveries"].items()},
                    "config": config_from_dict(plain["config"]),
                    "base": Accuracy.from_dict(plain["base"]),
                    "unlearned": Accuracy.from_dict(plain["unlearned"]),
                }
            )
        except (OSError, AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise RmuLabError(f"{path} holds no card ({error}); give a file that RobustnessCard.save() wrote.") from None


def gauntlet(subject: Subject, *, only: Collection[str] | None = None, budget: Budget = DEFAULT_BUDGET) -> RobustnessCard:
    """Attack an edit in every way of the table `ATTACKS`, with the attacks' default settings, cheapest first.

    Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit, the base model (unchanged on return), the questions that all numbers of the card are on, and the
        material that some attacks need. An attack whose material is missing is left out.
    only
        names of attacks (keys of `ATTACKS`) that are to run; None: all.
    budget
        seed, seconds, and whether to show a bar.

    Returns
    -------
    RobustnessCard
        what each attack recovered, with its controls, and which attacks were left out and why.

    Raises
    ------
    RmuLabError
        before the first attack, if `only` names an unknown attack, or material of an attack that is to run does not
        fit; later, if a question or the edit does not.
    """
    start = time.perf_counter()
    chosen = ATTACKS.keys() if only is None else {attack_named(name).name for name in sorted(only)}
    reasons = {name: subject.missing(attack.needs) if name in chosen else NOT_ASKED for name, attack in ATTACKS.items()}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    to_run = [attack for name, attack in ATTACKS.items() if name not in left_out]
    for attack in to_run:  # what would stop an attack of the last minutes stops the first
        attack.check(subject, budget)
    reference, recoveries = subject.reference, {}
    bar = tqdm(to_run, desc="attacks", unit="attack", delay=5, disable=not budget.progress)
    for attack in bar:
        if time.perf_counter() - start >= budget.seconds:
            left_out[attack.name] = OUT_OF_TIME
            continue
        bar.set_postfix_str(attack.name)
        found = attack.run(subject, dataclasses.replace(budget, progress=False))
        if not isinstance(found, Recovery):
            raise RmuLabError(f"The attack {attack.name!r} returned {type(found).__name__}; it must return a Recovery.")
        recoveries[attack.name] = dataclasses.replace(found, attack=attack.name)
    return RobustnessCard(
        recoveries=recoveries,
        model_name=subject.result.model_name,
        config=subject.result.config,
        base=reference.base,
        unlearned=reference.unlearned,
        left_out={name: left_out[name] for name in ATTACKS if name in left_out},
        digests=_digests(subject),
        provenance=provenance(budget.seed),
        seconds=time.perf_counter() - start,
    )


def _digests(subject: Subject) -> dict[str, str]:
    """SHA-256 of the questions, and of the other questions and the texts that were given."""
    asked = {"questions": subject.questions, "dev_questions": subject.dev_questions}
    found = {name: digest(map(_as_text, rows)) for name, rows in asked.items() if rows}
    texts = {"forget": subject.forget, "retain": subject.retain}
    return found | {name: digest(corpus) for name, corpus in texts.items() if corpus}


def _as_text(row: Mapping[str, Any]) -> str:
    return json.dumps([row["question"], row["choices"], row["answer"]])

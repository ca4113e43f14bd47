"""All attacks on one edit, cheapest first, and the card that says what each recovered. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..errors import RmuLabError
from ..files import check_file, digest
from ..identity import model_digests, tensors_digest
from ..offload import read_parameter
from ..provenance import provenance
from ..stored import sentence_of
from .attack_table import ATTACKS, Attack, attack_named
from .card import RobustnessCard
from .controls import Recovery
from .cost import counted
from .subject import DEFAULT_BUDGET, Budget, Subject

OUT_OF_TIME = "no time was left"
NOT_ASKED = "it was not asked for"
NOT_YET = "it has not run yet"


def gauntlet(
    subject: Subject,
    *,
    only: Collection[str] | None = None,
    budget: Budget = DEFAULT_BUDGET,
    out: str | Path | None = None,
) -> RobustnessCard:
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
    out
        JSON file, new or of the same attacks before, in which the card is kept after every attack; those that it holds are
        not run again.

    Returns
    -------
    RobustnessCard
        what each attack recovered, with its controls, and which attacks were left out and why: one that fails is left out,
        and the others go on.

    Raises
    ------
    RmuLabError
        before the first attack, if `only` names an unknown attack, material of an attack that is to run does not fit, the
        model holds the edit already, or `out` cannot be written or is the card of something else.
    """
    start = time.perf_counter()
    _check_base(subject)
    chosen = ATTACKS.keys() if only is None else {attack_named(name).name for name in sorted(only)}
    reasons = {name: subject.missing(attack.needs) if name in chosen else NOT_ASKED for name, attack in ATTACKS.items()}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    to_run = [attack for name, attack in ATTACKS.items() if name not in left_out]
    for attack in to_run:  # what would stop an attack of the last minutes stops the first
        attack.check(subject, budget)
    digests = _digests(subject)
    earlier = None if out is None else _earlier(check_file(out), subject, digests, budget)
    recoveries = {} if earlier is None else dict(earlier.recoveries)
    seconds_before = 0.0 if earlier is None else earlier.seconds
    reference, facts = subject.reference, provenance(budget.seed)

    def card() -> RobustnessCard:
        waiting = dict.fromkeys((attack.name for attack in to_run), NOT_YET) | left_out
        found = RobustnessCard(
            recoveries={name: recoveries[name] for name in [*ATTACKS, *recoveries] if name in recoveries},
            model_name=subject.result.model_name,
            config=subject.result.config,
            base=reference.base,
            unlearned=reference.unlearned,
            left_out={name: waiting[name] for name in ATTACKS if name in waiting and name not in recoveries},
            digests=digests,
            provenance=facts,
            seconds=seconds_before + time.perf_counter() - start,
        )
        if out is not None:
            found.save(out)
        return found

    bar = tqdm(to_run, desc="attacks", unit="attack", delay=5, disable=not budget.progress)
    for attack in bar:
        if attack.name in recoveries:
            continue
        if time.perf_counter() - start >= budget.seconds:
            left_out[attack.name] = OUT_OF_TIME
            continue
        bar.set_postfix_str(attack.name)
        try:
            recoveries[attack.name] = _run(attack, subject, budget)
        except Exception as error:  # whatever it is, it must not cost what the other attacks found
            left_out[attack.name] = f"it failed: {sentence_of(error)}"
        card()
    return card()


def _run(attack: Attack, subject: Subject, budget: Budget) -> Recovery:
    with counted(subject.model) as cost:
        found = attack.run(subject, dataclasses.replace(budget, progress=False))
    if not isinstance(found, Recovery):
        raise RmuLabError(f"The attack {attack.name!r} returned {type(found).__name__}; it must return a Recovery.")
    try:
        json.dumps(found.to_dict())
    except (TypeError, ValueError) as error:
        raise RmuLabError(f"The attack {attack.name!r} has details that JSON cannot hold: {sentence_of(error)}.") from None
    return dataclasses.replace(found, attack=attack.name, attacker=attack.attacker, may_teach=attack.may_teach, cost=cost)


def _check_base(subject: Subject) -> None:
    """Raise an error if the model that is to be unlearned by the edit has been already."""
    parameters = dict(subject.model.named_parameters())
    edit = subject.result.edit
    if edit.keys() <= parameters.keys() and all(
        matrix.to(parameters[name].dtype).equal(read_parameter(subject.model, name).cpu()) for name, matrix in edit.items()
    ):
        raise RmuLabError(
            "The model holds this edit already, or the edit changes nothing; give the base model, before unlearning."
        )


def _earlier(out: Path, subject: Subject, digests: Mapping[str, str], budget: Budget) -> RobustnessCard | None:
    """The card of an earlier run that is gone on with, if there is one.

    Raises
    ------
    RmuLabError
        if the file holds something else than a card of these attacks.
    """
    if not out.exists():
        return None
    card = RobustnessCard.load(out)
    now = {"settings": subject.result.config.to_dict(), "seed": budget.seed, **digests}
    then = {"settings": card.config.to_dict(), "seed": card.provenance.get("seed"), **card.digests}
    changed = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    if changed:
        raise RmuLabError(f"{out} holds a card with another {', '.join(changed)}; choose another file, or the same run.")
    return card


def _digests(subject: Subject) -> dict[str, str]:
    """SHA-256 of the base model, the edit, the questions, and the other questions and texts that were given."""
    found = {f"base {name}": value for name, value in model_digests(subject.model, subject.tokenizer).items()}
    found["edit"] = tensors_digest(sorted(subject.result.edit.items()))
    if subject.never_knew is not None:
        found["never knew"] = tensors_digest(sorted(subject.never_knew.edit.items()))
    asked = {"questions": subject.questions, "dev_questions": subject.dev_questions, "general": subject.general}
    if subject.rephrased is not None:
        asked |= dict(zip(("rephrased originals", "rephrased"), subject.rephrased, strict=True))
    found |= {name: digest(map(_as_text, rows)) for name, rows in asked.items() if rows}
    texts = {"forget": subject.forget, "retain": subject.retain}
    found |= {name: digest(corpus) for name, corpus in texts.items() if corpus}
    material = {"suffix": subject.suffix, "layer": subject.layer, "n_generations": subject.n_generations}
    return found | {"material": digest([json.dumps(material)])}


def _as_text(row: Mapping[str, Any]) -> str:
    named = [row[name] for name in ("id", "original") if name in row]  # by which the rephrased are told apart
    return json.dumps([row["question"], row["choices"], row["answer"], *named])

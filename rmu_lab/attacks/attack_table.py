"""The table of attacks, which `gauntlet` runs, and the way to add one of your own. The attacks are taught in notebook 07."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import isfunction
from typing import TypeVar

from ..corpora import texts_of
from ..errors import RmuLabError
from .ablate import ablate
from .controls import Recovery
from .lens import lens
from .prompts import SHOTS, few_shot, pairs, prompt
from .quantise import quantise
from .relearn import RELEARN_TEXTS, relearn
from .subject import MATERIALS, Budget, Subject, required
from .transfer import shuffled, transfer

Run = Callable[[Subject, Budget], Recovery]
AnyRun = TypeVar("AnyRun", bound=Run)


def _nothing_to_check(subject: Subject, budget: Budget) -> None:
    pass


@dataclass(frozen=True)
class Attack:
    """A row of the table of attacks."""

    name: str
    run: Run
    """A function of what is attacked and of what it may spend; it leaves the model as it found it."""
    needs: tuple[str, ...] = ()
    """Materials of the `Subject` (names in `MATERIALS`) without which it is left out."""
    check: Callable[[Subject, Budget], object] = _nothing_to_check
    """Raises an `RmuLabError` where the materials do not fit; called before the first attack runs."""


def _relearn_unrelated(subject: Subject, budget: Budget) -> Recovery:
    return relearn(subject, budget, subject.retain[:RELEARN_TEXTS])


def _relearn_topic(subject: Subject, budget: Budget) -> Recovery:
    return relearn(subject, budget, subject.forget[:RELEARN_TEXTS])


def _check_suffix(subject: Subject, budget: Budget) -> None:
    shuffled(subject.tokenizer, required(subject.suffix, "suffix"), budget.seed)


def _check_few_shot(subject: Subject, budget: Budget) -> None:
    few_shot(subject.questions, subject.dev_questions, SHOTS, budget.seed)


def _check_rephrased(subject: Subject, budget: Budget) -> None:
    pairs(*required(subject.rephrased, "rephrased"))


def _check_retain(subject: Subject, budget: Budget) -> None:
    texts_of(subject.retain, "retain", RELEARN_TEXTS)


def _check_forget(subject: Subject, budget: Budget) -> None:
    texts_of(subject.forget, "forget", RELEARN_TEXTS)


_CHEAPEST_FIRST = (
    Attack("quantise to 8 bits", partial(quantise, bits=8)),
    Attack("quantise to 4 bits", partial(quantise, bits=4)),
    Attack("prefilled", partial(prompt, kind="prefilled")),
    Attack("rephrased", partial(prompt, kind="rephrased"), needs=("rephrased",), check=_check_rephrased),
    Attack("suffix", transfer, needs=("suffix",), check=_check_suffix),
    Attack("few-shot", partial(prompt, kind="few-shot"), needs=("dev_questions",), check=_check_few_shot),
    Attack("ablate a direction", ablate, needs=("forget", "layer")),
    Attack("relearn unrelated text", _relearn_unrelated, needs=("retain",), check=_check_retain),
    Attack("relearn text of the topic", _relearn_topic, needs=("forget",), check=_check_forget),
    Attack("logit lens", lens, needs=("dev_questions",)),
)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _CHEAPEST_FIRST}
"""Every attack by its name, in the order in which `gauntlet` runs them; `register_attack` adds to it."""


def register_attack(
    name: str, *, needs: tuple[str, ...] = (), check: Callable[[Subject, Budget], object] = _nothing_to_check
) -> Callable[[AnyRun], AnyRun]:
    """Add an attack of your own to the end of the table, so that `gauntlet` runs it.

    ``rmu-lab attack --plugin FILE.py`` does so too, with a file that holds what follows.
    The package's own attacks are taught in notebook 07. For example, with the base model as control::

        @register_attack("shouted")
        def shout(subject, budget):
            louder = [row | {"question": row["question"].upper()} for row in subject.questions]
            return subject.ask_again("shouted", louder)

    Parameters
    ----------
    name
        what the attack is called on robustness cards. A function of the same module and name may take its own place
        again, as when a notebook's cell is run twice.
    needs
        materials of the `Subject` without which the attack is left out: some of ``dev_questions``, ``forget``,
        ``retain``, ``rephrased``, ``suffix`` and ``layer``.
    check
        a function of subject and budget that raises an `RmuLabError` where the materials do not fit, so that the
        gauntlet stops before its first attack.

    Returns
    -------
    callable
        a decorator, which returns the function unchanged.

    Raises
    ------
    RmuLabError
        if the name is taken, or a material has no such name.
    """
    unknown = [needs] if isinstance(needs, str) else [need for need in needs if need not in MATERIALS]
    if unknown:
        raise RmuLabError(f"needs is {needs!r}; give a tuple of some of {_listed(MATERIALS)}.")

    def add(run: AnyRun) -> AnyRun:
        if name in ATTACKS and not _defined_again(ATTACKS[name].run, run):
            raise RmuLabError(f"There is an attack {name!r} already; choose a name other than {_listed(ATTACKS)}.")
        ATTACKS[name] = Attack(name, run, tuple(needs), check)
        return run

    return add


def attack_named(name: str) -> Attack:
    """Look up an attack in the table.

    Raises
    ------
    RmuLabError
        if there is none of that name.
    """
    if name not in ATTACKS:
        raise RmuLabError(f"There is no attack {name!r}; use some of {_listed(ATTACKS)}.")
    return ATTACKS[name]


def _defined_again(old: Run, new: Run) -> bool:
    """Whether both are functions of the same module and name."""
    return isfunction(old) and isfunction(new) and (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def _listed(names: dict) -> str:
    return ", ".join(map(repr, names))

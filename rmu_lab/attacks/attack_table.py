"""The table of attacks, which `gauntlet` runs, and the way to add one of your own. The attacks are taught in notebook 07."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from inspect import isfunction
from typing import Literal, TypeAlias, TypeVar, get_args

from ..corpora import texts_of
from ..errors import RmuLabError
from ..metrics.probing import FOLDS
from .ablate import ablate
from .controls import Recovery
from .fine_tune import Trained
from .lens import lens
from .probe import probe
from .prompts import SHOTS, few_shot, pairs, prompt
from .quantise import quantise
from .relearn import ONCE, RELEARN_TEXTS, SEARCHED, relearn, relearn_other_facts
from .soft_prompts import soft_prompt
from .subject import MATERIALS, Budget, Subject, required
from .transfer import shuffled, transfer
from .written import sample

Run = Callable[[Subject, Budget], Recovery]
AnyRun = TypeVar("AnyRun", bound=Run)
Access: TypeAlias = Literal["prompts", "weights", "base model"]
"""What of the models an attacker holds: only a place to ask, the unlearned model's weights, or the base model's too."""
_HELD: dict[Access, str] = {
    "prompts": "prompts alone",
    "weights": "the weights",
    "base model": "the weights and the base model's",
}
_MATERIAL = {"forget": "texts of the topic", "dev_questions": "answered questions on it"}


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
    access: Access = "weights"
    """What of the models the attacker holds."""
    short: bool = True
    """Whether it is on the short list for large models: it copies no weights, and asks few questions."""
    may_teach: bool = False
    """Whether what it brings back may have been taught by its material, as by texts of the topic."""

    @property
    def attacker(self) -> str:
        """The threat model: what an attacker holds of the models and of the topic, in words."""
        return ", ".join([_HELD[self.access], *(_MATERIAL[need] for need in self.needs if need in _MATERIAL)])


def _relearn(subject: Subject, budget: Budget, *, texts: str, trained: Trained = "all") -> Recovery:
    """With the rate searched where there are questions to search it with."""
    searched = bool(subject.dev_questions and subject.general)
    config = replace(SEARCHED if searched else ONCE, trained=trained)
    return relearn(subject, budget, getattr(subject, texts)[:RELEARN_TEXTS], config, search=searched)


def _relearn_other_facts(subject: Subject, budget: Budget) -> Recovery:
    searched = bool(subject.dev_questions and subject.general)
    return relearn_other_facts(subject, budget, SEARCHED if searched else ONCE, search=searched)


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


def _check_probe(subject: Subject, budget: Budget) -> None:
    if len(subject.dev_questions) < FOLDS:
        raise RmuLabError(f"There are {len(subject.dev_questions)} dev questions; a probe takes at least {FOLDS}.")


_UNRELATED = partial(_relearn, texts="retain")
_CHEAPEST_FIRST = (
    Attack("quantise to 8 bits", partial(quantise, bits=8), short=False),
    Attack("quantise to 4 bits", partial(quantise, bits=4)),
    Attack("prefilled", partial(prompt, kind="prefilled"), access="prompts"),
    Attack("rephrased", partial(prompt, kind="rephrased"), needs=("rephrased",), check=_check_rephrased, access="prompts"),
    Attack("suffix", transfer, needs=("suffix",), check=_check_suffix, access="prompts"),
    Attack("few-shot", partial(prompt, kind="few-shot"), needs=("dev_questions",), check=_check_few_shot, access="prompts"),
    Attack("ablate a direction", ablate, needs=("forget", "layer"), access="base model"),
    Attack("ablate without the base model", partial(ablate, against="unrelated texts"), needs=("forget", "retain", "layer")),
    Attack("probe", probe, needs=("dev_questions",), check=_check_probe),
    Attack("logit lens", lens, needs=("dev_questions",), short=False),
    Attack("sample", sample, access="prompts", short=False),
    Attack(
        "relearn unrelated text, edited matrices",
        partial(_UNRELATED, trained="edited"),
        needs=("retain",),
        check=_check_retain,
    ),
    Attack("relearn unrelated text", _UNRELATED, needs=("retain",), check=_check_retain, short=False),
    Attack(
        "relearn text of the topic",
        partial(_relearn, texts="forget"),
        needs=("forget",),
        check=_check_forget,
        short=False,
        may_teach=True,
    ),
    Attack("relearn other facts", _relearn_other_facts, needs=("dev_questions", "subjects"), short=False),
    Attack("soft prompt", soft_prompt, needs=("dev_questions",), short=False),
)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _CHEAPEST_FIRST}
"""Every attack by its name, in the order in which `gauntlet` runs them; `register_attack` adds to it."""


def short_list() -> list[str]:
    """Return the names of the attacks that fit beside a large model, of whose weights no four copies go into memory."""
    return [attack.name for attack in ATTACKS.values() if attack.short]


def register_attack(
    name: str,
    *,
    needs: tuple[str, ...] = (),
    check: Callable[[Subject, Budget], object] = _nothing_to_check,
    access: Access = "weights",
    short: bool = True,
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
        materials of the `Subject` without which the attack is left out: some of ``dev_questions``, ``general``,
        ``forget``, ``retain``, ``rephrased``, ``suffix``, ``layer`` and ``subjects``.
    check
        a function of subject and budget that raises an `RmuLabError` where the materials do not fit, so that the
        gauntlet stops before its first attack.
    access
        what of the models an attacker has to hold: ``"prompts"``, ``"weights"`` or ``"base model"``.
    short
        whether it is on the short list for large models.

    Returns
    -------
    callable
        a decorator, which returns the function unchanged.

    Raises
    ------
    RmuLabError
        if the name is taken, or a material or an access has no such name.
    """
    unknown = [needs] if isinstance(needs, str) else [need for need in needs if need not in MATERIALS]
    if unknown:
        raise RmuLabError(f"needs is {needs!r}; give a tuple of some of {_listed(MATERIALS)}.")
    if access not in get_args(Access):
        raise RmuLabError(f"access is {access!r}; use one of {', '.join(map(repr, get_args(Access)))}.")

    def add(run: AnyRun) -> AnyRun:
        if name in ATTACKS and not _defined_again(ATTACKS[name].run, run):
            raise RmuLabError(f"There is an attack {name!r} already; choose a name other than {_listed(ATTACKS)}.")
        ATTACKS[name] = Attack(name, run, tuple(needs), check, access, short)
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

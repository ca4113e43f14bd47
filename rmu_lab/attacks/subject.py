"""What is attacked, and what an attack may spend: the two arguments of every attack. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corpora import texts_of
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy
from ..generation import answers
from ..models import plain_model
from ..questions import checked_questions
from ..tables import rows_of
from ..unlearning.result import UnlearnResult
from .controls import Recovery, ReferenceScores

if TYPE_CHECKING:
    from datasets import Dataset

Material = TypeVar("Material")

MATERIALS = {
    "dev_questions": "no dev questions were given",
    "general": "no general questions were given",
    "forget": "no texts of the topic were given",
    "retain": "no unrelated texts were given",
    "rephrased": "no rephrased questions were given",
    "suffix": "no suffix was given",
    "layer": "the edit steers no block, and no layer was given",
    "subjects": "the questions do not say which of several subjects they are on",
}
"""What an attack may need of a `Subject`, and what is said where it is missing."""


@dataclass(frozen=True)
class Budget:
    """What the caller of an attack allows. Taught in notebook 07."""

    seed: int = 0
    """Of all that is random in the attacks."""
    seconds: float = 1200.0
    """Of a whole `gauntlet`: no attack begins after that time; one that has begun is finished."""
    progress: bool = True
    """Show a bar on anything that takes over five seconds."""


DEFAULT_BUDGET: Budget = Budget()


@dataclass(frozen=True, eq=False, repr=False)
class Subject:
    """An edit under attack: the model, the edit, the questions, and the material that some attacks need.

    Data sets become lists. To attack another edit, or on other questions, make another subject
    (``dataclasses.replace(subject, result=other)``). Taught in notebook 07.

    Parameters
    ----------
    model, tokenizer
        the base model and its tokenizer; every attack leaves the model as it found it.
    result
        the edit.
    questions
        of the topic that was unlearned; all scores are on them. As `accuracy` takes them.
    dev_questions
        others of the topic: those that an attacker knows the answers to, and on which attacks choose their settings.
    general
        dev questions on anything else: what an attack that changes weights must keep.
    forget, retain
        texts of the topic, and unrelated ones, as `unlearn` takes them.
    rephrased
        questions (need not be `questions`), and others that say the same in other words and name them in ``original``.
    suffix
        an adversarial suffix, such as `gcg` finds on the base model.
    layer
        the block after which a direction is ablated; by default the block that the edit steers. An edit of a method
        that steers none is not ablated unless this is given.
    never_knew
        an edit of `model` under which it is one that never learned the topic, such as a training without its texts: for
        invented facts it can be made (notebook 11). Attacks that fine-tune have it as a control, because they may teach.
    n_generations
        how many of the questions, from the first, are also answered in words.

    Raises
    ------
    RmuLabError
        if `forget` or `retain` holds something else than texts, one of the questions, whichever they are, is not well
        formed, or `n_generations` is below 0.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    result: UnlearnResult
    questions: Sequence[Mapping[str, Any]]
    dev_questions: Sequence[Mapping[str, Any]] = ()
    general: Sequence[Mapping[str, Any]] = ()
    forget: Sequence[str] = ()
    retain: Sequence[str] = ()
    rephrased: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None = None
    suffix: str | None = None
    layer: int | None = None
    never_knew: UnlearnResult | None = None
    n_generations: int = 3

    def __post_init__(self) -> None:
        if self.n_generations < 0:
            raise RmuLabError(f"n_generations is {self.n_generations}; it must be at least 0.")
        object.__setattr__(self, "model", plain_model(self.model))  # the class is frozen
        lists: dict[str, Any] = {"questions": checked_questions(self.questions)}
        for name in ("dev_questions", "general"):
            rows = rows_of(getattr(self, name), name, "load_questions(...)")
            lists[name] = checked_questions(rows, name) if rows else []
        lists |= {name: texts_of(getattr(self, name), name, 0) for name in ("forget", "retain")}
        if self.rephrased is not None:
            if not isinstance(self.rephrased, (tuple, list)) or len(self.rephrased) != 2:
                raise RmuLabError("rephrased is no pair; give (questions, the same ones in other words).")
            lists["rephrased"] = tuple(
                checked_questions(rows, f"rephrased[{place}]") for place, rows in enumerate(self.rephrased)
            )
        for name, value in lists.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Subject({self.result.model_name}, {self.result.config.method}, {len(self.questions)} questions)"

    @property
    def target_layer(self) -> int | None:
        """The block after which a direction is ablated: `layer`, or else the one that the edit steers, if any."""
        return getattr(self.result.config, "layer", None) if self.layer is None else self.layer

    @property
    def subjects(self) -> list[str]:
        """Subjects that the questions and dev questions are on; empty if one of them names none, or all are on the same."""
        named = {row.get("subject") for row in (*self.questions, *self.dev_questions)}
        return sorted(map(str, named)) if all(named) and len(named) > 1 else []

    @cached_property
    def reference(self) -> ReferenceScores:
        """Scores and answers of the base and the unlearned model, not attacked.

        Computed when first used, and kept: all attacks on a subject share it.
        """
        base, base_answers = self.accuracy(), self.generate()
        with self.unlearned():
            unlearned, unlearned_answers = self.accuracy(), self.generate()
        written = tuple(row["question"] for row in self.questions[: self.n_generations])
        return ReferenceScores(base, unlearned, written, tuple(zip(base_answers, unlearned_answers, strict=True)))

    @contextmanager
    def unlearned(self) -> Iterator[PreTrainedModel]:
        """Put the edit into the model inside the ``with`` block."""
        with self.result.applied(self.model):
            yield self.model

    def accuracy(
        self, questions: Sequence[Mapping[str, Any]] | None = None, *, prefill: str = "", progress: bool = False
    ) -> Accuracy:
        """Score the model as it is now: the base model, or inside ``with subject.unlearned():`` the unlearned one.

        Parameters
        ----------
        questions
            by default the subject's.
        prefill
            what an answer has to begin with; put behind each prompt, not scored.
        progress
            show a bar if it takes over five seconds.

        Returns
        -------
        Accuracy
            by `rmu_lab.accuracy`, cloze style.
        """
        rows = self.questions if questions is None else questions
        return accuracy(self.model, self.tokenizer, rows, prefill=prefill, progress=progress)

    def generate(self, questions: Sequence[Mapping[str, Any]] | None = None, *, prefill: str = "") -> list[str]:
        """Answer the first `n_generations` of the questions in words, greedily, with the model as it is now.

        Parameters
        ----------
        questions
            by default the subject's.
        prefill
            what an answer has to begin with; what follows it is returned.

        Returns
        -------
        list of str
            one answer for each of these questions.
        """
        rows = self.questions if questions is None else questions
        asked = [row["question"] for row in rows[: self.n_generations]]
        return answers(self.model, self.tokenizer, asked, prefill=prefill) if asked else []

    def ask_again(
        self,
        attack: str,
        questions: Sequence[Mapping[str, Any]],
        *,
        prefill: str = "",
        details: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> Recovery:
        """Ask the unlearned model in another way. Control: the base model, asked in the same way.

        Parameters
        ----------
        attack
            its name.
        questions
            one for each of the subject's, in the same order: the same question, put differently.
        prefill
            what an answer has to begin with; put behind each prompt, not scored.
        details
            plain values to be kept in the recovery.
        progress
            show a bar if it takes over five seconds.

        Returns
        -------
        Recovery
            with the control ``base model``.

        Raises
        ------
        RmuLabError
            if there is not one question for each of the subject's, or one is not well formed.
        """
        if len(questions) != len(self.questions):
            raise RmuLabError(
                f"{attack} asks {len(questions)} questions where the subject has {len(self.questions)}; "
                "give one for each, in the same order."
            )
        reference, start = self.reference, time.perf_counter()
        with self.unlearned():
            attacked = self.accuracy(questions, prefill=prefill, progress=progress)
            written = self.generate(questions, prefill=prefill)
        control = self.accuracy(questions, prefill=prefill, progress=progress)
        return Recovery(
            attack=attack,
            start=reference.unlearned,
            attacked=attacked,
            controls={"base model": (reference.base, control)},
            details=dict(details or {}),
            generations=reference.generations(written),
            seconds=time.perf_counter() - start,
        )

    def with_questions(self, questions: Dataset | Sequence[Mapping[str, Any]]) -> Subject:
        """Return a subject that differs in its questions; it has reference scores of its own."""
        return dataclasses.replace(self, questions=questions)

    def missing(self, needs: Sequence[str]) -> str | None:
        """Look for the first of these materials (names in `MATERIALS`) that was not given.

        Returns
        -------
        str or None
            what `MATERIALS` says of it; None if all were given.
        """
        given = {name: getattr(self, "target_layer" if name == "layer" else name) for name in needs}
        return next((MATERIALS[name] for name, value in given.items() if value is None or value == []), None)

    def require(self, *needs: str) -> None:
        """Raise an error if one of these materials (names in `MATERIALS`) was not given.

        Raises
        ------
        RmuLabError
            naming the first that is missing.
        """
        for name in needs:
            if self.missing([name]):
                raise _not_given(name)


def required(material: Material | None, name: str) -> Material:
    """Return a subject's material (name in `MATERIALS`) that an attack cannot do without.

    Raises
    ------
    RmuLabError
        if it is None, because it was not given.
    """
    if material is None:
        raise _not_given(name)
    return material


def _not_given(name: str) -> RmuLabError:
    reason = MATERIALS[name]
    return RmuLabError(f"{reason[0].upper()}{reason[1:]}; give it as Subject(..., {name}=...).")

"""What an attack brought back, beside what its control brought: the one result type of every attack.

An unlearned model that answers again after an attack may have hidden what it knew, or the attack may have
made any model answer better, or luck may have. So each attack is told together with a control, on the same
questions, question by question. Taught in notebook 07.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy.stats import binomtest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..estimates import Z95
from ..evaluate import Accuracy, AccuracyChange, accuracy, accuracy_change, answers
from ..unlearning.result import UnlearnResult

if TYPE_CHECKING:
    from datasets import Dataset

    Questions = Dataset | Sequence[Mapping]


@dataclass(frozen=True)
class Generation:
    """What three models say to a question, to be read: a higher score need not mean better answers."""

    question: str
    base: str
    """Before unlearning."""
    unlearned: str
    attacked: str


@dataclass(frozen=True)
class Difference(AccuracyChange):
    """How much more an attack recovers than its control does, as a share."""

    p_value: float
    """Of the exact two-sided sign test: questions on which the attack gained more than the control, against less."""


@dataclass(frozen=True)
class Recovery:
    """What one attack came to. Taught in notebook 07."""

    attack: str
    start: Accuracy
    """Of the unlearned model, not attacked."""
    attacked: Accuracy
    """Of the unlearned model under attack, on the same questions."""
    controls: dict[str, tuple[Accuracy, ...]]
    """By name: where the control starts, and where it ends; a random control has one end for each draw."""
    details: dict[str, Any]
    """Plain values: settings, and what the attack found on its way."""
    generations: tuple[Generation, ...]
    seconds: float

    @property
    def recovered(self) -> AccuracyChange:
        """What the attack adds to the unlearned model's accuracy, with a paired 95% interval."""
        return accuracy_change(self.start, self.attacked)

    def difference(self, control: str) -> Difference:
        """How much more the attack adds than `control` does, question by question.

        For question i, with 1 for right and 0 for wrong, and the mean over the control's draws::

            d_i = (attacked_i - start_i) - (control_end_i - control_start_i)

        The change is the mean of d. Its 95% interval is the one of `accuracy_change` (Agresti and Min 2005),
        for which two questions are added: d takes 1 and -1 on half a question each, and 0 on one. Where the
        control does nothing both are the same. Draws are taken as given: other ones are not part of the
        uncertainty.

        Raises
        ------
        RmuLabError
            if there is no such control.
        """
        if control not in self.controls:
            raise RmuLabError(f"{self.attack} has no control {control!r}; use one of {', '.join(self.controls)}.")
        start, *ends = self.controls[control]
        gains = [after - before for before, after in zip(self.start.correct, self.attacked.correct, strict=True)]
        # Sums of whole numbers, so that a gain which equals the control's is exactly 0.
        control_gains = [sum(of_one) - len(ends) * before for before, *of_one in zip(
            start.correct, *(end.correct for end in ends), strict=True)]  # fmt: skip
        excess = [len(ends) * gain - other for gain, other in zip(gains, control_gains, strict=True)]
        d = [value / len(ends) for value in excess]
        m = len(d) + 2
        centre = sum(d) / m
        half = Z95 * (((sum(value**2 for value in d) + 1) / m - centre**2) / m) ** 0.5
        more, less = sum(value > 0 for value in excess), sum(value < 0 for value in excess)
        p_value = float(binomtest(more, more + less).pvalue) if more + less else 1.0
        return Difference(sum(d) / len(d), (max(-2.0, centre - half), min(2.0, centre + half)), p_value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` is the way back."""
        return {
            "attack": self.attack,
            "start": self.start.to_dict(),
            "attacked": self.attacked.to_dict(),
            "controls": {name: [score.to_dict() for score in scores] for name, scores in self.controls.items()},
            "details": self.details,
            "generations": [dataclasses.asdict(said) for said in self.generations],
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recovery:
        """The way back from `to_dict`.

        Raises
        ------
        RmuLabError
            if it is not what `to_dict` gives.
        """
        try:
            return cls(
                attack=plain["attack"],
                start=Accuracy.from_dict(plain["start"]),
                attacked=Accuracy.from_dict(plain["attacked"]),
                controls={name: tuple(map(Accuracy.from_dict, scores)) for name, scores in plain["controls"].items()},
                details=plain["details"],
                generations=tuple(Generation(**said) for said in plain["generations"]),
                seconds=plain["seconds"],
            )
        except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise RmuLabError(f"This is no recovery ({error}); give what Recovery.to_dict() wrote.") from None


@dataclass(frozen=True)
class Baselines:
    """What the base model and the unlearned one say where nothing attacks them: where every attack and control starts."""

    base: Accuracy
    unlearned: Accuracy
    read: tuple[str, ...]
    """The questions whose answers are written out."""
    said: tuple[tuple[str, str], ...]
    """The answers of the base and of the unlearned model to these."""

    def beside(self, attacked: Sequence[str]) -> tuple[Generation, ...]:
        """The answers of the attacked model next to theirs."""
        return tuple(
            Generation(question, *pair, new) for question, pair, new in zip(self.read, self.said, attacked, strict=True)
        )


def measure_baselines(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    questions: Questions,
    *,
    read: int = 3,
    progress: bool = True,
) -> Baselines:
    """Ask the base model and the unlearned one; several attacks on the same questions can share the outcome.

    Parameters
    ----------
    model
        the base model.
    questions
        as `accuracy` takes them.
    read
        how many of them, from the first, are also answered in words.
    """
    asked = tuple(row["question"] for row in list(questions)[:read])

    def ask() -> tuple[Accuracy, list[str]]:
        return accuracy(model, tokenizer, questions, progress=progress), said(model, tokenizer, asked)

    base, base_said = ask()
    with result.applied(model):
        unlearned, unlearned_said = ask()
    return Baselines(base, unlearned, asked, tuple(zip(base_said, unlearned_said, strict=True)))


def said(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[str], **how: Any) -> list[str]:
    """`answers`, which none are to no questions."""
    return answers(model, tokenizer, asked, **how) if asked else []

"""What an attack recovered, and what its control recovered: the one result type of every attack.

An unlearned model that answers again after an attack may have hidden what it knew, or the attack may have
made any model answer better, or luck may have. So each attack is reported together with a control, on the same
questions, question by question. Taught in notebook 07.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from ..errors import RmuLabError
from ..estimates import paired_interval
from ..evaluate import Accuracy, AccuracyChange, accuracy_change
from ..stored import checked, reading
from .cost import Cost

NOTHING = "not attacked"
"""The control that every attack has: the unlearned model, left as it is."""


@dataclass(frozen=True)
class Generation:
    """One question and what three models answer, to be read: a higher score need not mean better answers."""

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
    """Result of one attack on one edit, with its controls. Taught in notebook 07."""

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
    """Answers in words to the first questions."""
    seconds: float
    """Wall-clock time of the attack and its controls, without the reference scores."""
    attacker: str = ""
    """What an attacker has to hold, in words; `gauntlet` fills it in from the table of attacks."""
    cost: Cost | None = None
    """Of the attack and its controls; None: not counted, as on cards from before it was."""
    may_teach: bool = False
    """Whether its material may have taught what came back, so that it does not show that it was there."""

    @property
    def recovered(self) -> AccuracyChange:
        """What the attack adds to the unlearned model's accuracy, with a paired 95% interval."""
        return accuracy_change(self.start, self.attacked)

    def difference(self, control: str) -> Difference:
        """Compute how much more the attack adds than `control` does, question by question.

        For question i, with 1 for right and 0 for wrong, and the mean over the control's draws::

            d_i = (attacked_i - start_i) - (control_end_i - control_start_i)

        The change is the mean of d. Its 95% interval is the one of `accuracy_change` (Agresti and Min 2005),
        for which two questions are added: d takes 1 and -1 on half a question each, and 0 on one. Where the
        control does nothing both are the same. Draws are taken as given: other ones are not part of the
        uncertainty.

        Parameters
        ----------
        control
            one of the names in `controls`.

        Returns
        -------
        Difference
            as a share of the questions, with its interval and p value.

        Raises
        ------
        RmuLabError
            if there is no such control.
        """
        if control not in self.controls:
            raise RmuLabError(f"{self.attack} has no control {control!r}; use one of {', '.join(self.controls)}.")
        start, *ends = self.controls[control]
        return self._beyond(start, ends)

    def _beyond(self, control_start: Accuracy, ends: Sequence[Accuracy]) -> Difference:
        gains = [after - before for before, after in zip(self.start.correct, self.attacked.correct, strict=True)]
        # Sums of whole numbers, so that a gain which equals the control's is exactly 0.
        control_gains = [sum(after) - len(ends) * before for before, *after in zip(
            control_start.correct, *(end.correct for end in ends), strict=True)]  # fmt: skip
        excess = [len(ends) * gain - other for gain, other in zip(gains, control_gains, strict=True)]
        d = [value / len(ends) for value in excess]
        more, less = sum(value > 0 for value in excess), sum(value < 0 for value in excess)
        p_value = float(binomtest(more, more + less).pvalue) if more + less else 1.0
        return Difference(sum(d) / len(d), paired_interval(d, limit=2.0), p_value)

    @property
    def strictest(self) -> str:
        """The control beside which least is left of the attack; doing nothing, `NOTHING`, is always among them.

        A control that loses points makes an attack look strong that brought nothing back.
        """
        return min(self._differences, key=lambda control: self._differences[control].change)

    @property
    def beyond_controls(self) -> Difference:
        """What the attack adds beyond the strictest of its controls: as much as can be said to have been hidden."""
        return self._differences[self.strictest]

    @property
    def _differences(self) -> dict[str, Difference]:
        found = {control: self.difference(control) for control in self.controls}
        return found | {NOTHING: self._beyond(self.start, [self.start])}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `from_dict` is the way back."""
        return {
            "attack": self.attack,
            "attacker": self.attacker,
            "cost": None if self.cost is None else dataclasses.asdict(self.cost),
            "may_teach": self.may_teach,
            "start": self.start.to_dict(),
            "attacked": self.attacked.to_dict(),
            "controls": {name: [score.to_dict() for score in scores] for name, scores in self.controls.items()},
            "details": self.details,
            "generations": [dataclasses.asdict(one) for one in self.generations],
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recovery:
        """Rebuild a recovery from what `to_dict` returned.

        Raises
        ------
        RmuLabError
            if it is not what `to_dict` gives.
        """
        with reading("This is no recovery", "give what Recovery.to_dict() wrote"):
            recovery = checked(
                cls(
                    attack=plain["attack"],
                    start=Accuracy.from_dict(plain["start"]),
                    attacked=Accuracy.from_dict(plain["attacked"]),
                    controls={name: tuple(map(Accuracy.from_dict, scores)) for name, scores in plain["controls"].items()},
                    details=plain["details"],
                    generations=tuple(checked(Generation(**one)) for one in plain["generations"]),
                    seconds=plain["seconds"],
                    attacker=plain.get("attacker", ""),
                    cost=None if plain.get("cost") is None else checked(Cost(**plain["cost"])),
                    may_teach=plain.get("may_teach", False),
                )
            )
            for control in recovery.controls:  # they have to be on the same questions
                recovery.difference(control)
            return recovery


@dataclass(frozen=True)
class ReferenceScores:
    """What the base model and the unlearned one answer when nothing attacks them: where attacks and controls start."""

    base: Accuracy
    """Of the model before unlearning."""
    unlearned: Accuracy
    """Of the model after unlearning, on the same questions."""
    questions: tuple[str, ...]
    """The questions that are also answered in words."""
    answers: tuple[tuple[str, str], ...]
    """The answers to these: the base model's and the unlearned model's."""

    def generations(self, attacked: Sequence[str]) -> tuple[Generation, ...]:
        """Put the attacked model's answers next to those of the base and the unlearned model.

        Parameters
        ----------
        attacked
            one answer for each of `questions`.
        """
        rows = zip(self.questions, self.answers, attacked, strict=True)
        return tuple(Generation(question, *pair, new) for question, pair, new in rows)

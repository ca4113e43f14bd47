"""TOFU-style evaluation of a model or an edit by one call: what it forgot, what it kept, and whether that can be told.

Maini et al. 2024, arXiv 2401.06121, Section 2.2. Where TOFU's code, open-unlearning and this module part:

* **the end of an answer.** Both count the token that ends texts as a token of each answer; here it is none, unless
  ``end_token=True``: a model that was never taught to end its answers gives it no probability, whatever it knows.
* **the prompt.** TOFU asks Llama 2 in its chat template, and others in ``Question: ...`` and ``Answer: ...``;
  open-unlearning in the tokenizer's chat template. Here it is the plain one, unless ``chat_template=True``.
* **written answers.** TOFU lets there be 200 tokens with the question; open-unlearning 64 new ones, as here. Both take
  all that is written, which ``stop=()`` does. ROUGE-L is the same, stems and all.
* **truth ratio.** The paper's text averages the wrong answers' probabilities, both codes their losses, as here. Its score is
  max(0, 1 - R) on what is to be kept. open-unlearning puts 1e-10 into denominators; here there is none.
* **forget quality.** One is of R, the other of 1/R; the test of Kolmogorov and Smirnov gives both the same p.
* **questions.** TOFU's script takes the first 300 of each set; here all that are given.

Taught in notebook 11.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..estimates import Number, mean_of
from ..files import write_json
from ..identity import model_digests
from ..provenance import provenance
from ..stored import checked, reading
from .asking import STOPS, asked, continuations
from .benchmark_rows import checked_rows, rows_digest
from .memorisation import answer_probability, choice_probability
from .rouge import rouge_l
from .scored_texts import score_texts
from .tofu_data import tofu_problem, wrong_answers
from .truth import forget_quality, model_utility, truth_ratio

if TYPE_CHECKING:
    from datasets import Dataset

    Rows: TypeAlias = Dataset | Sequence[Mapping[str, Any]]

CHOICES = ("real_authors", "world_facts")
"""Sets whose answers are names, among which a model chooses."""
DRAWS = 2000
"""Of the bootstrap behind the utility's interval."""


class Edit(Protocol):
    """What can be put into a model for a while, such as an `UnlearnResult`."""

    def applied(self, model: PreTrainedModel) -> AbstractContextManager[PreTrainedModel]:
        """Put it into the model inside a ``with`` block."""


@dataclass(frozen=True)
class TofuScores:
    """Scores of one set, question by question."""

    probability: tuple[float, ...]
    """Of the answer: `answer_probability`, and `choice_probability` on real authors and world facts."""
    rouge: tuple[float, ...]
    """ROUGE-L recall of what the model wrote."""
    truth_ratio: tuple[float, ...]
    answers: tuple[str, ...]
    """What the model wrote."""

    @property
    def kept(self) -> dict[str, tuple[float, ...]]:
        """Scores that are high where a model knows: probability, ROUGE, and max(0, 1 - truth ratio)."""
        truth = tuple(max(0.0, 1 - ratio) for ratio in self.truth_ratio)
        return {"probability": self.probability, "rouge": self.rouge, "truth": truth}

    @property
    def problem(self) -> str:
        """What is wrong with scores that were stored; empty if nothing is."""
        if len({*map(len, vars(self).values())}) > 1 or not self.answers:
            return "the scores are not of the same number of questions, or of none"
        shares = all(0 <= value <= 1 for values in self.kept.values() for value in values)
        ratios = all(0 <= ratio < math.inf for ratio in self.truth_ratio)
        return "" if shares and ratios else "a share is not from 0 to 1, or a truth ratio below 0 or not finite"

    def numbers(self) -> dict[str, Number]:
        """Average each of `kept` over the questions, with 95% intervals; it takes two questions."""
        return {name: mean_of(values, "questions", within=(0.0, 1.0)) for name, values in self.kept.items()}


@dataclass(frozen=True)
class TofuEvaluation:
    """What `tofu_evaluation` measured. Taught in notebook 11."""

    model_name: str
    scores: dict[str, TofuScores]
    """By set: ``forget``, ``retain``, ``real_authors``, ``world_facts``, of these those that were given."""
    utility: Number
    """Harmonic mean of probability, ROUGE and max(0, 1 - truth ratio) on every set but ``forget``: of nine scores where all
    sets were given. The interval is a bootstrap of each set's questions."""
    forget_quality: float | None
    """p that the truth ratios of forget questions are distributed as the reference's; None without a reference."""
    settings: dict[str, Any]
    """How the model was asked."""
    digests: dict[str, str]
    """SHA-256 of each set's questions and of the model's ``weights``, ``settings`` and ``tokenizer``."""
    provenance: dict[str, Any]
    """Versions, machine and time."""
    seconds: float
    """Wall-clock time."""

    @property
    def truth_ratios(self) -> tuple[float, ...]:
        """Of the forget questions: what another evaluation compares with where this model is its reference."""
        return self.scores["forget"].truth_ratio

    def table(self) -> list[tuple[str, str, str, str]]:
        """Return rows to print: set, probability, ROUGE-L recall, and max(0, 1 - truth ratio), with 95% intervals."""
        return [(name, *_shown(scores)) for name, scores in self.scores.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TofuEvaluation:
        """Rebuild an evaluation from what `to_dict` returned.

        Raises
        ------
        RmuLabError
            if it is not what `to_dict` gives.
        """
        with reading("This is no TOFU evaluation", "give what TofuEvaluation.to_dict() wrote"):
            return cls._read(plain)

    @classmethod
    def _read(cls, plain: Mapping[str, Any]) -> TofuEvaluation:
        scores = {
            name: checked(TofuScores(**{field: tuple(values) for field, values in one.items()}))
            for name, one in plain["scores"].items()
        }
        if "forget" not in scores or any(one.problem for one in scores.values()):
            raise ValueError(next((one.problem for one in scores.values() if one.problem), "there is no forget set"))
        utility = checked(Number.from_dict(plain["utility"]))
        if not 0 <= utility.low <= utility.value <= utility.high <= 1:
            raise ValueError("utility is no share with its interval")
        return checked(cls(**{**plain, "scores": scores, "utility": utility}))

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
    def load(cls, path: str | Path) -> TofuEvaluation:
        """Read what `save` wrote.

        Raises
        ------
        RmuLabError
            if the file does not hold an evaluation.
        """
        with reading(f"{path} holds no TOFU evaluation", "give a file that TofuEvaluation.save() wrote"):
            return cls._read(json.loads(Path(path).read_text(encoding="utf-8")))


def _shown(scores: TofuScores) -> tuple[str, str, str]:
    values = scores.kept.values()
    if len(scores.answers) < 2:
        probability, rouge, truth = (f"{one[0]:.3f}" for one in values)
    else:
        probability, rouge, truth = map(str, scores.numbers().values())
    return probability, rouge, truth


def tofu_evaluation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Rows,
    retain: Rows,
    real_authors: Rows | None = None,
    world_facts: Rows | None = None,
    *,
    edit: Edit | None = None,
    reference: PreTrainedModel | TofuEvaluation | Sequence[float] | None = None,
    chat_template: bool = False,
    end_token: bool = False,
    stop: Sequence[str] = STOPS,
    max_new_tokens: int = 64,
    batch_size: int = 8,
    progress: bool = True,
) -> TofuEvaluation:
    """Evaluate a model, or an edit of it, as TOFU does: probability, ROUGE-L and truth ratio, model utility, forget quality.

    On each set are averaged

    * the answer's probability, ``p(a|q)^(1/|a|)``; of real authors and world facts ``p(a_1|q) / sum_i p(a_i|q)`` over the
      right and the wrong answers;
    * ROUGE-L recall of the greedy answer;
    * the truth ratio R, of the wrong answers against the right one in other words; of real authors and world facts against
      the answer itself.

    Model utility is the harmonic mean of the three, with max(0, 1 - R), over retain questions, real authors and world facts.
    Forget quality is the p-value that R of the forget questions is distributed as in a model that never knew. Maini et al.
    2024, arXiv 2401.06121, Section 2.2. `rmu_lab.metrics.tofu` says where TOFU's code and open-unlearning's differ.
    Taught in notebook 11.

    Parameters
    ----------
    forget, retain
        questions as `load_tofu` gives them: with ``question``, ``answer``, ``paraphrased_answer`` and ``perturbed_answer``.
    real_authors, world_facts
        with ``question``, ``answer``, and ``perturbed_answer`` or options. Without them utility is over what is given.
    edit
        an `UnlearnResult` that is in the model while it is evaluated, and out of it while the model is the reference.
    reference
        a model that never knew, with the same tokenizer; its stored evaluation; or its truth ratios. For an edit of invented
        facts it may be the model without what it was taught.
    chat_template
        ask through the tokenizer's chat template.
    end_token
        count the token that ends texts as the last token of each answer.
    stop
        texts that end a written answer.
    max_new_tokens
        of a written answer.
    batch_size
        texts run at once.

    Raises
    ------
    RmuLabError
        if a set has no questions or one is not well formed, the reference was asked other questions or in other ways or is
        the model itself, a text is longer than the model can take, or the edit does not fit.
    NotFiniteError
        if a model gives numbers that are not finite.
    """
    start = time.perf_counter()
    given = {"forget": forget, "retain": retain, "real_authors": real_authors, "world_facts": world_facts}
    sets = {name: _rows(rows, name) for name, rows in given.items() if rows is not None}
    if end_token and not tokenizer.eos_token:
        raise RmuLabError("The tokenizer has no token that ends texts; leave end_token off.")
    if reference is model and edit is None:
        raise RmuLabError("The reference is the model itself; give one that never knew, or `edit`.")
    settings = {"chat_template": chat_template, "end_token": end_token}
    written = {"stop": list(stop), "max_new_tokens": max_new_tokens}
    run: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    digests = {name: rows_digest(rows) for name, rows in sets.items()}
    ratios = _reference_ratios(reference, tokenizer, sets["forget"], digests["forget"], settings, run)
    with nullcontext() if edit is None else edit.applied(model):
        digests |= model_digests(model, tokenizer)
        scores = {}
        for name, rows in sets.items():
            probability, ratio = _scored(model, tokenizer, rows, name in CHOICES, settings, run)
            prompts = [asked(tokenizer, row["question"], chat_template=chat_template)[0] for row in rows]
            answers = continuations(model, tokenizer, prompts, max_new_tokens=max_new_tokens, stop=stop, **run)
            rouge = [rouge_l(row["answer"], text).recall for row, text in zip(rows, answers, strict=True)]
            scores[name] = TofuScores(tuple(probability), tuple(rouge), tuple(ratio), tuple(answers))
    return TofuEvaluation(
        model_name=model.name_or_path or "",
        scores=scores,
        utility=_utility([one for name, one in scores.items() if name != "forget"]),
        forget_quality=None if ratios is None else forget_quality(scores["forget"].truth_ratio, ratios),
        settings=settings | written | {"edit": edit is not None},
        digests=digests,
        provenance=provenance(),
        seconds=time.perf_counter() - start,
    )


def _rows(rows: Rows, name: str) -> list[dict[str, Any]]:
    kind = "options" if name in CHOICES else "paraphrased"
    return checked_rows(rows, name, "load_tofu(...)", lambda row: tofu_problem(row, kind))


def _reference_ratios(
    reference: PreTrainedModel | TofuEvaluation | Sequence[float] | None,
    tokenizer: PreTrainedTokenizerBase,
    forget: list[dict[str, Any]],
    digest: str,
    settings: Mapping[str, Any],
    run: Mapping[str, Any],
) -> Sequence[float] | None:
    if isinstance(reference, nn.Module):
        return _scored(reference, tokenizer, forget, False, settings, run)[1]
    if not isinstance(reference, TofuEvaluation):
        return reference
    if reference.digests.get("forget") != digest:
        raise RmuLabError("The reference was evaluated on other forget questions; evaluate it on these.")
    other = [name for name, value in settings.items() if reference.settings.get(name) != value]
    if other:
        raise RmuLabError(f"The reference was evaluated with another {other[0]}; evaluate both in the same way.")
    return reference.truth_ratios


def _scored(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    choice: bool,
    settings: Mapping[str, Any],
    run: Mapping[str, Any],
) -> tuple[list[float], list[float]]:
    """Probability and truth ratio of each question."""
    end = str(tokenizer.eos_token) if settings["end_token"] else ""
    prompts, texts, counts = [], [], []
    for row in rows:
        prompt, joint = asked(tokenizer, row["question"], chat_template=settings["chat_template"])
        answers = [row["answer"], *([] if choice else [row["paraphrased_answer"]]), *wrong_answers(row)]
        texts += [f"{joint}{answer.strip()}{end}" for answer in answers]
        prompts += [prompt] * len(answers)
        counts.append(len(answers))
    found = iter(score_texts(model, tokenizer, texts, prompts, **run))
    probability, ratio = [], []
    for count in counts:
        answer, *others = islice(found, count)
        right, wrong = (answer, others) if choice else (others[0], others[1:])
        probability.append(choice_probability(answer, wrong) if choice else answer_probability(answer))
        ratio.append(truth_ratio(right, wrong))
    return probability, ratio


def _utility(sets: Sequence[TofuScores]) -> Number:
    """The harmonic mean of all sets' means, with a bootstrap of each set's questions."""
    random = np.random.default_rng(0)
    drawn = []
    for one in sets:
        values = np.array([*one.kept.values()])  # (3, questions)
        n = values.shape[1]
        drawn.append(random.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n @ values.T)  # (draws, 3)
    means = np.concatenate(drawn, axis=1)
    with np.errstate(divide="ignore"):
        utilities = means.shape[1] / (1 / means).sum(axis=1)  # 0 where a mean is 0
    low, high = np.quantile(utilities, [0.025, 0.975])
    value = model_utility(fmean(values) for one in sets for values in one.kept.values())
    n = sum(len(one.answers) for one in sets)
    return Number(value, min(float(low), value), max(float(high), value), n, "questions")

"""How soon does it come back? Accuracy against the tokens of a fine-tune, and the point where half has returned: R50.

One number of steps at one learning rate says little: a slower rate looks robust, and so does a ruined model. So the rate is
searched, under a bound on what it costs in general, and the whole curve is kept. Taught in notebook 07.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import NotFiniteError
from ..evaluate import Accuracy, accuracy
from ..stored import checked, reading
from .fine_tune import RelearnConfig, Trained, fine_tuning, relearning_batches

RATES: dict[Trained, tuple[float, ...]] = {
    "all": (3e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3),
    "edited": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "lora": (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2),
}
"""AdamW's learning rates among which the fastest is searched, by what is trained."""
HALVING = (8, 16, 32)
"""Steps that the rates, and then the better half of them, and again, are tried with."""
BOUND = 0.05
"""General accuracy that relearning may cost: an attacker wants a model that can still be used."""


@dataclass(frozen=True)
class RelearningCurve:
    """Accuracy along one fine-tune. Taught in notebook 07."""

    config: RelearnConfig
    tokens: tuple[int, ...]
    """Trained on before each measurement, 0 first."""
    scores: tuple[Accuracy, ...]
    """On the questions that were asked, before the first step and after each of `config.steps`."""
    losses: tuple[float, ...]
    """Before each update, in nats a token."""
    seconds: float

    @property
    def steps(self) -> tuple[int, ...]:
        """At which it was measured, 0 first."""
        return (0, *self.config.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `from_dict` is the way back."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return plain | {
            "config": dataclasses.asdict(self.config),
            "scores": [score.to_dict() for score in self.scores],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RelearningCurve:
        """Rebuild a curve from what `to_dict` returned.

        Raises
        ------
        RmuLabError
            if it is not what `to_dict` gives.
        """
        with reading("This is no relearning curve", "give what RelearningCurve.to_dict() wrote"):
            lists = {name: tuple(plain[name]) for name in ("tokens", "losses")}
            scores = tuple(map(Accuracy.from_dict, plain["scores"]))
            config = checked(RelearnConfig(**plain["config"]))
            return checked(cls(**{**plain, **lists, "config": config, "scores": scores}))


def relearning_curve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    questions: Sequence[Mapping[str, Any]],
    config: RelearnConfig | None = None,
    *,
    edited: Sequence[str] = (),
    progress: bool = True,
) -> RelearningCurve:
    """Fine-tune the model as it is now, and measure it on the way; every weight is put back afterwards.

    Inside ``with result.applied(model):`` the unlearned model is fine-tuned, and the base model outside.
    Taught in notebook 07.

    Parameters
    ----------
    texts
        to train on.
    questions
        as `accuracy` takes them, cloze style.
    config
        by default ``RelearnConfig()``.
    edited
        names of parameters, such as the keys of ``result.edit``, where `config` trains those that were edited.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if there are fewer texts than a batch takes, or as of `fine_tuning` and `accuracy`.
    """
    with relearned(model, tokenizer, texts, questions, config or RelearnConfig(), edited=edited, progress=progress) as curve:
        return curve


@contextmanager
def relearned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    questions: Sequence[Mapping[str, Any]],
    config: RelearnConfig,
    *,
    edited: Sequence[str] = (),
    progress: bool = True,
) -> Iterator[RelearningCurve]:
    """Let the ``with`` block have the model as it is at the end of a `relearning_curve`; it is put back afterwards.

    Parameters and errors as of `relearning_curve`.
    """
    start = time.perf_counter()
    batches = relearning_batches(tokenizer, texts, config)
    read = [0, *accumulate(int(batch.attention_mask.sum()) for batch in batches)]
    losses: list[float] = []
    scores = [accuracy(model, tokenizer, questions, progress=False)]
    how = {"trained": config.trained, "edited": edited, "seed": config.seed, "progress": progress}
    with fine_tuning(model, config.lr, **how) as learn:  # type: ignore[arg-type]
        for before, after in pairwise((0, *config.steps)):
            losses += learn(batches[before:after])
            scores.append(accuracy(model, tokenizer, questions, progress=False))
        yield RelearningCurve(
            config=config,
            tokens=tuple(read[step] for step in (0, *config.steps)),
            scores=tuple(scores),
            losses=tuple(losses),
            seconds=time.perf_counter() - start,
        )


@dataclass(frozen=True)
class RateTrial:
    """One learning rate, tried on dev questions."""

    lr: float
    steps: int
    accuracy: float
    """On questions of the topic; 0 where the fine-tune diverged."""
    general: float
    """On general questions."""


def search_rate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    questions: Sequence[Mapping[str, Any]],
    general: Sequence[Mapping[str, Any]],
    config: RelearnConfig | None = None,
    *,
    rates: Sequence[float] = (),
    bound: float = BOUND,
    halving: Sequence[int] = HALVING,
    edited: Sequence[str] = (),
    progress: bool = True,
) -> tuple[RelearnConfig, list[RateTrial]]:
    """Search the learning rate that brings most back, by successive halving, under a bound on general accuracy.

    All rates are tried with few steps, the better half of them with more, and so on. A rate that costs more than `bound` of
    the model's general accuracy comes after all that do not. Of the rate that is left, the number of steps that did best is
    kept as well, since a fine-tune that goes on too long loses again what it brought back. Taught in notebook 07.

    Parameters
    ----------
    texts, edited
        as of `relearning_curve`.
    questions, general
        of the topic, and what must be kept: dev questions, for the choice is made on them.
    config
        settings whose rate is searched; by default ``RelearnConfig()``.
    rates
        of AdamW; by default those of `RATES` for what is trained.
    bound
        general accuracy that may be lost, as a share.
    halving
        steps of each round, as many rounds as there are.

    Returns
    -------
    tuple of RelearnConfig and list of RateTrial
        the settings with the rate that was found, whose steps end where it did best, and what was tried.

    Raises
    ------
    RmuLabError
        as of `relearning_curve`, but for a loss that is not finite: then that rate is out.
    """
    config = config or RelearnConfig()
    kept = accuracy(model, tokenizer, general, progress=False).accuracy - bound
    found: list[RateTrial] = []
    left = list(rates or RATES[config.trained])
    for steps in halving:
        batches = relearning_batches(tokenizer, texts, dataclasses.replace(config, steps=(steps,)))
        tried = []
        for lr in left:
            how = {"trained": config.trained, "edited": edited, "seed": config.seed, "progress": progress}
            try:
                with fine_tuning(model, lr, **how) as learn:  # type: ignore[arg-type]
                    learn(batches)
                    scores = [accuracy(model, tokenizer, rows, progress=False).accuracy for rows in (questions, general)]
            except NotFiniteError:
                scores = [0.0, 0.0]
            tried.append(RateTrial(lr, steps, *scores))
        found += tried
        best = sorted(tried, key=lambda one: _rank(one, kept))
        left = [one.lr for one in best[: max(1, len(best) // 2)]]
    end = min((one for one in found if one.lr == left[0]), key=lambda one: _rank(one, kept)).steps
    until = (*(step for step in config.steps if step < end), end)
    return dataclasses.replace(config, lr=left[0], steps=until), found


def _rank(trial: RateTrial, kept: float) -> tuple[bool, float, int, float]:
    """A key that is least for the best trial: within the bound, most back, then fewest steps, then the lowest rate."""
    return trial.general < round(kept, 9), -trial.accuracy, trial.steps, trial.lr

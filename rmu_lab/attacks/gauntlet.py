"""All attacks on one edit, cheapest first, and the card that says what each recovered. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corpora import texts_of
from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..files import digest, write_json
from ..provenance import provenance
from ..unlearning.config import MethodConfig
from ..unlearning.method import config_from_dict
from ..unlearning.result import UnlearnResult
from .ablate import ablate, steered_block
from .lens import lens
from .prompts import SHOTS, few_shot, pairs, prompt
from .quantise import quantise
from .recovery import Recovery, measure_baselines
from .relearn import relearn
from .transfer import shuffled, transfer

if TYPE_CHECKING:
    from datasets import Dataset

    from .recovery import Questions

RELEARN_TEXTS = 10  # as many as Łucki et al. fine-tune on
ABLATE_TEXTS = 48
LENS_QUESTIONS = 32
OUT_OF_TIME = "no time was left"
NOT_ASKED = "it was not asked for"
NO_BLOCK = "the edit steers no block, and no layer was given"


@dataclass(frozen=True)
class RobustnessCard:
    """What every attack recovered from one edit. Taught in notebook 07."""

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
    """SHA-256 of the questions and of each corpus."""
    provenance: dict[str, Any]
    """Versions, seed, machine and time."""
    seconds: float

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Rows to print, one for each attack and control.

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
        """Plain values, for JSON."""
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


def gauntlet(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    questions: Questions,
    *,
    dev_questions: Questions,
    forget: Dataset | Sequence[str],
    retain: Dataset | Sequence[str],
    rephrased: tuple[Questions, Questions] | None = None,
    suffix: str | None = None,
    layer: int | None = None,
    only: Collection[str] | None = None,
    seconds: float = 900.0,
    seed: int = 0,
    progress: bool = True,
) -> RobustnessCard:
    """Attack an edit in every way of this package with the attacks' default settings, cheapest first.

    Parameters
    ----------
    model
        the base model; unchanged on return.
    result
        the edit.
    questions
        of the topic that was unlearned; all numbers of the card are on them. As `accuracy` takes them.
    dev_questions
        others of the topic: the solved ones of few-shot prompts, and (the first 32) what the lens's block is
        chosen on.
    forget, retain
        texts of the topic, and unrelated ones. Relearning takes the first 10 of either, ablation the first 48 of
        `forget`.
    rephrased
        questions (need not be `questions`), and others that say the same in other words and name them in
        ``original``; None leaves that attack out.
    suffix
        such as `gcg` finds on the base model; None leaves that attack out.
    layer
        the block after which a direction is ablated: by default the steered one. An edit of another method, which
        steers none, is not ablated unless it is given.
    only
        names of attacks (keys of `RobustnessCard.recoveries`) that are to run; None: all.
    seconds
        no attack begins after that time; one that has begun is finished.
    seed
        of all that is random in the attacks.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if a question, a corpus, the suffix or the edit does not fit, or `only` names an unknown attack.
    """
    start = time.perf_counter()
    topic = texts_of(forget, "forget", RELEARN_TEXTS)
    unrelated = texts_of(retain, "retain", RELEARN_TEXTS)
    asked, dev = list(questions), list(dev_questions)
    # What would stop an attack of the last minutes stops the first.
    few_shot(asked, dev, SHOTS, seed)
    if suffix is not None:
        shuffled(tokenizer, suffix, seed)
    if rephrased is not None:
        pairs(*map(list, rephrased))
    layer = steered_block(result) if layer is None else layer

    def on(attack: Callable[..., Recovery], *args: Any, **settings: Any) -> Callable[[], Recovery]:
        return lambda: attack(model, tokenizer, result, asked, *args, baselines=known, progress=False, **settings)

    def in_other_words() -> Recovery:
        originals, others = rephrased
        return prompt(model, tokenizer, result, originals, "rephrased", rephrased=others, progress=False)

    attacks = {
        "quantise to 8 bits": on(quantise, bits=8),
        "quantise to 4 bits": on(quantise, bits=4),
        "prefilled": on(prompt, "prefilled"),
        "rephrased": in_other_words if rephrased is not None else "no rephrased questions were given",
        "suffix": on(transfer, suffix, seed=seed) if suffix is not None else "no suffix was given",
        "few-shot": on(prompt, "few-shot", solved=dev, seed=seed),
        "ablate a direction": on(ablate, topic[:ABLATE_TEXTS], layer=layer, seed=seed) if layer is not None else NO_BLOCK,
        "relearn unrelated text": on(relearn, unrelated[:RELEARN_TEXTS], seed=seed),
        "relearn text of the topic": on(relearn, topic[:RELEARN_TEXTS], seed=seed),
        "logit lens": on(lens, dev_questions=dev[:LENS_QUESTIONS]),
    }
    if unknown := set(only or ()) - attacks.keys():
        raise RmuLabError(f"There is no attack {min(unknown)!r}; use some of {', '.join(map(repr, attacks))}.")
    known = measure_baselines(model, tokenizer, result, asked, progress=False)
    recoveries, left_out = {}, {}
    bar = tqdm(attacks.items(), desc="attacks", unit="attack", delay=5, disable=not progress)
    for name, attack in bar:
        if only is not None and name not in only:
            left_out[name] = NOT_ASKED
        elif isinstance(attack, str):
            left_out[name] = attack
        elif time.perf_counter() - start >= seconds:
            left_out[name] = OUT_OF_TIME
        else:
            bar.set_postfix_str(name)
            recoveries[name] = dataclasses.replace(attack(), attack=name)
    return RobustnessCard(
        recoveries=recoveries,
        model_name=result.model_name,
        config=result.config,
        base=known.base,
        unlearned=known.unlearned,
        left_out=left_out,
        digests={
            "questions": _question_digest(asked),
            "dev_questions": _question_digest(dev),
            "forget": digest(topic),
            "retain": digest(unrelated),
        },
        provenance=provenance(seed),
        seconds=time.perf_counter() - start,
    )


def _question_digest(rows: Sequence[Mapping]) -> str:
    return digest(json.dumps([row["question"], row["choices"], row["answer"]]) for row in rows)

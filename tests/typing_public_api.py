"""What users write against the public names: never run, but type-checked by `make test`.

A line that must be refused bears the refusal; mypy complains if it is accepted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import assert_type

import rmu_lab
from rmu_lab import (
    Accuracy,
    UnlearnConfig,
    UnlearnResult,
    accuracy,
    answers,
    decoder_blocks,
    gauntlet,
    load_corpus,
    load_model,
    load_questions,
    unlearn,
)


def ask_in_own_words(row: Mapping[str, Any]) -> str:
    return f"{row['question']} It is"


def forget_a_topic(folder: Path) -> Accuracy:
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    assert_type(model, PreTrainedModel)
    assert_type(tokenizer, PreTrainedTokenizerBase)
    forget: Dataset = load_corpus("someone/texts", subset="long", column="body")
    result = unlearn(model, tokenizer, forget, ["one text", "another"], UnlearnConfig(layer=7, beta=5.0))
    assert_type(result, UnlearnResult)
    result.save(folder)
    questions = load_questions("bio", split="test")
    with result.applied(model):
        assert_type(answers(model, tokenizer, ["What is wet?"]), list[str])
        score = accuracy(model, tokenizer, questions, prompt=ask_in_own_words)
    assert_type(score.interval, tuple[float, float])
    assert_type(score.correct, tuple[bool, ...])
    print(len(decoder_blocks(model)), rmu_lab.__version__, gauntlet.__doc__)
    return score


def mistakes(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    accuracy(model, tokenizer, [], prompt=lambda row: row["question"].strip())  # no mistake
    accuracy(model, tokenizer, [], style="number")  # type: ignore[arg-type]
    accuracy(model, tokenizer, [], prompt=lambda row: len(row))  # type: ignore[arg-type, return-value]
    accuracy(tokenizer, model, [])  # type: ignore[arg-type]
    UnlearnConfig(layers=7)  # type: ignore[call-arg]
    rmu_lab.unlern  # type: ignore[attr-defined]  # noqa: B018

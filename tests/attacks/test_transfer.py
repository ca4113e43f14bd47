from dataclasses import replace

import pytest

from rmu_lab import RmuLabError, accuracy
from rmu_lab.attacks import transfer
from rmu_lab.attacks.transfer import shuffled
from tests.attacks.conftest import QUESTIONS, QUIET
from tests.conftest import same_weights, weights_of


def test_suffix_stands_behind_each_question(subject, model, tokenizer, result):
    before = weights_of(model)
    found = transfer(replace(subject, suffix=" old green fish table"), QUIET)
    assert same_weights(model, before)

    def asked(text):
        rows = [row | {"question": f"{row['question']} {text}"} for row in QUESTIONS]
        return accuracy(model, tokenizer, rows, progress=False)

    other = found.details["shuffled"]
    assert other != found.details["suffix"]
    with result.applied(model):
        assert found.start == accuracy(model, tokenizer, QUESTIONS, progress=False)
        assert found.attacked == asked("old green fish table")
        assert found.controls["tokens in random order"] == (found.start, asked(other.strip()))
    assert found.controls["base model"] == (
        accuracy(model, tokenizer, QUESTIONS, progress=False),
        asked("old green fish table"),
    )
    assert list(found.controls) == ["tokens in random order", "base model"]
    with pytest.raises(RmuLabError, match="No suffix was given"):
        transfer(subject, QUIET)


def test_shuffled_has_the_same_tokens_in_another_order(tokenizer):
    suffix = " old green fish table"
    found = {shuffled(tokenizer, suffix, seed) for seed in range(20)}
    assert len(found) > 1 and suffix not in found
    assert all(sorted(text) == sorted(suffix) for text in found)
    assert shuffled(tokenizer, suffix, 3) == shuffled(tokenizer, suffix, 3)
    for poor in ("", "a", "aaa"):
        with pytest.raises(RmuLabError, match="fewer than two different tokens"):
            shuffled(tokenizer, poor, 0)

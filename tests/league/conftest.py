"""A tiny model, an edit of it, and texts that were held out."""

import pytest

from rmu_lab import UnlearnConfig, unlearn
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import made_up_texts, tiny_model

HELD_OUT = made_up_texts(7, seed=13)
SHORT = {"layer": 3, "steps": 6, "batch_size": 3, "max_length": 16, "lr": 2e-2, "alpha": 0.1}
CONFIG = UnlearnConfig(**SHORT)


@pytest.fixture
def model():
    return tiny_model("llama")


@pytest.fixture
def result(model, tokenizer):
    return unlearn(model, tokenizer, FORGET, RETAIN, CONFIG, progress=False)

"""A tiny unlearned model, and questions it is asked."""

import pytest

from rmu_lab import UnlearnConfig, unlearn
from rmu_lab.attacks import ATTACKS, Budget, Subject
from tests.conftest import made_up_texts, tiny_model

FORGET, RETAIN = made_up_texts(12, seed=11), made_up_texts(12, seed=12)


def made_up_questions(n, seed, prefix):
    """Questions whose options all differ in what a random model makes of them."""
    texts = enumerate(made_up_texts(n, seed=seed, least=3, most=12))
    return [
        {"id": f"{prefix}-{i}", "question": f"{text}?", "choices": made_up_texts(3, 100 * seed + i, 1, 5), "answer": i % 3}
        for i, text in texts
    ]


QUESTIONS, DEV = made_up_questions(10, 5, "test"), made_up_questions(8, 6, "dev")
QUIET = Budget(progress=False)
CONFIG = UnlearnConfig(layer=3, steps=6, batch_size=3, max_length=16, lr=2e-2, alpha=0.1)


def edit_of(model, tokenizer):
    return unlearn(model, tokenizer, FORGET, RETAIN, CONFIG, progress=False)


@pytest.fixture
def model():
    return tiny_model("llama")


@pytest.fixture
def result(model, tokenizer):
    return edit_of(model, tokenizer)


@pytest.fixture
def subject(model, tokenizer, result):
    """With all material but a suffix and rephrased questions."""
    return Subject(model, tokenizer, result, QUESTIONS, dev_questions=DEV, forget=FORGET, retain=RETAIN)


@pytest.fixture
def table():
    """The table of attacks, put back when a test that adds to it is over."""
    kept = dict(ATTACKS)
    yield ATTACKS
    ATTACKS.clear()
    ATTACKS.update(kept)

"""A tiny unlearned model, and questions it is asked."""

import pytest

from rmu_lab import UnlearnConfig, answers, unlearn
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


def answerable(model, tokenizer, rows):
    """The questions with options of which the model, as it is, names the right one in words."""
    said = answers(model, tokenizer, [row["question"] for row in rows])
    words = [
        next((word for word in text.split() if len(word) > 2 and word not in row["question"]), "")
        for text, row in zip(said, rows, strict=True)
    ]
    known = [
        row | {"choices": [word, "quartz", "xylem"], "answer": 0} for row, word in zip(rows, words, strict=True) if word
    ]
    assert known, "the model writes no word of its own"
    return known


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

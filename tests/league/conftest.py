"""A tiny model, an edit of it, and texts that were held out."""

import pytest

from rmu_lab import Accuracy, UnlearnConfig, unlearn
from rmu_lab.attacks import RelearnConfig, RelearningCurve
from rmu_lab.league import AttackMaterial, LeagueSettings, Material
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, RETAIN, made_up_questions
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


def tiny_material(model, tokenizer, attacks=("unrelated", "other facts")):
    """Of made-up texts and questions."""
    known = {
        "unrelated": AttackMaterial(made_up_texts(5, seed=14), DEV, QUESTIONS),
        "other facts": AttackMaterial(made_up_texts(6, seed=15), DEV[:5], QUESTIONS[:6]),
    }
    return Material(
        model=model,
        tokenizer=tokenizer,
        forget=FORGET,
        retain=RETAIN,
        held_out=HELD_OUT,
        dev_topic=DEV,
        dev_general=made_up_questions(6, 7, "dev-general"),
        topic=QUESTIONS,
        general=made_up_questions(9, 8, "general"),
        attacks={name: known[name] for name in attacks},
    )


SETTINGS = LeagueSettings(budgets=(0.02, 0.1), dev_seed=5, seeds=(6, 7), steps=(1, 2, 4), halving=(2, 4), rates=(1e-3, 1e-2))


@pytest.fixture
def material(model, tokenizer):
    return tiny_material(model, tokenizer)


# ---------------------------------------------------------------------------------------------------------------------
# Rows that were made up, for what is computed from them


def made_score(right, n):
    marks = tuple(at < right for at in range(n))
    return Accuracy.of(marks, tuple(0 if mark else 1 for mark in marks), "cloze").to_dict()


def made_curve(shares, n=100):
    config = RelearnConfig(steps=tuple(range(1, len(shares))))
    tokens = tuple(100 * step for step in range(len(shares)))
    scores = tuple(Accuracy.from_dict(made_score(share, n)) for share in shares)
    return RelearningCurve(config, tokens, scores, (), 0.0).to_dict()


def made_base(topic=80, general=80, n=100):
    attacks = {"unrelated": {"score": made_score(topic, n)}}
    scores = {"topic": made_score(topic, n), "general": made_score(general, n)}
    return {"league": "one", "entry": "base", "budget": 0.0, "seed": 350, "attacks": attacks, **scores}


def made_row(entry, shares, *, general=76, budget=0.05, seed=351, properties=(), n=100, **more):
    """A row whose topic accuracy is the curve's first."""
    attack = {"lr": 1e-4, "end": len(shares) - 1, "curve": made_curve(shares, n)}
    known = {"norm": 0.01, "stable_rank": 2.0, "overlap": 0.5, "chance": 0.1, "sharpness": 3.0} | dict(properties)
    scores = {"topic": made_score(shares[0], n), "general": made_score(general, n)}
    facts = {"strength": 2.0, "divergence": budget, "properties": known, "attacks": {"unrelated": attack}, **scores}
    return {"league": "one", "entry": entry, "budget": budget, "seed": seed, "config": {"method": entry, "seed": seed}} | (
        facts | more
    )

"""Every part of the comparison of methods, on a tiny model."""

import dataclasses
import json
import sys
from collections import Counter

import pytest

from benchmarks import methods
from benchmarks.methods import ATTACKS, DEV_SEEDS, SETTINGS, Trial, card, choices, costs, settings_of, strongest, tune
from rmu_lab import Accuracy, RobustnessCard, SweepRow, UnlearnConfig, accuracy, load_model, unlearn
from rmu_lab.unlearning.baselines import NPO, SSD, GradDiff
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, RETAIN
from tests.conftest import same_weights, tiny_model, weights_of

SHORT = {"max_length": 16, "batch_size": 2}
SETS = {"bio": QUESTIONS, "general": DEV}
CONFIGS = [
    UnlearnConfig(layer=3, steps=2, lr=2e-2, **SHORT),
    NPO(lr=3e-3, steps=2, **SHORT),
    SSD(max_length=16, texts=3, threshold=2),
    NPO(lr=3e-3, steps=4, **SHORT),
    SSD(max_length=16, texts=3, threshold=50),
    GradDiff(lr=1e30, steps=2, **SHORT),
]


def made_row(config, bio, general):
    scores = {
        name: Accuracy.from_dict({"correct": "1" * right + "0" * (100 - right), "predictions": "0" * 100, "style": "cloze"})
        for name, right in (("bio", bio), ("general", general))
    }
    return SweepRow("", config, scores, {}, {}, {}, None, "", {}, {})


@pytest.fixture
def trial(tokenizer):
    return Trial(tiny_model("llama"), tokenizer, FORGET, RETAIN, SETS)


def test_rows_are_those_of_single_trainings(trial, tmp_path):
    model, before = trial.model, weights_of(trial.model)
    base, *rows = trial.rows(CONFIGS, tmp_path / "rows.jsonl")
    assert same_weights(model, before)
    assert [row.config for row in rows] == CONFIGS and base.config is None
    assert base.scores["bio"] == accuracy(model, trial.tokenizer, QUESTIONS, progress=False)
    for row in rows[:-1]:
        result = unlearn(model, trial.tokenizer, FORGET, RETAIN, row.config, progress=False)
        assert row.error is None and row.last == pytest.approx(result.history[-1])
        with result.applied(model):
            scores = {name: accuracy(model, trial.tokenizer, asked, progress=False) for name, asked in SETS.items()}
        assert scores == row.scores
    assert rows[-1].scores == {} and "The model was not changed" in rows[-1].error


def test_a_method_of_ones_own_is_compared_like_the_others(trial, tmp_path, own_method):
    assert len(settings_of(own_method.method)) == 6 and settings_of("ssd") == [SSD()]
    _, row = trial.rows([own_method(lr=3e-3, steps=2, **SHORT)], tmp_path / "rows.jsonl")
    assert row.config.method == own_method.method and row.scores.keys() == SETS.keys()


def test_every_method_has_six_settings():
    assert len(SETTINGS) == len(set(SETTINGS)) and {config.seed for config in SETTINGS} == {0}
    counts = Counter(config.method for config in SETTINGS)
    assert set(counts.values()) == {6} and len(counts) == 9


def test_what_loses_too_much_with_the_first_seed_is_not_trained_with_the_second(trial, tmp_path, monkeypatch):
    kept = {CONFIGS[0], CONFIGS[2]}

    def lost(row, base):
        assert base.config is None
        return 0.05 if dataclasses.replace(row.config, seed=0) in kept else 0.051

    monkeypatch.setattr(methods, "general_lost", lost)
    base, *rows = tune(trial, CONFIGS, tmp_path / "rows.jsonl", 1)
    tried = {
        seed: {dataclasses.replace(row.config, seed=0) for row in rows if row.config.seed == seed} for seed in DEV_SEEDS
    }
    assert base.config is None and tried == {100: set(CONFIGS), 101: kept}


def test_choices_follow_the_rule():
    """Five points are allowed with either seed, six not; else the setting whose worse seed loses least."""
    found = {
        NPO(lr=1e-5): ((60, 84), (50, 85)),
        NPO(lr=1e-4): ((40, 80), (30, 80)),
        NPO(lr=3e-4): ((10, 85), (10, 79)),  # one seed loses six
        NPO(lr=1e-3): ((36, 84), (36, 84)),  # one seed alone would prefer it, not the mean
        GradDiff(lr=1e-5): ((30, 60), (30, 84)),
        GradDiff(lr=1e-4): ((50, 70), (50, 70)),
    }
    rows = [made_row(None, 85, 85)]
    for config, of_seeds in found.items():
        rows += [made_row(dataclasses.replace(config, seed=seed), *of_seeds[seed - 100]) for seed in (100, 101)]
    failed = GradDiff(lr=1e30)
    rows += [dataclasses.replace(made_row(dataclasses.replace(failed, seed=100), 0, 0), scores={}, error="diverged")]
    chosen = choices(rows)
    assert chosen == {"npo": NPO(lr=1e-4), "grad_diff": GradDiff(lr=1e-4)}
    assert strongest(rows, chosen) == ["npo", "grad_diff"]


def test_a_card_of_a_method_that_steers_no_block(trial, tmp_path):
    path = tmp_path / "card_npo.json"
    card(trial, CONFIGS[1], QUESTIONS, DEV, path)
    found = RobustnessCard.load(path)
    assert found.config == CONFIGS[1]  # the first test seed is the default
    assert set(found.recoveries) == set(ATTACKS)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_costs(tmp_path, tokenizer):
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    costs({"npo": CONFIGS[1], "ssd": CONFIGS[2]}, tmp_path / "cost.json", str(tmp_path / "base"))
    stored = json.loads((tmp_path / "cost.json").read_text())
    assert [row["method"] for row in stored["rows"]] == ["npo", "ssd"]
    weights = sum(parameter.nbytes for parameter in load_model(tmp_path / "base", device="cpu")[0].parameters())
    for row in stored["rows"]:
        assert row["seconds"] > 0 and row["memory"] > 0 and row["model_bytes"] == weights
    assert stored["rows"][0]["config"]["steps"] == 3 == stored["rows"][1]["config"]["texts"]

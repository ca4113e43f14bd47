"""Every part of the comparison of methods, on a tiny model."""

import dataclasses
import json
import sys
from collections import Counter

import pytest
import torch

from benchmarks import methods
from benchmarks.methods import ATTACKS, DEV_SEEDS, SETTINGS, Scorer, card, choices, costs, strongest, tune
from rmu_lab import Accuracy, RobustnessCard, SweepRow, UnlearnConfig, accuracy, load_model, load_sweep, unlearn
from rmu_lab.unlearning.baselines import NPO, SSD, GradDiff
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, RETAIN
from tests.conftest import same_weights, tiny_model, weights_of

SHORT = {"max_length": 16, "batch_size": 2}
TEXTS = FORGET, RETAIN
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
def scorer(tokenizer):
    return Scorer(tiny_model("llama"), tokenizer, TEXTS, SETS)


def test_rows_are_those_of_single_trainings(scorer, tokenizer, tmp_path):
    model, before = scorer.work[0], weights_of(scorer.work[0])
    base, *rows = scorer.rows(CONFIGS, tmp_path / "rows.jsonl")
    assert same_weights(model, before)
    assert [row.config for row in rows] == CONFIGS and base.config is None
    assert base.scores["bio"] == accuracy(model, tokenizer, QUESTIONS, progress=False)
    for row in rows[:-1]:
        result = unlearn(model, tokenizer, *TEXTS, row.config, progress=False)
        assert row.error is None and row.last == result.history[-1]
        with result.applied(model):
            assert {name: accuracy(model, tokenizer, asked, progress=False) for name, asked in SETS.items()} == row.scores
    assert rows[-1].scores == {} and "The model was not changed" in rows[-1].error


def test_a_stopped_run_goes_on(scorer, tmp_path, monkeypatch):
    out = tmp_path / "rows.jsonl"
    whole = scorer.rows(CONFIGS, out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:3]) + lines[3][:40])  # killed while it wrote the fourth
    again = scorer.rows(CONFIGS, out)
    assert [dataclasses.replace(row, seconds={}, provenance={}) for row in again] == [
        dataclasses.replace(row, seconds={}, provenance={}) for row in whole
    ]
    assert len(load_sweep(out)) == len(CONFIGS) + 1
    monkeypatch.setattr("benchmarks.methods.unlearn", None)
    monkeypatch.setattr("benchmarks.methods.checkpoints", None)
    assert scorer.rows(CONFIGS, out) == again  # nothing is trained


def test_workers_find_the_same_rows_and_name_the_command(scorer, tmp_path):
    alone, beside = (scorer.rows(CONFIGS, tmp_path / f"{workers}.jsonl", workers) for workers in (1, 2))
    for row, other in zip(alone, beside, strict=True):
        assert (row.key, row.config, row.scores, row.last, row.error) == (
            other.key, other.config, other.scores, other.last, other.error
        )  # fmt: skip
        assert row.provenance["command"] == other.provenance["command"]


def test_a_worker_has_a_model_of_its_own(scorer, monkeypatch):
    """Tensors reach it as shared memory: without a copy, the edit of one would be in the other's model."""
    model = scorer.work[0]
    monkeypatch.setattr(methods, "_scorer", None, raising=False)
    monkeypatch.setattr("sys.orig_argv", sys.orig_argv)
    methods._start_worker(scorer, torch.get_num_threads(), sys.orig_argv)
    theirs = methods._scorer.work[0]
    assert same_weights(theirs, weights_of(model))
    pointers = [{parameter.data_ptr() for parameter in of_one.parameters()} for of_one in (model, theirs)]
    assert not pointers[0] & pointers[1]


def test_every_method_has_six_settings():
    assert len(SETTINGS) == len(set(SETTINGS)) and {config.seed for config in SETTINGS} == {0}
    counts = Counter(config.method for config in SETTINGS)
    assert set(counts.values()) == {6} and len(counts) == 9


def test_what_loses_too_much_with_the_first_seed_is_not_trained_with_the_second(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "SETTINGS", CONFIGS)
    kept = {CONFIGS[0], CONFIGS[2]}

    def lost(row, base):
        assert base.config is None
        return 0.05 if dataclasses.replace(row.config, seed=0) in kept else 0.051

    monkeypatch.setattr(methods, "general_lost", lost)
    base, *rows = tune(scorer, tmp_path / "rows.jsonl", 1)
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


def test_a_card_of_a_method_that_steers_no_block(scorer, tmp_path):
    path = tmp_path / "card_npo.json"
    card(scorer.work, CONFIGS[1], QUESTIONS, DEV, path)
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

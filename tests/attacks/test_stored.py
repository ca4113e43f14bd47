"""The stored attacks of notebook 06 are whole, keep to the rules written down for them, and say where they come from."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from benchmarks.attacks import attacks, gains, says
from rmu_lab.attacks import GCGConfig
from rmu_lab.files import read_json_lines

FOLDER = Path(__file__).parents[2] / "data/results/gcg"
ATTACKS, GAINS = ([row for _, row in read_json_lines(FOLDER / name)] for name in ("attacks.jsonl", "gains.jsonl"))


def test_every_attack_is_there_once():
    names = ("part", "model", "prompt", "target", "seed", "search")
    assert [tuple(row[name] for name in names) for row in ATTACKS] == [attack.key() for attack in attacks()]
    assert [tuple(row[name] for name in ("model", "topic", "prompt", "target", "among")) for row in GAINS] == list(gains())
    assert all("benchmarks.attacks" in row["provenance"]["command"] for row in (*ATTACKS, *GAINS))


def test_attacks_never_lose_what_they_found():
    for row in ATTACKS:
        assert all(earlier >= later for earlier, later in pairwise([row["initial_loss"] + 1e-4, *row["best"]]))
        steps = len(row["loss"])
        assert steps == row["num_steps"] or row["matched"]
        assert {len(row[name]) for name in ("best", "gradient_norm", "rank_correlation")} == {steps}
        assert GCGConfig(**row["config"]).seed == row["seed"]


def test_success_is_read_from_answers_by_the_rule():
    for row in ATTACKS:
        assert row["said"] == (row["fact"] is not None and says(row["reply"], row["fact"], row["suffix"]))
        assert row["reply"].startswith(row["target"]) or not row["matched"]
        assert row["fact"] is None or row["fact"] not in row["target"].lower()


def test_who_hands_over_the_fact_has_not_found_it():
    assert says("By Mosquitoes, mostly.", "mosquito", " x x")
    assert not says("By mosquitoes, mostly.", "mosquito", " Mosquito x")
    assert not says("By birds.", "mosquito", " x x")


def test_rank_correlations_are_those_of_the_stored_gains():
    """They were taken before the gains were rounded for the file, which makes a few of them equal."""
    for row in GAINS:
        assert row["rank_correlation"] == pytest.approx(spearmanr(row["predicted"], row["true"])[0], abs=0.02)


def test_nanogcg_and_ours_start_from_the_same_loss_and_end_within_noise():
    record = json.loads((FOLDER / "nanogcg.json").read_text(encoding="utf-8"))
    difference = record["loss, ours - nanoGCG"]
    assert abs(difference["mean"]) < 3 * difference["standard error"] and record["speed-up"] >= 1

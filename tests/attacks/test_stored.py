"""The stored searches of notebook 06 are whole, keep to the rules written down for them, and say where they come from."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from benchmarks import suffixes
from rmu_lab.attacks import GCGConfig
from rmu_lab.files import read_json_lines

FOLDER = Path(__file__).parents[2] / "data/results/suffixes"
KNOWN, GAINS, SEARCHES = (
    [row for _, row in read_json_lines(FOLDER / name)] for name in ("known.jsonl", "gains.jsonl", "searches.jsonl")
)
FACTS = {question: (target, pattern) for question, target, pattern in suffixes.CANDIDATES}


def attacked():
    """The twelve facts that are attacked, by what the base model was seen to say."""
    return [row["question"] for row in KNOWN if all(row["said"])][: suffixes.FACTS]


def test_facts_are_those_that_the_base_model_says():
    assert [row["question"] for row in KNOWN] == [*FACTS]
    for row in KNOWN:
        assert row["said"] == [suffixes.says(text, FACTS[row["question"]][1], "") for text in row["replies"]]
    assert len(attacked()) == suffixes.FACTS


def test_searches_and_gains_are_there_once_in_their_order():
    planned = [(each.model, attacked()[each.fact], each.how) for each in suffixes.searches()]
    stored = [(row["model"], row["question"], row["how"]) for row in SEARCHES]
    assert stored == [each for each in planned if each in stored]  # some may still be missing
    assert stored[: 3 * suffixes.HALF] == planned[: 3 * suffixes.HALF]
    assert [(row["model"], row["question"]) for row in GAINS] == [(m, q) for m in suffixes.MODELS for q in attacked()]
    assert all("benchmarks.suffixes" in row["provenance"]["command"] for row in (*KNOWN, *GAINS, *SEARCHES))


def test_searches_never_lose_what_they_found_and_end_at_the_target_or_the_budget():
    for row in SEARCHES:
        assert all(earlier >= later for earlier, later in pairwise([row["initial_loss"] + 1e-3, *row["losses"][1:]]))
        steps = len(row["losses"]) - 1
        assert steps == row["config"]["num_steps"] or row["stages"][-1]["matched"]
        assert {len(row[name]) for name in ("gradient_norm", "rank_correlation")} == {steps}
        assert GCGConfig(**row["config"]).search_width == 64


def test_success_is_read_from_answers_by_the_rule():
    for row in SEARCHES:
        assert row["said"] == row["stages"][-1]["said"]
        for stage in row["stages"]:
            assert stage["said"] == suffixes.says(stage["reply"], row["pattern"], stage["suffix"])
            assert stage["reply"].startswith(row["target"]) or not stage["matched"]


def test_targets_leave_their_facts_out():
    for target, pattern in FACTS.values():
        assert not suffixes.says(target, pattern, "")


def test_who_hands_over_the_fact_has_not_found_it():
    assert suffixes.says("By Mosquitoes, mostly.", "mosquito", " x x")
    assert not suffixes.says("By mosquitoes, mostly.", "mosquito", " Mosquito x")
    assert not suffixes.says("By birds.", "mosquito", " x x")


def test_rank_correlations_are_those_of_the_stored_gains():
    """They were taken before the gains were rounded for the file, which makes a few of them equal."""
    for row in GAINS:
        assert row["rank_correlation"] == pytest.approx(spearmanr(row["predicted"], row["true"])[0], abs=0.02)


def test_nanogcg_and_ours_start_from_the_same_loss_and_end_within_noise():
    record = json.loads((FOLDER.parent / "gcg/nanogcg.json").read_text(encoding="utf-8"))
    difference = record["loss, ours - nanoGCG"]
    assert abs(difference["mean"]) < 3 * difference["standard error"] and record["speed-up"] >= 1

"""Matches on a tiny model: what is equal is equal, what is kept is not run again, and what fails says so."""

import dataclasses
import json

import pytest

from rmu_lab import Accuracy, RmuLabError, UnlearnConfig, accuracy, unlearn
from rmu_lab.attacks import relearning_curve
from rmu_lab.kept_rows import KeptRows
from rmu_lab.league import (
    Entry,
    LeagueSettings,
    Stores,
    divergence,
    edit_properties,
    league_table,
    mini_league,
    play_base,
    play_entry,
)
from rmu_lab.league.stores import KEYS
from rmu_lab.league.tuning import chosen, config_in, edits_of, tune
from rmu_lab.unlearning.baselines import SSD, GradDiff
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import same_weights, weights_of
from tests.league.conftest import CONFIG, HELD_OUT, SETTINGS, SHORT

RMU = UnlearnConfig(method="rmu", **SHORT)
ENTRY = Entry("rmu", RMU, {"coefficient": (5.0, 50.0), "alpha": (0.1, 10.0)})
ONE = dataclasses.replace(SETTINGS, budgets=(0.05,), seeds=(6,))


def test_trials_are_trainings_of_their_own(material):
    """Also those that share their work, and those beside one that diverges."""
    grad = GradDiff(lr=1e-3, batch_size=2, max_length=16)
    configs = [RMU, *(dataclasses.replace(grad, steps=steps) for steps in (1, 3)), SSD(texts=3, max_length=16)]
    configs += [dataclasses.replace(configs[-1], threshold=2.0), dataclasses.replace(grad, lr=1e30, steps=2)]
    found = {config: result for config, result, _ in edits_of(material, configs)}
    assert set(found) == set(configs)
    assert "The model was not changed" in found.pop(configs[-1])
    for config, result in found.items():
        alone = unlearn(material.model, material.tokenizer, FORGET, RETAIN, config, progress=False)
        assert result.config == config and all(one.equal(alone.edit[name]) for name, one in result.edit.items())


def test_tuning_scores_every_trial_at_every_budget_on_dev(material):
    stores = Stores.in_folder()
    rows = tune(ENTRY, material, SETTINGS, stores.tuning)
    assert [config_in(row) for row in rows] == [dataclasses.replace(one, seed=5) for one in ENTRY.trials]
    for row in rows:
        result = unlearn(material.model, material.tokenizer, FORGET, RETAIN, config_in(row), progress=False)
        for one in row["at"]:
            scaled = result.scaled(one["strength"], material.model)
            assert one["divergence"] == pytest.approx(one["budget"], rel=0.05)
            assert divergence(material.model, material.tokenizer, scaled, HELD_OUT) == pytest.approx(one["divergence"])
            with scaled.applied(material.model):
                score = accuracy(material.model, material.tokenizer, material.dev_topic, progress=False)
            assert Accuracy.from_dict(one["topic"]) == score


def made_trial(name, *accuracies):
    return {"config": {"name": name}, "at": [{"topic": {"accuracy": one}} for one in accuracies]}


def test_the_trial_that_forgets_most_over_the_budgets_is_chosen():
    failed = {"config": {}, "error": "diverged"}
    rows = [failed, made_trial("a", 0.4, 0.4), made_trial("b", 0.6, 0.1), made_trial("c", 0.3, 0.4)]
    assert chosen(rows)["config"]["name"] == "b"  # and of two with 0.35 the earlier
    assert chosen([failed]) is None


def test_a_match_is_what_its_parts_give(material):
    before = weights_of(material.model)
    stores = Stores.in_folder()
    rows = play_entry(ENTRY, material, SETTINGS, stores)
    assert same_weights(material.model, before)
    assert [(row["seed"], row["budget"]) for row in rows] == [(6, 0.02), (6, 0.1), (7, 0.02), (7, 0.1)]
    best = config_in(chosen(tune(ENTRY, material, SETTINGS, stores.tuning)))
    model, tokenizer, row = material.model, material.tokenizer, rows[3]
    result = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(best, seed=7), progress=False)
    scaled = result.scaled(row["strength"], model)
    assert row["divergence"] == pytest.approx(0.1, rel=0.05)
    assert row["properties"] == dataclasses.asdict(edit_properties(model, tokenizer, scaled, FORGET[:16]))
    with scaled.applied(model):
        for name, asked in (("topic", material.topic), ("general", material.general)):
            assert Accuracy.from_dict(row[name]) == accuracy(model, tokenizer, asked, progress=False)
        for name, given in material.attacks.items():
            found = row["attacks"][name]
            config = SETTINGS.relearning(found["lr"], 7)
            curve = relearning_curve(model, tokenizer, given.texts, given.questions, config, progress=False)
            assert {**found["curve"], "seconds": 0} == json.loads(json.dumps({**curve.to_dict(), "seconds": 0}))
            (rate,) = [one for one in stores.rates.rows if one["budget"] == 0.1 and one["attack"] == name]
            assert (found["lr"], found["end"]) == (rate["lr"], rate["end"]) and found["end"] in SETTINGS.steps
    controls = {(one["attack"], one["lr"]) for one in stores.controls.rows}
    assert controls == {(name, one["lr"]) for row in rows for name, one in row["attacks"].items()}
    assert all("time" in row["provenance"] and row["seconds"] > 0 for row in [*rows, *stores.tuning.rows])
    table = league_table(stores.matches.rows)
    assert [(one.entry, one.budget, one.seeds) for one in table] == [("rmu", 0.02, (6, 7)), ("rmu", 0.1, (6, 7))]


def test_what_is_kept_is_not_run_again(material, tmp_path, monkeypatch):
    """After a stop in the middle of a row, only what is missing is made; the files keep what they had."""
    entry = Entry("rmu", RMU, {"coefficient": (5.0, 50.0)})
    honest, count = relearning_curve, []

    def stopped(*args, **how):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return honest(*args, **how)

    monkeypatch.setattr("rmu_lab.league.matches.relearning_curve", stopped)
    with pytest.raises(KeyboardInterrupt):
        play_entry(entry, material, ONE_ATTACK, Stores.in_folder(tmp_path))
    kept = {kind: (tmp_path / f"{kind}.jsonl").read_text() for kind in ("tuning", "rates", "matches")}
    assert len(kept["matches"].splitlines()) == 1 + 1  # the base model's, and the first seed's
    monkeypatch.setattr(
        "rmu_lab.league.tuning.edits_of", lambda _, configs: iter(()) if not configs else pytest.fail("tuned")
    )
    rows = play_entry(entry, material, ONE_ATTACK, Stores.in_folder(tmp_path))
    assert [row["seed"] for row in rows] == [6, 7]
    for kind, before in kept.items():
        assert (tmp_path / f"{kind}.jsonl").read_text().startswith(before)
    for part in ("relearning_curve", "search_rate", "accuracy", "edits_of", "scaled_to_divergence"):
        monkeypatch.setattr(f"rmu_lab.league.matches.{part}", lambda *_, **__: pytest.fail("run again"))
    again = play_entry(entry, material, ONE_ATTACK, Stores.in_folder(tmp_path))
    assert again == json.loads(json.dumps(rows))


ONE_ATTACK = dataclasses.replace(SETTINGS, budgets=(0.05,))


def test_other_settings_are_another_league(material):
    stores = Stores.in_folder()
    single = Entry("rmu", RMU)
    for settings in (ONE, dataclasses.replace(ONE, steps=(1, 2, 4, 6))):
        play_base(material, settings, stores)
    assert len(stores.matches.rows) == 2
    with pytest.raises(RmuLabError, match="leagues with other texts"):
        league_table(stores.matches.rows)
    other = dataclasses.replace(material, topic=material.topic[1:])
    assert len({other.digest(ONE), material.digest(ONE)}) == 2 and single.trials == [RMU]


def test_an_entry_that_cannot_be_scaled_has_no_rows_and_a_single_setting_that_cannot_says_why(material):
    far = dataclasses.replace(ONE, budgets=(500.0,))
    stores = Stores.in_folder()
    assert play_entry(Entry("rmu", RMU, {"alpha": (0.1, 1.0)}), material, far, stores) == []
    assert all("No strength of the edit" in row["error"] for row in stores.tuning.rows)
    rows = play_entry(Entry("rmu", RMU), material, far, stores)
    assert [row["error"][:11] for row in rows] == ["No strength"]
    (standing,) = league_table(stores.matches.rows)
    assert standing.lost is None and "failed: No strength" in standing.cells()[0][2]


def test_a_mini_league_runs_end_to_end(material):
    mini = LeagueSettings(budgets=(0.05,), dev_seed=5, seeds=(5,), steps=(1, 2), halving=(2,), rates=(1e-3,), controls=False)
    methods = [RMU, CONFIG, GradDiff(lr=1e-3, steps=2, batch_size=2, max_length=16)]
    stores = Stores.in_folder()
    rows = mini_league(material.model, material.tokenizer, methods, material=material, settings=mini, stores=stores)
    assert [row["entry"] for row in rows] == ["base", "rmu", "adaptive_rmu", "grad_diff"]
    assert {config_in(row).method for row in rows[1:]} == {"rmu", "adaptive_rmu", "grad_diff"}
    assert not stores.tuning.rows and not stores.controls.rows
    table = league_table(rows)
    assert [one.entry for one in table] == ["rmu", "adaptive_rmu", "grad_diff"]
    assert all(len(cells) == 9 for one in table for cells in one.cells())
    with pytest.raises(RmuLabError, match="each once"):
        mini_league(material.model, material.tokenizer, [RMU, RMU], material=material)


def test_settings_that_do_not_fit_the_model_are_refused_before_anything_is_run(material):
    stores = Stores.in_folder()
    with pytest.raises(RmuLabError, match="layer is 7"):
        play_entry(Entry("rmu", UnlearnConfig(method="rmu")), material, ONE, stores)
    assert not stores.matches.rows


def test_a_mini_league_of_the_courses_material_is_small(model, tokenizer):
    from rmu_lab.league.mini import MINI, mini_material

    found = mini_material(model, tokenizer)
    assert (len(found.topic), len(found.held_out), list(found.attacks)) == (40, 16, ["unrelated"])
    assert len(MINI.budgets) == len(MINI.seeds) == 1


def test_files_that_are_none_of_a_league_are_refused(tmp_path):
    (tmp_path / "rates.jsonl").write_text('{"league": "one"}\n')
    with pytest.raises(RmuLabError, match="line 1 has no 'entry'"):
        Stores.in_folder(tmp_path)
    assert KeptRows(KEYS["rates"]).rows == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budgets": ()}, "budgets is"),
        ({"budgets": (0.0,)}, "positive numbers"),
        ({"seeds": (1, 1)}, "each once"),
        ({"halving": (3,)}, "take its steps out of"),
        ({"trained": "edited"}, "something else for each entry"),
        ({"rates": (-1.0,)}, "must be positive"),
        ({"property_texts": 0}, "property_texts is 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, said):
    with pytest.raises(RmuLabError, match=said):
        LeagueSettings(**change)

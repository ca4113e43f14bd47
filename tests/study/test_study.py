"""The study: what dev chooses, what stored rows say, a run on a tiny model, and one table of verdicts everywhere."""

import dataclasses
import json
import types

import pytest
import torch

from rmu_lab import Accuracy, RmuLabError, SweepRow, UnlearnConfig, load_corpus
from rmu_lab.attacks.suffixes import Layout, SuffixLoss
from rmu_lab.estimates import Number
from rmu_lab.files import data_folder
from rmu_lab.study import CLAIMS, PARTS, STUDIED, NotMeasuredError, Study, computed_claims, markdown, measurements, readings
from rmu_lab.study.claim_table import as_json
from rmu_lab.study.model_study import DEV_SEED, SEEDS, MeasuredPart, SweepPart
from rmu_lab.study.parts import ADVISED, BY_ADVICE, DIRECTIONS, EASY_AND_HARD, SETTINGS
from rmu_lab.study.rank_one_table import rank_one_markdown
from rmu_lab.study.running import run_claim, run_parts
from rmu_lab.study.staleness import stale
from rmu_lab.study.studied_models import MAIN, StudiedModel, studied
from rmu_lab.study.verdicts import NOT_MEASURED, SYMBOLS, UNDECIDED
from tests.conftest import tiny_model

STORED = [
    (model, name)
    for model in STUDIED
    for name, part in PARTS.items()
    if (data_folder() / "results" / "study" / model / part.file).is_file()
]
CHOSEN = UnlearnConfig(layer=7, coefficient=570.0)


def row(marks: dict[str, str], config=None, first: float = 1.0, last: float = 1.0) -> SweepRow:
    """A row with these marks of what was answered rightly, by question set."""
    scores = {
        name: Accuracy.from_dict({"correct": each, "predictions": "0" * len(each), "style": "cloze"})
        for name, each in marks.items()
    }
    return SweepRow("", config, scores, {"forget_norm": first}, {"forget_norm": last}, {}, None, "", {}, {})


def study_of(**parts: list[SweepRow]) -> Study:
    study = Study(MAIN)
    study.__dict__["chosen"] = CHOSEN
    study._rows = dict(parts)
    return study


# -- models and parts -------------------------------------------------------------------------------------------------


def test_models_have_layers_in_every_third_of_their_depth():
    for model in STUDIED.values():
        first, middle, last = model.thirds
        assert list(model.layers) == sorted(set(model.layers)) and len(first) == len(middle) == len(last) == 3
    with pytest.raises(RmuLabError, match="'gpt-2' is no model of the study; use one of smollm2-135m"):
        studied("gpt-2")


def test_directions_are_none_of_those_that_rules_were_changed_by():
    assert not {DEV_SEED, *SEEDS, *DIRECTIONS} & {*range(13), *range(100, 113)}


def test_every_part_is_asked_for_by_a_claim_and_every_claim_knows_its_parts():
    asked = {name for claim in CLAIMS.values() for name in claim.parts}
    assert asked <= set(PARTS)
    assert not set(BY_ADVICE) & set(PARTS)
    shown_in_09, shown_in_the_guide = {"chosen_cloze", "chosen_letter", "copied"}, {"rank_one"}
    assert set(PARTS) - asked == shown_in_09 | shown_in_the_guide
    assert all(claim.parts or claim.line for claim in CLAIMS.values())


# -- what dev chooses -------------------------------------------------------------------------------------------------


def settings_rows(*found: tuple[int, str, str]) -> list[SweepRow]:
    """Rows of layers with marks on bio and on general questions, the base model's first."""
    base = row({"bio": "1" * 20, "general": "1" * 20})
    return [base, *(row({"bio": bio, "general": general}, UnlearnConfig(layer=at)) for at, bio, general in found)]


def test_dev_chooses_what_forgets_most_among_what_is_cheap():
    cheap, dear = "1" * 19 + "0", "1" * 18 + "00"
    rows = settings_rows((3, "0" * 20, dear), (5, "1" * 10 + "0" * 10, cheap), (7, "1" * 15 + "0" * 5, "1" * 20))
    study = Study(MAIN)
    study._rows = {SETTINGS: rows}
    assert study.chosen.layer == 5
    assert study.best_at(7).layer == 7
    assert study.best_of([rows[0], rows[1]], "adaptive_rmu").layer == 3  # where all cost too much, the cheapest
    near = settings_rows(
        (3, "1" * 10 + "0" * 10, cheap), (5, "1" * 11 + "0" * 9, "1" * 20), (9, "1" * 11 + "0" * 9, "1" * 20)
    )
    assert study.best_of(near, "adaptive_rmu").layer == 5  # of those that forget about the most, the cheapest, and lowest
    broken = dataclasses.replace(rows[2], error="diverged", scores={})
    assert study.best_of([rows[0], broken, rows[3]], "adaptive_rmu").layer == 7


@pytest.mark.parametrize("model", [name for name in STUDIED if name != MAIN])
def test_the_packaged_settings_of_the_larger_models_are_those_that_dev_chose(model):
    ours, chosen = UnlearnConfig.for_model(model), Study(model).chosen
    for field in dataclasses.fields(UnlearnConfig):
        if field.name != "seed":
            one, other = getattr(ours, field.name), getattr(chosen, field.name)
            assert one == (pytest.approx(other) if isinstance(other, float) else other), field.name


def test_other_models_have_no_settings_of_their_own():
    assert UnlearnConfig.for_model(MAIN, seed=3) == UnlearnConfig(seed=3)
    with pytest.raises(RmuLabError, match=r"no settings for 'gpt2', only for .*; let advise\(\) propose some"):
        UnlearnConfig.for_model("gpt2")


# -- what stored rows say ---------------------------------------------------------------------------------------------


def by_layer(marks: dict[str, dict[int, str]], **norms: dict[int, tuple[float, float]]) -> list[SweepRow]:
    rows = [row({"bio": "1111", "general": "1111"})]
    for method, layers in marks.items():
        for layer, each in layers.items():
            for seed in SEEDS:
                config = dataclasses.replace(CHOSEN, method=method, layer=layer, seed=seed)
                first, last = norms.get("norms", {}).get(layer, (1.0, 1.0))
                rows.append(row({"bio": each, "general": "1111"}, config, first, last))
    return rows


def test_points_lost_by_third_of_the_depth():
    layers = STUDIED[MAIN].layers
    rmu = {layer: "0000" if layer in layers[:3] else "1111" for layer in layers}
    adaptive = dict.fromkeys(layers, "0011")
    found = readings.read_depth(study_of(layers=by_layer({"rmu": rmu, "adaptive_rmu": adaptive})))
    assert found[f"RMU, {readings.FIRST}: points lost on bio"].value == 100
    assert found[f"RMU, {readings.LAST}: points lost on bio"].value == 0
    assert found[f"Adaptive RMU, {readings.LAST}: points lost on bio"].value == 50
    assert found["Adaptive RMU less RMU, all layers: points lost on bio"].value == pytest.approx(50 - 100 / 3)


def test_norms_and_their_growth_are_means_over_layers_and_vary_with_directions():
    layers = STUDIED[MAIN].layers
    norms = {layer: (57.0, 114.0) if layer in layers[:3] else (570.0, 570.0) for layer in layers}
    same = dict.fromkeys(layers, "1111")
    found = readings.read_norms(study_of(layers=by_layer({"rmu": same, "adaptive_rmu": same}, norms=norms)))
    assert found[f"growth of ‖h‖, {readings.FIRST}"].value == pytest.approx(2)
    assert found[f"c / ‖h‖, {readings.FIRST}"].value == pytest.approx(10)
    assert found[f"c / ‖h‖, {readings.LAST}"].value == pytest.approx(1)
    assert found[f"c / ‖h‖, {readings.LAST}"].n == len(SEEDS)


def test_one_setting_at_its_worst_layer_and_a_setting_for_each():
    layers = STUDIED[MAIN].layers
    one = by_layer(
        {"rmu": dict.fromkeys(layers, "1111"), "adaptive_rmu": {**dict.fromkeys(layers, "0000"), layers[4]: "0001"}}
    )
    own = by_layer({"rmu": {layers[7]: "0111"}, "adaptive_rmu": dict.fromkeys(layers[1::3], "0000")})
    found = readings.read_search(study_of(layers=one, own=own))
    assert found["one beta: points lost on bio at its worst layer"].value == 75
    assert found["one beta less one c: points lost on bio at the worst layer"].value == 75
    assert found["a setting for each layer less one for all, Adaptive RMU: points lost on bio"].value == pytest.approx(
        25 / 3
    )
    assert found["a setting for each layer, RMU in the last third: points lost on bio"].value == 25


def test_a_larger_c_is_held_against_a_smaller_one_on_the_same_questions():
    rows = [row({"bio": "1111", "general": "1111"})]
    for words, bio in {"2 ‖h‖": "1111", "10 ‖h‖": "0011", "‖h‖ / 4": "0111"}.items():
        for seed in SEEDS:
            for steps in readings.STEPS:
                c = readings.MULTIPLES[words] * 114
                config = dataclasses.replace(CHOSEN, method="rmu", coefficient=c, steps=steps, seed=seed)
                rows.append(row({"bio": bio, "general": "1110"}, config))
    study = study_of(coefficients=rows)
    found = readings.read_speed(study)
    assert found["forget accuracy after 40 steps, c = 10 ‖h‖ less c = 2 ‖h‖ (points)"].value == -50
    assert found["general accuracy after 80 steps, c = 10 ‖h‖ less c = 2 ‖h‖ (points)"].value == 0
    assert readings.read_shortest(study)["c = ‖h‖ / 4: points lost on bio"].value == 25


def test_methods_are_held_against_each_other_on_the_same_questions():
    rows = [row({"bio": "1" * 8, "general": "1" * 8})]
    marks = {"rmu": "11000000", "adaptive_rmu": "10000000", "llmu": "1" * 8, "scrub": "11110000", "ssd": "11111100"}
    for method, each in marks.items():
        for seed in SEEDS:
            config = types.SimpleNamespace(seed=seed, to_dict=lambda method=method: {"method": method})
            rows.append(row({"bio": each, "general": each}, config))
    found = readings.read_methods(study_of(rivals=rows))
    assert found["RMU less SCRUB: forget accuracy (points)"].value == -25
    assert found["Adaptive RMU less RMU: general accuracy (points)"].value == -12.5


def test_the_chosen_setting_is_read_by_cloze_and_by_letter_on_easy_and_hard_questions():
    def rows(marks: str) -> list[SweepRow]:
        edited = [dataclasses.replace(CHOSEN, method=method, seed=seed) for method in readings.TITLES for seed in SEEDS]
        base, after = (dict.fromkeys(EASY_AND_HARD, each) for each in ("1111", marks))
        return [row(base), *(row(after, each) for each in edited)]

    found = readings.read_chosen(study_of(chosen_cloze=rows("0111"), chosen_letter=rows("0011")))
    assert len(found) == 2 * 2 * len(EASY_AND_HARD)
    assert found["RMU, bio by cloze: points lost"].value == 25
    assert found["Adaptive RMU, general_hard by letter: points lost"].value == 50
    for part in ("chosen_cloze", "chosen_letter"):
        assert PARTS[part].style == part.removeprefix("chosen_") and PARTS[part].sets == EASY_AND_HARD


def test_rank_one_and_the_closed_form_are_held_against_rmu_at_the_same_loss():
    study = Study(MAIN)
    rmu, cut, solved = PARTS["rank_one"].configs(study)[:: len(SEEDS)]
    for other in (cut, solved):
        assert other.steering == rmu.method == "rmu"
        assert all(getattr(other, name) == getattr(rmu, name) for name in ("layer", "alpha", "coefficient", "seed"))
    assert cut.rank == 1 and (cut.lr, cut.steps) == (rmu.lr, rmu.steps) and solved.blocks == 1
    marks = {"rmu": "0000", "rank_one_rmu": "0001", "closed_form_rmu": "0111"}
    edited = [row({"bio": marks[config.method], "general": "1111"}, config) for config in PARTS["rank_one"].configs(study)]
    found = readings.read_rank_one(study_of(rank_one=[row({"bio": "1111", "general": "1111"}), *edited]))
    assert [number.value for number in found.values()] == [100, 0, 75, 0, 25, 0]


def test_the_guide_shows_what_rank_one_and_the_closed_form_do_on_each_model():
    table = rank_one_markdown()
    assert table in (data_folder().parent / "docs" / "guide" / "methods.md").read_text(encoding="utf-8")
    stored = [model for model in STUDIED if (Study(model).folder / PARTS["rank_one"].file).is_file()]
    assert table.count("infectious disease") == len(stored) > 0


def test_what_is_advised_is_read_without_a_search():
    edited = [
        row({"bio": marks, "general": "1111"}, dataclasses.replace(CHOSEN, method=method, seed=seed))
        for method, marks in (("rmu", "0000"), ("adaptive_rmu", "0111"))
        for seed in SEEDS
    ]
    found = readings.read_advised(study_of(**{ADVISED: [row({"bio": "1111", "general": "1111"}), *edited]}))
    assert [number.value for number in found.values()] == [25, 0]


def test_what_is_no_measurement_is_said(tmp_path):
    for text in ("{", "[]", "{}"):
        (tmp_path / "optimum.json").write_text(text)
        with pytest.raises(RmuLabError, match="is not a stored measurement"):
            readings.measured("optimum")(Study(MAIN, tmp_path))


def test_a_diverged_training_is_said_and_not_left_out():
    rows = by_layer({"rmu": dict.fromkeys(STUDIED[MAIN].layers, "1111")})
    rows[5] = dataclasses.replace(rows[5], error="loss is nan", scores={})
    with pytest.raises(RmuLabError, match=r"diverged \(loss is nan\); it has no scores"):
        readings.read_depth(study_of(layers=rows))
    with pytest.raises(RmuLabError, match="There is no row with"):
        readings.lost(study_of(layers=rows), "layers", "bio", [{"method": "adaptive_rmu", "layer": 3}])


# -- a run on a tiny model --------------------------------------------------------------------------------------------

TINY = StudiedModel("smollm2-135m", "Tiny", "float32", "cloze", "general", tuple(range(2, 11)), 3, None)


@pytest.fixture
def tiny(monkeypatch, tokenizer):
    """The study of a tiny model of twelve blocks, with few questions, in place of SmolLM2's."""
    model = tiny_model("llama", num_hidden_layers=12)
    monkeypatch.setitem(STUDIED, MAIN, TINY)
    monkeypatch.setattr("rmu_lab.study.running.load_model", lambda *_, **__: (model, tokenizer))
    monkeypatch.setattr("rmu_lab.study.model_study.QUESTIONS", 6)
    monkeypatch.setattr("rmu_lab.unlearning.advisor.STEPS", 2)
    return model


def test_the_study_runs_goes_on_and_is_not_stale(tiny, tmp_path):
    study = Study(MAIN, tmp_path)
    parts = [SETTINGS, "layers", "own", "below", "optimum"]
    assert [name for name, _ in run_parts(study, parts)] == parts
    written = {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix in (".json", ".jsonl")}
    again = Study(MAIN, tmp_path)
    list(run_parts(again, parts))
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix in (".json", ".jsonl")} == written
    for name in parts[1:]:
        assert stale(again, name) == []
    for claim in ("f4", "f5", "f5-norm", "alg1-search", "eq19"):
        numbers = CLAIMS[claim].numbers(again)
        assert set(numbers) == {condition.number for condition in CLAIMS[claim].rule.conditions}
        assert CLAIMS[claim].verdict(again) != NOT_MEASURED
    assert again.minutes(PARTS["layers"]) > 0


def test_stale_settings_and_data_are_noticed(tiny, tmp_path):
    study = Study(MAIN, tmp_path)
    list(run_parts(study, [SETTINGS, "optimum", "below"]))
    record = json.loads((tmp_path / "optimum.json").read_text())
    record |= {"settings": {}, "data": dict.fromkeys(record["data"], "0" * 64)}
    record["provenance"]["versions"]["rmu-lab"] = "0.0.9"
    (tmp_path / "optimum.json").write_text(json.dumps(record))
    assert len([each for each in stale(study, "optimum") if "code has changed" not in each]) == 1 + len(record["data"]) + 1
    lines = (tmp_path / "below.jsonl").read_text().replace('"questions bio": "', '"questions bio": "0')
    (tmp_path / "below.jsonl").write_text(lines)
    assert stale(Study(MAIN, tmp_path), "below") == ["below.jsonl: questions bio has changed since"]


def test_a_claim_is_measured_anew_at_the_stored_choice(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rmu_lab.study.model_study.results_folder", lambda: tmp_path)
    list(run_parts(Study(MAIN), [SETTINGS]))
    numbers = run_claim(CLAIMS["prop1-variance"], MAIN, tmp_path / "again")
    assert set(numbers) == {"slope of log spread over texts"}
    assert Study(MAIN, tmp_path / "again").chosen == Study(MAIN).chosen
    with pytest.raises(RmuLabError, match=r"rests on a long run; .* `python -m benchmarks.suffixes"):
        run_claim(CLAIMS["eq22-attack"], MAIN, tmp_path / "again")


def test_parts_that_need_the_choice_say_so(tmp_path):
    with pytest.raises(NotMeasuredError, match=r"There is no .*settings.jsonl; make it with `python -m benchmarks.study"):
        PARTS["layers"].configs(Study(MAIN, tmp_path))


def test_confidence_alignment_and_sensitivity_of_a_tiny_model(tokenizer):
    model, config = (
        tiny_model("llama", num_hidden_layers=8),
        UnlearnConfig(method="rmu", layer=3, steps=1, max_length=8).to_dict(),
    )
    found = measurements.measure_confidence(model, tokenizer, config=config, seeds=[1, 2], prompts=2, passages=6)
    assert 0 < found["effective dimensions of what is left over, of all"].value <= 1
    found = measurements.measure_alignment(model, tokenizer, config=config, multiples={"small": 1.0}, seeds=[1, 2], texts=3)
    assert abs(found["median cos(u, h), c = small"].value) < 1
    found = measurements.measure_sensitivity(
        model, tokenizer, config=config, seeds=[1, 2], texts=2, noise=0.1, relative_noise=0.1
    )
    assert all(number.low <= number.value <= number.high for number in found.values())
    found = measurements.measure_training_time(model, tokenizer, config=config, seeds=list(range(7)))
    assert found["training time, Adaptive RMU / RMU"].n == 6


def test_gradients_are_compared_at_the_loss_that_comes_nearest(tokenizer):
    """Of a model that is edited so little that nothing changes, both ratios are one and the losses are the same."""
    model = tiny_model("llama", num_hidden_layers=6)
    config = UnlearnConfig(method="rmu", layer=3, steps=1, lr=1e-12, max_length=8).to_dict()
    found = measurements.measure_gradients(model, tokenizer, config=config, seeds=[1, 2], questions=3, suffix=" ! !")
    assert found["token gradient, RMU / base, the same answer"].value == pytest.approx(1, abs=1e-3)
    assert abs(found["loss, RMU less base, where they are compared (nats)"].value) < 0.5


def test_losses_of_many_targets_are_those_of_a_search(tokenizer):
    """All targets of a prompt at once give what the suffix's own loss gives, one by one."""
    model = tiny_model("llama")
    layouts = [Layout.of(tokenizer, text, " ! !", " sea", chat_template=False) for text in ("the cold river", "old fish")]
    targets = [(5, 7), (9,), (11, 13, 15)]
    found = measurements._losses(model, layouts, targets)
    for at, layout in enumerate(layouts):
        for place, target in enumerate(targets):
            loss_of = SuffixLoss(model, dataclasses.replace(layout, target=target), prefix_cache=True, batch_size=1)
            plain = loss_of(torch.tensor(layout.suffix)[None])[0].item()
            assert found[at, place].item() == pytest.approx(plain, abs=1e-5)


def test_with_a_pre_norm_model_the_logits_spread_falls_like_one_over_c(tokenizer):
    found = measurements.measure_spread(
        tiny_model("llama"), tokenizer, layer=3, coefficients=[1e3, 1e4, 1e5], noise=4.0, draws=4, seeds=[1, 2],
        texts=["the sea a fish", "cold water river stone", "old house green tree"],
    )  # fmt: skip
    for name in ("slope of log spread over noise", "slope of log spread over texts"):
        assert found[name].value == pytest.approx(-1, abs=0.05)


def test_shared_trainings_are_those_of_unlearn(tokenizer):
    from rmu_lab import unlearn

    model = tiny_model("llama")
    config = UnlearnConfig(method="rmu", coefficient=20.0, layer=3, steps=2, max_length=16)
    (shared,) = measurements.trained(model, tokenizer, [config])
    alone = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"), config, progress=False)
    for name, matrix in alone.edit.items():
        assert torch.allclose(matrix, shared.edit[name], atol=1e-6)


# -- what is stored, and the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "name"), STORED)
def test_stored_parts_are_of_these_settings_and_data(model, name):
    problems = [each for each in stale(Study(model), name) if not each.startswith("the code has changed")]
    assert problems == []


@pytest.mark.parametrize(("model", "name"), STORED)
def test_stored_parts_hold_every_setting(model, name):
    study, part = Study(model), PARTS[name]
    if isinstance(part, SweepPart):
        stored = [row.config for row in study.rows(name)]
        assert stored[0] is None and set(part.configs(study)) <= set(stored[1:])
    else:
        assert isinstance(part, MeasuredPart) and readings.measured(name)(study)


def test_verdicts_follow_from_stored_numbers():
    """Every number that a rule asks for is there, its interval holds it, and the table says what the rule says."""
    table = {claim.id: claim for claim in computed_claims()}
    for name, claim in CLAIMS.items():
        for model in STUDIED:
            found = table[name].models[STUDIED[model].title]
            assert found.verdict == claim.verdict(model)
            if found.verdict != NOT_MEASURED:
                numbers = claim.numbers(model)
                assert all(each.low <= each.value <= each.high for each in numbers.values())
                assert bool(found.needed) == (found.verdict == UNDECIDED)


def test_a_claim_that_is_not_measured_says_what_would(tmp_path):
    (claim, *_) = computed_claims([Study(MAIN, tmp_path)])
    assert claim.overall == NOT_MEASURED
    found = claim.models["SmolLM2 135M"]
    assert found.needed == "`rmu-lab claims --run prop1 --model smollm2-135m` measures it." and not found.measured


def test_the_table_in_markdown_escapes_and_folds():
    text = markdown("../")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(CLAIMS)
    assert all(line.count("|") - line.count("\\|") == len(STUDIED) + 3 for line in rows)
    assert text.count("<details>") == text.count("</details>") == len(CLAIMS)
    assert [row["id"] for row in as_json()] == list(CLAIMS)
    json.dumps(as_json())


def test_numbers_that_were_not_measured_are_named():
    claim = dataclasses.replace(CLAIMS["f4"], read=(lambda _study: {"x": Number(1, 1, 1, 3, "texts")},))
    with pytest.raises(RmuLabError, match=r"Claim f4: no number 'growth of .*' was measured; there are x\."):
        claim.numbers()


def test_the_benchmark_names_its_parts():
    from benchmarks.study import main

    with pytest.raises(SystemExit):
        main(["--part", "nonsense"])


def test_the_scorecard_as_a_picture_has_a_symbol_for_every_verdict():
    from rmu_lab.course.verdict_figures import VERDICT_COLOURS, scorecard_figure

    claims = computed_claims()
    (axes,) = scorecard_figure(claims, title="A title").axes
    shown = [text.get_text() for text in axes.texts]
    assert len(axes.collections) == len(claims) * (len(STUDIED) + 1)
    for claim in claims:
        assert any(text.startswith(claim.plain) for text in shown)
        for found in claim.models.values():
            assert SYMBOLS[found.verdict] in shown
    assert set(VERDICT_COLOURS) == set(SYMBOLS)

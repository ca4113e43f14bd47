"""The scorecard: rules as laws, stored numbers against verdicts, code and data, one table everywhere."""

import argparse
import dataclasses
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
import warnings
from pathlib import Path
from urllib.parse import unquote

import accelerate
import nbformat
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rmu_lab import Accuracy, RmuLabError, SweepRow, UnlearnConfig, cli, grid, load_corpus, load_questions, sweep
from rmu_lab.files import data_folder
from rmu_lab.provenance import CODE
from rmu_lab.scorecard import (
    ARGUMENT_FAILS,
    CLAIMS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    SCALE_DEPENDENT,
    VERDICTS,
    Condition,
    FullRun,
    NotMeasuredError,
    Number,
    Rule,
    found_runs,
    full_size,
    markdown,
    mean_of,
    measurements,
    rewrite,
    sources,
    stored_numbers,
    stored_table,
)
from rmu_lab.scorecard.claim_table import place
from tests.conftest import tiny_model

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
SOURCES = list(
    {
        source.file: source
        for claim in CLAIMS.values()
        for source in claim.sources
        if (sources.results_folder() / source.file).is_file()
    }.values()
)
MEASURED = {name: claim for name, claim in CLAIMS.items() if claim.verdict() != NOT_MEASURED}
PARTS = {"Prop 1", "F2 a–d", "F2 e–h", "Eq 8–19", "F1", "F3", "F4", "F5", "T1", "Eq 20–22", "Alg 1"}  # noqa: RUF001
DISPUTED = {  # where the paper's mathematics or its reading of a figure is in dispute
    "the variance of c u": "prop1-variance",
    "larger c, more random logits": "prop1-randomness",
    "the assumptions of Proposition 1": "prop1-assumptions",
    "an optimal coefficient": "eq19-optimal",
    "later layers are more robust": "f1-robust",
    "RMU fails where the norm exceeds c": "f5-norm",
    "gradients near zero": "eq22-gradients",
    "L times less search": "alg1-search",
}


# -- conditions and rules ----------------------------------------------------------------------------------------------


def number(low: float, high: float) -> Number:
    return Number((low + high) / 2, low, high, 3, "texts")


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=2, max_size=2), finite, st.sampled_from("<>"))
def test_a_condition_holds_if_the_whole_interval_does(ends, threshold, relation):
    measured = {"x": number(min(ends), max(ends))}
    condition = Condition("x", relation, threshold)
    everywhere = all(end < threshold if relation == "<" else end > threshold for end in ends)
    assert condition.holds(measured) == everywhere == (condition.margin(measured) > 0)


def test_a_condition_on_a_number_that_is_not_there_says_so():
    with pytest.raises(RmuLabError, match="no number 'x'"):
        Condition("x", "<", 1).holds({"y": number(0, 1)})


@pytest.mark.parametrize(
    ("conclusion", "against", "partly", "verdict"),
    [
        (True, False, False, REPRODUCED),
        (True, False, True, REPRODUCED),
        (True, True, False, ARGUMENT_FAILS),
        (True, True, True, ARGUMENT_FAILS),
        (False, False, True, SCALE_DEPENDENT),
        (False, True, True, SCALE_DEPENDENT),
        (False, False, False, NOT_REPRODUCED),
        (False, True, False, NOT_REPRODUCED),
    ],
)
def test_verdict_of_a_rule(conclusion, against, partly, verdict):
    names = {"a": conclusion, "b": against, "c": partly}
    rule = Rule(*((Condition(name, ">", 0),) for name in names))
    assert rule.verdict({name: number(1, 2) if holds else number(-1, 2) for name, holds in names.items()}) == verdict


def test_a_rule_without_the_optional_parts_has_two_verdicts():
    rule = Rule((Condition("a", ">", 0),))
    assert (rule.verdict({"a": number(1, 2)}), rule.verdict({"a": number(-1, 2)})) == (REPRODUCED, NOT_REPRODUCED)
    assert str(rule) == "reproduced if a > 0; else not reproduced"


# -- the paper --------------------------------------------------------------------------------------------------------


def test_no_part_of_the_paper_without_a_claim():
    assert {claim.part for claim in CLAIMS.values()} == PARTS
    assert set(DISPUTED.values()) <= set(CLAIMS)


def test_only_what_a_long_benchmark_measures_may_be_missing():
    assert {claim.part for name, claim in CLAIMS.items() if name not in MEASURED} <= {"T1", "Eq 20–22"}  # noqa: RUF001


@pytest.mark.parametrize("claim", MEASURED.values(), ids=MEASURED)
def test_stored_numbers_give_a_verdict(claim):
    """Every number that the rule asks for was measured; the verdict is one of the fixed set."""
    assert claim.verdict() in VERDICTS
    assert set(claim.numbers()) == {condition.number for condition in claim.rule.conditions}
    assert all(found.low <= found.value <= found.high and found.n >= 3 for found in claim.numbers().values())


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS.values() if claim.shown], ids=lambda claim: claim.id)
def test_notebook_sections_exist(claim):
    """Anchors as JupyterLab makes them: the heading's text with hyphens for spaces."""
    name, anchor = claim.shown.split("#")
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    headings = [
        line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if line[:1] == "#"
    ]
    anchors = [heading.lstrip("#").strip().replace(" ", "-") for heading in headings]
    assert anchors.count(unquote(anchor)) == 1
    assert not set(anchor) & set(' "<>)')  # a Markdown link would end there


SAID = {  # what the notebooks' own verdicts say; where one changes, so must the other
    # Notebook 02 prints its verdicts from this scorecard.
    "f2-aligned": (3, "`f2-aligned`) | **reproduced** at equal steps"),
    "f1-depth": (3, "`f1-depth`) | **reproduced**"),
    "f1-robust": (3, "`f1-robust`) | **argument fails but conclusion holds**"),
    "eq19": (3, "`eq19`) | **reproduced**: the algebra is right"),
    "eq19-optimal": (3, "`eq19-optimal`) | **not reproduced**: it changes the output least"),
    "f3-speed": (4, "**Speed: reproduced between the extremes.**"),
    "f3-price": (4, "**Price: reproduced for these three directions.**"),
    "f4": (
        5,
        "F4: with fixed $c$ the norm grows towards $c$ early and stays put late | **argument fails but conclusion holds**",
    ),
    "f5": (5, "Adaptive RMU works at most | **argument fails but conclusion holds**"),
    "f5-norm": (5, "... because $\\lVert h\\rVert$ exceeds $c$ | **not reproduced**"),
    "eq22-gradients": (6, "1. the token gradient is near zero | **not reproduced**"),
    "eq22-attack": (6, "3. so the attack fails | **argument fails but conclusion holds**"),
    "t1": (8, "and keep as much (T1) | **not reproduced** by our rule, and only just"),
    "t1-adaptive": (8, "Adaptive RMU forgets more than RMU at $l = 7$ (T1) | **not reproduced**"),
    "alg1-cost": (5, "Alg 1: no extra cost | **reproduced**"),
    "alg1-search": (5, "one $\\beta$ serves every layer, which saves a search | **not reproduced** by our rule"),
}


@pytest.mark.parametrize(("name", "chapter", "words"), [(name, *said) for name, said in SAID.items()])
def test_verdicts_are_those_of_the_notebooks(name, chapter, words):
    (path,) = NOTEBOOKS.glob(f"{chapter:02}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    assert words in "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


# -- stored results ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_stored_results_are_of_this_code_and_data(source):
    """Same major and minor version, same settings, same texts and questions as a run would take today.

    Code changes with every commit, mostly without touching a number, so that is said and not forbidden.
    """
    problems = source.stale()
    about_code = [
        problem for problem in problems if problem == sources.NO_CODE or problem.startswith("the code has changed")
    ]
    assert [problem for problem in problems if problem not in about_code] == []
    for problem in about_code:
        warnings.warn(f"{source.file}: {problem}", stacklevel=1)


def provenances(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line)["provenance"] for line in text.splitlines()] if path.suffix == ".jsonl" else [
        json.loads(text)["provenance"]
    ]  # fmt: skip


class _Parsed(Exception):
    """Raised in place of what would follow the parsing of a command line."""


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_stored_results_name_a_command_that_parses(source, monkeypatch):
    """Its module exists, and takes these options today."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, *args, **kwargs):
        parse(parser, *args, **kwargs)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    for command in {record["command"] for record in provenances(sources.results_folder() / source.file)}:
        python, flag, module, *arguments = (part for part in shlex.split(command) if part != "-u")
        assert (python.startswith("python"), flag) == (True, "-m")
        if module == "rmu_lab.cli":
            one = typer.main.get_command(cli.app).commands[arguments[0]]
            with one.make_context(arguments[0], arguments[1:]) as context:
                assert context.params
        else:
            monkeypatch.setattr(sys, "argv", [module, *arguments])
            with pytest.raises(_Parsed):
                importlib.import_module(module).main()


def test_stale_settings_data_and_versions_are_noticed(tmp_path, monkeypatch):
    source = next(source for source in SOURCES if isinstance(source, sources.Measurement) and source.data)
    record = json.loads((sources.results_folder() / source.file).read_text())
    record["data"] = dict.fromkeys(record["data"], "0" * 64)
    record["provenance"]["versions"]["rmu-lab"] = "0.0.9"
    (tmp_path / "claims").mkdir()
    (tmp_path / source.file).write_text(json.dumps(record))
    monkeypatch.setattr(sources, "results_folder", lambda: tmp_path)
    other = dataclasses.replace(source, settings={**source.settings, "layer": 3})
    assert len(other.stale()) == 1 + len(source.data) + 2
    assert sources.NO_CODE in other.stale()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, ["it does not say which code made it"]),
        ({"digest": "0" * 64, "commit": "abc"}, ["the code has changed since it was made (abc)"]),
        ({"digest": "0" * 64, "commit": None}, ["the code has changed since it was made (no commit known)"]),
        (dict(CODE), []),
    ],
)
def test_every_kind_of_result_says_when_its_code_has_changed(code, said, tmp_path, monkeypatch):
    """Each with its provenance rewritten, and nothing else."""
    monkeypatch.setattr(sources, "results_folder", lambda: tmp_path)
    for kind in (sources.Measurement, sources.StoredSweep, sources.Benchmark):
        source = next(source for source in SOURCES if isinstance(source, kind))
        for file in (source.file, *getattr(source, "more", ())):
            text = (data_folder() / "results" / file).read_text(encoding="utf-8")
            lines = text.splitlines() if file.endswith(".jsonl") else [text]
            rows = [json.loads(line) for line in lines]
            for row in rows:
                row["provenance"].pop("code", None)
                row["provenance"] |= {} if code is None else {"code": code}
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        assert source.stale() == said


# -- runs of the papers' own benchmark --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """What `reproduce` writes, in small."""
    number = {"low": 0.2, "high": 0.4, "n": 100, "over": "questions"}
    values = {"base wmdp_bio": 0.6, "rmu wmdp_bio": 0.3, "rmu change wmdp_bio": -0.3}
    plain = {
        "experiment": "reproduce", "preset": "zephyr-7b", "model": "owner/zephyr", "limit": None,
        "numbers": {name: number | {"value": value} for name, value in values.items()},
        "reported": {"points": {"rmu": {"wmdp_bio": 28.8}}},
        "provenance": {"code": dict(CODE)},
    }  # fmt: skip
    path = tmp_path / "runs" / "zephyr" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(plain))
    return path


def test_a_full_size_run_stands_on_the_scorecard(run, tmp_path, monkeypatch):
    rows = [
        ("zephyr-7b (owner/zephyr)", "base", "wmdp_bio", "60.0 [20.0, 40.0]", "", ""),
        ("zephyr-7b (owner/zephyr)", "rmu", "wmdp_bio", "30.0 [20.0, 40.0]", "-30.0 [20.0, 40.0]", "28.8"),
    ]
    assert FullRun.load(run).rows() == FullRun.load(run.parent).rows() == rows
    monkeypatch.setattr(cli.console, "width", 3000)
    out = tmp_path / "claims.json"
    outcome = CliRunner().invoke(cli.app, ["claims", "--result", str(run), "--json", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert "The papers' own benchmark" in outcome.output and "-30.0 [20.0, 40.0]" in outcome.output
    stated = {row["id"]: row["full size"] for row in json.loads(out.read_text())}
    assert stated["prop1"] == [] and stated["t1"][0]["numbers"]["rmu wmdp_bio"]["value"] == 0.3
    assert stated["t1"][0]["stale"] == []


def test_a_full_size_run_among_the_stored_results_is_found(run, tmp_path, monkeypatch):
    assert found_runs() == [] and "own benchmark" not in markdown()
    monkeypatch.setattr(full_size, "results_folder", lambda: tmp_path / "results")
    (tmp_path / "results").mkdir()
    run.parent.parent.rename(tmp_path / "results" / "reproduce")
    assert [found.preset for found in found_runs()] == ["zephyr-7b"]
    assert "| zephyr-7b (owner/zephyr) | rmu | wmdp\\_bio | 30.0 [20.0, 40.0] | -30.0 [20.0, 40.0] | 28.8 |" in markdown()


@pytest.mark.parametrize("text", ["{", "[]", '{"experiment": "sweep"}', '{"experiment": "reproduce"}'])
def test_what_is_no_run_is_said(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    for path in (tmp_path, tmp_path / "result.json", tmp_path / "none.json"):
        with pytest.raises(RmuLabError, match=r"is no result of rmu-lab reproduce \(.*\); give its result\.json"):
            FullRun.load(path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("prop1", "rmu-lab claims --run"),
        ("f3-speed", "python -m benchmarks.training"),
        ("t1", "python -m benchmarks.methods"),
        ("eq22-attack", "python -m benchmarks.attacks"),
    ],
)
def test_a_missing_result_is_no_verdict_and_says_what_makes_it(name, line, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "results_folder", lambda: tmp_path)
    with pytest.raises(NotMeasuredError, match=rf"There is no data/results/.*; make it with `{line}"):
        CLAIMS[name].numbers()
    assert CLAIMS[name].verdict() == NOT_MEASURED
    assert f"| **{NOT_MEASURED}** |" in markdown()


# -- anew -------------------------------------------------------------------------------------------------------------


def test_a_sweep_claim_trains_only_what_it_needs_and_goes_on_after_a_stop(tmp_path, tokenizer, monkeypatch):
    model = tiny_model("llama")
    texts = load_corpus("forget_bio"), load_corpus("retain_general")
    settings = grid(base=UnlearnConfig(steps=1, layer=3, max_length=8), seed=[0, 1, 2])
    asked = {"bio": load_questions("bio", split="test").shuffle(seed=0).select(range(4))}
    sweep(model, tokenizer, *texts, settings, asked, out=tmp_path / "stored" / "part.jsonl", progress=False)

    monkeypatch.setattr(sources, "results_folder", lambda: tmp_path / "stored")
    monkeypatch.setattr("rmu_lab.models.load_model", lambda name, device: (model, tokenizer))

    def losses(rows):
        return {"last loss": mean_of((row.last["loss"] for row in rows if row.config and row.config.seed), "seeds")}

    source = sources.StoredSweep("part.jsonl", losses, "a line", lambda config: config.seed > 0)
    assert source.stale() == []
    with pytest.raises(RmuLabError, match=r"repeats 2 trainings .* give --out FOLDER"):
        source.fresh(None)
    assert source.fresh(tmp_path / "new")["last loss"].value == pytest.approx(source.stored()["last loss"].value, rel=1e-5)
    written = (tmp_path / "new" / "part.jsonl").read_text()
    assert len(written.splitlines()) == 3  # the base model and two settings
    source.fresh(tmp_path / "new")
    assert (tmp_path / "new" / "part.jsonl").read_text() == written


def test_a_measurement_is_stored_with_what_decides_it(tmp_path, tokenizer, monkeypatch):
    model = tiny_model("llama")
    source = sources.Measurement(
        "optimum",
        measurements.measure_optimum,
        {"layer": 2, "to_layers": [3], "directions": 5, "text": "sea fish", "step": 0.01},
    )
    fresh = source.on(model, tokenizer, out=tmp_path / "claims")
    monkeypatch.setattr(sources, "results_folder", lambda: tmp_path)
    assert source.stored() == fresh
    assert source.stale() == []
    # Eq 19 is least squares: the closed form and finite differences agree.
    assert fresh["c* off least squares by finite differences, in units of ‖h‖"].high < 1e-3


def test_with_a_pre_norm_model_the_logits_spread_falls_like_one_over_c(tokenizer):
    found = measurements.measure_spread(
        tiny_model("llama"), tokenizer, layer=3, coefficients=[1e3, 1e4, 1e5], directions=2, draws=4,
        texts=["the sea a fish", "cold water river stone", "old house green tree"],
    )  # fmt: skip
    for name in ("slope of log spread over noise", "slope of log spread over texts"):
        assert found[name].value == pytest.approx(-1, abs=0.05)


def test_a_measurement_of_an_offloaded_model(tokenizer):
    """Its parameters are nowhere until they are needed; its tokens belong where accelerate runs it."""
    spread = accelerate.cpu_offload(tiny_model("llama"), execution_device=torch.device("cpu"))
    texts = ["the sea a fish", "cold water river stone"]
    assert measurements._given(spread, tokenizer, texts) == measurements._given(tiny_model("llama"), tokenizer, texts)


def test_training_from_shared_passes_is_unlearn(tokenizer):
    from rmu_lab import unlearn

    model = tiny_model("llama")
    config = UnlearnConfig(method="rmu", coefficient=20.0, layer=3, steps=2, max_length=16)
    (shared,) = measurements.trained(model, tokenizer, [config])
    alone = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"), config, progress=False)
    for name, matrix in alone.edit.items():
        assert matrix.allclose(shared.edit[name], atol=1e-6)


def table_of_methods(seeds: int, **right: str) -> list[SweepRow]:
    """Rows of the base model and of each method, all seeds alike, from marks of what was answered rightly."""

    def row(method: str, seed: int, marks: str) -> SweepRow:
        config = None if method == "base" else UnlearnConfig(method="rmu", seed=seed)
        config = config and types.SimpleNamespace(seed=seed, to_dict=lambda: {"method": method})
        plain = {"correct": marks, "predictions": "0" * len(marks), "style": "cloze"}
        scores = {topic: Accuracy.from_dict(plain) for topic in ("bio", "general")}
        return SweepRow("", config, scores, {}, {}, {}, None, "", {}, {})

    return [row("base", 0, "1" * 8), *(row(name, seed, marks) for name, marks in right.items() for seed in range(seeds))]


def test_methods_are_held_against_the_one_that_forgets_most():
    found = stored_numbers.read_methods(
        table_of_methods(3, rmu="11000000", adaptive_rmu="10000000", llmu="11111111", scrub="11110000", ssd="11111100")
    )
    assert (
        found["RMU less the best of LLMU, SCRUB, SSD: forget accuracy (points)"].value == -25
    )  # 2 of 8 less than SCRUB's 4
    assert found["Adaptive RMU less RMU: general accuracy (points)"].value == -12.5


def test_gradients_are_compared_on_the_same_questions():
    def row(model: str, prompt: str, norm: float, rho: float, **changes) -> dict:
        one = {"model": model, "prompt": prompt, "gradient_norm": norm, "rank_correlation": rho, "among": "any"}
        return one | {"topic": "infectious disease"} | changes

    rows = [row("base", prompt, 2, 0.4) for prompt in "abc"] + [row("RMU", prompt, 1, -0.2) for prompt in "abcd"]
    rows += [row("RMU", "a", 9, 9, among="top"), row("RMU", "b", 9, 9, topic="general"), row("RMU", "{suffix} a", 9, 9)]
    found = stored_numbers.read_gains(rows)
    assert [(number.value, number.n) for number in found.values()] == [
        (0.5, 3),
        (pytest.approx(0.4), 3),
        (pytest.approx(-0.2), 3),
    ]
    assert CLAIMS["eq22-signal"].verdict(found) == REPRODUCED and CLAIMS["eq22-gradients"].verdict(found) == NOT_REPRODUCED


def test_suffixes_are_counted_on_unlearned_models():
    def row(model: str, said: bool, part: str = "fact", search: str = "gradient") -> dict:
        return {"model": model, "said": said, "part": part, "search": search}

    rows = [row("RMU", False), row("Adaptive RMU", True), row("RMU", False, "before")]
    rows += [row("base", True), row("RMU", True, "nonsense"), row("RMU", True, search="random")]
    (share,) = stored_numbers.read_suffixes(rows).values()
    assert (share.value, share.n) == (pytest.approx(1 / 3), 3)


# -- the table --------------------------------------------------------------------------------------------------------


def between(text: str) -> str:
    return text.split("<!-- claims -->\n")[1].split("\n<!-- /claims -->")[0]


def test_the_guide_has_the_table():
    """`rmu-lab claims --markdown docs/guide/claims.md` writes it."""
    page = ROOT / "docs" / "guide" / "claims.md"
    assert between(page.read_text(encoding="utf-8")) == markdown("../../notebooks/")


def test_the_command_writes_the_table_of_the_guide(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text("<!-- claims -->\n<!-- /claims -->\n")
    outcome = CliRunner().invoke(cli.app, ["claims", "--markdown", str(page)])
    assert outcome.exit_code == 0, outcome.output
    assert between(page.read_text(encoding="utf-8")) == markdown("../../notebooks/")


def test_notebook_10_shows_the_table():
    cells = nbformat.read(NOTEBOOKS / "10_scorecard.ipynb", as_version=4).cells
    shown = [
        output.data["text/markdown"]
        for cell in cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    assert markdown() in shown


def test_the_table_escapes_what_markdown_would_take():
    for line in markdown().splitlines():
        assert len(re.findall(r"(?<!\\)\|", line)) == 8


def test_the_stored_table_is_what_is_computed():
    """Where this fails because results or claims have changed: `rmu-lab claims --refresh` computes it anew."""
    assert stored_table.stored_claims() == stored_table.computed_claims()


def test_a_stored_table_older_than_its_results_is_not_shown(tmp_path, monkeypatch):
    shutil.copytree(data_folder() / "results", tmp_path / "results")
    monkeypatch.setattr(stored_table, "results_folder", lambda: tmp_path / "results")
    assert stored_table.stored_claims() is not None
    result = tmp_path / "results" / "claims" / "first_order.json"
    text = result.read_text()
    result.write_text(text + " ")
    assert stored_table.stored_claims() is None
    result.unlink()
    assert stored_table.stored_claims() is None
    result.write_text(text)
    assert stored_table.stored_claims() is not None
    monkeypatch.setattr(stored_table, "computed_claims", lambda: (_ for _ in ()).throw(AssertionError("computed")))
    (tmp_path / "results" / "scorecard.json").unlink()
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert "have changed since the stored table was computed" in outcome.output and str(outcome.exception) == "computed"
    (tmp_path / "results" / "scorecard.json").write_text('{"results": {}, "claims": [{}]}')
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert outcome.exit_code == 1 and "make it anew with `rmu-lab claims --refresh`" in outcome.output


def test_refresh_stores_what_is_listed_afterwards(tmp_path, monkeypatch):
    shutil.copytree(data_folder() / "results", tmp_path / "results")
    monkeypatch.setattr(stored_table, "results_folder", lambda: tmp_path / "results")
    before = (tmp_path / "results" / "scorecard.json").read_text()
    (tmp_path / "results" / "scorecard.json").unlink()
    outcome = CliRunner().invoke(cli.app, ["claims", "--refresh"])
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "results" / "scorecard.json").read_text() == before


def test_command_lists_id_verdict_and_place_of_every_claim():
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert outcome.exit_code == 0, outcome.output
    for claim in CLAIMS.values():
        cells = [claim.id, claim.verdict(), place(claim)]
        assert any(re.split(r"  +", line.strip()) == cells for line in outcome.output.splitlines()), cells


def test_a_terminal_of_80_columns_cuts_nothing_off(monkeypatch):
    monkeypatch.setattr(cli.console, "width", 80)
    monkeypatch.setattr(cli.console, "_force_terminal", True)
    outcome = CliRunner().invoke(cli.app, ["claims"])
    shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", outcome.output).split())
    assert "…" not in shown and max(map(len, outcome.output.splitlines())) <= 90  # with colours
    assert all(f"{claim.id} {claim.verdict()} " in shown for claim in CLAIMS.values())
    assert "f1-steered scale-dependent 03: right after the steered layer?" in shown


def test_listing_the_claims_loads_nothing_heavy():
    """So that it takes a fraction of a second."""
    program = """
import sys
from typer.testing import CliRunner
from rmu_lab import cli
outcomes = [CliRunner().invoke(cli.app, options) for options in (["claims"], ["claims", "eq19"], ["claims", "--numbers"])]
assert all(outcome.exit_code == 0 for outcome in outcomes), outcomes
print([name for name in ("torch", "transformers", "datasets", "scipy", "numpy") if name in sys.modules])
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


def test_one_claim_in_full_and_all_of_them():
    runner = CliRunner()
    outcome = runner.invoke(cli.app, ["claims", "f1-steered"])
    claim = CLAIMS["f1-steered"]
    for text in (claim.statement, claim.reported, claim.protocol, str(claim.rule), claim.verdict(), place(claim)):
        assert text in outcome.output
    for name, number in claim.numbers().items():
        assert f"{name}: {number} (" in outcome.output
    assert "data/results/claims/sensitivity.json" in outcome.output and "claims --run f1-steered" in outcome.output
    everything = runner.invoke(cli.app, ["claims", "--numbers"]).output
    assert outcome.output in everything
    assert all(f"{claim.id} ({claim.part}): {claim.statement}" in everything for claim in CLAIMS.values())
    outcome = runner.invoke(cli.app, ["claims", "f1-steerd"])
    assert outcome.exit_code == 1 and "There is no claim 'f1-steerd'; use one of f1-steered" in outcome.output


def test_command_writes_every_number_as_json(tmp_path):
    outcome = CliRunner().invoke(cli.app, ["claims", "--json", str(tmp_path / "claims.json")])
    assert outcome.exit_code == 0, outcome.output
    plain = json.loads((tmp_path / "claims.json").read_text())
    assert [row["id"] for row in plain] == list(CLAIMS)
    assert {name for name in MEASURED if CLAIMS[name].numbers()} == {row["id"] for row in plain if row["numbers"]}
    for row in plain:
        claim = CLAIMS[row["id"]]
        assert (row["verdict"], row["paper"], row["statement"]) == (claim.verdict(), claim.part, claim.statement)


def test_command_names_claims_it_does_not_know():
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "f9"])
    assert outcome.exit_code == 1 and "no claim 'f9'" in outcome.output


def test_command_says_what_a_long_repetition_takes():
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "f3-speed"], env={"COLUMNS": "3000"})
    assert outcome.exit_code == 1
    assert "repeats 18 trainings of data/results/training/front.jsonl" in outcome.output and "--out FOLDER" in outcome.output


@pytest.mark.slow
def test_repeating_a_claim_on_smollm2_gives_its_verdict():
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "eq19"], env={"COLUMNS": "3000"})
    assert "Verdict stored: reproduced. Verdict now: reproduced." in outcome.output


def test_rewriting_keeps_what_stands_around_and_needs_both_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- claims -->\nto go\n<!-- /claims -->\nafter\n")
    rewrite(page, "n/")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- claims -->\n| claim |") and text.endswith("\n<!-- /claims -->\nafter\n")
    assert "to go" not in text and "(n/02_confidence_reduction.ipynb#" in text
    rewrite(page, "n/")
    assert page.read_text(encoding="utf-8") == text
    page.write_text("<!-- claims -->")
    with pytest.raises(RmuLabError, match="no place for the table"):
        rewrite(page, "n/")

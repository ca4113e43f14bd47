"""The scorecard: every part of the paper, sections that exist, one table everywhere, and its command line."""

import argparse
import dataclasses
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from typer.testing import CliRunner

from rmu_lab import RmuLabError, cli
from rmu_lab.files import data_folder
from rmu_lab.provenance import CODE, NO_CODE, old_versions
from rmu_lab.study import (
    CLAIMS,
    STUDIED,
    FullRun,
    computed_claims,
    found_runs,
    full_size,
    markdown,
    rewrite,
    stored_table,
)
from rmu_lab.study.studied_models import MAIN
from rmu_lab.study.verdicts import SYMBOLS

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
RESULTS = data_folder() / "results"
STORED = sorted(path for path in (RESULTS / "study").rglob("*") if path.suffix in (".json", ".jsonl"))
PAPER = {"Prop 1", "F2 a–d", "F2 e–h", "Eq 8–19", "F1", "F3", "F4", "F5", "T1", "Eq 20–22", "Alg 1"}  # noqa: RUF001
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


# -- the paper --------------------------------------------------------------------------------------------------------


def test_no_part_of_the_paper_without_a_claim():
    assert {claim.part for claim in CLAIMS.values()} == PAPER
    assert set(DISPUTED.values()) <= set(CLAIMS)


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


# -- stored results ---------------------------------------------------------------------------------------------------


def provenances(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line)["provenance"] for line in text.splitlines()] if path.suffix == ".jsonl" else [
        json.loads(text)["provenance"]
    ]  # fmt: skip


class _Parsed(Exception):
    """Raised in place of what would follow the parsing of a command line."""


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_stored_results_name_a_command_that_parses(path, monkeypatch):
    """Its module exists, and takes these options today."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, *args, **kwargs):
        parse(parser, *args, **kwargs)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    for command in {record["command"] for record in provenances(path)}:
        python, flag, module, *arguments = (part for part in shlex.split(command) if part != "-u")
        assert (python.startswith("python"), flag) == (True, "-m")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(_Parsed):
            importlib.import_module(module).main()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, [NO_CODE]),
        ({"digest": "0" * 64, "commit": "abc"}, ["the code has changed since it was made (abc)"]),
        ({"digest": "0" * 64, "commit": None}, ["the code has changed since it was made (no commit known)"]),
        (dict(CODE), []),
    ],
)
def test_a_result_says_when_its_code_has_changed(code, said):
    record = provenances(STORED[0])[0]
    record.pop("code", None)
    assert old_versions(record | ({} if code is None else {"code": code})) == said


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


def test_the_stored_table_is_what_is_computed():
    """Where this fails because results or claims have changed: `rmu-lab claims --refresh` computes it anew."""
    assert stored_table.stored_claims() == computed_claims()


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A copy of the results that the table is made of."""
    for name in stored_table.FOLDERS:
        shutil.copytree(RESULTS / name, tmp_path / "results" / name)
    shutil.copy(RESULTS / stored_table.FILE, tmp_path / "results" / stored_table.FILE)
    monkeypatch.setattr(stored_table, "results_folder", lambda: tmp_path / "results")
    return tmp_path / "results"


def test_a_stored_table_older_than_its_results_is_not_shown(results, monkeypatch):
    assert stored_table.stored_claims() is not None
    result = results / "study" / MAIN / "settings.jsonl"
    text = result.read_text()
    result.write_text(text + " ")
    assert stored_table.stored_claims() is None
    result.unlink()
    assert stored_table.stored_claims() is None
    result.write_text(text)
    (results / "study" / MAIN / ".settings.jsonl.lock").write_text("of a run")
    assert stored_table.stored_claims() is not None
    monkeypatch.setattr("rmu_lab.study.computed_claims", lambda: (_ for _ in ()).throw(AssertionError("computed")))
    (results / stored_table.FILE).unlink()
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert "have changed since the stored table was computed" in outcome.output and str(outcome.exception) == "computed"
    (results / stored_table.FILE).write_text('{"claims": [{}]}')
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert outcome.exit_code == 1 and "make it anew with `rmu-lab claims --refresh`" in outcome.output


def test_refresh_stores_what_is_listed_afterwards(results):
    before = (results / stored_table.FILE).read_text()
    (results / stored_table.FILE).unlink()
    outcome = CliRunner().invoke(cli.app, ["claims", "--refresh"])
    assert outcome.exit_code == 0, outcome.output
    assert (results / stored_table.FILE).read_text() == before


# -- the command line -------------------------------------------------------------------------------------------------


def test_command_lists_a_symbol_for_every_model_and_the_verdict():
    outcome = CliRunner().invoke(cli.app, ["claims"])
    assert outcome.exit_code == 0, outcome.output
    for claim in stored_table.stored_claims():
        symbols = [found.symbol for found in claim.models.values()]
        (line,) = [line.split() for line in outcome.output.splitlines() if line.split()[:1] == [claim.id]]
        assert line[1 : 2 + len(symbols)] == [*symbols, SYMBOLS[claim.overall]]
    assert all(word in outcome.output for model in STUDIED.values() for word in model.title.split())
    assert all(f"{symbol} {verdict}" in outcome.output for verdict, symbol in SYMBOLS.items())


def test_a_terminal_of_80_columns_cuts_nothing_off(monkeypatch):
    monkeypatch.setattr(cli.console, "width", 80)
    monkeypatch.setattr(cli.console, "_force_terminal", True)
    outcome = CliRunner().invoke(cli.app, ["claims"])
    shown = re.sub(r"\x1b\[[\d;]*m", "", outcome.output)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    assert all(claim.id in shown for claim in CLAIMS.values())


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
    outcome = runner.invoke(cli.app, ["claims", "f1-steered"], env={"COLUMNS": "3000"})
    row = next(row for row in stored_table.stored_claims() if row.id == "f1-steered")
    for text in (row.statement, row.reported, row.protocol, row.rule, row.overall, row.place):
        assert text in outcome.output
    for title, found in row.models.items():
        assert f"{title}: {found.verdict}" in outcome.output
        assert all(line in outcome.output for line in (*found.measured, found.needed, *found.runs))
    assert "claims --run f1-steered" in outcome.output
    everything = runner.invoke(cli.app, ["claims", "--numbers"], env={"COLUMNS": "3000"}).output
    assert outcome.output in everything
    assert all(f"{claim.id} ({claim.part}): {claim.statement}" in everything for claim in CLAIMS.values())
    outcome = runner.invoke(cli.app, ["claims", "f1-steerd"])
    assert outcome.exit_code == 1 and "There is no claim 'f1-steerd'; use one of f1-steered" in outcome.output


def test_command_writes_every_number_as_json(tmp_path):
    outcome = CliRunner().invoke(cli.app, ["claims", "--json", str(tmp_path / "claims.json")])
    assert outcome.exit_code == 0, outcome.output
    plain = json.loads((tmp_path / "claims.json").read_text())
    rows = [dataclasses.asdict(row) for row in computed_claims()]
    assert [{name: row[name] for name in rows[0]} for row in plain] == rows


def test_command_names_claims_and_models_it_does_not_know():
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "f9"])
    assert outcome.exit_code == 1 and "no claim 'f9'" in outcome.output
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "eq19", "--model", "gpt-2"])
    assert outcome.exit_code == 1 and "'gpt-2' is no model of the study" in outcome.output
    for option in ("--out", "--model"):
        outcome = CliRunner().invoke(cli.app, ["claims", option, "x"])
        assert outcome.exit_code == 1 and f"{option} belongs to --run" in outcome.output


def test_command_says_which_claims_a_benchmark_makes_anew():
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "eq22-attack"], env={"COLUMNS": "3000"})
    assert outcome.exit_code == 1 and "rests on a long run" in outcome.output and "benchmarks.suffixes" in outcome.output


@pytest.mark.slow
def test_repeating_a_claim_on_smollm2_gives_its_verdict():
    verdict = CLAIMS["eq19"].verdict()
    outcome = CliRunner().invoke(cli.app, ["claims", "--run", "eq19"], env={"COLUMNS": "3000"})
    assert f"Verdict stored: {verdict}. Verdict now: {verdict}." in outcome.output


def test_rewriting_keeps_what_stands_around_and_needs_both_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- claims -->\nto go\n<!-- /claims -->\nafter\n")
    rewrite(page, "n/")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- claims -->\n| the paper says |") and text.endswith("\n<!-- /claims -->\nafter\n")
    assert "to go" not in text and "(n/02_confidence_reduction.ipynb#" in text
    rewrite(page, "n/")
    assert page.read_text(encoding="utf-8") == text
    page.write_text("<!-- claims -->")
    with pytest.raises(RmuLabError, match="no place for the table"):
        rewrite(page, "n/")

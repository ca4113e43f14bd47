"""``rmu-lab league`` and ``python -m benchmarks.league``, on a tiny model."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks import league as benchmark
from rmu_lab import RmuLabError, cli
from rmu_lab.league import Entry, LeagueSettings, stored_rows
from rmu_lab.plugins import member_of
from rmu_lab.unlearning.baselines import NPO, GradDiff
from tests.conftest import plugin, tiny_model
from tests.league.conftest import SETTINGS, made_base, made_row, tiny_material

RUN = CliRunner()
OWN = """
from dataclasses import dataclass
from typing import ClassVar

from rmu_lab.league import Entry
from rmu_lab.unlearning.baselines import GradDiff

@dataclass(frozen=True)
class Mine(GradDiff):
    method: ClassVar[str] = "mine"
    lr: float = 1e-3
    steps: int = 2
    batch_size: int = 2
    max_length: int = 16

MINE = Entry("mine", Mine(), {"lr": (1e-3, 3e-3)})
"""


@pytest.fixture
def folder(tmp_path, tokenizer, monkeypatch, plugins_undone):
    """Two tiny models, of as many blocks as RMU's defaults need, and a method in a file; texts and questions are made up."""
    for seed, name in enumerate(("base", "second")):
        tiny_model("llama", seed=seed, num_hidden_layers=9).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "mine.py").write_text(OWN)
    plugin("bounded_ascent.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.console, "width", 300)
    monkeypatch.setattr("rmu_lab.cli_output.PIPE_WIDTH", 300)
    monkeypatch.setattr("rmu_lab.league.material.league_material", tiny_material)
    monkeypatch.setattr("rmu_lab.league.mini.mini_material", lambda *given: tiny_material(*given, attacks=("unrelated",)))
    monkeypatch.setattr("rmu_lab.league.stores.results_folder", lambda: tmp_path / "results")
    return tmp_path


def run(*arguments):
    return RUN.invoke(cli.app, ["league", *map(str, arguments)])


def matches(folder):
    return [json.loads(line) for line in (folder / "matches.jsonl").read_text().splitlines()]


def test_a_mini_league_shows_a_method_beside_rmu_and_keeps_its_rows(folder):
    outcome = run("mine.py:Mine", "--mini", "--model", "base", "--device", "cpu", "--out", "kept")
    assert outcome.exit_code == 0, outcome.output
    assert "rmu" in outcome.output and "mine" in outcome.output and "unrelated" in outcome.output
    assert [row["entry"] for row in matches(folder / "kept")] == ["base", "rmu", "mine"]
    content = (folder / "kept" / "matches.jsonl").read_bytes()
    assert run("mine.py:Mine", "--mini", "--model", "base", "--out", "kept").exit_code == 0
    assert (folder / "kept" / "matches.jsonl").read_bytes() == content


def test_a_whole_match_is_shown_beside_what_is_stored(folder, monkeypatch):
    """An entry of the reader's own, tuned; without --mini it is compared with stored rows of the same league only."""
    monkeypatch.setattr("rmu_lab.league.LeagueSettings", lambda: SETTINGS)
    outcome = run("mine:MINE", "--model", "base", "--out", "kept")
    assert outcome.exit_code == 0, outcome.output
    assert "nothing to compare it with" in outcome.output
    rows = matches(folder / "kept")
    assert len(rows) == 1 + len(SETTINGS.budgets) * len(SETTINGS.seeds)
    assert len((folder / "kept" / "tuning.jsonl").read_text().splitlines()) == 2
    other = [row | {"entry": "stored_one"} for row in rows if row["entry"] == "mine"]
    lines = [json.dumps(row) for row in (rows[0], *other, made_base(), made_row("another_league", [20, 60, 80]))]
    (folder / "results" / "league").mkdir(parents=True)
    (folder / "results" / "league" / "matches.jsonl").write_text("\n".join(lines) + "\n")
    outcome = run("mine:MINE", "--model", "base", "--out", "kept")
    assert "stored_one" in outcome.output and "another_league" not in outcome.output
    assert "nothing to compare" not in outcome.output
    assert {row["league"] for row in stored_rows()} == {rows[0]["league"]}  # that with the most rows
    assert [row["entry"] for row in stored_rows(league="one")] == ["base", "another_league"]
    assert stored_rows(folder / "nowhere") == []


def test_another_model_and_a_plugin(folder):
    outcome = run("bounded_ascent", "--plugin", "bounded_ascent.py", "--mini", "--model", "second", "--out", "kept")
    assert outcome.exit_code == 0, outcome.output
    names = {row["league"] for row in matches(folder / "kept")}
    assert "bounded_ascent" in outcome.output and len(names) == 1
    assert run("rmu", "--mini", "--model", "base", "--out", "kept").exit_code == 0
    assert len({row["league"] for row in matches(folder / "kept")}) == 2


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("magic", "There is no method 'magic'"),
        ("mine.py:Nothing", "has nothing of the name 'Nothing'"),
        ("nowhere.py:Mine", "There is no file nowhere.py"),
        (":Mine", "give FILE.py:NAME or MODULE:NAME"),
        ("bounded_ascent", "There is no method 'bounded_ascent'"),
    ],
)
def test_methods_that_are_not_there(folder, monkeypatch, method, said):
    monkeypatch.setattr("rmu_lab.load_model", lambda *_, **__: pytest.fail("loaded"))
    outcome = run(method, "--mini", "--model", "base")
    assert outcome.exit_code == 1 and said in " ".join(outcome.output.split()), outcome.output


def test_a_device_that_is_not_there(folder):
    outcome = run("rmu", "--mini", "--model", "base", "--device", "nowhere")
    assert outcome.exit_code == 1 and "device is 'nowhere'" in outcome.output


def test_members_of_files_and_modules(folder):
    assert member_of("rmu_lab.unlearning.baselines:NPO") is NPO
    assert member_of("mine:Mine") is member_of("mine.py:Mine")
    with pytest.raises(RmuLabError, match="cannot be imported"):
        member_of("rmu_lab.nowhere:NPO")


def test_the_benchmark_plays_and_shows_and_does_not_run_again(folder, tokenizer, monkeypatch, capsys):
    model = tiny_model("llama", num_hidden_layers=9)
    settings = LeagueSettings(**SETTINGS.to_dict() | {"budgets": (0.05,), "controls": False})
    monkeypatch.setattr(benchmark, "SETTINGS", settings)
    monkeypatch.setattr(benchmark, "load_model", lambda *_, **__: (model, tokenizer))
    monkeypatch.setattr(benchmark, "league_material", tiny_material)
    shared = GradDiff(lr=1e-3, steps=2, batch_size=2, max_length=16)
    monkeypatch.setattr(benchmark, "entries", lambda: [Entry("grad_diff", shared, {"alpha": (0.5, 1.0)})])
    benchmark.main(["--out", "out", "--figure", "league.png"])
    printed = capsys.readouterr().out
    assert "grad_diff" in printed and "Fewer than 4 methods" in printed
    assert (folder / "league.png").stat().st_size
    files = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert set(files) == {"tuning.jsonl", "rates.jsonl", "matches.jsonl"}
    benchmark.main(["--out", "out"])
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == files
    with pytest.raises(RmuLabError, match="There is no method"):
        benchmark.main(["--out", "out", "--entry", "magic"])

"""The command line runs a file's attacks after the package's own."""

import json

import pytest
from typer.testing import CliRunner

from rmu_lab import RobustnessCard, cli
from rmu_lab.attacks import ATTACKS, short_list
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, RETAIN
from tests.conftest import plugin


@pytest.fixture
def command(plugins_undone, model, tokenizer, result, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    result.save(tmp_path / "edit")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [row | {"split": split} for split, rows in (("test", QUESTIONS), ("dev", DEV)) for row in rows]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, texts in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    plugin("shout.py", tmp_path)

    def run(file, *more):
        options = {"edit": "edit", "model": "base", "questions": "questions.jsonl", "json": "card.json", "plugin": file}
        options |= {"forget": "forget.jsonl", "retain": "retain.jsonl"}
        given = [part for name, value in options.items() for part in (f"--{name}", str(tmp_path / value))]
        return CliRunner().invoke(cli.app, ["attack", "--device", "cpu", *given, *more])

    return run


def test_attacks_of_a_file_are_run_last(command, tmp_path):
    outcome = command("shout.py", "--general", str(tmp_path / "questions.jsonl"), "--figure", str(tmp_path / "card.png"))
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(tmp_path / "card.json")
    assert list(card.recoveries)[-2:] == ["soft prompt", "shouted"] and list(ATTACKS)[-1] == "shouted"
    said = " ".join(outcome.output.split())
    for sentence in card.summary():
        assert sentence in said
    (row,) = [row for row in card.table() if row[0] == "shouted"]
    assert all(cell in outcome.output for cell in row)
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    assert card.recoveries["relearn unrelated text"].details["tried"]  # there were general questions to search with


def test_the_short_list_is_for_large_models(command, tmp_path):
    outcome = command("shout.py", "--short")
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(tmp_path / "card.json")
    assert list(card.recoveries) == [name for name in short_list() if name not in ("rephrased", "suffix")]
    assert "shouted" in card.recoveries and card.left_out["soft prompt"] == "it was not asked for"


def test_a_figure_of_another_kind_is_refused_before_any_work(command, tmp_path):
    outcome = command("shout.py", "--figure", str(tmp_path / "card.txt"))
    assert outcome.exit_code == 1 and "ends in one of .png, .svg, .pdf" in " ".join(outcome.output.split())
    assert not (tmp_path / "card.json").exists()


def test_a_plugin_that_is_not_there(command):
    outcome = command("none.py")
    assert outcome.exit_code == 1 and "There is no file" in outcome.output and "Traceback" not in outcome.output

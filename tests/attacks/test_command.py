"""The command line runs a file's attacks after the package's own."""

import json

import pytest
from typer.testing import CliRunner

from rmu_lab import RobustnessCard, cli
from rmu_lab.attacks import ATTACKS
from tests.attacks.conftest import DEV, QUESTIONS, RETAIN
from tests.conftest import plugin


@pytest.fixture
def command(plugins_undone, model, tokenizer, result, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    result.save(tmp_path / "edit")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [row | {"split": split} for split, rows in (("test", QUESTIONS), ("dev", DEV)) for row in rows]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in RETAIN))
    plugin("shout.py", tmp_path)

    def run(file):
        options = {"edit": "edit", "model": "base", "questions": "questions.jsonl", "json": "card.json", "plugin": file}
        options |= {"forget": "texts.jsonl", "retain": "texts.jsonl"}
        given = [part for name, value in options.items() for part in (f"--{name}", str(tmp_path / value))]
        return CliRunner().invoke(cli.app, ["attack", "--device", "cpu", *given])

    return run


def test_attacks_of_a_file_are_run_last(command, tmp_path):
    outcome = command("shout.py")
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(tmp_path / "card.json")
    assert list(card.recoveries)[-2:] == ["logit lens", "shouted"] and list(ATTACKS)[-1] == "shouted"
    assert card.table()[-1][0] == "shouted" and all(cell in outcome.output for cell in card.table()[-1])


def test_a_plugin_that_is_not_there(command):
    outcome = command("none.py")
    assert outcome.exit_code == 1 and "There is no file" in outcome.output and "Traceback" not in outcome.output

import json
import re

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from rmu_lab import RobustnessCard, UnlearnResult, cli, load_sweep
from tests.conftest import made_up_texts, tiny_model

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A tiny base model, two corpora and a question set on disk."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for seed, name in enumerate(("forget", "retain")):
        lines = [json.dumps({"text": text}) for text in made_up_texts(8, seed)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    questions = [{"question": f"{text}?", "choices": ["sea", "fish"], "answer": 0} for text in made_up_texts(5, 9)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    return tmp_path


def unlearn_command(folder, *changes):
    command = [
        "unlearn",
        "--device",
        "cpu",
        "--model",
        folder / "base",
        "--layer",
        "3",
        "--steps",
        "2",
        "--out",
        folder / "out",
    ]
    command += ["--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl", *changes]
    return RUN.invoke(cli.app, list(map(str, command)))


def test_unlearn_writes_a_checkpoint_and_its_record(folder):
    outcome = unlearn_command(folder, "--beta", "2.5")
    assert outcome.exit_code == 0, outcome.output
    assert "2 steps in" in outcome.output
    result = UnlearnResult.load(folder / "out" / "unlearning")
    assert (result.config.layer, result.config.steps, result.config.beta) == (3, 2, 2.5)
    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert all(model.get_parameter(name).equal(matrix) for name, matrix in result.edit.items())


def test_unlearn_and_evaluate_a_spread_model(folder):
    """accelerate's own choice of places; with no GPU that is the CPU."""
    command = ["unlearn", "--model", folder / "base", "--forget", folder / "forget.jsonl", "--layer", 3, "--steps", 2]
    command += ["--retain", folder / "retain.jsonl", "--out", folder / "out", "--device-map", "auto"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0, outcome.output
    command = ["evaluate", "--model", folder / "out", "--questions", folder / "questions.jsonl", "--device-map", "auto"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0 and "of 5 questions" in outcome.output


def test_evaluate_prints_and_writes_json(folder):
    command = ["evaluate", "--device", "cpu", "--model", folder / "base", "--questions", folder / "questions.jsonl"]
    outcome = RUN.invoke(cli.app, list(map(str, [*command, "--json", folder / "scores.json"])))
    assert outcome.exit_code == 0, outcome.output
    scores = json.loads((folder / "scores.json").read_text())
    assert len(scores["correct"]) == 5 and scores["accuracy"] == sum(scores["correct"]) / 5
    assert f"{scores['accuracy']:.1%}" in outcome.output
    assert {"command", "versions", "machine", "time"} <= scores["provenance"].keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--layer", "1"), "layer is 1"),
        (("--method", "magic"), "There is no method 'magic'"),
        (("--forget", "[/red].jsonl"), "There is no file [/red].jsonl"),  # brackets are not markup
        (("--forget", "nothing.jsonl"), "There is no file nothing.jsonl"),
        (("--model", "./no/such/folder"), "No model could be loaded"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(folder, change, message):
    outcome = unlearn_command(folder, *change)
    assert outcome.exit_code == 1
    assert "Error: " in outcome.output and message in outcome.output and "Traceback" not in outcome.output
    assert not (folder / "out").exists()


def test_existing_output_folder_is_kept(folder):
    (folder / "out").mkdir()
    (folder / "out" / "precious").write_text("keep")
    outcome = unlearn_command(folder)
    assert outcome.exit_code == 1 and "exists already" in outcome.output
    assert (folder / "out" / "precious").read_text() == "keep"


def sweep_command(folder, *changes):
    command = [
        "sweep",
        "--device",
        "cpu",
        "--model",
        folder / "base",
        "--layer",
        "2-4",
        "--steps",
        "2",
        "--lr",
        "0.001,0.01",
    ]
    command += ["--method", "rmu", "--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl"]
    command += ["--questions", folder / "questions.jsonl", "--limit", "4", "--out", folder / "rows.jsonl", *changes]
    return RUN.invoke(cli.app, list(map(str, command)))


def test_sweep_writes_rows_and_goes_on(folder, monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=250))
    outcome = sweep_command(folder)
    assert outcome.exit_code == 0, outcome.output
    rows = load_sweep(folder / "rows.jsonl")
    assert [row.config and (row.config.layer, row.config.lr) for row in rows] == [
        None, *((layer, lr) for layer in (2, 3, 4) for lr in (0.001, 0.01))]  # fmt: skip
    (name,) = rows[0].scores
    assert len(rows[0].scores[name].correct) == 4
    assert "7 rows in" in outcome.output and "base" in outcome.output
    for row in rows:
        assert f"{row.scores[name].accuracy:.1%}" in outcome.output
    content = (folder / "rows.jsonl").read_bytes()
    assert sweep_command(folder).exit_code == 0
    assert (folder / "rows.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--layer", "two"), "--layer is 'two'; give numbers separated by commas"),
        (("--beta", "-1"), "beta is -1.0"),
        (("--layer", "9"), "layer is 9"),
        (("--ray", "127.0.0.1:1"), "No Ray cluster was reached"),
    ],
)
def test_sweep_errors(folder, change, message):
    if change[0] == "--ray":
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'rmu-lab[cluster]')")
    outcome = sweep_command(folder, *change)
    assert outcome.exit_code == 1
    assert message in outcome.output and "Traceback" not in outcome.output


def test_advise_prints_proposal_and_reasons(folder, monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=250))
    command = ["advise", "--device", "cpu", "--model", folder / "base"]
    command += ["--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0, outcome.output
    for name in ("layer", "coefficient", "beta", "alpha", "lr", "steps"):
        assert re.search(rf"│ {name} +│ [\d.e-]+ +│ \w+", outcome.output), name
    assert len(re.findall(r"^│ \d ", outcome.output, re.M)) == 5  # one line of the profile for each block


def attack_command(folder, *changes):
    splits = [{"question": f"{text}?", "choices": ["sea", "fish"], "answer": 0, "split": ("test", "dev")[index % 2]}
              for index, text in enumerate(made_up_texts(16, 10))]  # fmt: skip
    (folder / "both.jsonl").write_text("\n".join(map(json.dumps, splits)))
    command = ["attack", "--device", "cpu", "--edit", folder / "out", "--questions", folder / "both.jsonl", "--limit", "5"]
    command += [
        "--forget",
        folder / "long.jsonl",
        "--retain",
        folder / "long.jsonl",
        "--json",
        folder / "card.json",
        *changes,
    ]
    (folder / "long.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in made_up_texts(10, 3)))
    return RUN.invoke(cli.app, list(map(str, command)))


def test_attack_prints_and_writes_the_card_of_a_saved_edit(folder, monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=250))
    assert unlearn_command(folder).exit_code == 0
    outcome = attack_command(folder)
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(folder / "card.json")
    assert len(card.unlearned.correct) == 5 and card.model_name == str(folder / "base")
    assert all(cell in outcome.output for row in card.table() for cell in row)
    assert "Left out: suffix (no suffix was given)." in outcome.output
    outcome = attack_command(folder, "--minutes", "0")
    assert outcome.exit_code == 0 and "Left out: logit lens (no time was left)." in outcome.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--edit", "nothing"), "nothing holds no result"),
        (("--questions", "nothing.jsonl"), "There is no file nothing.jsonl"),
        (("--suffix", "a"), "fewer than two different tokens"),
    ],
)
def test_attack_errors(folder, change, message):
    assert unlearn_command(folder).exit_code == 0
    outcome = attack_command(folder, *change)
    assert outcome.exit_code == 1
    assert message in outcome.output and "Traceback" not in outcome.output
    assert not (folder / "card.json").exists()


@pytest.mark.slow
def test_demo_forgets_and_keeps(monkeypatch):
    """What the README's first command promises, on test questions that chose no setting."""
    monkeypatch.setattr(cli, "console", Console(width=160))
    outcome = RUN.invoke(cli.app, ["demo", "--device", "cpu"])
    assert outcome.exit_code == 0, outcome.output
    rows = re.findall(r"│ ([a-z ]+?) +│ +([\d.]+)% +│ +([\d.]+)% +│ ([+-][\d.]+) \[", outcome.output)
    change = {topic: float(points) for topic, _, _, points in rows}
    assert change["infectious disease"] <= -30
    assert change["general knowledge"] >= -3
    assert all(float(after) == pytest.approx(float(before) + float(points), abs=0.11) for _, before, after, points in rows)
    assert "What is malaria" in outcome.output and "Unlearning took" in outcome.output

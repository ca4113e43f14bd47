"""``rmu-lab export``: adapters and models of a stored edit, their scores on the card, and the way to a hub."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from rmu_lab import Accuracy, RobustnessCard, UnlearnConfig, accuracy, cli, load_questions, unlearn
from tests.conftest import made_up_texts, tiny_model
from tests.export.fake_hub import TOKEN, running_hub
from tests.test_evaluate import QUESTIONS

CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    tiny_model("llama").save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    result = unlearn(model, tokenizer, made_up_texts(6, seed=3), made_up_texts(6, seed=4), CONFIG)
    result.save(folder / "edit")
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    return folder


def run(folder, *options):
    given = ["--edit", str(folder / "edit"), "--model", str(folder / "base"), "--device", "cpu", *map(str, options)]
    return CliRunner().invoke(cli.app, ["export", *given])


@pytest.mark.parametrize(("form", "file"), [("peft", "adapter_model.safetensors"), ("gguf", "adapter.gguf")])
def test_an_adapter_of_the_rank_asked_for(folder, tmp_path, form, file):
    outcome = run(folder, "--out", tmp_path / "out", "--format", form, "--rank", 3)
    assert outcome.exit_code == 0, outcome.output
    assert "adapter of rank 3" in outcome.output.replace("\n", " ")
    assert (tmp_path / "out" / file).is_file() and "rank is 3" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_with_its_scores(folder, tokenizer, tmp_path):
    questions = folder / "questions.jsonl"
    outcome = run(folder, "--out", tmp_path / "out", "--format", "model", "--questions", questions)
    assert outcome.exit_code == 0, outcome.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    card = (tmp_path / "out" / "README.md").read_text()
    assert str(accuracy(model, tokenizer, load_questions(questions))) in card


def test_a_lower_fidelity_takes_a_lower_rank(folder, tmp_path):
    ranks = []
    for fidelity in ("0.3", "0.99"):
        assert run(folder, "--out", tmp_path / fidelity, "--fidelity", fidelity).exit_code == 0
        ranks.append(json.loads((tmp_path / fidelity / "adapter_config.json").read_text())["r"])
    assert ranks[0] < ranks[1]


def test_the_card_shows_the_split_and_the_attacks_that_were_asked_for(folder, tmp_path):
    rows = [row | {"split": "dev" if place else "test"} for place, row in enumerate(QUESTIONS)]
    (tmp_path / "split.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score = Accuracy.from_dict({"correct": "10", "predictions": "00", "style": "cloze"})
    card = RobustnessCard({}, "base", CONFIG, score, score, {"relearn": "it was not asked for"}, {}, {}, 1.0)
    card.save(tmp_path / "card.json")
    given = ("--questions", tmp_path / "split.jsonl", "--split", "test", "--robustness", tmp_path / "card.json")
    outcome = run(folder, "--out", tmp_path / "out", *given)
    assert outcome.exit_code == 0, outcome.output
    text = (tmp_path / "out" / "README.md").read_text()
    assert "split.jsonl, test" in text and "of 1 questions" in text and "Not tried: relearn (it was not asked for)" in text


def test_the_base_model_that_an_edit_names_is_loaded_only_if_one_agrees(folder, tmp_path):
    def without_model(*options):
        given = ["--edit", str(folder / "edit"), "--out", str(tmp_path / "out"), "--device", "cpu", *options]
        return CliRunner().invoke(cli.app, ["export", *given])

    refused = without_model()
    assert refused.exit_code == 1 and "was not loaded" in " ".join(refused.output.split())
    assert without_model("--yes").exit_code == 0


def test_the_model_is_written_in_the_type_that_is_asked_for(folder, tmp_path):
    outcome = run(folder, "--out", tmp_path / "out", "--format", "model", "--dtype", "bfloat16")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_push_goes_to_a_private_repository_unless_it_is_to_be_public(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        outcome = run(folder, "--out", tmp_path / "out", "--rank", 1, "--push", "me/edit")
        assert outcome.exit_code == 0, outcome.output
        assert hub.private == {"me/edit": True} and "adapter_config.json" in hub.files["me/edit"]
        outcome = run(folder, "--out", tmp_path / "open", "--rank", 1, "--push", "me/open", "--public")
        assert outcome.exit_code == 0 and hub.private["me/open"] is False


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "onnx"], "--format is 'onnx'; give one of peft, gguf, model"),
        (["--public"], "give --push OWNER/NAME too"),
        (["--fidelity", "2"], "fidelity is 2.0"),
        (["--questions", "none.jsonl"], "none.jsonl"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(folder, tmp_path, options, sentence):
    outcome = run(folder, "--out", tmp_path / "out", *options)
    assert outcome.exit_code == 1 and sentence in " ".join(outcome.output.split())
    assert "Traceback" not in outcome.output and not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone(folder, tmp_path):
    outcome = run(folder, "--out", tmp_path)
    assert outcome.exit_code == 1 and "exists already" in outcome.output

"""`rmu-lab reproduce` end to end on a tiny model, with files in the schemas of WMDP, its corpora, wikitext and MMLU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from rmu_lab import RmuLabError, UnlearnResult, cli
from rmu_lab import reproduce as package
from rmu_lab.reproduce import Preset, plan, preset_names, reproduce
from rmu_lab.shapes import Shape
from tests.conftest import made_up_texts, tiny_model
from tests.test_lmeval import asked, hub_copy

pytest.importorskip("lm_eval")
RUN = CliRunner()


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A model, a preset and copies of all data, as someone would have them who works without the hub."""
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = tmp_path / "data"
    hub_copy(data / "wmdp", {"wmdp-bio": {"test": asked(12, 3)}, "wmdp-cyber": {"test": asked(8, 50)}})
    hub_copy(data / "mmlu", {"virology": {"test": asked(9, 70), "dev": asked(5, 90)}})
    bio = [{"title": "T", "abstract": "A", "text": text, "doi": "10.0/0"} for text in made_up_texts(10, 1)]
    for name, rows in (
        ("bio-forget-corpus", bio),
        ("cyber-forget-corpus", [{"text": text} for text in made_up_texts(10, 2)]),
        ("wikitext", [{"text": f" {text} \n"} for text in made_up_texts(10, 3)]),
    ):
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plain = json.loads((Path(package.__file__).parent / "presets" / "zephyr-7b.json").read_text())
    plain |= {"model": str(tmp_path / "model"), "tasks": ["wmdp_bio", "wmdp_cyber", "mmlu_virology"]}
    plain["settings"] |= {"layer": 3, "steps": 6, "lr": 0.02, "alpha": 1.0, "forget_lengths": [12, 20], "max_length": 16}
    (tmp_path / "tiny.json").write_text(json.dumps(plain))
    return tmp_path


def command(folder, *more):
    return RUN.invoke(cli.app, list(map(str, ["reproduce", "--preset", folder / "tiny.json", "--device", "cpu", *more])))


def test_whole_command_and_going_on(folder, monkeypatch):
    outcome = command(folder, "--data", folder / "data", "--out", folder / "run")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.index("downloads") < outcome.output.index("Written to")
    report = json.loads((folder / "run" / "result.json").read_text())
    assert {"experiment", "settings", "numbers", "digests", "seconds", "provenance", "prompts", "lm_eval"} <= report.keys()
    assert report["settings"]["rmu"]["coefficient"] == 6.5 and report["settings"]["adaptive_rmu"]["beta"] == 5.0
    for settings in report["settings"].values():
        assert settings["forget_lengths"] == [12, 20] and settings["count_padding"]
    who = ("base", "rmu", "adaptive_rmu", "rmu change", "adaptive_rmu change")
    names = {f"{one} {task}" for one in who for task in ("wmdp_bio", "wmdp_cyber", "mmlu_virology")}
    assert report["numbers"].keys() == names
    assert report["numbers"]["rmu wmdp_bio"]["n"] == 12
    for name, number in report["numbers"].items():
        assert number["low"] <= number["value"] <= number["high"], name
        if "change" in name:
            who, _, task = name.split()
            difference = report["numbers"][f"{who} {task}"]["value"] - report["numbers"][f"base {task}"]["value"]
            assert number["value"] == pytest.approx(difference)

    # The stored edit in a model of one's own gives the stored answers.
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    edit = UnlearnResult.load(folder / "run" / "adaptive_rmu" / "edit")
    assert edit.history[-1]["loss"] != edit.history[0]["loss"]
    from transformers import AutoTokenizer

    from rmu_lab import harness

    with edit.applied(model):
        score = harness(
            model,
            AutoTokenizer.from_pretrained(folder / "model"),
            ["wmdp_bio"],
            data={"cais/wmdp": folder / "data" / "wmdp"},
            progress=False,
        ).scores["wmdp_bio"]
    assert report["numbers"]["adaptive_rmu wmdp_bio"]["value"] == score.accuracy

    # Only what is missing is made again.
    (folder / "run" / "rmu" / "wmdp_cyber.json").unlink()
    (folder / "run" / "result.json").unlink()
    made = []
    measure = package.harness
    monkeypatch.setattr(package, "harness", lambda *args, **how: made.append(*args[2]) or measure(*args, **how))
    monkeypatch.setattr(package, "unlearn", lambda *_, **__: pytest.fail("the edits are there"))
    outcome = command(folder, "--data", folder / "data", "--out", folder / "run")
    assert outcome.exit_code == 0 and made == ["wmdp_cyber"]
    assert json.loads((folder / "run" / "result.json").read_text())["numbers"] == report["numbers"]

    # Another run does not mix with it.
    outcome = command(folder, "--data", folder / "data", "--out", folder / "run", "--limit", "3")
    assert outcome.exit_code == 1 and "a run with another limit" in outcome.output


def rewrite_weights(folder):
    tiny_model("llama", seed=1).save_pretrained(folder / "model")


def rewrite_tokenizer(folder):
    path = folder / "model" / "tokenizer.json"
    plain = json.loads(path.read_text())
    plain["model"]["merges"] = plain["model"]["merges"][:-1]
    path.write_text(json.dumps(plain))


def rewrite_questions(folder):
    hub_copy(folder / "data" / "wmdp", {"wmdp-bio": {"test": asked(12, 4)}, "wmdp-cyber": {"test": asked(8, 50)}})


def rewrite_corpus(folder):
    (folder / "data" / "wikitext.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in made_up_texts(10, 9)))


def rewrite_settings(folder):
    plain = json.loads((folder / "tiny.json").read_text())
    plain["settings"]["lr"] = 0.03
    (folder / "tiny.json").write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (rewrite_weights, "weights"),
        (rewrite_tokenizer, "tokenizer"),
        (rewrite_questions, "questions"),
        (rewrite_corpus, "digests"),
        (rewrite_settings, "methods"),
    ],
)
def test_a_run_goes_on_only_with_the_same_content(folder, change, named):
    def run():
        preset = Preset.load(folder / "tiny.json")
        return reproduce(
            preset, folder / "run", data=folder / "data", methods=["rmu"], limit=3, device="cpu", progress=False
        )

    first = run()
    (folder / "run" / "rmu" / "wmdp_bio.json").unlink()
    assert run()["numbers"] == first["numbers"]
    change(folder)
    with pytest.raises(RmuLabError, match=rf"holds a run with another {named}; choose another folder"):
        run()
    assert json.loads((folder / "run" / "result.json").read_text())["numbers"] == first["numbers"]


def test_scores_of_an_edit_that_is_gone_are_made_anew(folder):
    how = {"data": folder / "data", "methods": ["rmu"], "limit": 3, "device": "cpu", "progress": False}
    preset = Preset.load(folder / "tiny.json")
    reproduce(preset, folder / "run", **how)
    stored = folder / "run" / "rmu" / "wmdp_bio.json"
    before = stored.read_text()
    stored.write_text(json.dumps(json.loads(before) | {"prompts": {"wmdp_bio": "of another edit"}}))
    shutil.rmtree(folder / "run" / "rmu" / "edit")
    reproduce(preset, folder / "run", **how)
    assert stored.read_text() == before


def test_a_preset_runs_no_python_unasked(folder, tmp_path):
    """Before anything is trained; scores of a task that is named by a path stay in the folder of the run."""
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef text(doc):\n    return doc['question']\n")
    (folder / "task.yaml").write_text(
        f"task: mine\ndataset_path: {folder / 'data' / 'wmdp'}\ndataset_name: wmdp-bio\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: !function evil.text\ndoc_to_choice: choices\ndoc_to_target: answer\n"
        "metric_list: [{metric: acc}]\n"
    )
    plain = json.loads((folder / "tiny.json").read_text()) | {"tasks": [str(folder / "task.yaml")]}
    (folder / "tiny.json").write_text(json.dumps(plain))
    how = ("--data", folder / "data", "--out", folder / "run", "--method", "rmu")
    outcome = command(folder, *how)
    assert outcome.exit_code == 1 and "runs Python of its own" in outcome.output
    assert not (folder / "ran").exists() and not (folder / "run" / "rmu").exists()
    outcome = command(folder, *how, "--trust-task-code")
    assert outcome.exit_code == 0, outcome.output
    assert (folder / "ran").exists() and not (folder / "task.yaml.json").exists()
    assert len(list((folder / "run" / "base").iterdir())) == 1


def test_dry_run_fetches_and_writes_nothing(folder, monkeypatch):
    for name in ("load_model", "load_corpus", "harness", "task_digests"):
        monkeypatch.setattr(package, name, lambda *_, **__: pytest.fail("a plan fetches nothing"))
    before = sorted(folder.rglob("*"))
    outcome = command(folder, "--dry-run", "--data", folder / "data")
    assert outcome.exit_code == 0 and "on this machine" in outcome.output
    for name in preset_names():
        outcome = RUN.invoke(cli.app, ["reproduce", "--preset", name, "--dry-run"])
        assert outcome.exit_code == 0, outcome.output
        assert "https://huggingface.co/datasets/cais/wmdp-bio-forget-corpus" in outcome.output
        assert "(computed)" in outcome.output and "not measured" in outcome.output.replace("\n", " ")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--preset", "zephyr-8b"), "There is no preset zephyr-8b; use one of llama-3-8b"),
        (("--method", "npo"), "has no method 'npo'; use rmu, adaptive_rmu"),
        (("--data", "no/such"), "or put bio-forget-corpus.jsonl"),
        ((), "cais/wmdp-bio-forget-corpus"),
    ],
)
def test_errors_say_what_to_ask_for(folder, change, message, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: 1 / 0)  # no hub here
    outcome = command(folder, "--out", folder / "run", *change)
    assert outcome.exit_code == 1 and "Traceback" not in outcome.output
    assert message in outcome.output.replace("\n", " ")
    assert not (folder / "run" / "result.json").exists()


def test_without_a_folder_to_write_to(folder):
    outcome = command(folder, "--data", folder / "data")
    assert outcome.exit_code == 1 and "give --out DIR" in outcome.output
    (folder / "run").mkdir()
    (folder / "run" / "precious").write_text("keep")
    outcome = command(folder, "--data", folder / "data", "--out", folder / "run")
    assert outcome.exit_code == 1 and "holds other files" in outcome.output


def test_a_model_that_must_be_asked_for(folder):
    plain = json.loads((folder / "tiny.json").read_text()) | {"model": "./no/such", "access": "gated: ask on its page"}
    (folder / "gated.json").write_text(json.dumps(plain))
    with pytest.raises(RmuLabError, match=r"Gated: ask on its page: https://huggingface\.co/\./no/such"):
        reproduce(Preset.load(folder / "gated.json"), folder / "run", data=folder / "data", device="cpu")
    (folder / "broken.json").write_text("{}")
    with pytest.raises(RmuLabError, match=r"broken\.json is not a preset"):
        Preset.load(folder / "broken.json")


def test_presets_are_the_papers_settings():
    assert preset_names() == ["llama-3-8b", "mistral-7b", "mixtral-8x7b", "yi-6b", "zephyr-7b"]
    for name in preset_names():
        preset = Preset.load(name)
        assert preset.tasks == ("wmdp_bio", "wmdp_cyber", "mmlu") and list(preset.forget) == ["bio", "cyber"]
        for config in preset.configs.values():
            assert (config.layer, config.lr, config.batch_size, config.forget_lengths) == (7, 5e-5, 4, (512, 768))
            assert config.mean_over_dimensions and config.count_padding and config.padding_side == "left"
    zephyr = Preset.load("zephyr-7b").configs
    assert (zephyr["rmu"].coefficient, zephyr["adaptive_rmu"].beta) == (6.5, 5.0)
    assert {(config.alpha, config.steps) for config in zephyr.values()} == {(1200.0, 500)}
    mixtral = Preset.load("mixtral-8x7b").configs["rmu"]
    assert (mixtral.coefficient, mixtral.alpha, mixtral.steps) == (300, 1600, 150)


def test_mixtral_trains_all_experts(tokenizer):
    from rmu_lab import UnlearnConfig, unlearn

    config = UnlearnConfig(layer=3, steps=2, batch_size=2, max_length=16, parameters=("mlp.experts.down_proj",))
    result = unlearn(tiny_model("mixtral"), tokenizer, made_up_texts(4, 1), made_up_texts(4, 2), config)
    assert {tuple(matrix.shape) for matrix in result.edit.values()} == {(4, 32, 64)}


@pytest.mark.parametrize(("name", "parameters"), [
    ("zephyr-7b", 7_241_732_096), ("yi-6b", 6_061_035_520), ("llama-3-8b", 8_030_261_248), ("mixtral-8x7b", 46_702_792_704),
])  # fmt: skip
def test_shapes_have_the_models_known_sizes(name, parameters):
    assert Preset.load(name).shape.parameters == parameters


@pytest.mark.parametrize("family", ["llama", "mixtral"])
@pytest.mark.parametrize("tied", [True, False])
def test_shape_counts_what_a_model_has(family, tied):
    """Parameters, and the operations of a forward pass as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_model(family, tie_word_embeddings=tied)
    shape = Shape.of(model.config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    if family == "llama":
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randint(3, 300, (2, 40)), use_cache=False)
        products = sum(n for operation, n in counter.get_flop_counts()["Global"].items() if "mm" in str(operation))
        # At length 0 there is no attention. Transformers 5.17 makes its rotary angles by a small matrix product.
        assert shape.forward_flops(80, 0) == pytest.approx(products, rel=1e-4)
        assert sum(shape.training_bytes(4).values()) == 4 * shape.parameters + 16 * 3 * 32 * 64


def test_plan_of_one_method_is_half_the_training():
    whole, half = (plan(Preset.load("zephyr-7b"), methods=methods)["work"] for methods in (None, ["rmu"]))
    assert "2 x 500 steps" in str(whole) and "1 x 500 steps" in str(half)


def test_two_processes_make_one_run(folder):
    where = Path(__file__).parents[1]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(where)}
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m", "rmu_lab.cli"]
    start += ["reproduce", "--preset", folder / "tiny.json", "--data", folder / "data", "--out", folder / "run"]
    start += ["--limit", "3", "--method", "rmu"]
    outcome = subprocess.run(list(map(str, start)), capture_output=True, text=True, env=environment, cwd=where)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("access to ask for") == 1
    report = json.loads((folder / "run" / "result.json").read_text())
    alone = reproduce(
        Preset.load(folder / "tiny.json"), folder / "alone", data=folder / "data", methods=["rmu"], limit=3, device="cpu"
    )
    for name, number in alone["numbers"].items():
        assert report["numbers"][name]["value"] == number["value"], name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {}}, "methods is empty"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": "mmlu"}, "tasks is 'mmlu', not a list"),
        ({"forget": {}}, "forget is empty"),
        ({"forget": {"bio": 3}}, "forget is {'bio': 3}"),
        ({"model": ""}, "model is empty"),
        ({"shape": {}}, "missing .* required positional arguments"),
        ({"shape": {"hidden_size": 0}}, "missing|not between 1"),
        ({"reported": {"points": {"base": 3}}}, "reported is"),
        ({"settings": None}, "unsupported operand"),
        (None, "list indices"),
    ],
)
def test_presets_with_empty_or_missing_parts(change, message, tmp_path):
    plain = json.loads((Path(package.__file__).parent / "presets" / "zephyr-7b.json").read_text())
    (tmp_path / "own.json").write_text(json.dumps(plain | change if change else []))
    with pytest.raises(RmuLabError, match=rf"own\.json is not a preset .*({message}).*; write it like"):
        Preset.load(tmp_path / "own.json")


@pytest.mark.parametrize("change", [{"limit": 0}, {"limit": -1}, {"batch_size": 0}])
def test_numbers_below_one(change, folder):
    ((name, value),) = change.items()
    with pytest.raises(RmuLabError, match=f"{name} is {value}; it must be at least 1"):
        reproduce(Preset.load(folder / "tiny.json"), folder / "out", data=folder / "data", device="cpu", **change)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", "3"])
def test_a_damaged_note_of_a_run_is_one_sentence(content, folder):
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text(content)
    with pytest.raises(RmuLabError, match=r"run\.json holds no run .*; choose another folder"):
        reproduce(Preset.load(folder / "tiny.json"), folder / "out", data=folder / "data", device="cpu")

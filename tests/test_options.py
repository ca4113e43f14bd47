"""Every option of every command arrives where it acts: seen in what a real run of the command made, not in what it says.

A new option without a case here fails. Each case changes options of a command that runs; what it is observed by must then
be what is expected, and must not be so without the change.
"""

import dataclasses
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from transformers import PreTrainedModel
from typer.testing import CliRunner

from rmu_lab import (
    RmuLabError,
    RobustnessCard,
    UnlearnConfig,
    UnlearnResult,
    accuracy,
    advise,
    cli,
    load_model,
    load_sweep,
    unlearn,
)
from rmu_lab.attacks import ATTACKS
from rmu_lab.duel import Rules, start_duel
from rmu_lab.files import digest
from rmu_lab.identity import model_digests, tensors_digest
from rmu_lab.metrics import TofuEvaluation
from rmu_lab.metrics.benchmark_rows import rows_digest
from rmu_lab.plugins import loaded_files
from rmu_lab.study import CLAIMS
from tests.conftest import made_up_texts, plugin, tiny_model
from tests.metrics.benchmark_files import TOFU_FILES, write_tofu

ROOT = Path(__file__).parents[1]
TEXTS = {name: made_up_texts(10, seed) for seed, name in enumerate(("forget", "retain", "other"), 1)}
SETS = {"asked": 12, "less": 5}
"""Questions of each set; every third is of the dev split."""

TOLD = '''
"""The only attack there is, which notes what it was given."""
from rmu_lab.attacks import ATTACKS, register_attack

ATTACKS.clear()

@register_attack("told")
def told(subject, budget):
    rephrased = None if subject.rephrased is None else [row["id"] for row in subject.rephrased[1]]
    details = {"seed": budget.seed, "seconds": budget.seconds, "suffix": subject.suffix, "rephrased": rephrased}
    details |= {"forget": subject.forget, "retain": subject.retain}
    details |= {"dev": [row["id"] for row in subject.dev_questions]}
    details |= {"general": sorted(row["id"] for row in subject.general)}
    return subject.ask_again("told", subject.questions, details=details)
'''


def forget_plugins() -> None:
    """So that the next command loads its own anew."""
    for module in loaded_files():
        del sys.modules[module.__name__]


def rows_of(name: str) -> list[dict[str, Any]]:
    texts = enumerate(made_up_texts(SETS[name], seed=len(name), least=3, most=12))
    return [
        {"id": f"{name}-{i}", "question": f"{text}?", "choices": made_up_texts(3, 50 + i, 1, 5), "answer": i % 3}
        | {"split": "test" if i % 3 else "dev"}
        for i, text in texts
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """Two models with an edit of each seed, corpora, question sets and files of attacks."""
    folder = tmp_path_factory.mktemp("options")
    for seed, name in enumerate(("base", "second")):
        tiny_model("llama", seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        (folder / name / "chat_template.jinja").write_text("{% for one in messages %}{{ one.content }}{% endfor %} </said>")
    for name, texts in TEXTS.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for name in SETS:
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows_of(name))))
    rephrased = [row | {"id": f"so-{row['id']}", "original": row["id"]} for row in rows_of("asked")]
    (folder / "rephrased.jsonl").write_text("\n".join(map(json.dumps, rephrased)))
    (folder / "told.py").write_text(TOLD)
    (folder / "long.py").write_text(TOLD.replace('("told")', '("told", short=False)'))
    (folder / "spoken.py").write_text(TOLD.replace('"told"', '"spoken"'))
    plugin("bounded_ascent.py", folder)
    write_tofu(folder / "tofu")
    for part in ("forget10", "retain"):
        name = f"{part}_perturbed.json"
        (folder / "tofu-2").mkdir(exist_ok=True)
        shutil.copy(folder / "tofu" / name, folder / "tofu-2")
    texts = TEXTS["forget"], TEXTS["retain"]
    for name, model, seed in (
        ("edit-0", load_model(folder / "base", device="cpu")[0], 0),
        ("edit-1", load_model(folder / "base", device="cpu")[0], 1),
        ("nameless", tiny_model("llama"), 0),
    ):
        config = UnlearnConfig(layer=3, steps=1, seed=seed)
        unlearn(model, tokenizer, *texts, config, progress=False).save(folder / name)
    return folder


@dataclasses.dataclass(frozen=True)
class Case:
    """Options that are changed (None: left out), what is looked at then, and what it has to be."""

    change: dict[str, Any]
    observe: Callable[[Any], Any]
    """Of a run: its `output`, its exit `code`, the path `out` that it was to write, what `read()` finds there, and how many
    texts lm-eval gave the model at once (`batches`)."""
    expected: Any
    first: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Options that are set in both runs."""


@dataclasses.dataclass(frozen=True)
class Command:
    base: dict[str, Any]
    """Options of a command that runs."""
    out: str | None
    """The option that says where it writes; each run gets a new place."""
    read: Callable[[Path], Any]
    """Reads what a run wrote."""
    cases: dict[str, Case]


def case(option: str, value: Any, observe: Callable[[Any], Any], expected: Any, **more: Any) -> Case:
    return Case({option: value, **{f"--{name}": change for name, change in more.items()}}, observe, expected)


def says(text: str) -> Callable[[Any], bool]:
    return lambda run: text in " ".join(run.output.split())


def exists(path: str) -> Callable[[Any], bool]:
    return lambda _: Path(path).exists()


def invoke(command: str, options: dict[str, Any]):
    given = command.split()
    for name, value in options.items():
        for one in value if isinstance(value, tuple) else () if value is None else (value,):
            given += [name] if one is True else [name, str(one)] if name.startswith("--") else [str(one)]
    return CliRunner().invoke(cli.app, given)


DEVICE = case("--device", "nowhere", says("device is 'nowhere'"), True)
DTYPE = case("--dtype", "int8", says("dtype is 'int8'"), True)
DEVICE_MAP = case("--device-map", "auto", says("device is cpu and device_map 'auto'"), True, device="cpu")


# -- the cases --------------------------------------------------------------------------------------------------------


def config_is(name: str, value: Any) -> dict[str, Case]:
    option = f"--{name.replace('_', '-')}"
    return {option: case(option, value, lambda run: getattr(run.read().config, name), value)}


def result_of(out: Path) -> UnlearnResult:
    return UnlearnResult.load(out / "unlearning")


UNLEARN = Command(
    {"--model": "base", "--forget": "forget.jsonl", "--retain": "retain.jsonl", "--layer": 3, "--steps": 1},
    "--out",
    result_of,
    {
        "--forget": case("--forget", "other.jsonl", lambda run: run.read().digests["forget forget"], digest(TEXTS["other"])),
        "--retain": case("--retain", "other.jsonl", lambda run: run.read().digests["retain forget"], digest(TEXTS["other"])),
        "--out": case("--out", "unlearned", exists("unlearned/config.json"), True),
        "--model": case("--model", "second", lambda run: run.read().model_name, "second"),
        "--method": case("--method", "rmu", lambda run: run.read().config.method, "rmu"),
        "--set": case(
            "--set",
            ("retain_noise=0.5", "direction=isotropic"),
            lambda run: (run.read().config.retain_noise, run.read().config.direction),
            (0.5, "isotropic"),
        ),
        "--plugin": case(
            "--plugin",
            "bounded_ascent.py",
            lambda run: run.code == 0 and run.read().config.method,
            "bounded_ascent",
            **{"method": "bounded_ascent", "layer": None},
        ),
        "--device": DEVICE,
        "--dtype": DTYPE,
        "--device-map": DEVICE_MAP,
        **config_is("layer", 2),
        **config_is("coefficient", 7.5),
        **config_is("beta", 2.5),
        **config_is("alpha", 0.5),
        **config_is("lr", 2e-3),
        **config_is("steps", 2),
        **config_is("batch_size", 3),
        **config_is("max_length", 9),
        **config_is("seed", 5),
    },
)


def predictions(run) -> list[int]:
    return run.read()["predictions"]


def predicted_by(model: str) -> list[int]:
    return list(accuracy(*load_model(model, device="cpu"), rows_of("asked"), progress=False).predictions)


EVALUATE = Command(
    {"--model": "base", "--questions": "asked.jsonl"},
    "--json",
    lambda out: json.loads(out.read_text()),
    {
        "--questions": case("--questions", "less.jsonl", lambda run: len(predictions(run)), 5),
        "--model": case("--model", "second", predictions, lambda: predicted_by("second")),
        "--split": case("--split", "dev", lambda run: len(predictions(run)), 4),
        "--style": case("--style", "letter", lambda run: run.read()["style"], "letter"),
        "--json": case("--json", "score.json", exists("score.json"), True),
        "--device": DEVICE,
        "--dtype": DTYPE,
        "--device-map": DEVICE_MAP,
    },
)


def told(name: str) -> Callable[[Any], Any]:
    return lambda run: run.read().recoveries["told"].details[name]


def edit_of(name: str) -> list[tuple[str, torch.Tensor]]:
    return sorted(UnlearnResult.load(name).edit.items())


def done(run) -> list[str] | None:
    return list(run.read().recoveries) if run.code == 0 else None


ATTACK = Command(
    {
        "--edit": "edit-0",
        "--questions": "asked.jsonl",
        "--forget": "forget.jsonl",
        "--retain": "retain.jsonl",
        "--model": "base",
        "--plugin": "told.py",
    },
    "--json",
    RobustnessCard.load,
    {
        "--edit": case(
            "--edit", "edit-1", lambda run: run.read().digests["edit"], lambda: tensors_digest(edit_of("edit-1"))
        ),
        "--questions": case(
            "--questions", "less.jsonl", lambda run: (len(run.read().base.correct), len(told("dev")(run))), (3, 2)
        ),
        "--forget": case("--forget", "other.jsonl", told("forget"), TEXTS["other"]),
        "--retain": case("--retain", "other.jsonl", told("retain"), TEXTS["other"]),
        "--model": Case({"--model": "base"}, done, ["told"], {"--edit": "nameless", "--model": None}),
        "--rephrased": case(
            "--rephrased",
            "rephrased.jsonl",
            told("rephrased"),
            lambda: [f"so-{row['id']}" for row in rows_of("asked") if row["split"] == "test"],
        ),
        "--suffix": case("--suffix", " old fish", told("suffix"), " old fish"),
        "--never-knew": case(
            "--never-knew",
            "edit-1",
            lambda run: run.read().digests.get("never knew"),
            lambda: tensors_digest(edit_of("edit-1")),
        ),
        "--limit": case("--limit", 5, lambda run: len(run.read().base.correct), 5),
        "--general": case("--general", "less.jsonl", told("general"), ["less-0", "less-3"]),
        "--budget": case("--budget", 2.5, told("seconds"), 150.0),
        "--short": Case({"--short": True}, lambda run: list(run.read().recoveries), [], {"--plugin": "long.py"}),
        "--figure": case("--figure", "card.svg", exists("card.svg"), True),
        "--seed": case("--seed", 3, lambda run: (told("seed")(run), run.read().provenance["seed"]), (3, 3)),
        "--plugin": case("--plugin", "spoken.py", lambda run: list(run.read().recoveries), ["spoken"]),
        "--json": case("--json", "card.json", exists("card.json"), True),
        "--yes": Case({"--yes": True}, done, ["told"], {"--model": None}),  # nobody is there to be asked
        "--device": DEVICE,
        "--dtype": DTYPE,
    },
)


def configs_are(name: str, given: str, *values: Any) -> dict[str, Case]:
    option = f"--{name}"
    return {option: case(option, given, lambda run: {getattr(row.config, name) for row in run.read()[1:]}, set(values))}


SWEEP = Command(
    {
        "--model": "base",
        "--forget": "forget.jsonl",
        "--retain": "retain.jsonl",
        "--questions": "asked.jsonl",
        "--method": "adaptive_rmu",
        "--layer": "3",
        "--steps": "1",
    },
    "--out",
    load_sweep,
    {
        "--forget": case(
            "--forget", "other.jsonl", lambda run: run.read()[1].digests["forget forget"], digest(TEXTS["other"])
        ),
        "--retain": case(
            "--retain", "other.jsonl", lambda run: run.read()[1].digests["retain forget"], digest(TEXTS["other"])
        ),
        "--questions": case(
            "--questions",
            ("asked.jsonl", "less.jsonl"),
            lambda run: {name: len(score.correct) for name, score in run.read()[1].scores.items()},
            {"asked.jsonl": 12, "less.jsonl": 5},
        ),
        "--out": case("--out", "new/rows.jsonl", exists("new/rows.jsonl"), True),
        "--model": case("--model", "second", lambda run: run.read()[1].model_name, "second"),
        "--set": case(
            "--set",
            ("retain_noise=0.5,2", "direction=isotropic"),
            lambda run: [(row.config.retain_noise, row.config.direction) for row in run.read()[1:]],
            [(0.5, "isotropic"), (2.0, "isotropic")],
        ),
        "--plugin": case(
            "--plugin",
            "bounded_ascent.py",
            lambda run: run.code == 0 and run.read()[1].config.method,
            "bounded_ascent",
            **{"method": "bounded_ascent", "layer": None},
        ),
        "--split": case("--split", "dev", lambda run: len(run.read()[1].scores["asked.jsonl"].correct), 4),
        "--limit": case("--limit", 5, lambda run: len(run.read()[1].scores["asked.jsonl"].correct), 5),
        "--ray": case("--ray", "127.0.0.1:1", says("No Ray cluster was reached at '127.0.0.1:1'"), True),
        "--workers": case("--workers", 3, says("Ray at 'local' with 3 processes"), True, ray="local"),
        "--device": DEVICE,
        "--dtype": DTYPE,
        **configs_are("method", "rmu, npo", "rmu", "npo"),
        **configs_are("layer", "2-3", 2, 3),
        **configs_are("coefficient", "7.5,8", 7.5, 8.0),
        **configs_are("beta", "2,3", 2.0, 3.0),
        **configs_are("alpha", "0.5,2", 0.5, 2.0),
        **configs_are("lr", "1e-3,0.01", 1e-3, 1e-2),
        **configs_are("steps", "1,3", 1, 3),
        **configs_are("seed", "1,4-5", 1, 4, 5),
    },
)


def profile(run) -> list[list[str]]:
    """The numbers of the first table, block by block."""
    lines = [line for line in run.output.splitlines() if re.match(r"│ \d ", line)]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def advised(model: str, forget: str, retain: str) -> list[list[str]]:
    found = advise(*load_model(model, device="cpu"), TEXTS[forget], TEXTS[retain])
    norms = [(row.forget_norm, row.retain_norm, row.sink_norm) for row in found.profile]
    return [
        [str(row.layer), *(f"{norm:.4g}" for norm in of_row), f"{row.separability:.2f}"]
        for row, of_row in zip(found.profile, norms, strict=True)
    ]


def advice(option: str, value: str, *of: str) -> dict[str, Case]:
    return {option: case(option, value, profile, lambda: advised(*of))}


ADVISE = Command(
    {"--model": "base", "--forget": "forget.jsonl", "--retain": "retain.jsonl"},
    None,
    lambda _: None,
    {
        **advice("--forget", "other.jsonl", "base", "other", "retain"),
        **advice("--retain", "other.jsonl", "base", "forget", "other"),
        **advice("--model", "second", "second", "forget", "retain"),
        "--device": DEVICE,
        "--dtype": DTYPE,
    },
)


def report(key: str) -> Callable[[Any], Any]:
    return lambda run: json.loads((run.out / "result.json").read_text())[key]


REPRODUCE = Command(
    {"--preset": "tiny.json", "--data": "data", "--method": "rmu", "--limit": 3},
    "--out",
    lambda out: out,
    {
        "--preset": case("--preset", "tiny-2.json", report("preset"), "tiny-2"),
        "--out": case("--out", "runs/new", exists("runs/new/result.json"), True),
        "--data": case(
            "--data", "data-2", lambda run: report("digests")(run)["retain"], lambda: digest(read_texts("data-2/wikitext"))
        ),
        "--method": case("--method", ("adaptive_rmu",), lambda run: list(report("settings")(run)), ["adaptive_rmu"]),
        "--model": case("--model", "second", report("weights"), lambda: weights_of("second")),
        "--limit": case("--limit", 2, lambda run: report("numbers")(run)["base wmdp_bio"]["n"], 2),
        "--chat-template": case(
            "--chat-template",
            True,
            lambda run: report("prompts")(run)["wmdp_bio"].endswith("</said>"),
            True,
        ),
        "--batch-size": case("--batch-size", 2, lambda run: max(run.batches), 2),
        "--trust-task-code": Case(
            {"--trust-task-code": True},
            lambda run: run.code == 0 and "trusted" in next(iter(report("prompts")(run).values())),
            True,
            {"--preset": "own-task.json"},
        ),
        "--dry-run": case("--dry-run", True, lambda run: run.code == 0 and not run.out.exists(), True),
        "--device": DEVICE,
        "--device-map": DEVICE_MAP,
    },
)


def read_texts(name: str) -> list[str]:
    return [json.loads(line)["text"] for line in Path(f"{name}.jsonl").read_text().splitlines()]


def weights_of(model: str) -> str:
    return model_digests(*load_model(model, device="cpu"))["weights"]


WRITE = Command(
    {},
    "folder",
    lambda out: out,
    {
        "folder": case("folder", "handed-out", exists("handed-out/README.md"), True),
        "--edition": case("--edition", "teacher", lambda run: (run.out / "solutions").is_dir(), True),
        "--install": case(
            "--install", "./mine.whl", lambda run: (run.out / "requirements.txt").read_text().strip(), "./mine.whl"
        ),
    },
)

CHECK = Command(
    {"folder": "collected"},
    "--json",
    lambda out: json.loads(out.read_text()),
    {
        "folder": case("folder", "collected-2", lambda run: list(run.read()), ["two.ipynb", "summary"]),
        "--json": case("--json", "standings.json", exists("standings.json"), True),
        "--cell-seconds": case("--cell-seconds", 1, lambda run: run.read()["summary"]["."]["failed"], 1),
    },
)


def duel_part(path: str, field: str) -> Callable[[Any], Any]:
    return lambda run: [json.loads(line)[field] for line in (run.out / path).read_text().splitlines()]


def split_of(name: str, split: str) -> list[str]:
    return [row["question"] for row in rows_of(name) if row["split"] == split]


DUEL_START = Command(
    {"--model": "base", "--forget": "forget.jsonl", "--retain": "retain.jsonl"}
    | {"--questions": "asked.jsonl", "--general": "asked.jsonl"},
    "folder",
    lambda out: json.loads((out / "rules.json").read_text()),
    {
        "folder": case("folder", "begun", exists("begun/rules.json"), True),
        "--model": case("--model", "second", lambda run: run.read()["model"], "second"),
        "--forget": case("--forget", "other.jsonl", duel_part("blue/forget.jsonl", "text"), TEXTS["other"]),
        "--retain": case("--retain", "other.jsonl", duel_part("texts/retain.jsonl", "text"), TEXTS["other"]),
        "--questions": case(
            "--questions", "less.jsonl", duel_part("teacher/topic.jsonl", "question"), lambda: split_of("less", "test")
        ),
        "--general": case(
            "--general", "less.jsonl", duel_part("dev/general.jsonl", "question"), lambda: split_of("less", "dev")
        ),
    },
)

DUEL_SCORE = Command(
    {"folder": "played"},
    "--json",
    lambda out: json.loads(out.read_text()),
    {
        "folder": case("folder", "played-2", lambda run: run.read()["red"]["prefill"], " So"),
        "--dev": case("--dev", True, lambda run: run.read()["questions"], "dev"),
        "--json": case("--json", "outcome.json", exists("outcome.json"), True),
        "--device": DEVICE,
    },
)


def weights_with(edit: str) -> str:
    model, tokenizer = load_model("base", device="cpu")
    with UnlearnResult.load(edit).applied(model):
        return model_digests(model, tokenizer)["weights"]


TOFU = Command(
    {"--data": "tofu", "--model": "base"},
    "--json",
    TofuEvaluation.load,
    {
        "--data": case("--data", "tofu-2", lambda run: set(run.read().scores), {"forget", "retain"}),
        "--edit": case("--edit", "edit-0", lambda run: run.read().digests["weights"], lambda: weights_with("edit-0")),
        "--model": case("--model", "second", lambda run: run.read().digests["weights"], lambda: weights_of("second")),
        "--reference": case("--reference", "base", lambda run: run.read().forget_quality, 1.0),
        "--forget": case(
            "--forget",
            "retain_perturbed",
            lambda run: run.read().digests["forget"],
            lambda: rows_digest(TOFU_FILES["retain_perturbed"]),
        ),
        "--retain": case(
            "--retain",
            "forget10_perturbed",
            lambda run: run.read().digests["retain"],
            lambda: rows_digest(TOFU_FILES["forget10_perturbed"]),
        ),
        "--limit": case("--limit", 2, lambda run: [len(one.answers) for one in run.read().scores.values()], [2, 2, 2, 2]),
        "--chat-template": case("--chat-template", True, lambda run: run.read().settings["chat_template"], True),
        "--end-token": case("--end-token", True, lambda run: run.read().settings["end_token"], True),
        "--json": case("--json", "tofu.json", exists("tofu.json"), True),
        "--yes": Case({"--yes": True}, lambda run: run.code, 0, {"--edit": "edit-0", "--model": None}),
        "--device": DEVICE,
        "--dtype": DTYPE,
    },
)


@pytest.fixture(scope="module")
def played(folder):
    """What `duel score` needs: two duels, each with an edit and an attack."""
    for name, prefill in (("played", ""), ("played-2", " So")):
        rules = Rules(model=str(folder / "base"))
        texts = {"forget": str(folder / "forget.jsonl"), "retain": str(folder / "retain.jsonl")}
        asked = str(folder / "asked.jsonl")
        start_duel(folder / name, rules, **texts, questions=asked, general=asked)
        shutil.copytree(folder / "edit-0", folder / name / "blue" / "edit")
        plan = {"attack": "prompt", "template": "{question}", "prefill": prefill}
        (folder / name / "red" / "attack.json").write_text(json.dumps(plan))


@pytest.fixture(scope="module")
def collected(folder):
    """What `course check` needs: two folders with a notebook each, whose one cell takes three seconds."""
    nbformat = pytest.importorskip("nbformat")
    for name, notebook in (("collected", "one"), ("collected-2", "two")):
        (folder / name).mkdir()
        cell = nbformat.v4.new_code_cell("import time\ntime.sleep(3)")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / name / f"{notebook}.ipynb")


@pytest.fixture(scope="module")
def benchmark(folder):
    """What `reproduce` needs, beside the rest: data as copies of the papers', and presets."""
    pytest.importorskip("lm_eval")
    from tests.test_lmeval import asked, hub_copy

    for number, data in enumerate((folder / "data", folder / "data-2")):
        hub_copy(data / "wmdp", {"wmdp-bio": {"test": asked(5, 3)}, "wmdp-cyber": {"test": asked(5, 50)}})
        for name, seed in (("bio-forget-corpus", 1), ("wikitext", 2)):
            lines = [json.dumps({"text": text}) for text in made_up_texts(6, 10 * number + seed)]
            (data / f"{name}.jsonl").write_text("\n".join(lines))
    plain = json.loads((ROOT / "rmu_lab" / "presets" / "zephyr-7b.json").read_text())
    plain |= {"model": "base", "tasks": ["wmdp_bio"], "forget": {"bio": plain["forget"]["bio"]}}
    plain["settings"] |= {"layer": 3, "steps": 1, "forget_lengths": [12], "max_length": 16}
    for name in ("tiny", "tiny-2"):
        (folder / f"{name}.json").write_text(json.dumps(plain))
    (folder / "own-task.json").write_text(json.dumps(plain | {"tasks": ["task.yaml"]}))
    (folder / "asking.py").write_text("def text(doc):\n    return f\"trusted {doc['question']}\"\n")
    (folder / "task.yaml").write_text(
        f"task: mine\ndataset_path: {folder / 'data' / 'wmdp'}\ndataset_name: wmdp-bio\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: !function asking.text\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list: [{metric: acc}]\n"
    )
    return folder


COMMANDS = {
    "unlearn": UNLEARN,
    "evaluate": EVALUATE,
    "attack": ATTACK,
    "sweep": SWEEP,
    "advise": ADVISE,
    "reproduce": REPRODUCE,
    "course write": WRITE,
    "course check": CHECK,
    "duel start": DUEL_START,
    "duel score": DUEL_SCORE,
    "tofu": TOFU,
}
CLAIMS_OPTIONS = {"claim", "--numbers", "--run", "--model", "--out", "--json", "--result", "--markdown", "--refresh"}
PAGE_OPTIONS = {"--out", "--edit", "--question", "--home", "--serve", "--port", "--device"}  # tests/page/test_writer.py
EXPORT_OPTIONS = {"--edit", "--out", "--format", "--rank", "--fidelity", "--questions", "--split", "--robustness"}
EXPORT_OPTIONS |= {"--push", "--public", "--model", "--yes", "--dtype", "--device"}  # tests/export/test_command.py
LEAGUE_OPTIONS = {"method", "--mini", "--out", "--model", "--plugin", "--device"}  # tests/league/test_command.py
OTHERS = {
    "demo": {"--model", "--json", "--device"},
    "claims": CLAIMS_OPTIONS,
    "page": PAGE_OPTIONS,
    "export": EXPORT_OPTIONS,
    "league": LEAGUE_OPTIONS,
}
"""Options that tests of their own are about, below or in the file that is named."""


def test_every_option_of_every_command_has_a_case():
    found = typer.main.get_command(cli.app).commands
    groups = {name: found.pop(name) for name in [name for name, one in found.items() if hasattr(one, "commands")]}
    found |= {f"{group} {name}": one for group, whole in groups.items() for name, one in whole.commands.items()}
    cases = {command: set(what.cases) for command, what in COMMANDS.items()} | OTHERS
    assert cases == {name: {parameter.opts[0] for parameter in one.params} for name, one in found.items()}


def run_of(command: str, options: dict[str, Any]) -> SimpleNamespace:
    """Run a command that writes to a new place, unless the options say where."""
    what, sizes = COMMANDS[command], []
    if what.out is not None:
        options = {what.out: f"{command}-{len(os.listdir())}", **options}
    with batches_noted(sizes):
        outcome = invoke(command, options)
    out = None if what.out is None else Path(options[what.out])
    return SimpleNamespace(
        output=outcome.output, code=outcome.exit_code, out=out, read=lambda: what.read(out), batches=sizes
    )


@contextmanager
def batches_noted(sizes: list[int]):
    """Note how many texts lm-eval gives a model at once; this package gives them by name."""

    def note(module, args):
        if isinstance(module, PreTrainedModel) and args:
            sizes.append(len(args[0]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture
def there(folder, monkeypatch, plugins_undone):
    """The folder, in which commands are run."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli.console, "width", 300)
    yield folder
    forget_plugins()


@pytest.fixture(scope="module")
def unchanged(folder):
    """The runs without a case's change, each made once."""
    return {}


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, what in COMMANDS.items() for option in what.cases]
)
def test_an_option_arrives_where_it_acts(command, option, there, unchanged, request, monkeypatch):
    one, attacks = COMMANDS[command].cases[option], dict(ATTACKS)
    base = COMMANDS[command].base | one.first
    if command == "reproduce":
        request.getfixturevalue("benchmark")
    if command == "course check":
        request.getfixturevalue("collected")
    if command == "duel score":
        request.getfixturevalue("played")
    if option in ("--ray", "--workers"):
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'rmu-lab[cluster]')")
    if option == "--workers":  # to start them takes long

        def started(job, groups, address, workers, scratch):
            raise RmuLabError(f"Ray at {address!r} with {workers} processes")

        monkeypatch.setattr(sys.modules["rmu_lab.sweeps.sweep"], "work_on_ray", started)
    key = (command, *map(str, one.first.items()))
    if key not in unchanged:
        unchanged[key] = run_of(command, base)
        ATTACKS.update(attacks)
        forget_plugins()
    without = one.observe(unchanged[key])
    expected = one.expected() if callable(one.expected) else one.expected
    assert one.observe(run_of(command, base | one.change)) == expected != without


def test_demo_takes_its_device(there):
    outcome = invoke("demo", {"--device": "nowhere"})
    assert outcome.exit_code == 1 and "device is 'nowhere'" in outcome.output


def test_demo_takes_its_model(there):
    outcome = invoke("demo", {"--model": "gpt-2"})
    assert outcome.exit_code == 1 and "no settings for 'gpt-2', only for smollm2-135m" in outcome.output


def test_claims_measures_the_claim_and_the_model_that_are_named_and_keeps_it(there, tokenizer, monkeypatch):
    """The model is a tiny one; the setting is the one that is stored."""

    def load(name, device, dtype):
        return tiny_model("llama", num_hidden_layers=30), tokenizer

    monkeypatch.setattr("rmu_lab.study.running.load_model", load)
    monkeypatch.setattr("rmu_lab.study.parts.PROMPTS", ("the sea a fish", "cold water"))
    outcome = invoke("claims", {"--run": "eq19", "--model": "smollm2-135m", "--out": "kept"})
    assert outcome.exit_code == 0, outcome.output
    assert "eq19: " in outcome.output and "Verdict now" in outcome.output
    assert json.loads((there / "kept" / "optimum.json").read_text())["numbers"]
    before = sorted(there.iterdir())
    assert invoke("claims", {"--run": "eq19"}).exit_code == 0 and sorted(there.iterdir()) == before


def test_claims_writes_its_rows_and_rewrites_a_page_with_the_results_that_are_named(there, monkeypatch):
    monkeypatch.setattr("rmu_lab.study.verdict_table.CLAIMS", {"t1": CLAIMS["t1"]})  # a second for all of them, each time
    number = {"value": 0.25, "low": 0.2, "high": 0.4, "n": 100, "over": "questions"}
    run = {"experiment": "reproduce", "preset": "mine", "model": "owner/model", "limit": None, "reported": None}
    run |= {"numbers": {"base wmdp_bio": number}, "provenance": {}}
    (there / "run.json").write_text(json.dumps(run))
    (there / "page.md").write_text("before\n<!-- claims -->\n<!-- /claims -->\n", encoding="utf-8")
    outcome = invoke("claims", {"--result": "run.json", "--json": "rows.json", "--markdown": "page.md"})
    assert outcome.exit_code == 0 and "mine (owner/model)" in outcome.output
    stated = {row["id"]: row["full size"] for row in json.loads((there / "rows.json").read_text())}
    assert stated["t1"][0]["preset"] == "mine"
    assert "<!-- claims -->\n| the paper says |" in (there / "page.md").read_text(encoding="utf-8")

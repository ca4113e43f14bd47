"""Stored files of every kind, cut, mistyped and with parts missing: nothing but an `RmuLabError` comes of them."""

import copy
import dataclasses
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import rmu_lab as package
from rmu_lab import RmuLabError, RobustnessCard, UnlearnConfig, UnlearnResult, cli, load_sweep
from rmu_lab.attacks.greedy_coordinate import GCGConfig, GCGResult, GCGStep
from rmu_lab.cli_settings import listed, typed
from rmu_lab.estimates import Number
from rmu_lab.files import data_folder, read_json_lines
from rmu_lab.metrics import TofuEvaluation, TofuScores
from rmu_lab.reproduce import Preset, _scored, _take_folder, plan
from rmu_lab.study import CLAIMS, PARTS, Study
from rmu_lab.study.staleness import stale
from rmu_lab.sweeps.rows import RowFile
from rmu_lab.unlearning.baselines import NPO
from tests.sweeps.test_rows import row

RESULTS = data_folder() / "results"
ODD = [None, "", "\x1b[31m", [], {}, 0, -1, 10**400, 1.5, float("nan"), float("inf"), True, [None], {"": []}, "1e5", [[[]]]]


def places(value, place=()):
    """The place of every part of nested lists and mappings."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    yield place
    for key, part in items:
        yield from places(part, (*place, key))


def damaged_json(value, source):
    """A copy of which one part is of another type or missing."""
    value = copy.deepcopy(value)
    place = source.choice([place for place in places(value) if len(place) <= 6])
    if not place:
        return source.choice(ODD)
    *way, last = place
    inner = value
    for key in way:
        inner = inner[key]
    if source.random() < 0.3:
        del inner[last]
    else:
        inner[last] = source.choice(ODD)
    return value


def damaged_bytes(content, source):
    """Cut, with other bytes in the middle, or something else altogether."""
    middle = source.randrange(len(content) + 1)
    return source.choice(
        [
            content[:middle],
            content[:middle] + bytes(source.choices(range(256), k=4)) + content[middle + 4 :],
            b"",
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"a": ' * 100_000,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        ]
    )


def damaged(content, source):
    """A file's content, damaged in its bytes or, where it is JSON, in its values."""
    if source.random() < 0.3:
        return damaged_bytes(content, source)
    lines = content.split(b"\n")
    try:
        return json.dumps(damaged_json(json.loads(content), source)).encode()
    except ValueError:  # one object on each line, or no JSON
        number = source.randrange(len(lines))
    try:
        lines[number] = json.dumps(damaged_json(json.loads(lines[number]), source)).encode()
    except ValueError:
        return damaged_bytes(content, source)
    return b"\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# One of each kind: how it is made, and what is done with what is read


def make_result(folder):
    history = [{"step": 1, "topic": "forget", "loss": 0.5}]
    tensors = {"edit": {"a.weight": torch.ones(2, 3)}, "directions": {"forget": torch.ones(3)}}
    config, facts = UnlearnConfig(parameters=("a",)), {"model_name": "m", "digests": {"a": "b"}, "provenance": {}}
    UnlearnResult(history=history, config=config, seconds=1.5, **tensors, **facts).save(folder / "edit")
    return [folder / "edit/result.json", folder / "edit/edit.safetensors"]


def read_result(folder):
    result = UnlearnResult.load(folder / "edit")
    assert dataclasses.asdict(result.config) and f"{result.seconds:.1f}" and dict(result.digests) and result.model_name + ""
    for entry in result.history:
        assert isinstance(entry, dict)


def make_rows(folder):
    with RowFile(folder / "rows.jsonl") as file:
        file.append(row(0))
        file.append(row(1))
        file.append(dataclasses.replace(row(2), config=NPO(), scores={}, error="diverged"))
    return [folder / "rows.jsonl"]


def read_rows(folder):
    for one in load_sweep(folder / "rows.jsonl"):
        assert json.dumps(one.to_dict()) and f"{sum(one.seconds.values()):.1f} {one.provenance.get('seed')}"
        assert all(score.interval[0] <= score.accuracy for score in one.scores.values())
    with RowFile(folder / "rows.jsonl"):
        pass


def make_card(folder):
    (folder / "card.json").write_bytes((RESULTS / "robustness/rmu_0.json").read_bytes())
    return [folder / "card.json"]


def read_card(folder):
    card = RobustnessCard.load(folder / "card.json")
    assert all(len(cells) == 5 for cells in card.table())
    assert json.dumps(card.to_dict()) and f"{card.seconds:.1f} {card.base}"


def make_gcg(folder):
    step = GCGStep(1.0, 0.5, (0.1, 0.2), (0.3, 0.1), 0.7, " a b")
    config = GCGConfig(num_steps=1)
    GCGResult(
        "p", "t", config, 1.0, 0.7, " a b", (5, 6), False, (step,), ((0.7, (5, 6)),), "m", {}, 1.0, {"weights": "0"}
    ).save(folder / "gcg.json")
    return [folder / "gcg.json"]


def read_gcg(folder):
    result = GCGResult.load(folder / "gcg.json")
    assert len([f"{loss:.2f}" for loss in result.losses]) == len(result.steps) + 1 and json.dumps(result.provenance)
    assert all(f"{loss:.2f}" and all(f"{token:d}" for token in ids) for loss, ids in result.buffer)


def make_preset(folder):
    (folder / "own.json").write_bytes((Path(package.__file__).parent / "presets/zephyr-7b.json").read_bytes())
    return [folder / "own.json"]


def read_preset(folder):
    preset = Preset.load(folder / "own.json")
    for sentences in plan(preset).values():
        assert all(isinstance(text, str) for text in sentences.values())
    assert preset.name + preset.about
    for scores in (preset.reported or {}).get("points", {}).values():
        assert all(f"{points}%" for points in scores.values())


def make_run(folder):
    (folder / "run.json").write_text(json.dumps({"preset": "own", "limit": None, "digests": {"bio": "0"}}))
    score = row(0).scores["q"].to_dict()
    scores = {"scores": {"task": score}, "tasks": {}, "normalised": {"task": score}}
    scores |= {"prompts": {"task": "?"}, "settings": {"lm_eval": "0.4"}}
    (folder / "task.json").write_text(json.dumps(scores))
    return [folder / "run.json", folder / "task.json"]


def read_run(folder):
    found = _scored(folder / "task.json", None, None, "task", False, {})
    assert f"{found.scores['task'].accuracy:.1%}"
    _take_folder(folder, {"preset": "own", "limit": None, "digests": {"bio": "0"}})


def make_tofu(folder):
    scores = {name: TofuScores((0.2, 0.4), (0.5, 0.0), (0.7, 1.5), ("a", "b")) for name in ("forget", "retain")}
    utility = Number(0.25, 0.1, 0.4, 2, "questions")
    TofuEvaluation("m", scores, utility, 0.5, {"stop": []}, {"forget": "0"}, {}, 1.0).save(folder / "tofu.json")
    return [folder / "tofu.json"]


def read_tofu(folder):
    found = TofuEvaluation.load(folder / "tofu.json")
    assert all(len(cells) == 4 for cells in found.table()) and f"{found.utility} {found.forget_quality or 1:.3g}"
    assert json.dumps(found.to_dict()) and len(found.truth_ratios) and found.digests.get("forget") != 0


def make_lines(folder):
    (folder / "texts.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    return [folder / "texts.jsonl"]


def read_lines(folder):
    assert all(isinstance(each, dict) for _, each in read_json_lines(folder / "texts.jsonl"))


KINDS = {
    "result": (make_result, read_result),
    "rows": (make_rows, read_rows),
    "card": (make_card, read_card),
    "gcg": (make_gcg, read_gcg),
    "tofu": (make_tofu, read_tofu),
    "preset": (make_preset, read_preset),
    "run": (make_run, read_run),
    "lines": (make_lines, read_lines),
}
CASES = 80


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_sentence(kind, tmp_path):
    make, read = KINDS[kind]
    files = make(tmp_path)
    read(tmp_path)
    contents, refused = {file: file.read_bytes() for file in files}, 0
    for seed in range(CASES):
        source = random.Random(seed)
        for file, content in contents.items():
            file.write_bytes(content)
        file = source.choice(files)
        file.write_bytes(damaged(contents[file], source))
        try:
            read(tmp_path)
        except RmuLabError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).endswith(".") and len(str(error)) < 2000, (seed, str(error))
        except Exception as error:
            pytest.fail(f"case {seed} of {kind}: {type(error).__name__}: {error}")
    assert refused > CASES / 4


STUDY = RESULTS / "study"
STUDY_FILES = sorted(
    path.relative_to(STUDY)
    for path in STUDY.rglob("*")
    if path.suffix in (".json", ".jsonl") and path.stat().st_size < 300_000
)


@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda path: path.as_posix())
def test_a_damaged_part_of_the_study_is_one_sentence(file, tmp_path):
    model, part = file.parts[0], file.stem
    content = (STUDY / file).read_bytes()
    shutil.copytree(STUDY / model, tmp_path / model)
    asking = [claim for claim in CLAIMS.values() if part in claim.parts]
    for seed in range(6):
        (tmp_path / file).write_bytes(damaged(content, random.Random(f"{file} {seed}")))
        for look in (*(claim.verdict for claim in asking), *([lambda study: stale(study, part)] if part in PARTS else [])):
            try:
                look(Study(model, tmp_path / model))
            except RmuLabError:
                pass
            except Exception as error:
                pytest.fail(f"case {seed}, {look}: {type(error).__name__}: {error}")


VALUES = [
    *("", " ", "-", "--", ",", "1,", "1-", "-1", "1e20", "1e39", "1e999", "nan", "inf", "9" * 30, "9" * 5000, "0x10"),
    *(
        "[" * 50_000,
        "null",
        "true",
        "{}",
        "[1]",
        "2-5-7",
        "5-2",
        "0-99999999999",
        "\x1b[31m",
        "‖",
        "[b]",
        "3.5",
        "'",
        "=",
    ),
]


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(UnlearnConfig)] + ["nothing", ""])
def test_any_value_of_a_setting_is_taken_or_one_sentence(name):
    for value in VALUES:
        for read in (typed, listed):
            try:
                read([UnlearnConfig, NPO], name, value)
            except RmuLabError:
                pass
            except Exception as error:
                pytest.fail(f"{read.__name__} of {value[:30]!r}: {type(error).__name__}: {error}")


OPTIONS = {
    "unlearn": (
        "--out",
        "--seed",
        "--layer",
        "--steps",
        "--batch-size",
        "--set",
        "--method",
        "--forget",
        "--plugin",
        "--device",
    ),
    "evaluate": ("--questions", "--split", "--style", "--json", "--device"),
    "attack": ("--edit", "--limit", "--minutes", "--seed", "--json", "--questions", "--plugin"),
    "sweep": ("--layer", "--lr", "--seed", "--set", "--limit", "--workers", "--method", "--out", "--questions"),
    "reproduce": ("--preset", "--limit", "--batch-size", "--method", "--data"),
    "claims": ("--json", "--markdown", "--run", "--model", "--result"),
}
NEEDED = {"--forget": "none.jsonl", "--retain": "none.jsonl", "--questions": "none.jsonl", "--out": "new", "--edit": "none"}
GIVEN = {
    "unlearn": ("--forget", "--retain", "--out"),
    "evaluate": ("--questions",),
    "attack": ("--edit", "--questions", "--forget", "--retain"),
    "sweep": ("--forget", "--retain", "--questions", "--out"),
    "reproduce": (),
    "claims": (),
}


@pytest.mark.parametrize("command", OPTIONS)
def test_any_value_of_an_option_is_taken_or_a_clean_error(command, tmp_path, monkeypatch):
    """Nothing of what else the commands need is there, so that none of them gets to work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rmu_lab.load_model", lambda *_, **__: (_ for _ in ()).throw(RmuLabError("Nothing is loaded.")))
    monkeypatch.setattr("rmu_lab.study.verdict_table.computed_claims", lambda: [])  # a second each time
    for option in OPTIONS[command]:
        for value in random.Random(f"{command} {option}").sample(VALUES, 3 if command == "claims" else 9):
            given = {name: NEEDED[name] for name in GIVEN[command]} | {option: value[:5000]}
            if command == "claims":
                given.setdefault("--json", "")  # stops it
            if command == "reproduce":
                given.setdefault("--preset", "none")
            arguments = [part for pair in given.items() for part in pair]
            outcome = CliRunner().invoke(cli.app, [command, *arguments])
            done = command == "claims" and outcome.exit_code == 0  # a file may have any name
            clean = done or (isinstance(outcome.exception, SystemExit) and outcome.exit_code in (1, 2))
            assert clean, (option, value[:30], outcome.exception, outcome.output[-300:])

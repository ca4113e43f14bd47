"""The papers' own benchmark in one command: their models, corpora and settings, scored on WMDP and MMLU by lm-eval.

A preset (``presets/*.json``, or a file of your own in that form) says everything that decides the numbers. `plan` says
what a run will download, need and take, before anything is fetched. `reproduce` runs it, stage by stage, each stored
when it is done, so that a stopped run goes on where it was. Explained in docs/guide/scaling.md.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from .corpora import load_corpus, texts_of
from .errors import RmuLabError
from .evaluate import Accuracy, accuracy_change
from .files import check_file, digest, make_folder, named_file, write_json
from .hub import QUESTIONS, HubDataset, is_data_set, known_corpus, known_questions
from .identity import model_digests
from .lmeval import HarnessResult, harness, task_digests
from .models import load_model
from .provenance import provenance
from .shapes import Shape
from .stored import checked, reading
from .unlearning.config import UnlearnConfig
from .unlearning.distributed import launched_processes
from .unlearning.result import UnlearnResult
from .unlearning.unlearn import unlearn

_PRESETS = Path(__file__).parent / "presets"
H100_FLOPS = 989e12
"""Dense bfloat16 operations a second of an H100 SXM by its data sheet: a unit for plans, not a measurement."""
LARGEST_SIZE = 10**9
"""Of anything in a model's shape."""
TOKENS_PER_QUESTION = 200
"""A guess, for plans."""


Reported: TypeAlias = dict[str, str | dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Preset:
    """Everything that decides the numbers of a run."""

    name: str
    model: str
    access: str | None
    """What the model's page asks for before it can be downloaded."""
    shape: Shape
    forget: dict[str, str]
    """By topic, as `load_corpus` names it."""
    retain: str
    tasks: tuple[str, ...]
    """Of lm-eval."""
    configs: dict[str, UnlearnConfig]
    """By method, in the published code's manner."""
    reported: Reported | None
    """What a paper reports: ``source``, and ``points`` by model and task."""
    about: str

    @classmethod
    def load(cls, name: str | Path) -> Preset:
        """Read a preset by its name (the files of ``presets/``), or from a file of one's own.

        Raises
        ------
        RmuLabError
            if there is none, or it is not in the form of a preset.
        """
        path = Path(name)
        if path.suffix != ".json":
            path = _PRESETS / f"{name}.json"
        if not os.path.isfile(path):
            raise RmuLabError(f"There is no preset {name}; use one of {', '.join(preset_names())}, or the path of a file.")
        with reading(f"{path} is not a preset", f"write it like {_PRESETS.name}/zephyr-7b.json"):
            plain = json.loads(path.read_text(encoding="utf-8"))
            configs = {
                method: UnlearnConfig.published(method=method, **plain["settings"] | settings)
                for method, settings in plain["methods"].items()
            }
            if not isinstance(plain["tasks"], list):
                raise TypeError(f"tasks is {plain['tasks']!r}, not a list")
            preset = cls(
                name=path.stem,
                shape=checked(Shape.of(plain["shape"])),
                tasks=tuple(plain["tasks"]),
                configs=configs,
                **{field: plain[field] for field in ("model", "access", "forget", "retain", "reported", "about")},
            )
            for field in ("model", "forget", "retain", "tasks", "configs"):
                if not getattr(preset, field):
                    raise ValueError(f"{'methods' if field == 'configs' else field} is empty")
            for field, size in vars(preset.shape).items():
                if not isinstance(size, bool) and not 1 <= size <= LARGEST_SIZE:
                    raise ValueError(f"{field} of its shape is not between 1 and {LARGEST_SIZE}")
            return checked(preset)


def preset_names() -> list[str]:
    """List the presets that come with the package."""
    return sorted(path.stem for path in _PRESETS.glob("*.json"))


# ---------------------------------------------------------------------------------------------------------------------
# Before anything is fetched


def plan(
    preset: Preset, *, data: str | Path | None = None, methods: Sequence[str] | None = None
) -> dict[str, dict[str, str]]:
    """Say what a run will download, need and take. Sizes and times are computed from the model's shape.

    Parameters
    ----------
    data, methods
        as of `reproduce`.

    Returns
    -------
    dict
        sentences by heading (downloads, access to ask for, memory, work) and item.

    Raises
    ------
    RmuLabError
        if the preset has no such method, or names a corpus that there is not.
    """
    shape, chosen = preset.shape, _methods(preset, methods)
    config = next(iter(chosen.values()))
    local = os.path.isdir(preset.model)
    fetched = {
        f"model {preset.model}": "on this machine"
        if local
        else f"{2 * shape.parameters / 1e9:.1f} GB in bfloat16 (computed)"
    }
    asked = {preset.model: f"{preset.access}: https://huggingface.co/{preset.model}"} if preset.access and not local else {}
    for name in dict.fromkeys([*preset.forget.values(), preset.retain]):
        known = known_corpus(name)
        if known is None and is_data_set(name) and not Path(name).is_dir():
            fetched[f"corpus {name}"] = f"size not known here, https://huggingface.co/datasets/{name}"
            continue
        here = known.copy_in(data) if known else Path(name) if Path(name).is_dir() else named_file(name, "corpora", "corpus")
        fetched[f"corpus {name}"] = _where(known, here)
        if known and known.access and not here:
            asked[name] = f"{known.access}: {known.page}; or put {known.file}.jsonl into the folder of --data"
    counts = []
    for task in preset.tasks:
        known = None if Path(task).suffix else known_questions(task)
        fetched[f"questions {task}"] = _where(known, known.copy_in(data)) if known else "as lm-eval says"
        counts.append(known.questions if known else 0)

    lengths = config.forget_lengths or (config.max_length,)
    tokens = config.batch_size * (sum(lengths) // len(lengths) + config.max_length)
    step = shape.step_flops(config.layer, tokens, config.max_length)
    questions = sum(counts)
    scoring = shape.forward_flops(questions * TOKENS_PER_QUESTION, TOKENS_PER_QUESTION)
    total = len(chosen) * config.steps * step + (1 + len(chosen)) * scoring
    memory = shape.training_bytes()
    activations = shape.activation_bytes(config.batch_size * max(*lengths, config.max_length))
    return {
        "downloads": fetched,
        "access to ask for": asked or {"nothing": "as far as this preset knows"},
        "memory": {name: f"{size / 1e9:.2f} GB (computed)" for name, size in memory.items()}
        | {"activations of the window": f"about {activations / 1e9:.1f} GB (estimated)"},
        "work": {
            f"training, {len(chosen)} x {config.steps} steps": f"{step / 1e12:.0f} TFLOP a step (computed)",
            f"scoring, {1 + len(chosen)} x {questions} questions": (
                f"{scoring / 1e15:.0f} PFLOP each (computed, at a guess of {TOKENS_PER_QUESTION} tokens a question)"
            ),
            "together": (
                f"{total / 0.4 / H100_FLOPS / 60:.0f} minutes on one H100 if it ran at 40% of its data sheet (computed, not "
                "measured; loading and downloads not counted)"
            ),
        },
    }


def _where(known: HubDataset | None, here: Path | None) -> str:
    return f"{here}, on this machine" if here or known is None else f"{known.size}, {known.page}"


def _question_folders(data: str | Path | None) -> dict[str, Path]:
    """Copies of question sets in the folder of local data, by the repository they are copies of."""
    repositories = {known.repository for known in QUESTIONS.values()}
    folders = {} if data is None else {name: Path(data) / name.split("/")[1] for name in repositories}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def _methods(preset: Preset, methods: Sequence[str] | None) -> dict[str, UnlearnConfig]:
    unknown = [method for method in methods or () if method not in preset.configs]
    if unknown:
        raise RmuLabError(f"{preset.name} has no method {unknown[0]!r}; use {', '.join(preset.configs)}.")
    return {method: preset.configs[method] for method in methods or preset.configs}


# ---------------------------------------------------------------------------------------------------------------------
# The run


def reproduce(
    preset: Preset,
    out: str | Path,
    *,
    data: str | Path | None = None,
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    chat_template: bool = False,
    batch_size: int = 16,
    device: str | None = None,
    device_map: str | None = None,
    trust_task_code: bool = False,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Train every method of a preset and score it and the base model; the result is in ``out/result.json`` too.

    In `out` are also the edits (``METHOD/edit``, for `UnlearnResult.load`) and each task's scores; called again, only what
    is missing there is made, if settings, weights, texts and questions are the same by their digests. Under torchrun
    all processes train and the main one scores. Explained in docs/guide/scaling.md.

    Parameters
    ----------
    data
        folder of local copies: ``bio-forget-corpus.jsonl``, ``cyber-forget-corpus.jsonl``, ``wikitext.jsonl`` (objects with
        `text`), and copies of the hub repositories ``cais/wmdp`` and ``cais/mmlu`` as ``wmdp`` and ``mmlu``.
    methods
        of the preset; all by default.
    limit, chat_template, batch_size, trust_task_code
        of `harness`. A preset can name task files of its own, and these can run Python: only with ``trust_task_code``.
    device, device_map
        of `load_model`.

    Returns
    -------
    dict or None
        what is in ``result.json``: numbers as shares with 95% intervals, and all that decides them; None in processes other
        than the main one.

    Raises
    ------
    RmuLabError
        if something cannot be had (it says what to ask for and where), or `out` is of a run with other settings, weights,
        texts or questions.
    """
    for name, number in (("limit", limit), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise RmuLabError(f"{name} is {number}; it must be at least 1.")
    start, out, chosen, processes = time.perf_counter(), Path(out), _methods(preset, methods), launched_processes()
    check_file(out / "result.json", parents=True)
    forget = {topic: load_corpus(name, data=data)["text"] for topic, name in preset.forget.items()}
    retain = load_corpus(preset.retain, data=data)["text"]
    for name, texts in (*forget.items(), ("retain", retain)):
        texts_of(texts, name, next(iter(chosen.values())).batch_size)
    folders = _question_folders(data)
    facts: dict[str, Any] = {
        "preset": preset.name,
        "model": preset.model,
        "tasks": list(preset.tasks),
        "limit": limit,
        "chat_template": chat_template,
        "digests": {name: digest(texts) for name, texts in (*forget.items(), ("retain", retain))},
        "methods": {method: config.to_dict() for method, config in preset.configs.items()},
    }
    if processes.main_process:
        _take_folder(out, facts)
        facts["questions"] = task_digests(preset.tasks, folders, trust_task_code=trust_task_code)
        _take_folder(out, facts)
    processes.barrier()
    with _model_access(preset):
        model, tokenizer = load_model(preset.model, device=device, device_map=device_map)
    if processes.main_process:
        found = model_digests(model, tokenizer)
        facts |= {"weights": found["weights"], "architecture": found["settings"], "tokenizer": found["tokenizer"]}
        _take_folder(out, facts)
        write_json(out / "run.json", facts)
    processes.barrier()
    edits = {}
    for method, config in chosen.items():
        folder = out / method / "edit"
        if folder.is_dir():
            edits[method] = UnlearnResult.load(folder)
            if edits[method].config != config:
                raise RmuLabError(f"{folder} is of other settings than the preset's; choose another folder.")
        else:
            edits[method] = unlearn(model, tokenizer, forget, retain, config, progress=progress)
            if processes.main_process:
                for old in folder.parent.glob("*.json"):  # scores of another edit
                    old.unlink()
            edits[method].save(folder)
    if not processes.main_process:
        return None

    how = {
        "data": folders,
        "trust_task_code": trust_task_code,
        "chat_template": chat_template,
        "limit": limit,
        "batch_size": batch_size,
    }
    scores: dict[str, dict[str, Accuracy]] = {"base": {}}
    measured = {}
    for task in preset.tasks:
        measured[task] = _scored(out / "base" / _file_of(task), model, tokenizer, task, progress, how)
        scores["base"][task] = measured[task].scores[task]
    for method, result in edits.items():
        with result.applied(model):
            scores[method] = {
                task: _scored(out / method / _file_of(task), model, tokenizer, task, progress, how).scores[task]
                for task in preset.tasks
            }
    report = {
        "experiment": "reproduce",
        **{name: facts[name] for name in facts if name != "methods"},
        "settings": {method: config.to_dict() for method, config in chosen.items()},
        "numbers": _numbers(scores),
        "reported": preset.reported,
        "prompts": {task: next(iter(result.prompts.values())) for task, result in measured.items()},
        "lm_eval": next(iter(measured.values())).settings["lm_eval"],
        "seconds": {"training": {m: edit.seconds for m, edit in edits.items()}, "this call": time.perf_counter() - start},
        "provenance": provenance(next(iter(chosen.values())).seed),
    }
    write_json(out / "result.json", report)
    return report


def _take_folder(out: Path, facts: Mapping[str, Any]) -> None:
    """Make the folder, or see that it is for the run of which these facts are known so far."""
    note = out / "run.json"
    make_folder(out)
    there = None
    if note.is_file():
        with reading(f"{note} holds no run", "choose another folder"):
            there = json.loads(note.read_text(encoding="utf-8"))
            if not isinstance(there, dict):
                raise TypeError("it is no object")
    if there is None and any(out.iterdir()):
        raise RmuLabError(f"{out} holds other files; choose a new folder, or one of a run to go on with.")
    known = json.loads(json.dumps(facts))
    changed = [name for name in known if there is not None and there.get(name) != known[name]]
    if changed:
        raise RmuLabError(f"{out} holds a run with another {', '.join(changed)}; choose another folder, or the same run.")


@contextmanager
def _model_access(preset: Preset) -> Iterator[None]:
    try:
        yield
    except RmuLabError as error:
        if preset.access is None:
            raise
        raise RmuLabError(f"{error} {preset.access.capitalize()}: https://huggingface.co/{preset.model}.") from error


def _file_of(task: str) -> str:
    """What a task's scores are called: one that is named by a path must not lead out of the folder."""
    plain = re.fullmatch(r"\w+", task) is not None
    return f"{task}.json" if plain else f"{Path(task).stem}-{digest([task])[:12]}.json"


def _scored(path: Path, model: Any, tokenizer: Any, task: str, progress: bool, how: Mapping[str, Any]) -> HarnessResult:
    """A task's scores from their file, or measured and put there."""
    if path.is_file():
        with reading(f"{path} holds no scores", "remove it, and they are measured anew"):
            stored = checked(HarnessResult.from_dict(json.loads(path.read_text(encoding="utf-8"))))
            if task not in stored.scores:
                raise KeyError(task)
            return stored
    result = harness(model, tokenizer, [task], progress=progress, **how)
    make_folder(path.parent)
    write_json(path, result.to_dict())
    return result


def _numbers(scores: Mapping[str, Mapping[str, Accuracy]]) -> dict[str, dict[str, Any]]:
    """Accuracies, and their paired changes from the base model, as shares with 95% intervals."""
    numbers = {}
    for model, by_task in scores.items():
        for task, score in by_task.items():
            found = {model + " " + task: (score.accuracy, score.interval)}
            if model != "base":
                change = accuracy_change(scores["base"][task], score)
                found[f"{model} change {task}"] = (change.change, change.interval)
            for name, (value, (low, high)) in found.items():
                numbers[name] = {"value": value, "low": low, "high": high, "n": len(score.correct), "over": "questions"}
    return numbers

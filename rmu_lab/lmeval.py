"""WMDP, MMLU and other tasks of lm-evaluation-harness on a model in memory: the numbers that papers report.

`accuracy` scores questions in this package's own prompts, fast; `harness` lets lm-eval do it in its own, so that
numbers can be set beside published ones. Nothing is reloaded: an edit that is applied counts. Explained in
docs/guide/scaling.md.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import NotFiniteError, RmuLabError
from .evaluate import Accuracy, Style
from .files import data_folder, digest
from .models import input_device
from .questions import LETTERS
from .stored import sentence_of
from .tokens import appended_tokens
from .torch_state import in_default_torch_state

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

PAPER_TASKS = ("wmdp_bio", "wmdp_cyber", "mmlu")
"""What Table 1 of Dang et al. 2024 reports."""


_OWN_TASKS = data_folder() / "lm_eval"


@dataclass(frozen=True)
class HarnessResult:
    """What lm-eval measured."""

    scores: dict[str, Accuracy]
    """By the name asked for; a group such as ``mmlu`` counts every question of its tasks once, as lm-eval's average does."""
    tasks: dict[str, Accuracy]
    """By single task, e.g. ``mmlu_virology``."""
    normalised: dict[str, Accuracy]
    """By single task and by name asked for, of tasks that have it: ``acc_norm``, where the option with the highest
    log-probability per character is chosen, as `accuracy` does in its cloze style."""
    prompts: dict[str, str]
    """The first question of each single task as the model reads it, chat template and all."""
    settings: dict[str, Any]
    """lm-eval's version, whether the chat template was applied, number of examples shown, limit."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; one prompt for each name asked for."""
        return {
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "tasks": {name: score.to_dict() for name, score in self.tasks.items() if name not in self.scores},
            "normalised": {name: score.to_dict() for name, score in self.normalised.items()},
            "prompts": self.prompts,
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> HarnessResult:
        """Make a result of what `to_dict` gave."""
        scores, tasks, normalised = (
            {name: Accuracy.from_dict(score) for name, score in plain[kind].items()}
            for kind in ("scores", "tasks", "normalised")
        )
        single = {name: score for name, score in scores.items() if name in plain["prompts"]}
        return cls(scores, single | tasks, normalised, plain["prompts"], plain["settings"])


@in_default_torch_state
def harness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str] = PAPER_TASKS,
    *,
    data: Mapping[str, str | Path] | None = None,
    chat_template: bool = False,
    examples: int | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    trust_task_code: bool = False,
    progress: bool = True,
) -> HarnessResult:
    """Score multiple-choice tasks of lm-eval on a model as it is in memory.

    Explained in docs/guide/scaling.md.

    Parameters
    ----------
    tasks
        names that lm-eval knows (a task, or a group such as ``mmlu``); the course's own, ``rmu_bio``, ``rmu_cyber``,
        ``rmu_general`` and ``rmu_neighbours``, or with ``_letter`` behind (see ``data/lm_eval``); or paths of task files
        (YAML).
    data
        where data sets lie instead of on the hub: by hub id, e.g. ``{"cais/wmdp": "my-copies/wmdp"}``, the folder of a
        copy of that repository.
    chat_template
        put each question into the tokenizer's chat template. Papers on RMU do not; it changes accuracies by many points.
    examples
        solved questions shown before each; None: as the task says (0 for WMDP, and for MMLU as lm-eval runs it).
    limit
        first questions of each task only.
    batch_size
        requests, one for each option, run at once.
    trust_task_code
        let task files that are given as paths run Python: functions (``!function``), metrics fetched from elsewhere, and
        templates that reach into objects; only for files that you trust.
    progress
        show lm-eval's bars.

    Returns
    -------
    HarnessResult
        accuracies with 95% intervals, by task and by the names asked for, and the prompts the model has seen.

    Raises
    ------
    RmuLabError
        if lm-eval is not installed, there is no such task, its questions cannot be loaded, it is not multiple choice, its
        file runs Python without leave, or a chat template is asked for and the tokenizer has none.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise RmuLabError("lm-eval is not installed; install it with: pip install 'rmu-lab[eval]'.") from None
    if limit is not None and limit < 1:
        raise RmuLabError(f"limit is {limit}; ask at least one question, or leave it out.")
    if chat_template and not tokenizer.chat_template:
        raise RmuLabError("The tokenizer has no chat template; leave chat_template off.")
    with _quiet(progress), loaded_tasks(tasks, data, trust_task_code=trust_task_code) as loaded:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        lm.tok_encode = _open_ended(lm.tok_encode, tokenizer)
        lm._device = input_device(model)  # lm-eval takes that of the first parameter, which may be offloaded
        result = simple_evaluate(
            lm,
            tasks=[task for group in loaded.values() for task in group.values()],
            task_manager=TaskManager(include_path=_OWN_TASKS, include_defaults=False),  # else it reads all task files again
            num_fewshot=examples,
            limit=limit,
            apply_chat_template=chat_template,
            bootstrap_iters=0,
        )
        samples = {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in result["samples"].items()}
        for task_name, task in (pair for group in loaded.values() for pair in group.items()):
            for row in samples[task_name]:
                row["choices"] = task.doc_to_choice(row["doc"])
    by_name = {name: list(group) for name, group in loaded.items()} | {name: [name] for name in samples}

    def scores(metric: str) -> dict[str, Accuracy]:
        """By name asked for and by task, where all its questions have the metric."""
        joined = {name: [row for task in group for row in samples[task]] for name, group in by_name.items()}
        return {name: _accuracy(rows, metric) for name, rows in joined.items() if all(metric in row for row in rows)}

    found = scores("acc")
    return HarnessResult(
        scores={name: found[name] for name in loaded},
        tasks={name: found[name] for name in samples},
        normalised=scores("acc_norm"),
        prompts={name: rows[0]["arguments"][0][0] for name, rows in samples.items()},
        settings={
            "lm_eval": metadata.version("lm_eval"),
            "chat_template": chat_template,
            "examples": examples,
            "limit": limit,
        },
    )


@contextmanager
def loaded_tasks(
    tasks: Sequence[str], data: Mapping[str, str | Path] | None = None, *, trust_task_code: bool = False
) -> Iterator[dict[str, dict[str, Any]]]:
    """Give lm-eval's tasks with their questions, by the name asked for and by single task. The parameters are `harness`'s.

    Raises
    ------
    RmuLabError
        if there is no such task, its questions cannot be loaded, it is not multiple choice, or its file runs Python without
        leave.
    """
    from jinja2.exceptions import SecurityError

    if not isinstance(tasks, (list, tuple)) or not tasks or not all(isinstance(name, str) for name in tasks):
        raise RmuLabError(f"tasks is {tasks!r}; give a list of at least one name, e.g. ['wmdp_bio'].")
    if not trust_task_code:
        for name in tasks:
            _refuse_code(Path(name))
    # `datasets` remembers a folder's questions by its name, not by where it lies or what is in it: another copy named
    # "wmdp" would give those of the first. So local copies are unpacked into a place of their own.
    with (
        TemporaryDirectory(prefix="rmu-lab-", ignore_cleanup_errors=True) as unpacked,
        nullcontext() if trust_task_code else _templates_in_a_sandbox(),
    ):
        manager = _task_manager(tasks, data or {}, unpacked)
        try:
            yield {name: _load(manager, name) for name in tasks}
        except SecurityError as error:
            raise RmuLabError(
                f"A template of {', '.join(tasks)} reaches into Python ({sentence_of(error)}); read its file, and give "
                "trust_task_code=True (--trust-task-code) if you trust it."
            ) from None


def task_digests(
    tasks: Sequence[str], data: Mapping[str, str | Path] | None = None, *, trust_task_code: bool = False
) -> dict[str, str]:
    """Compute the SHA-256 of what each task asks: prompts, options and right answers. The parameters are `harness`'s.

    Raises
    ------
    RmuLabError
        as `loaded_tasks`.
    """
    with _quiet(progress=False), loaded_tasks(tasks, data, trust_task_code=trust_task_code) as loaded:
        return {
            name: digest(
                json.dumps([single, task.doc_to_text(doc), task.doc_to_choice(doc), task.doc_to_target(doc)])
                for single, task in group.items()
                for doc in task.eval_docs
            )
            for name, group in loaded.items()
        }


# ---------------------------------------------------------------------------------------------------------------------
# Task files that run Python


def _refuse_code(path: Path, seen: tuple[Path, ...] = ()) -> None:
    """Refuse a task file that runs Python, itself or by what it includes; those of lm-eval and of this course are known."""
    import lm_eval
    import yaml

    class Loader(yaml.SafeLoader):
        """As lm-eval's, but what its tags run is only noted."""

    known = (Path(lm_eval.__file__).parent, _OWN_TASKS)
    if path in seen or not path.is_file() or any(path.resolve().is_relative_to(folder.resolve()) for folder in known):
        return
    Loader.add_multi_constructor("!", lambda *_: _Code())
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RmuLabError(f"{path} is no task file ({sentence_of(error)}); give YAML as lm-eval reads it.") from None
    if _has_code(config):
        raise RmuLabError(
            f"The task file {path} runs Python of its own (!function, or a metric fetched from elsewhere); read it, and "
            "give trust_task_code=True (--trust-task-code) if you trust it."
        )
    included = config.get("include", []) if isinstance(config, dict) else []
    for other in included if isinstance(included, list) else [included]:
        _refuse_code(path.parent / other, (*seen, path))


class _Code:
    """Stands for what a tag of YAML would have run."""


def _has_code(part: object) -> bool:
    from lm_eval.api.registry import get_metric, metric_registry

    get_metric("acc")  # fills the table
    if isinstance(part, dict):
        foreign = "hf_evaluate" in part or ("metric" in part and str(part["metric"]) not in metric_registry)
        return foreign or any(map(_has_code, (*part, *part.values())))
    return isinstance(part, _Code) or (isinstance(part, list) and any(map(_has_code, part)))


@contextmanager
def _templates_in_a_sandbox() -> Iterator[None]:
    """Let lm-eval fill the templates of task files without reaching into Python by way of them."""
    import lm_eval.utils
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    before = lm_eval.utils.env
    sandbox = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters.update(before.filters)
    lm_eval.utils.env = sandbox
    try:
        yield
    finally:
        lm_eval.utils.env = before


# ---------------------------------------------------------------------------------------------------------------------
# Loading and reading lm-eval


def _task_manager(tasks: Sequence[str], data: Mapping[str, str | Path], unpacked: str) -> TaskManager:
    """lm-eval's own tasks, with the data sets of `data` read from folders, by way of the folder `unpacked`."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    for source, folder in data.items():
        if not Path(folder).is_dir():
            raise RmuLabError(f"There is no folder {folder}; give the copy of {source} that `data` names, or leave it out.")
    # lm-eval takes some 20 s to read through all its task files; those of the papers on RMU take a moment.
    known = Path(lm_eval.__file__).parent / "tasks"
    few = [_OWN_TASKS, known / "wmdp", known / "mmlu" / "default"]
    manager = TaskManager(include_path=few, include_defaults=False)
    if any(name not in manager.task_index and not Path(name).is_file() for name in tasks):
        manager = TaskManager(include_path=_OWN_TASKS)
    for entry in manager.task_index.values():
        if entry.cfg and entry.cfg.get("dataset_path") in data:
            folder = str(Path(data[entry.cfg["dataset_path"]]).resolve())
            how = {**(entry.cfg.get("dataset_kwargs") or {}), "cache_dir": unpacked}
            entry.cfg = {**entry.cfg, "dataset_path": folder, "dataset_kwargs": how}
            entry.yaml_path = None  # else it is read again, from lm-eval's file
    return manager


def _load(manager: TaskManager, name: str) -> dict[str, Any]:
    """The single tasks behind a name, with their questions."""
    from jinja2.exceptions import SecurityError

    try:
        tasks = manager.load([name])["tasks"]
    except KeyError:
        raise RmuLabError(f"lm-eval has no task {name!r}; give one of its names, or the path of a task file.") from None
    except SecurityError:
        raise
    except Exception as error:  # of datasets and huggingface_hub: of many kinds
        raise RmuLabError(
            f"The questions of {name} cannot be loaded ({sentence_of(error)}); connect to the hub, or give `data` a copy."
        ) from error
    for task_name, task in tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice":
            raise RmuLabError(f"{task_name} is not multiple choice but {task.OUTPUT_TYPE}; use lm-eval itself for it.")
        if "acc" not in task.aggregation():
            raise RmuLabError(f"{task_name} does not measure acc; add it to metric_list in its file.")
    return tasks


def _open_ended(encode: Callable[..., list[int]], tokenizer: PreTrainedTokenizerBase) -> Callable[..., list[int]]:
    """Let lm-eval take a text's tokens without those that some tokenizers append: it would score the options behind them."""
    appended = appended_tokens(tokenizer)
    if not appended:
        return encode

    def encode_open(text: str, *args: Any, **options: Any) -> list[int]:
        tokens = encode(text, *args, **options)  # decides by itself whether the tokenizer puts its own there
        return tokens if tokens == encode(text, add_special_tokens=False) else tokens[:-appended]

    return encode_open


def _accuracy(rows: Sequence[Mapping[str, Any]], metric: str) -> Accuracy:
    """From lm-eval's records of single questions, with their options."""
    predictions = []
    for row in rows:
        lengths = [len(option) if metric == "acc_norm" else 1 for option in row["choices"]]
        scores = [log_probability / n for (log_probability, _), n in zip(row["filtered_resps"], lengths, strict=True)]
        if not all(map(math.isfinite, scores)):
            raise NotFiniteError(f"The model gives a question the log-probabilities {scores}: it is broken, not unlearned.")
        predictions.append(max(range(len(scores)), key=scores.__getitem__))
    correct = tuple(bool(row[metric]) for row in rows)
    style: Style = "letter" if all(option in LETTERS for row in rows for option in row["choices"]) else "cloze"
    return Accuracy.of(correct, tuple(predictions), style)


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Errors only in lm-eval's log, and without `progress` none of its bars either."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars  # takes a second

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # In a notebook the bars of datasets are widgets, which a redirected stderr does not catch.
    hide = not progress and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        with nullcontext() if progress else redirect_stderr(io.StringIO()):
            yield
    finally:
        if hide:
            enable_progress_bars()
        logger.setLevel(level)

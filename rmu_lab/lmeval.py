"""WMDP, MMLU and other tasks of lm-evaluation-harness on a model in memory: the numbers that papers report.

`accuracy` scores questions in this package's own prompts, fast; `harness` lets lm-eval do it in its own, so that
numbers can be set beside published ones. Nothing is reloaded: an edit that is applied counts. Taught in notebook 09.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import RmuLabError
from .estimates import wilson_interval
from .evaluate import Accuracy
from .models import input_device
from .torch_state import in_default_torch_state

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

PAPER_TASKS = ("wmdp_bio", "wmdp_cyber", "mmlu")
"""What Table 1 of Dang et al. 2024 reports."""


@dataclass(frozen=True)
class HarnessResult:
    """What lm-eval measured."""

    scores: dict[str, Accuracy]
    """By the name asked for; a group such as ``mmlu`` counts every question of its tasks once, as lm-eval's average does."""
    tasks: dict[str, Accuracy]
    """By single task, e.g. ``mmlu_virology``."""
    prompts: dict[str, str]
    """The first question of each single task as the model reads it, chat template and all."""
    settings: dict[str, Any]
    """lm-eval's version, whether the chat template was applied, number of examples shown, limit."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; one prompt for each name asked for."""
        return {
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "tasks": {name: score.to_dict() for name, score in self.tasks.items() if name not in self.scores},
            "prompts": self.prompts,
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> HarnessResult:
        """Make a result of what `to_dict` gave."""
        scores, tasks = (
            {name: Accuracy.from_dict(score) for name, score in plain[kind].items()} for kind in ("scores", "tasks")
        )
        single = {name: score for name, score in scores.items() if name in plain["prompts"]}
        return cls(scores, single | tasks, plain["prompts"], plain["settings"])


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
    progress: bool = True,
) -> HarnessResult:
    """Score multiple-choice tasks of lm-eval on a model as it is in memory.

    Taught in notebook 09.

    Parameters
    ----------
    tasks
        names that lm-eval knows (a task, or a group such as ``mmlu``), or paths of task files (YAML) of your own.
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
    progress
        show lm-eval's bars.

    Returns
    -------
    HarnessResult
        accuracies with 95% intervals, by task and by the names asked for, and the prompts the model has seen.

    Raises
    ------
    RmuLabError
        if lm-eval is not installed, there is no such task, its questions cannot be loaded, it is not multiple choice, or a
        chat template is asked for and the tokenizer has none.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        raise RmuLabError("lm-eval is not installed; install it with: pip install 'rmu-lab[eval]'.") from None
    if isinstance(tasks, str) or not tasks:
        raise RmuLabError(f"tasks is {tasks!r}; give a list of at least one, e.g. ['wmdp_bio'].")
    if chat_template and not tokenizer.chat_template:
        raise RmuLabError("The tokenizer has no chat template; leave chat_template off.")
    # `datasets` remembers a folder's questions by its name, not by where it lies or what is in it: another copy named
    # "wmdp" would give those of the first. So local copies are unpacked into a place of their own.
    with _quiet(progress), TemporaryDirectory(prefix="rmu-lab-", ignore_cleanup_errors=True) as unpacked:
        manager = _task_manager(tasks, data or {}, unpacked)
        loaded = {name: _load(manager, name) for name in tasks}
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        lm._device = input_device(model)  # lm-eval takes that of the first parameter, which may be offloaded
        result = simple_evaluate(
            lm,
            tasks=[task for group in loaded.values() for task in group.values()],
            task_manager=manager,
            num_fewshot=examples,
            limit=limit,
            apply_chat_template=chat_template,
            bootstrap_iters=0,
        )
    samples = {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in result["samples"].items()}
    settings = {"lm_eval": metadata.version("lm_eval"), "chat_template": chat_template, "examples": examples, "limit": limit}
    return HarnessResult(
        scores={name: _accuracy([row for task in group for row in samples[task]]) for name, group in loaded.items()},
        tasks={name: _accuracy(rows) for name, rows in samples.items()},
        prompts={name: rows[0]["arguments"][0][0] for name, rows in samples.items()},
        settings=settings,
    )


def _task_manager(tasks: Sequence[str], data: Mapping[str, str | Path], unpacked: str) -> TaskManager:
    """lm-eval's own tasks, with the data sets of `data` read from folders, by way of the folder `unpacked`."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    for source, folder in data.items():
        if not Path(folder).is_dir():
            raise RmuLabError(f"There is no folder {folder}; give the copy of {source} that `data` names, or leave it out.")
    # lm-eval takes some 20 s to read through all its task files; those of the papers on RMU take a moment.
    known = Path(lm_eval.__file__).parent / "tasks"
    manager = TaskManager(include_path=[known / "wmdp", known / "mmlu" / "default"], include_defaults=False)
    if any(name not in manager.task_index and not Path(name).is_file() for name in tasks):
        manager = TaskManager()
    for entry in manager.task_index.values():
        if entry.cfg and entry.cfg.get("dataset_path") in data:
            folder = str(Path(data[entry.cfg["dataset_path"]]).resolve())
            how = {**(entry.cfg.get("dataset_kwargs") or {}), "cache_dir": unpacked}
            entry.cfg = {**entry.cfg, "dataset_path": folder, "dataset_kwargs": how}
            entry.yaml_path = None  # else it is read again, from lm-eval's file
    return manager


def _load(manager: TaskManager, name: str) -> dict[str, Any]:
    """The single tasks behind a name, with their questions."""
    try:
        tasks = manager.load([name])["tasks"]
    except KeyError:
        raise RmuLabError(f"lm-eval has no task {name!r}; give one of its names, or the path of a task file.") from None
    except Exception as error:  # of datasets and huggingface_hub: of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RmuLabError(
            f"The questions of {name} cannot be loaded ({reason}); connect to the hub, or give `data` a copy."
        ) from error
    for task_name, task in tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice":
            raise RmuLabError(f"{task_name} is not multiple choice but {task.OUTPUT_TYPE}; use lm-eval itself for it.")
    return tasks


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> Accuracy:
    """From lm-eval's records of single questions."""
    scores = [[log_probability for log_probability, _ in row["filtered_resps"]] for row in rows]
    predictions = tuple(max(range(len(options)), key=options.__getitem__) for options in scores)
    correct = tuple(bool(row["acc"]) for row in rows)
    return Accuracy(sum(correct) / len(correct), wilson_interval(sum(correct), len(correct)), predictions, correct, "letter")


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Errors only in lm-eval's log, and without `progress` none of its bars either."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with nullcontext() if progress else redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)

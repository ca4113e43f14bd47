"""One process's part of a sweep: its own frozen passes, and settings trained and scored on them one after the other."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import FrozenPass, frozen
from ..corpora import TokenBatch
from ..errors import NotFiniteError
from ..evaluate import Accuracy, Style, accuracy
from ..files import digest
from ..identity import model_digests
from ..models import input_device
from ..provenance import provenance
from ..unlearning.batches import BatchKey, TopicBatches, TopicTexts, corpus_digests, step_keys, topic_batches
from ..unlearning.config import MethodConfig, UnlearnConfig
from ..unlearning.frozen_passes import record_batch, recorded, resumed, stored_pass
from ..unlearning.method_table import method_of
from ..unlearning.result import UnlearnResult
from ..unlearning.task import Task, Trainings
from .activation_store import ActivationStore
from .rows import SweepRow, row_key

Group = tuple[MethodConfig | None, ...]
"""Settings that share their training (equal `MethodConfig.work_key`); ``(None,)`` stands for the base model."""


@dataclass(frozen=True)
class Job:
    """What every process of a sweep needs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    texts: TopicTexts
    questions: dict[str, list[dict]]
    configs: tuple[MethodConfig, ...]
    style: Style
    batch_size: int
    memory_bytes: int
    scratch: str | None
    scratch_prefix: str
    digests: dict[str, str]
    command: str
    """What started the sweep; a process on Ray was started by another."""
    progress: bool

    def key(self, config: MethodConfig | None) -> str:
        """Return the key of a setting's row."""
        return row_key(config, self.style, self.model.name_or_path or "", self.digests)


def job_digests(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: TopicTexts,
    questions: Mapping[str, Sequence[Mapping]],
) -> dict[str, str]:
    """Return the SHA-256 of all that decides the numbers besides the settings.

    The model's weights and settings and its tokenizer, each corpus and each question set.
    """
    return {**model_digests(model, tokenizer), **corpus_digests(texts), **question_digests(questions)}


def question_digests(questions: Mapping[str, Sequence[Mapping]]) -> dict[str, str]:
    """Return the SHA-256 of each question set: of what is asked and which answer is right."""
    return {
        f"questions {name}": digest(
            json.dumps([row.get(field) for field in ("question", "choices", "answer")]) for row in rows
        )
        for name, rows in questions.items()
    }


def passes_key(config: UnlearnConfig) -> tuple:
    """Return what decides how texts become batches; settings that agree in it share frozen passes."""
    return config.batch_size, config.max_length, config.forget_lengths or (), config.padding_side


def groups_of(configs: Iterable[MethodConfig]) -> list[Group]:
    """Return the settings in groups that share their training, those next to each other whose frozen passes are the same."""
    groups: dict[tuple, list[MethodConfig]] = {}
    for config in configs:
        groups.setdefault((type(config), config.work_key()), []).append(config)

    def order(group: list[MethodConfig]) -> tuple:
        first = group[0].shared_passes
        return (False,) if first is None else (True, *passes_key(first), first.layer)

    return [tuple(group) for group in sorted(groups.values(), key=order)]


class Worker:
    """Makes rows of one job. A context manager: at its end what it keeps on disk is removed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._store = ActivationStore(job.memory_bytes, job.scratch, job.scratch_prefix)
        self._passes_key: tuple | None = None
        self._batches: TopicBatches = {}
        self._recorded: list[BatchKey] = []
        self._base: dict[str, Accuracy] = {}
        self._base_seconds = 0.0

    def __enter__(self) -> Worker:
        """Score the base model, recording on the way the states from which every layer's settings will go on."""
        depths = {config.window[0] for config in self.job.configs if config.window is not None}
        start = time.perf_counter()
        try:
            for name in self.job.questions:
                calls = itertools.count()
                keep = functools.partial(_keep, self._store, name, calls)
                with recorded(self.job.model, depths, keep) if depths else nullcontext():
                    self._base[name] = self._accuracy(name, self.job.progress)
        except BaseException:
            self._store.clear()
            raise
        self._base_seconds = time.perf_counter() - start
        return self

    def __exit__(self, *_: object) -> None:
        self._store.clear()

    def rows(self, group: Group) -> Iterator[SweepRow]:
        """Train and score settings of the job that share their training; ``(None,)`` gives the base model's row."""
        configs = [config for config in group if config is not None]
        if not configs:
            yield self._row(None, self._base, [], {"training": 0.0, "evaluation": self._base_seconds})
            return
        left = dict.fromkeys(configs)
        scores: dict[str, Accuracy] = {}
        scored: object = None
        evaluation = 0.0
        start = time.perf_counter()
        try:
            for training in self.train(configs):
                if training.edit is not scored:  # settings that differ in nothing that counts have one edit
                    start = time.perf_counter()
                    result = UnlearnResult.of(training, self.job.model, self.job.digests)
                    with result.applied(self.job.model):
                        scores = {name: self._edited_accuracy(name, training.config) for name in self.job.questions}
                    scored, evaluation = training.edit, time.perf_counter() - start
                del left[training.config]
                seconds = {"training": training.seconds, "evaluation": evaluation}
                yield self._row(training.config, scores, training.history, seconds)
                start = time.perf_counter()
        except NotFiniteError as error:  # in training, or of the trained model when it answers
            seconds = {"training": time.perf_counter() - start, "evaluation": 0.0}
            for config in left:
                yield self._row(config, {}, [], seconds, str(error))

    def train(self, configs: Sequence[MethodConfig]) -> Trainings:
        """Train settings of the job that share their training, from recorded passes where their method can use them.

        Raises
        ------
        DivergedError
            if a loss or a trained matrix is not finite.
        """
        recorded_passes = None
        if (shared := configs[0].shared_passes) is not None:
            self._record(shared)
            recorded_passes = self._batches, functools.partial(self._pass, shared.window)
        task = Task(self.job.model, self.job.tokenizer, self.job.texts, progress=False, recorded=recorded_passes)
        return method_of(configs[0]).train(task, configs)

    def _row(
        self,
        config: MethodConfig | None,
        scores: dict[str, Accuracy],
        history: list[dict],
        seconds: dict[str, float],
        error: str | None = None,
    ) -> SweepRow:
        return SweepRow(
            key=self.job.key(config),
            config=config,
            scores=scores,
            first=history[0] if history else {},
            last=history[-1] if history else {},
            seconds=seconds,
            error=error,
            model_name=self.job.model.name_or_path or "",
            digests=self.job.digests,
            provenance=provenance(config.seed if config else None) | {"command": self.job.command},
        )

    def _record(self, config: UnlearnConfig) -> None:
        """Make one frozen pass over each batch that settings with the same `passes_key` will take, for all their layers."""
        if passes_key(config) == self._passes_key:
            return
        for key in self._recorded:
            self._store.discard(key)
        same = [
            other
            for other in (each.shared_passes for each in self.job.configs)
            if other is not None and passes_key(other) == passes_key(config)
        ]
        depths = {depth for other in same for depth in (other.window[0], other.window[-1] + 1)}
        self._batches = topic_batches(self.job.tokenizer, self.job.texts, config)
        steps = max(other.steps for other in same)
        self._recorded = list(
            dict.fromkeys(itertools.chain.from_iterable(step_keys(self._batches, s) for s in range(steps)))
        )
        bar = tqdm(self._recorded, desc="frozen passes", unit="batch", delay=5, disable=not self.job.progress)
        with frozen(self.job.model):
            for key in bar:
                role, topic, index = key
                batch = self._batches[role, topic][index].to(input_device(self.job.model))
                self._store.put(key, record_batch(self.job.model, batch, depths))
        self._passes_key = passes_key(config)

    def _pass(self, window: range, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        trunk, output = (self._store.get(key, depth) for depth in (window[0], window[-1] + 1))
        return stored_pass(self.job.model, batch, window, trunk, output)

    def _accuracy(self, name: str, progress: bool) -> Accuracy:
        job = self.job
        rows = job.questions[name]
        return accuracy(job.model, job.tokenizer, rows, style=job.style, batch_size=job.batch_size, progress=progress)

    def _edited_accuracy(self, name: str, config: MethodConfig) -> Accuracy:
        """Score the edited model, with what lies below its window taken from the base model's passes."""
        if config.window is None:
            return self._accuracy(name, progress=False)
        depth = config.window[0]
        calls = itertools.count()  # scoring makes the same passes in the same order, whatever the weights
        with resumed(self.job.model, depth, lambda: self._store.get((name, next(calls)), depth)):
            return self._accuracy(name, progress=False)


def _keep(store: ActivationStore, name: str, calls: Iterator[int], states: dict[int, Tensor]) -> None:
    store.put((name, next(calls)), states)


def work(job: Job, groups: Iterable[Group]) -> Generator[SweepRow, None, None]:
    """Make the rows of some of a job's groups in this process."""
    with Worker(job) as worker:
        for group in groups:
            yield from worker.rows(group)

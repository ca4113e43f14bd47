"""One process's share of a sweep: its own frozen passes, and settings trained and scored on them one after the other."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import FrozenPass, frozen
from ..corpora import TokenBatch
from ..evaluate import Accuracy, Style, accuracy
from ..files import digest
from ..provenance import provenance
from ..unlearning.config import UnlearnConfig
from ..unlearning.result import UnlearnResult
from ..unlearning.trunks import ActivationStore, record_batch, recorded, resumed, stored_pass
from ..unlearning.unlearn import (
    BatchKey,
    DivergedError,
    TopicBatches,
    TopicTexts,
    corpus_digests,
    step_keys,
    topic_batches,
    train,
    trained_names,
)
from .rows import SweepRow


@dataclass(frozen=True)
class Job:
    """What every worker of a sweep needs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    texts: TopicTexts
    questions: dict[str, list[dict]]
    configs: tuple[UnlearnConfig, ...]
    style: Style
    batch_size: int
    memory_bytes: int
    scratch: str | None
    scratch_prefix: str
    digests: dict[str, str]
    progress: bool

    def key(self, config: UnlearnConfig | None) -> str:
        """SHA-256 of everything that decides a row's numbers."""
        facts = [config and config.to_dict(), self.style, self.model.name_or_path, self.digests]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def job_digests(model: PreTrainedModel, texts: TopicTexts, questions: Mapping[str, Sequence[Mapping]]) -> dict[str, str]:
    """SHA-256 of the model's weights, of each corpus and of each question set."""
    weights = hashlib.sha256()
    for name, parameter in model.named_parameters():
        weights.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        weights.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return {"weights": weights.hexdigest(), **corpus_digests(texts), **question_digests(questions)}


def question_digests(questions: Mapping[str, Sequence[Mapping]]) -> dict[str, str]:
    """SHA-256 of each question set: of what is asked and which answer is right."""
    return {
        f"questions {name}": digest(
            json.dumps([row.get(field) for field in ("question", "choices", "answer")]) for row in rows
        )
        for name, rows in questions.items()
    }


def batch_kind(config: UnlearnConfig) -> tuple:
    """What decides how texts become batches; settings that agree in it share frozen passes."""
    return config.batch_size, config.max_length, config.forget_lengths or (), config.padding_side


class Worker:
    """Makes rows of one job. A context manager: at its end what it keeps on disk is removed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._store = ActivationStore(job.memory_bytes, job.scratch, job.scratch_prefix)
        self._kind: tuple | None = None
        self._batches: TopicBatches = {}
        self._recorded: list[BatchKey] = []
        self._base: dict[str, Accuracy] = {}
        self._base_seconds = 0.0

    def __enter__(self) -> Worker:
        """Score the base model, recording on the way the states from which every layer's settings will go on."""
        depths = {config.layer - 2 for config in self.job.configs}
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

    def row(self, config: UnlearnConfig | None) -> SweepRow:
        """Train and score one setting of the job; None gives the base model's row."""
        if config is None:
            return self._row(None, self._base, [], {"training": 0.0, "evaluation": self._base_seconds})
        start = time.perf_counter()
        try:
            result = self.train(config)
        except DivergedError as error:
            return self._row(config, {}, [], {"training": time.perf_counter() - start, "evaluation": 0.0}, str(error))
        start = time.perf_counter()
        with result.applied(self.job.model):
            scores = {name: self._resumed_accuracy(name, config.layer - 2) for name in self.job.questions}
        seconds = {"training": result.seconds, "evaluation": time.perf_counter() - start}
        return self._row(config, scores, result.history, seconds)

    def train(self, config: UnlearnConfig) -> UnlearnResult:
        """What `unlearn` gives for one setting of the job, from recorded passes.

        Raises
        ------
        DivergedError
            if a loss or a trained matrix is not finite.
        """
        model = self.job.model
        self._record(config)
        start = time.perf_counter()
        passes = functools.partial(self._pass, config.window)
        names = trained_names(model, config)
        with frozen(model):
            return train(model, names, self._batches, config, passes, digests=self.job.digests, start=start, progress=False)

    def _row(
        self,
        config: UnlearnConfig | None,
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
            model_name=self.job.model.name_or_path,
            digests=self.job.digests,
            provenance=provenance(config.seed if config else None),
        )

    def _record(self, config: UnlearnConfig) -> None:
        """One frozen pass over each batch that settings of this kind will take, for all their layers."""
        kind = batch_kind(config)
        if kind == self._kind:
            return
        for key in self._recorded:
            self._store.discard(key)
        same = [other for other in self.job.configs if batch_kind(other) == kind]
        depths = {depth for other in same for depth in (other.layer - 2, other.layer + 1)}
        self._batches = topic_batches(self.job.tokenizer, self.job.texts, config)
        steps = max(other.steps for other in same)
        self._recorded = list(
            dict.fromkeys(itertools.chain.from_iterable(step_keys(self._batches, s) for s in range(steps)))
        )
        bar = tqdm(self._recorded, desc="frozen passes", unit="batch", delay=5, disable=not self.job.progress)
        with frozen(self.job.model):
            for key in bar:
                role, topic, index = key
                batch = self._batches[role, topic][index].to(self.job.model.device)
                self._store.put(key, record_batch(self.job.model, batch, depths))
        self._kind = kind

    def _pass(self, window: range, key: BatchKey, batch: TokenBatch) -> FrozenPass:
        trunk, output = (self._store.get(key, depth) for depth in (window[0], window[-1] + 1))
        return stored_pass(self.job.model, batch, window, trunk, output)

    def _accuracy(self, name: str, progress: bool) -> Accuracy:
        job = self.job
        rows = job.questions[name]
        return accuracy(job.model, job.tokenizer, rows, style=job.style, batch_size=job.batch_size, progress=progress)

    def _resumed_accuracy(self, name: str, depth: int) -> Accuracy:
        """The model's accuracy with what lies below `depth` taken from the base model's passes over the same questions."""
        calls = itertools.count()  # scoring makes the same passes in the same order, whatever the weights
        with resumed(self.job.model, depth, lambda: self._store.get((name, next(calls)), depth)):
            return self._accuracy(name, progress=False)


def _keep(store: ActivationStore, name: str, calls: Iterator[int], states: dict[int, Tensor]) -> None:
    store.put((name, next(calls)), states)


def work(job: Job, configs: Iterable[UnlearnConfig | None]) -> Iterator[SweepRow]:
    """The rows of some of a job's settings, made in this process."""
    with Worker(job) as worker:
        for config in configs:
            yield worker.row(config)

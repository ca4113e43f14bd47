"""A sweep on Ray: as many workers as there are processors or GPUs, each with its own model and frozen passes.

A worker takes one group of settings after the other; if it dies, its group goes to a new one, and every finished
row is with the caller already. Explained in docs/guide/scaling.md.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..plugins import loaded_files
from ..stored import sentence_of
from .rows import SweepRow
from .worker import Group, Job, Worker

MOST_DEATHS = 3
"""Workers that may die one after the other without a row in between, before a sweep gives up."""


def moved(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """Move a model to a device and return it."""
    nn.Module.to(model, device)
    return model


class _RemoteWorker:
    """A `Worker` inside a process of Ray's."""

    def __init__(self, job: Job, device: str) -> None:
        self._work = ExitStack()
        self._worker: Worker | None = None
        self._job = dataclasses.replace(job, model=moved(job.model, device))

    def rows(self, group: Group) -> list[SweepRow]:
        if self._worker is None:  # not in __init__, whose errors would look like a worker's death
            self._worker = self._work.enter_context(Worker(self._job))
        return list(self._worker.rows(group))

    def close(self) -> None:
        self._work.close()


def work_on_ray(
    job: Job, groups: Sequence[Group], address: str, workers: int | None, scratch: str | Path | None
) -> Generator[SweepRow, None, None]:
    """Make the rows of a job's groups, in the order in which they are finished; parameters as in `sweep`.

    Raises
    ------
    RmuLabError
        if Ray is not installed or not reached, or workers keep dying.
    """
    try:
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
    except ImportError:
        raise RmuLabError("Ray is not installed; install it with: pip install 'rmu-lab[cluster]'.") from None

    ours = not ray.is_initialized()
    if ours:
        place: dict[str, Any] = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
        try:
            _check_listening(address)
            ray.init(
                logging_level=logging.ERROR, log_to_driver=False, **(place if address == "local" else {"address": address})
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise RmuLabError(
                f"No Ray cluster was reached at {address!r} ({sentence_of(error)}); start one, or use ray='local'."
            ) from error
    actors: list[Any] = []
    try:
        device = job.model.device.type
        needs: dict[str, Any] = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
        there = ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0)
        count = max(1, min(workers or int(there), len(groups)))
        remote_job = dataclasses.replace(
            job,
            model=job.model if device == "cpu" else moved(copy.deepcopy(job.model), "cpu"),
            scratch=None if scratch is None else str(scratch),
            progress=False,
        )
        for module in loaded_files():  # no worker can import them
            ray.cloudpickle.register_pickle_by_value(module)
        shared_job = ray.put(remote_job)
        worker_class = ray.remote(**needs)(_RemoteWorker)

        def start() -> Any:
            actors.append(worker_class.remote(shared_job, device))
            return actors[-1]

        waiting, deaths = deque(groups), 0
        running = {}
        for _ in range(count):
            actor, group = start(), waiting.popleft()
            running[actor.rows.remote(group)] = actor, group
        while running:
            (finished,), _ = ray.wait(list(running), num_returns=1)
            actor, group = running.pop(finished)
            try:
                rows = ray.get(finished)
            except (RayActorError, OutOfMemoryError) as error:
                deaths += 1
                if deaths > MOST_DEATHS:
                    raise RmuLabError(
                        f"{deaths} workers died one after the other ({sentence_of(error)}); the rows so far are kept. "
                        "Give each more memory, or use fewer of them."
                    ) from error
                waiting.appendleft(group)
                actors.remove(actor)
                actor = start()
            except RayTaskError as error:
                if isinstance(error.cause, RmuLabError):
                    raise RmuLabError(str(error.cause)) from error
                raise
            else:
                deaths = 0
                yield from rows
            if waiting:
                group = waiting.popleft()
                running[actor.rows.remote(group)] = actor, group
        ray.get([actor.close.remote() for actor in actors])  # removes what they keep on disk
    finally:
        if ours:
            ray.shutdown()
        else:
            for actor in actors:
                ray.kill(actor)


def _check_listening(address: str) -> None:
    """Raise OSError at once if nobody listens at a ``host:port``; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()

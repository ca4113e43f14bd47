"""Equal tuning: every trial of an entry is scaled to the same divergence, and the one that forgets most on dev is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from ..errors import NotFiniteError, RmuLabError
from ..evaluate import accuracy
from ..kept_rows import KeptRows
from ..provenance import provenance
from ..unlearning.batches import corpus_digests, topic_texts
from ..unlearning.config import MethodConfig
from ..unlearning.method_table import check_method, config_from_dict, method_of
from ..unlearning.result import UnlearnResult
from ..unlearning.task import Task
from .disruption import scaled_to_divergence
from .entry_table import Entry, with_seed
from .material import Material
from .settings import LeagueSettings


def edits_of(
    material: Material, configs: Sequence[MethodConfig]
) -> Iterator[tuple[MethodConfig, UnlearnResult | str, float]]:
    """Train every setting, those together that can share their work, and give each with its edit, or what went wrong.

    Yields
    ------
    tuple of MethodConfig, UnlearnResult or str, and float
        the setting, its edit or the sentence of an error, and the seconds that it took.
    """
    groups: dict[Any, list[MethodConfig]] = {}
    for config in configs:
        check_method(material.model, config)
        groups.setdefault(config.work_key(), []).append(config)
    for group in groups.values():
        texts = topic_texts(material.forget, material.retain, group[0].batch_size)
        task, left = Task(material.model, material.tokenizer, texts, progress=False), list(group)
        start = time.perf_counter()
        try:
            for training in method_of(group[0]).train(task, group):
                result = UnlearnResult.of(training, material.model, corpus_digests(texts))
                left.remove(training.config)
                yield training.config, result, time.perf_counter() - start
                start = time.perf_counter()
        except NotFiniteError as error:  # of a training with these settings; what came before it stands
            for config in left:
                yield config, str(error), time.perf_counter() - start
                start = time.perf_counter()


def tune(entry: Entry, material: Material, settings: LeagueSettings, rows: KeptRows) -> list[dict[str, Any]]:
    """Train and score every trial of an entry on dev questions, at each budget of divergence.

    Parameters
    ----------
    rows
        where the rows are kept; what is there is not made again.

    Returns
    -------
    list of dict
        a row for each trial, with ``at``: for each budget the strength, the divergence, and the dev questions of the topic
        that are answered right; or with an ``error``, where it diverged or cannot be scaled.
    """
    league = material.digest(settings)
    key = {"league": league, "entry": entry.name}
    known = [row["config"] for row in rows.rows if all(row[name] == value for name, value in key.items())]
    trials = [with_seed(config, settings.dev_seed) for config in entry.trials]
    missing = [config for config in trials if as_row(config) not in known]
    for config, result, seconds in edits_of(material, missing):
        start = time.perf_counter()
        scored = {"error": result} if isinstance(result, str) else _scored(result, material, settings)
        facts = {"seconds": seconds + time.perf_counter() - start, "provenance": provenance(settings.dev_seed)}
        rows.add(partial(dict, scored | facts), **key, config=as_row(config))
    wanted = [as_row(config) for config in trials]
    return sorted(
        (row for row in rows.rows if row["league"] == league and row["entry"] == entry.name and row["config"] in wanted),
        key=lambda row: wanted.index(row["config"]),
    )


def _scored(result: UnlearnResult, material: Material, settings: LeagueSettings) -> dict[str, Any]:
    """What a trial comes to at every budget, or why it cannot be scaled."""
    model, tokenizer, found, start = material.model, material.tokenizer, list[dict[str, Any]](), 1.0
    for budget in settings.budgets:
        try:
            scaled = scaled_to_divergence(
                model, tokenizer, result, material.held_out, budget, base=material.base, start=start
            )
            with scaled.result.applied(model):
                score = accuracy(model, tokenizer, material.dev_topic, progress=False)
        except RmuLabError as error:
            return {"error": f"At {budget:g} nats: {error}"}
        start = scaled.strength
        found.append(
            {"budget": budget, "strength": scaled.strength, "divergence": scaled.divergence, "topic": score.to_dict()}
        )
    return {"at": found}


def chosen(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the trial that forgets most: the least accuracy on dev questions, the mean over the budgets.

    Of equals the earlier is taken. None if all have an error.
    """
    whole = [row for row in rows if "at" in row]
    return min(whole, key=lambda row: fmean(one["topic"]["accuracy"] for one in row["at"]), default=None)


def config_in(row: dict[str, Any]) -> MethodConfig:
    """Return the settings of a row."""
    return config_from_dict(row["config"])


def as_row(config: MethodConfig) -> dict[str, Any]:
    """Return the settings as a row of JSON Lines gives them back."""
    return json.loads(json.dumps(config.to_dict()))

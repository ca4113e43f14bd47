"""Many settings on shared activations: each trained and scored, row by row into a file that survives a kill.

One pass of the frozen model over the training batches and one over the questions serve every layer;
after that only the window trains, and only the blocks from the window upwards answer questions. The
numbers are those of `unlearn` and `accuracy`. Taught in notebook 05.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..evaluate import Style
from ..models import plain_model
from ..offload import is_offloaded
from ..provenance import provenance
from ..questions import checked_questions
from ..stored import sentence_of
from ..tables import refuse_splits
from ..unlearning.batches import text_lengths, topic_texts
from ..unlearning.config import MethodConfig, UnlearnConfig
from ..unlearning.method_table import check_method, config_class, config_of
from .on_ray import work_on_ray
from .rows import RowFile, SweepRow, row_from
from .worker import Group, Job, groups_of, job_digests, work

if TYPE_CHECKING:
    from datasets import Dataset

    from ..unlearning.batches import Texts

MEMORY_BYTES = 2 * 1024**3
"""Activations that a sweep keeps in memory, unless told otherwise; more than that go to disk."""


def grid(*, base: MethodConfig | None = None, **values: Sequence[Any]) -> list[MethodConfig]:
    """Return every combination of the given values, the last field varying fastest; the other fields as in `base`.

    ``grid(layer=[5, 7], method=["rmu", "adaptive_rmu"])`` gives four settings. Any method can be named, and each takes the
    fields it has: ``grid(method=["rmu", "npo"], layer=[5, 7], lr=[1e-4, 1e-3])`` gives four settings of RMU and two of NPO.
    Settings that differ only in what their method does not use, such as RMU's beta, are trained once by `sweep`. Taught
    in notebook 05.

    Parameters
    ----------
    base
        settings whose fields stay where no values are given, for the methods of its class; the others' are at their
        defaults. By default ``UnlearnConfig()``.
    values
        lists of values by the names of fields.

    Raises
    ------
    RmuLabError
        if no method has such a field, it has no values, or a value is out of its range.
    """
    base = base or UnlearnConfig()
    choices: dict[str, list[Any]] = {}
    for name, given in values.items():
        choices[name] = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
        if not choices[name]:
            shown = getattr(base, name, 1)
            raise RmuLabError(f"{name} is {given!r}; give a list of values, such as {name}=[{shown!r}].")
    methods = choices.get("method", [base.method])
    fields = {method: ["method", *_field_names(config_class(method))] for method in methods}
    known = dict.fromkeys(itertools.chain.from_iterable(fields.values()))
    if unknown := [name for name in choices if name not in known]:
        raise RmuLabError(f"There is no field {unknown[0]!r}; use {', '.join(known)}.")
    settings = []
    for combination in itertools.product(*choices.values()):
        wanted = dict(zip(choices, combination, strict=True))
        method = wanted.pop("method", base.method)
        start = base if isinstance(base, config_class(method)) else config_of(method, {})
        changes = {name: value for name, value in wanted.items() if name in fields[method]}
        if "method" in _field_names(type(start)):
            changes["method"] = method
        settings.append(dataclasses.replace(start, **changes))
    return list(dict.fromkeys(settings))


def _field_names(kind: type) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def sweep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    configs: Iterable[MethodConfig],
    questions: Mapping[str, Dataset | Sequence[Mapping]],
    *,
    out: str | Path,
    style: Style = "cloze",
    batch_size: int = 16,
    memory_bytes: int = MEMORY_BYTES,
    scratch: str | Path | None = None,
    ray: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[SweepRow]:
    """Train an edit for every setting, of whichever method, and score it on every question set.

    The numbers are those of `unlearn` and `accuracy`.

    The first row is the base model's; the others follow the order of `configs`. The model itself is left
    as it is. Each finished row is appended to `out` at once; called again after a stop, however it came
    about, a sweep goes on with the settings whose rows are missing there. A setting whose training diverges
    gets a row with its error and no scores. Taught in notebook 05.

    Parameters
    ----------
    forget, retain
        as `unlearn` takes them.
    configs
        settings, e.g. from `grid`; repeated ones get one row. Settings that share their training (equal
        `MethodConfig.work_key`) are trained once: those that differ in what their method does not use, and of most
        methods besides RMU also those that differ in `steps`.
    questions
        question sets by name, as `accuracy` takes each.
    out
        JSON Lines file, new or of a sweep before; `load_sweep` reads it.
    style, batch_size
        of `accuracy`.
    memory_bytes
        frozen activations held in memory at most (by each worker); more than that are kept on disk.
    scratch
        folder for those; by default that of `out`, on Ray each machine's own folder for temporary files.
    ray
        None: in this process. ``"local"``: a Ray of its own on this machine. Otherwise the address of a
        running cluster, ``"auto"`` for the one this machine belongs to. Needs ``pip install rmu-lab[cluster]``.
    workers
        processes on Ray; by default one for each CPU, or for each GPU if the model is on one.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        before anything is run, if a setting does not fit the model or the texts, `out` cannot be written
        or another sweep is writing to it.
    """
    configs = list(dict.fromkeys(configs))
    if not configs:
        raise RmuLabError("There are no settings to sweep over; give at least one, e.g. by grid().")
    refuse_splits(questions, "questions")
    if not isinstance(questions, Mapping) or not questions:
        raise RmuLabError("There are no question sets; give at least one by name, e.g. {'bio': load_questions('bio')}.")
    model = plain_model(model)
    if is_offloaded(model):
        raise RmuLabError(
            "Some weights of this model are offloaded, and a sweep needs them at hand; load it without device_map, or call "
            "unlearn and accuracy for each setting."
        )
    if workers is not None and workers < 1:
        raise RmuLabError(f"workers is {workers}; give a number of processes from 1.")
    for config in configs:
        check_method(model, config)
        _check_record(config)
    texts = topic_texts(forget, retain, max(config.batch_size for config in configs))
    for config in configs:
        if isinstance(config, UnlearnConfig):
            text_lengths(texts, config)
    asked = {name: checked_questions(rows, f"questions[{name!r}]") for name, rows in questions.items()}
    with RowFile(out) as file:
        job = Job(
            model=model,
            tokenizer=tokenizer,
            texts=texts,
            questions=asked,
            configs=(),
            style=style,
            batch_size=batch_size,
            memory_bytes=memory_bytes,
            scratch=str(scratch or file.path.parent),
            scratch_prefix=file.scratch_prefix,
            digests=job_digests(model, tokenizer, texts, asked),
            command=provenance()["command"],
            progress=progress,
        )
        wanted = {job.key(config): config for config in (None, *configs)}
        for number, plain in enumerate(file.rows, 1):
            if plain["key"] in wanted:
                row_from(file.path, number, plain)  # what cannot be read is noticed before anything is run
        done = {plain["key"] for plain in file.rows}
        todo = [config for key, config in wanted.items() if key not in done]
        settings = [config for config in todo if config is not None]
        job = dataclasses.replace(job, configs=tuple(settings))
        groups: list[Group] = [(None,)] * (None in todo) + groups_of(settings)
        if groups:
            rows = work(job, groups) if ray is None else work_on_ray(job, groups, ray, workers, scratch)
            bar = tqdm(total=len(todo), desc="sweep", unit="setting", delay=5, disable=not progress)
            with bar, closing(rows):
                for row in rows:
                    file.append(row)
                    bar.update()
        rows_by_key = {row["key"]: row for row in file.rows}
    return [SweepRow.from_dict(rows_by_key[key]) for key in wanted]


def _check_record(config: MethodConfig) -> None:
    """Raise an error if a setting's row could not be stored."""
    for name, value in config.to_dict().items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise RmuLabError(
                f"{name} is {value!r}, which no row can hold ({sentence_of(error)}); give plain values."
            ) from None

"""Where a claim's numbers come from: stored results, each with the way to make it anew and to see whether it is stale."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import RmuLabError
from ..estimates import Number, Numbers
from ..files import check_file, data_folder, file_digest, read_json_lines, results_folder, write_json
from ..provenance import CODE, provenance, versions
from ..stored import checked, reading
from .stored_numbers import rmu_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..sweeps.rows import SweepRow
    from ..unlearning.config import UnlearnConfig

MODEL = "smollm2-135m"


class NotMeasuredError(RmuLabError):
    """A stored result that claims rest on is not there; the message says what makes it."""


class Source(Protocol):
    """Named numbers, stored and fresh."""

    @property
    def file(self) -> str:
        """The stored result, below `data/results`."""

    def stored(self) -> Numbers:
        """Look the numbers up in the stored result.

        Raises
        ------
        NotMeasuredError
            if there is none.
        """

    def fresh(self, out: Path | None) -> Numbers:
        """Measure the numbers anew, and keep what is measured in the folder `out`.

        Raises
        ------
        RmuLabError
            if that takes a benchmark of its own (the message names the line) or a folder is needed.
        """

    def stale(self) -> list[str]:
        """List why the stored result is not what today's code and data would give; empty if nothing is known."""


@dataclass(frozen=True)
class Measurement:
    """One function of `measure` at fixed settings; its result is stored whole."""

    name: str
    measure: Callable[..., Numbers]
    settings: Mapping[str, Any]
    data: tuple[str, ...] = ("corpora/forget_bio.jsonl", "corpora/retain_general.jsonl")
    """Files below `data/` that decide the numbers."""
    _line: ClassVar[str] = "rmu-lab claims --run ID --out data/results/claims"

    @property
    def file(self) -> str:
        """See `Source`."""
        return f"claims/{self.name}.json"

    def stored(self) -> Numbers:
        """See `Source`."""
        record = self._record()
        with _reading(self.file, self._line):
            return {name: checked(Number.from_dict(plain)) for name, plain in record["numbers"].items()}

    def fresh(self, out: Path | None) -> Numbers:
        """See `Source`."""
        from ..models import load_model

        return self.on(*load_model(MODEL, device="cpu"), out=out)

    def on(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, out: Path | None = None) -> Numbers:
        """Measure the numbers anew on a model that is loaded already, and keep them in `out` if it is given."""
        if out is not None:
            check_file(out / f"{self.name}.json", parents=True)  # before the work
        start = time.perf_counter()
        numbers = self.measure(model, tokenizer, **self.settings)
        if out is not None:
            record = {
                "measurement": self.name,
                "model": model.name_or_path,
                "settings": dict(self.settings),
                "data": {name: file_digest(data_folder() / name) for name in self.data},
                "numbers": {name: asdict(number) for name, number in numbers.items()},
                "seconds": time.perf_counter() - start,
                "provenance": provenance(),
            }
            write_json(out / f"{self.name}.json", record)
        return numbers

    def stale(self) -> list[str]:
        """See `Source`."""
        record = self._record()
        found = []
        with _reading(self.file, self._line):
            if record["settings"] != json.loads(json.dumps(dict(self.settings))):
                found.append("its settings are not those of the code")
            for name in self.data:
                if record["data"].get(name) != file_digest(data_folder() / name):
                    found.append(f"data/{name} has changed since")
            return found + old_versions(record["provenance"])

    def _record(self) -> dict[str, Any]:
        (record,) = read_result(self.file, self._line)
        return record


@dataclass(frozen=True)
class StoredSweep:
    """Rows of a sweep on test questions, by a benchmark; made anew, only those that the numbers take are trained."""

    file: str
    numbers: Callable[[list[SweepRow]], Numbers]
    line: str
    """What makes the file."""
    needed: Callable[[UnlearnConfig], bool] | None = lambda config: True
    """Which of its settings; None: only the whole benchmark can make it anew."""
    more: tuple[str, ...] = ()
    """Further files of the same models and texts, whose rows the numbers take too; never made anew."""
    again: Measurement | None = None
    """A small live version that gives numbers of the same names."""

    def stored(self) -> Numbers:
        """See `Source`."""
        rows = [row for file in (self.file, *self.more) for row in self._rows(file)]
        with _reading(self.file, self.line):
            return self.numbers(rows)

    def fresh(self, out: Path | None) -> Numbers:
        """See `Source`; stopped, it goes on where it was."""
        from ..corpora import load_corpus
        from ..models import load_model
        from ..sweeps.sweep import sweep

        if self.again is not None:
            return self.again.fresh(out)
        if self.needed is None:
            raise long_run(self.line)
        rows = self._rows(self.file)
        repeated = [row for row in rows if row.config and self.needed(rmu_config(row))]
        configs = [rmu_config(row) for row in repeated]
        if out is None:
            seconds = sum(sum(row.seconds.values()) for row in repeated)
            raise RmuLabError(
                f"This repeats {len(configs)} trainings of data/results/{self.file}, which took {seconds / 60:.0f} minutes; "
                "give --out FOLDER for its rows, and the same again to go on after a stop."
            )
        texts = load_corpus("forget_bio"), load_corpus("retain_general")
        path = check_file(out / Path(self.file).name, parents=True)
        again = sweep(*load_model(MODEL, device="cpu"), *texts, configs, self._questions(rows), out=path)
        return self.numbers([*again, *(row for file in self.more for row in self._rows(file))])

    def stale(self) -> list[str]:
        """See `Source`."""
        from ..corpora import load_corpus
        from ..sweeps.worker import question_digests
        from ..unlearning.batches import corpus_digests, topic_texts

        by_file = {file: self._rows(file) for file in (*self.more, self.file)}
        texts = corpus_digests(topic_texts(load_corpus("forget_bio"), load_corpus("retain_general"), 1))
        with _reading(self.file, self.line):
            asked = question_digests(self._questions(by_file[self.file]))
            problems = {
                problem
                for file, rows in by_file.items()
                for row in rows
                for problem in (
                    *_changed(file, row, texts | asked if file == self.file else texts),
                    *old_versions(row.provenance),
                )
            }
            return sorted(problems)

    def _rows(self, file: str) -> list[SweepRow]:
        from ..sweeps.rows import load_sweep

        if not (results_folder() / file).is_file():
            raise not_measured(file, self.line)
        return load_sweep(results_folder() / file)

    def _questions(self, rows: list[SweepRow]) -> dict[str, list[dict]]:
        from ..questions import load_questions

        return {
            name: list(load_questions(name, split="test").shuffle(seed=0).select(range(len(score.correct))))
            for name, score in rows[0].scores.items()
        }


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark wrote, a JSON object or one on each line; the line in its provenance makes it anew."""

    file: str
    numbers: Callable[[list[dict[str, Any]]], Numbers]
    """Of the objects in the file."""
    line: str
    """What makes the file."""
    again: Measurement | None = None
    """A small live version that gives numbers of the same names."""

    def stored(self) -> Numbers:
        """See `Source`."""
        records = read_result(self.file, self.line)
        with _reading(self.file, self.line):
            return self.numbers(records)

    def fresh(self, out: Path | None) -> Numbers:
        """See `Source`."""
        if self.again is not None:
            return self.again.fresh(out)
        raise long_run(self.line)

    def stale(self) -> list[str]:
        """See `Source`."""
        records = read_result(self.file, self.line)
        with _reading(self.file, self.line):
            return sorted({old for row in records for old in old_versions(row["provenance"])})


def _changed(file: str, row: SweepRow, today: Mapping[str, str]) -> list[str]:
    return [f"{file}: {name} has changed since" for name in today if row.digests.get(name) != today[name]]


def read_result(file: str, line: str) -> list[dict[str, Any]]:
    """Read the objects of a stored result below `data/results`: one of a .json file, one a line of a .jsonl file.

    Parameters
    ----------
    line
        what makes the file, for errors.

    Raises
    ------
    NotMeasuredError
        if there is no such file.
    RmuLabError
        if it does not hold objects.
    """
    path = results_folder() / file
    if not path.is_file():
        raise not_measured(file, line)
    if path.suffix == ".jsonl":
        return [row for _, row in read_json_lines(path)]
    with _reading(file, line):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError(f"it holds {type(record).__name__}, not an object")
        return [record]


def _reading(file: str, line: str) -> AbstractContextManager[None]:
    return reading(f"{results_folder() / file} is not a stored result", f"make it anew with `{line}`")


def not_measured(file: str, line: str) -> NotMeasuredError:
    """Make the error that a stored result is not there."""
    return NotMeasuredError(f"There is no data/results/{file}; make it with `{line}`.")


def long_run(line: str) -> RmuLabError:
    """Make the error that only a benchmark makes a result anew."""
    return RmuLabError(f"This claim rests on a long run; in a checkout of the repository, repeat it with `{line}`.")


NUMBERS_SINCE = (0, 1)
"""The first version (major, minor) whose stored results still hold. A release that changes numbers raises it to its own."""


def old_versions(stored: Mapping[str, Any]) -> list[str]:
    """Say that a result was made by a version whose numbers do not hold in this one, or by other code, if it was."""
    then, now = (".".join(found["rmu-lab"].split(".")[:2]) for found in (stored["versions"], versions()))
    try:
        holds = NUMBERS_SINCE <= _pair(then) <= _pair(now)
    except ValueError:  # not installed, here or there
        holds = then == now
    return ([] if holds else [f"it was made by rmu-lab {then}, this is {now}"]) + changed_code(stored)


def _pair(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


NO_CODE = "it does not say which code made it"


def changed_code(stored: Mapping[str, Any]) -> list[str]:
    """Say that the code has changed since a result was made, if it has, or that the result does not tell."""
    if "code" not in stored:
        return [NO_CODE]
    made_by = stored["code"]
    if made_by["digest"] == CODE["digest"]:
        return []
    return [f"the code has changed since it was made ({made_by['commit'] or 'no commit known'})"]

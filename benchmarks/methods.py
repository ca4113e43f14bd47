"""RMU and Adaptive RMU against seven other methods on SmolLM2: the stored runs of notebook 08.

    python -m benchmarks.methods --out data/results/methods

About three hours on one core, by single steps, questions and attacks timed on two cores that others used too: an hour
for `tuning`, 70 minutes for `chosen`, 6 for `cost`, 30 for `cards`. Stopped, the same command goes on where it was.

`tuning` tries six settings of every method on 100 + 100 `dev` questions, with a seed of its own; those of RMU and
Adaptive RMU are the rows at layer 7 that `benchmarks.layers` has stored. The rule, fixed before any run, is that of
`benchmarks.layers`: the least bio accuracy among the settings that lose at most five points of general accuracy, or
else the setting that loses least. `chosen` trains each method's choice with three other seeds and asks 100 `test`
questions of each of four sets. `cost` measures memory and seconds of a short run, each method in a process of its own.
`cards` attacks the edits of the three methods whose choice has the least bio accuracy on dev.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.layers import DEV_SEED, SEEDS, best
from benchmarks.step import Memory
from rmu_lab import (
    SweepRow,
    UnlearnConfig,
    UnlearnResult,
    accuracy,
    gauntlet,
    load_corpus,
    load_model,
    load_questions,
    load_sweep,
    unlearn,
)
from rmu_lab.files import data_folder, write_json
from rmu_lab.provenance import provenance
from rmu_lab.unlearning.baselines import LLMU, NPO, SCRUB, SSD, Baseline, GradDiff, GradientAscent, SimNPO
from rmu_lab.unlearning.baselines.train import checkpoints, dampenings
from rmu_lab.unlearning.rows import RowFile
from rmu_lab.unlearning.unlearn import DivergedError, topic_texts
from rmu_lab.unlearning.worker import job_digests

QUESTIONS = 100  # of each set
SETS = ("bio", "cyber", "general", "neighbours")
CARDS = 3
ABLATED = 7  # the block after which edits that steer none are ablated: RMU's here
TRAINED = (GradientAscent, GradDiff, NPO, SimNPO, LLMU, SCRUB)
TUNING: list[Baseline] = [
    *(kind(lr=lr, steps=steps, seed=DEV_SEED) for kind in TRAINED for lr in (3e-5, 1e-4, 3e-4) for steps in (10, 20)),
    # By these, 7%, 0.6% and 0.03% of the entries are made smaller.
    *(SSD(threshold=threshold, dampening=dampening, seed=DEV_SEED) for threshold in (5, 20, 100) for dampening in (0.1, 1)),
]

Config = UnlearnConfig | Baseline


class Scorer:
    """Trains settings and scores them on question sets, row by row into a file that survives a kill."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: tuple,
        questions: Mapping[str, Sequence[Mapping]],
    ) -> None:
        self.work = model, tokenizer, *texts
        self.questions = {name: [dict(row) for row in rows] for name, rows in questions.items()}
        self.digests = job_digests(model, topic_texts(*texts, 1), self.questions)

    def rows(self, configs: Sequence[Config], out: Path) -> list[SweepRow]:
        """The base model's row and one for every setting; what the file holds already is not run again."""
        with RowFile(out) as file:
            done = {row["key"] for row in file.rows}
            if self._key(None) not in done:
                file.append(self._row(None, None))
            for group in _same_work([config for config in configs if self._key(config) not in done]):
                left = list(group)
                try:
                    for result in self._results(group):
                        file.append(self._row(left.pop(0), result))
                except DivergedError as error:
                    for config in left:
                        file.append(self._row(config, None, str(error)))
            by_key = {row["key"]: row for row in file.rows}
        return [SweepRow.from_dict(by_key[self._key(config)]) for config in (None, *configs)]

    def _key(self, config: Config | None) -> str:
        facts = [config and config.to_dict(), self.work[0].name_or_path, self.digests]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _results(self, group: Sequence[Config]) -> Iterator[UnlearnResult]:
        first = group[0]
        if isinstance(first, UnlearnConfig):
            yield unlearn(*self.work, first, progress=False)
        elif isinstance(first, SSD):
            yield from dampenings(*self.work, group, progress=False)
        else:
            yield from checkpoints(*self.work, first, [config.steps for config in group], progress=False)

    def _row(self, config: Config | None, result: UnlearnResult | None, error: str | None = None) -> SweepRow:
        model, tokenizer, *_ = self.work
        start = time.perf_counter()
        scores = {}
        if error is None:
            with result.applied(model) if result else nullcontext():
                scores = {name: accuracy(model, tokenizer, rows, progress=False) for name, rows in self.questions.items()}
        return SweepRow(
            key=self._key(config),
            config=config,
            scores=scores,
            first=result.history[0] if result else {},
            last=result.history[-1] if result else {},
            seconds={"training": result.seconds if result else 0.0, "evaluation": time.perf_counter() - start},
            error=error,
            model_name=model.name_or_path,
            digests=self.digests,
            provenance=provenance(config.seed if config else None),
        )


def _same_work(configs: Sequence[Config]) -> list[list[Config]]:
    """Settings in groups, each made by one training (they differ in its length) or from one set of importances (SSD)."""
    groups: dict[Config, list[Config]] = {}
    for config in configs:
        differ = [] if isinstance(config, UnlearnConfig) else ["steps", "threshold", "dampening"]
        alike = dataclasses.replace(config, **{name: 1 for name in differ if hasattr(config, name)})
        groups.setdefault(alike, []).append(config)
    return [sorted(group, key=lambda config: getattr(config, "steps", 0)) for group in groups.values()]


def rmu_tuning() -> list[SweepRow]:
    """The six settings each of RMU and Adaptive RMU at layer 7, after the base model's row."""
    base, *rows = load_sweep(data_folder() / "results" / "layers" / "tuning.jsonl")
    return [base, *(row for row in rows if row.config.layer == 7)]


def choices(rows: Sequence[SweepRow]) -> dict[str, Config]:
    """Each method's setting by the rule, from the tuning rows of all of them, the base model's first."""
    base, *tried = rows
    return {method: best(tried, method, base, _itself) for method in dict.fromkeys(row.config.method for row in tried)}


def _itself(config: Config) -> Config:
    return config


def strongest(rows: Sequence[SweepRow], chosen: Mapping[str, Config]) -> list[str]:
    """Methods in the order of their choice's bio accuracy on dev, the least first."""
    found = {row.config: row.scores["bio"].accuracy for row in rows if row.config in chosen.values()}
    return sorted(chosen, key=lambda method: found[chosen[method]])


def short_run(config: Config, model_name: str) -> dict[str, float]:
    """Seconds of one training, and the most memory it takes beyond the loaded model; for a fresh process."""
    model, tokenizer = load_model(model_name, device="cpu")
    accuracy(model, tokenizer, load_questions("bio").select(range(16)), progress=False)  # reads every page of the weights
    texts = load_corpus("forget_bio"), load_corpus("retain_general")
    memory = Memory()
    result = unlearn(model, tokenizer, *texts, config, progress=False)
    return {"seconds": result.seconds, "memory": memory.peak(), "model_bytes": sum(p.nbytes for p in model.parameters())}


def costs(chosen: Mapping[str, Config], out: Path, model_name: str = "smollm2-135m") -> None:
    """Three steps of every method, or three texts of each corpus."""
    rows = []
    for method, config in chosen.items():
        short = dataclasses.replace(config, **{"texts" if isinstance(config, SSD) else "steps": 3})
        with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows.append({"method": method, "config": short.to_dict(), **pool.submit(short_run, short, model_name).result()})
    write_json(out, {"benchmark": "methods, cost", "rows": rows, "provenance": provenance()})


def cards(work: tuple, chosen: Mapping[str, Config], test: Sequence, dev: Sequence, out: Path) -> None:
    """A robustness card of one edit of each of these methods, with the first of the test seeds."""
    for method, config in chosen.items():
        path = out / f"card_{method}.json"
        if not path.exists():
            result = unlearn(*work, dataclasses.replace(config, seed=SEEDS[0]), progress=False)
            layer = None if isinstance(config, UnlearnConfig) else min(ABLATED, work[0].config.num_hidden_layers - 1)
            texts = {"forget": work[2], "retain": work[3]}
            gauntlet(
                *work[:2], result, test, dev_questions=dev, layer=layer, seconds=3600, progress=False, **texts
            ).save(path)  # fmt: skip


def main() -> None:
    """Run every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    arguments = parser.parse_args()
    out: Path = arguments.out
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    texts = load_corpus("forget_bio"), load_corpus("retain_general")

    def scorer(split: str, sets: Sequence[str]) -> Scorer:
        drawn = {name: load_questions(name, split=split).shuffle(seed=0).select(range(QUESTIONS)) for name in sets}
        return Scorer(model, tokenizer, texts, drawn)

    on_dev, on_test = scorer("dev", ("bio", "general")), scorer("test", SETS)
    base, *tried = on_dev.rows(TUNING, out / "tuning.jsonl")
    rmu_base, *rmu_tried = rmu_tuning()
    assert base.scores == rmu_base.scores, "RMU's stored rows are of another model or other questions"
    rows = [base, *rmu_tried, *tried]
    chosen = choices(rows)
    on_test.rows(
        [dataclasses.replace(config, seed=seed) for config in chosen.values() for seed in SEEDS], out / "chosen.jsonl"
    )
    if not (out / "cost.json").exists():
        costs(chosen, out / "cost.json")
    attacked = {method: chosen[method] for method in strongest(rows, chosen)[:CARDS]}
    cards(on_dev.work, attacked, on_test.questions["bio"], on_dev.questions["bio"], out)
    Console().print(f"{len(rows)} settings tried; {', '.join(attacked)} attacked")


if __name__ == "__main__":
    main()

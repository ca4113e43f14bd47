"""RMU and Adaptive RMU against seven other methods on SmolLM2: the stored runs of notebook 08.

    python -m benchmarks.methods --out data/results/methods

`tuning` tries six settings of every method on 50 + 50 `dev` questions, with a seed of its own; those of RMU and
Adaptive RMU are the rows at layer 7 that `benchmarks.layers` has stored, on the first 50 of their questions. The rule,
fixed before any run, is that of `benchmarks.layers`: the least bio accuracy among the settings that lose at most five
points of general accuracy, or else the setting that loses least. `chosen` trains each method's choice with three other
seeds and asks 80 `test` questions of each of four sets. `cost` measures memory and seconds of a step, each method in a
process of its own. `cards` attacks the edits of some methods. Stopped, the same command goes on.
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

from benchmarks.layers import DEV_SEED, SEEDS, best
from benchmarks.step import Memory
from rmu_lab import (
    Accuracy,
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
from rmu_lab.unlearning.baselines import LLMU, NPO, SCRUB, SSD, Baseline, GradDiff, SimNPO
from rmu_lab.unlearning.baselines.train import checkpoints, dampenings
from rmu_lab.unlearning.rows import RowFile
from rmu_lab.unlearning.unlearn import DivergedError, topic_texts
from rmu_lab.unlearning.worker import job_digests

RATES, STEPS = (5e-5, 2e-4), (3, 6, 9)
DEV_QUESTIONS, TEST_QUESTIONS, CARD_QUESTIONS = 50, 80, 60  # of each set
TRAINED = (NPO, SCRUB, LLMU, GradDiff, SimNPO)  # gradient ascent keeps nothing: notebook 08 shows it live
TUNING: list[Baseline] = [
    *(kind(lr=lr, steps=steps, seed=DEV_SEED) for kind in TRAINED for lr in RATES for steps in STEPS),
    *(SSD(threshold=threshold, dampening=dampening, seed=DEV_SEED) for threshold in (2, 5, 10) for dampening in (0.1, 1)),
]
METHODS = ("rmu", "adaptive_rmu", *dict.fromkeys(config.method for config in TUNING))
SETS = ("bio", "cyber", "general", "neighbours")


class Scorer:
    """Trains settings and scores them on some question sets, row by row into a file."""

    def __init__(self, model, tokenizer, texts: tuple, split: str, sets: Sequence[str], limit: int) -> None:
        self.model, self.tokenizer, self.texts = model, tokenizer, texts
        drawn = {name: load_questions(name, split=split).shuffle(seed=0) for name in sets}
        self.questions = {name: [dict(row) for row in rows.select(range(limit))] for name, rows in drawn.items()}
        self.digests = job_digests(model, topic_texts(*texts, 1), self.questions)

    def key(self, config: UnlearnConfig | Baseline | None) -> str:
        """SHA-256 of everything that decides a row's numbers."""
        facts = [config and config.to_dict(), self.model.name_or_path, self.digests]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def rows(self, configs: Sequence[UnlearnConfig | Baseline], out: Path) -> list[SweepRow]:
        """The base model's row and one for every setting; settings that differ in the number of steps (SSD: in what it multiplies) share their work."""
        with RowFile(out) as file:
            done = {row["key"] for row in file.rows}
            if self.key(None) not in done:
                file.append(self._row(None, None))
            for group in _same_training([config for config in configs if self.key(config) not in done]):
                try:
                    for result in self._results(group):
                        file.append(self._row(result.config, result))
                        done.add(self.key(result.config))
                except DivergedError as error:
                    for config in group:
                        if self.key(config) not in done:
                            file.append(self._row(config, None, str(error)))
            by_key = {row["key"]: row for row in file.rows}
        return [SweepRow.from_dict(by_key[self.key(config)]) for config in (None, *configs)]

    def _results(self, group: Sequence[UnlearnConfig | Baseline]) -> Iterator[UnlearnResult]:
        work, first = (self.model, self.tokenizer, *self.texts), group[0]
        if isinstance(first, UnlearnConfig):
            yield unlearn(*work, first, progress=False)
        elif isinstance(first, SSD):
            yield from dampenings(*work, group, progress=False)
        else:
            yield from checkpoints(*work, first, [config.steps for config in group], progress=False)

    def _row(
        self, config: UnlearnConfig | Baseline | None, result: UnlearnResult | None, error: str | None = None
    ) -> SweepRow:
        start = time.perf_counter()
        scores = {}
        if error is None:
            with result.applied(self.model) if result else nullcontext():
                scores = {
                    name: accuracy(self.model, self.tokenizer, rows, progress=False) for name, rows in self.questions.items()
                }
        return SweepRow(
            key=self.key(config),
            config=config,
            scores=scores,
            first=result.history[0] if result else {},
            last=result.history[-1] if result else {},
            seconds={"training": result.seconds if result else 0.0, "evaluation": time.perf_counter() - start},
            error=error,
            model_name=self.model.name_or_path,
            digests=self.digests,
            provenance=provenance(config.seed if config else None),
        )


def _same_training(configs: Sequence[UnlearnConfig | Baseline]) -> list[list[UnlearnConfig | Baseline]]:
    groups: dict = {}
    for config in configs:
        differ = {} if isinstance(config, UnlearnConfig) else {"threshold": 1, "dampening": 1, "steps": 1}
        groups.setdefault(dataclasses.replace(config, **{k: v for k, v in differ.items() if hasattr(config, k)}), []).append(
            config
        )
    return list(groups.values())


def rmu_tuning() -> list[SweepRow]:
    """The six settings each of RMU and Adaptive RMU at layer 7, after the base model's row."""
    base, *rows = load_sweep(data_folder() / "results" / "layers" / "tuning.jsonl")
    return [_first_questions(row) for row in (base, *(row for row in rows if row.config.layer == 7))]


def _first_questions(row: SweepRow) -> SweepRow:
    scores = {}
    for name, score in row.scores.items():
        plain = score.to_dict()
        scores[name] = Accuracy.from_dict(plain | {key: plain[key][:DEV_QUESTIONS] for key in ("correct", "predictions")})
    return dataclasses.replace(row, scores=scores)


def choices(rows: Sequence[SweepRow]) -> dict[str, UnlearnConfig | Baseline]:
    """Each method's setting by the rule, from the tuning rows of all, the base model's first."""
    tried = {row.config.method for row in rows[1:]}
    return {method: best(list(rows[1:]), method, rows[0], lambda config: config) for method in METHODS if method in tried}


def step_cost(config: UnlearnConfig | Baseline) -> dict[str, float]:
    """Seconds of a short run of a method and the most memory it takes beyond the loaded model; in a fresh process."""
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    accuracy(model, tokenizer, load_questions("bio").select(range(16)), progress=False)  # every page of the weights is read
    texts = load_corpus("forget_bio"), load_corpus("retain_general")
    memory = Memory()
    result = unlearn(model, tokenizer, *texts, config, progress=False)
    return {"seconds": result.seconds, "memory": memory.peak(), "model_bytes": sum(p.nbytes for p in model.parameters())}


def costs(chosen: Mapping[str, UnlearnConfig | Baseline], out: Path) -> None:
    """Short runs of every method: three steps, or three texts of each corpus."""
    rows = []
    for method, config in chosen.items():
        short = dataclasses.replace(config, **{"texts" if isinstance(config, SSD) else "steps": 3})
        with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows.append({"method": method, "config": short.to_dict(), **pool.submit(step_cost, short).result()})
        Console().print(f"{method}: {rows[-1]['memory'] / 1e6:.0f} MB beyond the model")
    write_json(out, {"benchmark": "methods, cost", "rows": rows, "provenance": provenance()})


def cards(scorer: Scorer, chosen: Mapping[str, UnlearnConfig | Baseline], methods: Sequence[str], out: Path) -> None:
    """The gauntlet on one edit of each of these methods, with the first test seed."""
    test, dev = (load_questions("bio", split=split).shuffle(seed=0) for split in ("test", "dev"))
    for method in methods:
        path = out / f"card_{method}.json"
        if path.exists():
            continue
        config = dataclasses.replace(chosen[method], seed=SEEDS[0])
        result = unlearn(scorer.model, scorer.tokenizer, *scorer.texts, config, progress=False)
        card = gauntlet(
            scorer.model,
            scorer.tokenizer,
            result,
            test.select(range(CARD_QUESTIONS)),
            dev_questions=dev,
            forget=scorer.texts[0],
            retain=scorer.texts[1],
            progress=False,
        )
        card.save(path)
        Console().print(f"{method}: {len(card.recoveries)} attacks in {card.seconds:.0f} s")


def main() -> None:
    """Run every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--parts", nargs="+", default=["chosen", "cost", "cards"], help="after the tuning")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    texts = load_corpus("forget_bio"), load_corpus("retain_general")
    dev = Scorer(model, tokenizer, texts, "dev", ("bio", "general"), DEV_QUESTIONS)
    base, *rows = rmu_tuning()
    rows = [row for row in rows if row.config.method in arguments.methods]
    if configs := [config for config in TUNING if config.method in arguments.methods]:
        tuning = dev.rows(configs, arguments.out / "tuning.jsonl")
        assert tuning[0].scores == base.scores, "RMU's stored rows are of other questions"
        rows += tuning[1:]
    rows = [base, *rows]
    chosen = choices(rows)
    for method, config in chosen.items():
        Console().print(method, config)
    if "chosen" in arguments.parts:
        settings = [dataclasses.replace(config, seed=seed) for config in chosen.values() for seed in SEEDS]
        Scorer(model, tokenizer, texts, "test", SETS, TEST_QUESTIONS).rows(settings, arguments.out / "chosen.jsonl")
    if "cost" in arguments.parts:
        costs(chosen, arguments.out / "cost.json")
    if "cards" in arguments.parts:
        on_dev = {row.config: row.scores["bio"].accuracy for row in rows[1:] if row.config in chosen.values()}
        strongest = sorted(chosen, key=lambda method: on_dev[chosen[method]])[:3]
        cards(dev, chosen, strongest, arguments.out)


if __name__ == "__main__":
    main()

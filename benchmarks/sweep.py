"""How long a sweep takes, and how long a naive one with the published loop would.

    python -m benchmarks.sweep [--out rows.jsonl] [--json FILE] [--ray local --workers 2]

The sweep: SmolLM2, all layers x {RMU, Adaptive RMU}, scored on bio, cyber and general test questions.
The naive sweep trains every cell with the published loop (`benchmarks/published_loop.py`: two models, whole
forward passes) and scores it with the whole model; it is measured on a few cells of the same grid, a
few steps each, and put together from these: seconds per step by layer (between measured layers in
proportion), times steps, plus one whole evaluation a cell. Its evaluation is this package's, which runs
each prompt once; the published harness is slower. If `--out` holds rows already, the sweep goes on from
them, and the time said is not that of the whole. On two cores two workers of one thread each
(`--ray local --workers 2`) are faster than one process with two threads.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
from rich.console import Console

from benchmarks.arguments import result_file
from benchmarks.step import train
from rmu_lab import UnlearnConfig, accuracy, grid, load_corpus, load_model, load_questions, sweep
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance

TOPICS = ("bio", "cyber", "general")


def measure(
    layers: Sequence[int],
    methods: Sequence[str] = ("rmu", "adaptive_rmu"),
    *,
    steps: int = UnlearnConfig().steps,
    n_questions: int = 100,
    naive_layers: Sequence[int] = (2, 15, 29),
    naive_steps: int = 6,
    ray: str | None = None,
    workers: int | None = None,
    out: Path | None = None,
) -> dict:
    """Run the sweep, measure the naive one on a few of its cells, and put both together."""
    model, tokenizer = load_model(device="cpu")
    questions = {topic: load_questions(topic, split="test") for topic in TOPICS}
    if n_questions:
        questions = {topic: rows.shuffle(seed=0).select(range(n_questions)) for topic, rows in questions.items()}
    texts = [load_corpus(name) for name in ("forget_bio", "retain_general")]
    configs = grid(base=UnlearnConfig(steps=steps), layer=layers, method=methods)

    with tempfile.TemporaryDirectory() as folder:
        out = out or Path(folder) / "rows.jsonl"
        already = out.read_bytes().count(b"\n") if out.exists() else 0
        start = time.perf_counter()
        base_row, *rows = sweep(model, tokenizer, *texts, configs, questions, out=out, ray=ray, workers=workers)
        seconds = time.perf_counter() - start

    start = time.perf_counter()
    base = {topic: accuracy(model, tokenizer, asked, progress=False) for topic, asked in questions.items()}
    evaluation = time.perf_counter() - start
    assert {name: score.predictions for name, score in base.items()} == {
        name: score.predictions for name, score in base_row.scores.items()
    }
    plain = [list(corpus["text"]) for corpus in texts]
    few = UnlearnConfig(steps=naive_steps + 1)
    cells = {
        config.layer: median(train("published", model, tokenizer, plain, config))
        for config in grid(base=few, layer=sorted(naive_layers))
    }
    step = [float(np.interp(config.layer, list(cells), list(cells.values()))) for config in configs]
    naive = sum(seconds_of_step * steps + evaluation for seconds_of_step in step)
    return {
        "settings": len(configs),
        "layers": list(layers),
        "steps": steps,
        "questions": {topic: len(asked) for topic, asked in questions.items()},
        "ray": ray,
        "workers": workers,
        "rows there before": already,
        "seconds": seconds,
        "seconds of training, a setting": fmean(row.seconds["training"] for row in rows),
        "seconds of evaluation, a setting": fmean(row.seconds["evaluation"] for row in rows),
        "naive": {"seconds of a step by layer": cells, "seconds of an evaluation": evaluation, "seconds": naive},
        "speed-up": naive / seconds,
    }


def main() -> None:
    """Run the sweep, measure the naive cells, print and store both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(2, 30)))
    parser.add_argument("--steps", type=int, default=UnlearnConfig().steps)
    parser.add_argument("--questions", type=int, default=100, help="of each topic's test questions; 0 for all of them")
    parser.add_argument(
        "--cells", type=int, nargs="+", default=[2, 15, 29], help="layers at which the naive sweep is measured"
    )
    parser.add_argument("--naive-steps", type=int, default=6)
    parser.add_argument("--ray", help="local, auto or an address")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, help="keep the sweep's rows in this file")
    parser.add_argument("--json", type=result_file, help="also write the timings to this file")
    given = parser.parse_args()
    result = measure(
        given.layers, steps=given.steps, n_questions=given.questions, naive_layers=given.cells,
        naive_steps=given.naive_steps, ray=given.ray, workers=given.workers, out=given.out,
    )  # fmt: skip
    Console().print(
        f"{result['settings']} settings in {result['seconds'] / 60:.1f} minutes; the naive sweep would take "
        f"{result['naive']['seconds'] / 60:.0f} minutes, {result['speed-up']:.1f} times as long."
    )
    if given.json:
        write_json(given.json, {"benchmark": "sweep", **result, "provenance": provenance(UnlearnConfig().seed)})


if __name__ == "__main__":
    main()

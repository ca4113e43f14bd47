"""RMU against Adaptive RMU over the layers of SmolLM2: the stored sweeps of notebook 05.

    python -m benchmarks.layers --out data/results/layers

`tuning` asks `dev` questions with a direction of its own; `chosen` follows from it: for each method the
best single setting for all layers and the best for each layer, at most five points of general accuracy
lost on `dev`; these are scored on `test` questions with three other directions. `targets` and `factors`
ask `test` questions and choose nothing. A part that was stopped goes on where it was.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from rich.console import Console

from rmu_lab import SweepRow, UnlearnConfig, grid, load_corpus, load_model, load_questions, sweep

LAYERS = (3, 7, 12, 17, 22, 27)
SEEDS, DEV_SEED = (0, 1, 2), 100  # of the direction u
BETAS = (2.0, 5.0, 10.0)  # of those of Dang et al. 2024
NORM = 114.0  # median ||h|| after block 7, in whose units RMU's one coefficient for all layers is chosen
ALPHAS = (30, 300)
LOST = 0.05  # general accuracy that a chosen setting may cost on dev; at 0.03 nothing that forgets is left for all layers
METHODS = ("rmu", "adaptive_rmu")

TUNING = [
    *grid(method=["rmu"], layer=LAYERS, coefficient=[beta * NORM for beta in BETAS], alpha=ALPHAS, seed=[DEV_SEED]),
    *grid(method=["adaptive_rmu"], layer=LAYERS, beta=BETAS, alpha=ALPHAS, seed=[DEV_SEED]),
]
TARGETS = [
    *grid(layer=[7, 27], norm_per=["token", "text", "first batch"], seed=SEEDS),
    *grid(layer=[7, 27], norm_per=["first batch"], count_first_token=[True], seed=SEEDS),
]
MLP = tuple(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
FACTORS = grid(  # all combinations of two values of four things, where RMU with c = 570 does little
    base=UnlearnConfig(method="rmu", layer=27),
    coefficient=[570.0, 3000.0], alpha=[30, 300], parameters=[None, MLP], steps=[40, 120], seed=SEEDS[:2],
)  # fmt: skip


def best(rows: list[SweepRow], method: str, base: SweepRow, key: Callable[[UnlearnConfig], tuple]) -> tuple:
    """The setting, told by `key`, with the least bio accuracy among those that cost at most `LOST`; both means over layers.

    Where every setting costs more, the one that costs least.
    """
    by_setting: dict[tuple, list[SweepRow]] = {}
    for row in rows:
        if row.config and row.config.method == method:
            by_setting.setdefault(key(row.config), []).append(row)

    def rank(setting: tuple) -> tuple:
        bio, general = (fmean(row.scores[name].accuracy for row in by_setting[setting]) for name in ("bio", "general"))
        cost = base.scores["general"].accuracy - general
        return (False, bio) if cost <= LOST else (True, cost)

    return min((setting for setting in by_setting if all(not row.error for row in by_setting[setting])), key=rank)


def chosen(rows: list[SweepRow]) -> list[UnlearnConfig]:
    """For each method the best setting of all layers together and of each, with the seeds to test them with."""
    base, settings = rows[0], []
    for method in METHODS:

        def numbers(config: UnlearnConfig) -> tuple:
            return config.coefficient, config.beta, config.alpha

        together = best(rows, method, base, numbers)
        for layer in LAYERS:
            at_layer = [row for row in rows if row.config and row.config.layer == layer]
            for c, beta, alpha in (together, best(at_layer, method, base, numbers)):
                settings += grid(method=[method], layer=[layer], coefficient=[c], beta=[beta], alpha=[alpha], seed=SEEDS)
    return list(dict.fromkeys(settings))


def main() -> None:
    """Run every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    forget, retain = load_corpus("forget_bio"), load_corpus("retain_general")

    def run(name: str, settings: list[UnlearnConfig], split: str, limit: int) -> list[SweepRow]:
        questions = {topic: load_questions(topic, split=split).shuffle(seed=0) for topic in ("bio", "general")}
        questions = {topic: rows.select(range(limit)) for topic, rows in questions.items()}
        rows = sweep(model, tokenizer, forget, retain, settings, questions, out=arguments.out / f"{name}.jsonl")
        Console().print(f"{name}: {len(rows)} rows")
        return rows

    run("chosen", chosen(run("tuning", TUNING, "dev", 100)), "test", 100)
    run("targets", TARGETS, "test", 100)
    run("factors", FACTORS, "test", 100)


if __name__ == "__main__":
    main()

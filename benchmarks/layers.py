"""RMU against Adaptive RMU over the layers of SmolLM2: the stored sweeps of notebook 05.

    python -m benchmarks.layers --out data/results/layers

`tuning` asks `dev` questions with a direction of its own; `chosen` follows from it: for each method and each set of
layers the best setting, at most five points of general accuracy lost on `dev`. The search begins with six settings
of each method and goes on until each choice has been held against its neighbours on all four sides; what one method's
choice asks for, both methods get. Chosen settings, also those of the first six, are scored on `test` questions with
three other directions.
`targets` and `factors` ask `test` questions and choose nothing. A part that was stopped goes on where it was.
"""

import argparse
from pathlib import Path

from rich.console import Console

from rmu_lab import SweepRow, UnlearnConfig, grid, load_corpus, load_model, load_questions, sweep
from rmu_lab.sweeps.choice import Setting, choose, neighbours
from rmu_lab.sweeps.layer_search import LAYERS, METHODS, SETS

SEEDS, DEV_SEED = (0, 1, 2), 100  # of the direction u
BETAS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
NORM = 114.0  # median ||h|| after block 7, in whose units RMU's one coefficient for all layers is chosen
ALPHAS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
START = [(beta, alpha) for beta in (2.0, 5.0, 10.0) for alpha in (30.0, 300.0)]  # betas of those of Dang et al. 2024

TARGETS = [
    *grid(layer=[7, 27], norm_per=["token", "text", "first batch"], seed=SEEDS),
    *grid(layer=[7, 27], norm_per=["first batch"], count_first_token=[True], seed=SEEDS),
]
MLP = tuple(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
FACTORS = grid(  # all combinations of two values of four things, where RMU with c = 570 does little
    base=UnlearnConfig(method="rmu", layer=27),
    coefficient=[570.0, 3000.0], alpha=[30, 300], parameters=[None, MLP], steps=[40, 120], seed=SEEDS[:2],
)  # fmt: skip


def configs(beta: float, alpha: float, layers: tuple[int, ...]) -> list[UnlearnConfig]:
    """A setting of both methods on dev; RMU's c is beta times the norm at block 7, whatever the layer."""
    shared = {"layer": layers, "alpha": [alpha], "seed": [DEV_SEED]}
    return grid(method=["rmu"], coefficient=[beta * NORM], **shared) + grid(method=["adaptive_rmu"], beta=[beta], **shared)


def in_betas(method: str, setting: Setting) -> Setting:
    """The setting with RMU's c as a multiple of the norm at block 7."""
    strength, alpha = setting
    return (strength / NORM if method == "rmu" else strength), alpha


def asked_for(rows: list[SweepRow], names: list[str]) -> list[UnlearnConfig]:
    """What the search must try so that the choices for these sets of layers have been held against their neighbours."""
    wanted = []
    for name in names:
        for method in METHODS:
            setting = in_betas(method, choose(rows, method, SETS[name]).setting)
            for beta, alpha in neighbours(setting, BETAS, ALPHAS):
                wanted += configs(beta, alpha, SETS[name])
    return list(dict.fromkeys(wanted))


def chosen(rows: list[SweepRow], names: list[str]) -> list[UnlearnConfig]:
    """For each method and set of layers the chosen setting at each of its layers, with the seeds to test it with."""
    settings = []
    for name in names:
        for method in METHODS:
            strength, alpha = choose(rows, method, SETS[name]).setting
            field = "coefficient" if method == "rmu" else "beta"
            settings += grid(method=[method], layer=SETS[name], alpha=[alpha], seed=SEEDS, **{field: [strength]})
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

    def search(tried: list[UnlearnConfig], names: list[str]) -> list[UnlearnConfig]:
        """Try neighbours of the choices until none is new; return all that was tried."""
        while True:
            more = asked_for(run("tuning", tried, "dev", 100), names)
            if set(more) <= set(tried):
                return tried
            tried = list(dict.fromkeys([*tried, *more]))

    tried = [config for beta, alpha in START for config in configs(beta, alpha, LAYERS)]
    run("chosen", chosen(run("tuning", tried, "dev", 100), [*SETS]), "test", 100)
    names: list[str] = []
    for part in (["all"], ["27", "22", "17"], ["7", "3", "12"]):
        names += part
        tried = search(tried, names)
        run("chosen", chosen(run("tuning", tried, "dev", 100), names), "test", 100)
    run("targets", TARGETS, "test", 100)
    run("factors", FACTORS, "test", 100)


if __name__ == "__main__":
    main()

"""One table of what is fast and small here, against the published pattern and the arithmetic floor, in one run.

    python -m benchmarks [step sweep evaluation gcg] [--json FILE]

Each part measures both patterns on this machine, one after the other, so its ratios mean something anywhere; seconds
and the sweep's minutes only on a machine that is otherwise idle. What each part does is said in its own file
(`benchmarks/step.py`, `sweep.py`, `evaluation.py`, `candidates.py`) and in `benchmarks/README.md`.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import candidates, evaluation, step, sweep
from benchmarks.step import BATCH
from rmu_lab import UnlearnConfig, load_corpus, load_model, load_questions
from rmu_lab.corpora import token_batches
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance

WHOLE_SWEEP = 56  # settings: 28 layers, two methods
SWEEP_LAYERS = (2, 15, 29)


@dataclass(frozen=True)
class Goal:
    """A bound of the architecture: `at_least` for ratios, `at_most` for floors, memory and minutes."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value keeps to the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Line:
    """One line of the table: a number, what it is, and what is wanted of it."""

    part: str
    what: str
    value: float
    unit: str = ""
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or nothing."""
        return "" if self.goal is None else "met" if self.goal.met(self.value) else "missed"


FASTER = {("cold", 7): 5.5, ("cold", 27): 4.0, ("cached", 7): 14.0, ("cached", 27): 22.0}


def step_lines(rows: Sequence[dict]) -> list[Line]:
    """Of `step.measure_all`."""
    lines = []
    for row in rows:
        name, pattern = f"layer {row['layer']}, {row['pattern']}", row["pattern"]
        lines.append(Line("step", f"{name}: one step", row["seconds"], "s"))
        if pattern != "published":
            bound = FASTER.get((pattern, row["layer"]))
            lines.append(
                Line("step", f"{name}: faster than published", row["speed-up"], "x", bound and Goal(at_least=bound))
            )
        closest = Goal(at_most=1.25) if pattern == "cold" else None
        lines.append(Line("step", f"{name}: of the floor", row["times the floor"], "x", closest))
        least = None if pattern == "published" else Goal(at_most=0.35)
        lines.append(Line("memory", f"{name}: beyond the model", row["memory in model copies"], "copies", least))
    return lines


def sweep_lines(found: dict) -> list[Line]:
    """Of `sweep.measure` with three layers from bottom to top, whose mean stands for all."""
    each = found["seconds of training, a setting"] + found["seconds of evaluation, a setting"]
    naive = found["naive"]["seconds"] / found["settings"]
    whole = found["seconds"] - found["settings"] * each + WHOLE_SWEEP * each
    return [
        Line("sweep", "a setting: training", found["seconds of training, a setting"], "s"),
        Line("sweep", "a setting: evaluation", found["seconds of evaluation, a setting"], "s"),
        Line("sweep", f"all {WHOLE_SWEEP} settings, put together from these", whole / 60, "min", Goal(at_most=15)),
        Line("sweep", "faster than the naive sweep", WHOLE_SWEEP * naive / whole, "x"),
        Line("sweep", "of the floor", whole / (found["floor of what is shared"] + WHOLE_SWEEP * found["floor"]), "x"),
    ]


def pattern_lines(part: str, what: str, found: dict) -> list[Line]:
    """Of a part that gives ``seconds``, ``published`` and ``floor``."""
    return [
        Line(part, what, found["seconds"], "s"),
        Line(part, f"{what}: faster than published", found["published"] / found["seconds"], "x"),
        Line(part, f"{what}: of the floor", found["seconds"] / found["floor"], "x"),
    ]


def measure_sweep() -> dict:
    """A sweep over three layers, and its floor: per setting, and of the passes that all settings share."""
    found = sweep.measure(SWEEP_LAYERS, ["adaptive_rmu"], naive_steps=3)
    model, tokenizer = load_model(device="cpu")
    config, rate = UnlearnConfig(), step.matmul_rate()
    (batch,) = token_batches(tokenizer, load_corpus("forget_bio")["text"][:BATCH], BATCH, config.max_length)
    tokens = batch.input_ids.shape[1]
    asked = [
        tokens_of_question
        for topic in sweep.TOPICS
        for tokens_of_question in evaluation.tokens_of(
            tokenizer, load_questions(topic, split="test").shuffle(seed=0).select(range(100))
        )
    ]
    depth = len(found["layers"])
    steps = {layer: step.floor_flops(model, layer, config.batch_size, tokens) for layer in found["layers"]}
    blocks = model.config.num_hidden_layers
    above = sum(evaluation.floor_flops(model, asked, blocks - layer + 2) for layer in found["layers"]) / depth
    last = steps[found["layers"][-1]]
    shared = config.steps * (last["cold"] - last["cached"]) + evaluation.floor_flops(model, asked)
    return found | {
        "floor": (config.steps * last["cached"] + above) / rate,
        "floor of what is shared": shared / rate,
    }


PARTS: dict[str, tuple[Callable[[], object], Callable[[object], list[Line]]]] = {
    "step": (lambda: step.measure_all((7, 27), 5), step_lines),
    "evaluation": (evaluation.measure, lambda found: pattern_lines("evaluation", f"{found['questions']} questions", found)),
    "gcg": (candidates.measure, lambda found: pattern_lines("gcg", "one candidate", found)),
    "sweep": (measure_sweep, sweep_lines),
}


def table_of(lines: Sequence[Line]) -> Table:
    """The lines for reading."""
    table = Table("part", "what", "measured", "goal", "")
    for line in lines:
        number = f"{line.value:.4f}" if line.value < 0.1 else f"{line.value:.2f}"
        table.add_row(line.part, line.what, f"{number} {line.unit}", str(line.goal or ""), line.verdict)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts, print the table, and store it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}; choose from {', '.join(PARTS)}")
    console = Console()
    found, lines = {}, []
    for part in given.parts or PARTS:
        measure, lines_of = PARTS[part]
        console.print(f"measuring {part} ...")
        found[part] = measure()
        lines += lines_of(found[part])
    console.print(table_of(lines))
    if given.json:
        table = [asdict(line) | {"verdict": line.verdict} for line in lines]
        write_json(given.json, {"benchmark": "all", "table": table, "parts": found, "provenance": provenance()})


if __name__ == "__main__":
    main()

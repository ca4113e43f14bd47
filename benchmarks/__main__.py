"""One table of what is fast and small here, against the published pattern and the arithmetic floor, in one run.

    python -m benchmarks [step evaluation gcg sweep large] [--json FILE]

Each part measures both patterns on this machine, one after the other, so its ratios mean something anywhere; seconds
and minutes only on a machine that is otherwise idle. The published pattern runs as a user would run it, with torch's
defaults in float32, and on equal terms, with the product that the package chooses. What each part does is said in its own
file (`benchmarks/step.py`, `evaluation.py`, `candidates.py`, `sweep.py`, `large.py`). ``--json FILE`` keeps the latest run
of each part in FILE and the numbers of earlier ones, with machine, product and time, in its ``history``.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import candidates, evaluation, large, step, sweep
from benchmarks.arguments import result_file
from benchmarks.step import BATCH
from rmu_lab import UnlearnConfig, load_corpus, load_model, load_questions
from rmu_lab.corpora import token_batches
from rmu_lab.files import write_json
from rmu_lab.matmul import chosen_matmul
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


AS_USER = {
    ("cold", "float32"): {7: 10, 27: 7},
    ("cold", "bfloat16"): {7: 17, 27: 12},
    ("cached", "float32"): {7: 22, 27: 36},
    ("cached", "bfloat16"): {7: 35, 27: 55},
}
"""How many times faster a step is to be than the published loop as a user would run it, by layer."""
ON_EQUAL_TERMS = {7: 5.5, 27: 4.0}
"""The same, fresh batches and both in float32 with the same product."""
THAN_FIRST_EDITION = {"float32": 1.7, "bfloat16": 3.2}
"""How many times faster an evaluation is to be than the first edition's."""


def step_lines(rows: Sequence[dict]) -> list[Line]:
    """Of `step.measure_all`."""
    lines = []
    for row in rows:
        layer, pattern, dtype = row["layer"], row["pattern"], row["dtype"]
        name = f"layer {layer}, {pattern}, {dtype}"
        if pattern == "published":
            as_run = "torch's default" if row["product"] == "default" else "the chosen product"
            lines.append(Line("step", f"{name}, {as_run}: one step", row["seconds"], "s"))
            continue
        bound = AS_USER[pattern, dtype].get(layer)
        lines += [
            Line("step", f"{name}: one step", row["seconds"], "s"),
            Line("step", f"{name}: faster than a user's", row["speed-up"], "x", bound and Goal(at_least=bound)),
        ]
        if (pattern, dtype) == ("cold", "float32"):
            goal = ON_EQUAL_TERMS.get(layer)
            faster = row["speed-up on equal terms"]
            lines.append(Line("step", f"{name}: faster on equal terms", faster, "x", goal and Goal(at_least=goal)))
        lines += [
            Line("step", f"{name}: of the floor", row["times the floor"], "x"),
            Line("memory", f"{name}: beyond the model", row["memory in model copies"], "copies", Goal(at_most=0.35)),
        ]
    return lines


def evaluation_lines(found: Sequence[dict]) -> list[Line]:
    """Of `evaluation.measure` in each type."""
    lines = []
    for row in found:
        what, seconds, dtype = f"{row['questions']} questions, {row['dtype']}", row["seconds"], row["dtype"]
        lines += [
            Line("evaluation", what, seconds, "s"),
            Line("evaluation", f"{what}: faster than a user's", row["published as a user would run it"] / seconds, "x"),
            Line("evaluation", f"{what}: faster on equal terms", row["published"] / seconds, "x"),
            Line("evaluation", f"{what}: faster than the first edition's", row["first edition"] / seconds, "x",
                 Goal(at_least=THAN_FIRST_EDITION[dtype])),
            Line("evaluation", f"{what}: of the floor", seconds / row["floor"], "x"),
        ]  # fmt: skip
    return lines


def large_lines(found: dict) -> list[Line]:
    """Of `large.measure`."""
    return [
        *(Line("large", f"{found['model']}: {part}", seconds, "s") for part, seconds in found["seconds"].items()),
        Line("large", f"{found['model']}: all", found["total"], "s", Goal(at_most=75)),
        Line("memory", f"{found['model']}: peak, the model included", found["model copies"], "copies", Goal(at_most=1.5)),
    ]


def sweep_lines(found: dict) -> list[Line]:
    """Of `sweep.measure` with three layers from bottom to top, whose mean stands for all."""
    each = found["seconds of training, a setting"] + found["seconds of evaluation, a setting"]
    naive = found["naive"]["seconds"] / found["settings"]
    whole = found["seconds"] - found["settings"] * each + WHOLE_SWEEP * each
    return [
        Line("sweep", "a setting: training", found["seconds of training, a setting"], "s"),
        Line("sweep", "a setting: evaluation", found["seconds of evaluation, a setting"], "s"),
        Line("sweep", f"all {WHOLE_SWEEP} settings, put together from these", whole / 60, "min", Goal(at_most=6)),
        Line("sweep", "faster than the naive sweep", WHOLE_SWEEP * naive / whole, "x"),
        Line("sweep", "of the floor", whole / (found["floor of what is shared"] + WHOLE_SWEEP * found["floor"]), "x"),
    ]


def candidate_lines(found: dict) -> list[Line]:
    """Of `candidates.measure`."""
    return [
        Line("gcg", "one candidate", found["seconds"], "s"),
        Line("gcg", "one candidate: faster than published", found["published"] / found["seconds"], "x"),
        Line("gcg", "one candidate: of the floor", found["seconds"] / found["floor"], "x"),
    ]


def measure_sweep() -> dict:
    """A sweep over three layers, and its floor: per setting, and of the passes that all settings share."""
    found = sweep.measure(SWEEP_LAYERS, ["adaptive_rmu"], naive_steps=3)
    model, tokenizer = load_model(device="cpu")
    config, rate = UnlearnConfig(), step.fastest_rates()["float32"]
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


PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], list[Line]]]] = {
    "step": (lambda: step.measure_all((7, 27), 5), step_lines),
    "evaluation": (lambda: [evaluation.measure(dtype) for dtype in ("float32", "bfloat16")], evaluation_lines),
    "gcg": (candidates.measure, candidate_lines),
    "sweep": (measure_sweep, sweep_lines),
    "large": (lambda: step.run_alone(large.measure, "qwen2.5-coder-1.5b"), large_lines),
}


def table_of(lines: Sequence[Line]) -> Table:
    """The lines for reading."""
    table = Table("part", "what", "measured", "goal", "")
    for line in lines:
        number = f"{line.value:.4f}" if line.value < 0.1 else f"{line.value:.2f}"
        table.add_row(line.part, line.what, f"{number} {line.unit}", str(line.goal or ""), line.verdict)
    return table


def rows_of(lines: Sequence[Line]) -> list[dict]:
    """The lines as plain values, with their verdicts."""
    return [asdict(line) | {"verdict": line.verdict} for line in lines]


def stored(file: Path, tables: Mapping[str, list[dict]], found: Mapping[str, Any]) -> dict:
    """What `file` is to hold: the latest run of each part, and in ``history`` the numbers of those before it.

    Every one with its provenance: parts need not be measured in one run.
    """
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"parts": {}, "history": []}
    replaced = [
        {"part": part, "numbers": {line["what"]: line["value"] for line in run["table"]}, "provenance": run["provenance"]}
        for part, run in before["parts"].items()
        if part in tables
    ]
    new = {part: {"table": tables[part], "found": found[part], "provenance": provenance()} for part in tables}
    return {"benchmark": "all", "parts": before["parts"] | new, "history": [*before["history"], *replaced]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts, print the table, and store it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}; choose from {', '.join(PARTS)}")
    console = Console()
    console.print(f"float32 products: {chosen_matmul()} (RMU_LAB_MATMUL chooses)")
    found, lines = {}, {}
    for part in given.parts or PARTS:
        measure, lines_of = PARTS[part]
        console.print(f"measuring {part} ...")
        found[part] = measure()
        lines[part] = lines_of(found[part])
    console.print(table_of(list(itertools.chain(*lines.values()))))
    if given.json:
        write_json(given.json, stored(given.json, {part: rows_of(of_part) for part, of_part in lines.items()}, found))


if __name__ == "__main__":
    main()

"""Seconds and peak memory of unlearning a 1.5B model on this machine: load, score, edit, score again.

    python -m benchmarks.large [--model qwen2.5-coder-1.5b] [--json FILE]

One Adaptive RMU edit (layer 8, 40 steps of 4 + 4 texts of 64 tokens) of a model in bfloat16, whose trained matrices are
float32, with 100 questions by letter on infectious disease and 100 general ones before and after. Unlearning is part of the
check, not a result: how well it works is measured elsewhere, with several directions. Some two minutes and 5 GB of memory.
"""

import argparse
import resource
import time

from rich.console import Console
from rich.table import Table

from benchmarks.arguments import result_file
from rmu_lab import UnlearnConfig, accuracy, load_corpus, load_model, load_questions, unlearn
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance

SETTINGS = UnlearnConfig(layer=8, beta=5.0, alpha=300.0, lr=3e-4, steps=40, batch_size=4, max_length=64)
QUESTIONS = 100


def measure(name: str) -> dict:
    """Seconds of each part, accuracies, and the process's peak memory in bytes and in copies of the model."""
    seconds = {}

    def timed(part: str, function, *arguments, **named):
        start = time.perf_counter()
        result = function(*arguments, **named)
        seconds[part] = time.perf_counter() - start
        return result

    def scores() -> dict[str, float]:
        return {topic: accuracy(model, tokenizer, rows, style="letter", progress=False).accuracy
                for topic, rows in questions.items()}  # fmt: skip

    model, tokenizer = timed("load", load_model, name, device="cpu", dtype="bfloat16")
    questions = {
        topic: load_questions(topic, split="dev").shuffle(seed=0).select(range(QUESTIONS)) for topic in ("bio", "general")
    }
    before = timed("score before", scores)
    texts = (load_corpus("forget_bio"), load_corpus("retain_general"))
    result = timed("unlearn", unlearn, model, tokenizer, *texts, SETTINGS, progress=False)
    with result.applied(model):
        after = timed("score after", scores)
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "model": name,
        "seconds": seconds,
        "total": sum(seconds.values()),
        "accuracy before": before,
        "accuracy after": after,
        "model bytes": model_bytes,
        "peak bytes": peak,
        "model copies": peak / model_bytes,
    }


def main() -> None:
    """Measure, print the table, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--json", type=result_file)
    given = parser.parse_args()
    found = measure(given.model)
    table = Table("part", "seconds")
    for part, seconds in (found["seconds"] | {"all": found["total"]}).items():
        table.add_row(part, f"{seconds:.1f}")
    console = Console()
    console.print(table)
    for when in ("before", "after"):
        console.print(when, {topic: f"{share:.0%}" for topic, share in found[f"accuracy {when}"].items()})
    console.print(f"peak memory {found['peak bytes'] / 1e9:.1f} GB, {found['model copies']:.2f} copies of the model")
    if given.json:
        write_json(given.json, {"benchmark": "large", **found, "provenance": provenance()})


if __name__ == "__main__":
    main()

"""Forgetting a topic from twelve sentences, from three, and from near-copies of one, with three directions each.

    python -m benchmarks.own_topic --out data/results/own_topic

Notebook 00 trains the first direction itself and reads the other two here: what one direction shows may be its luck.
"""

import argparse
from pathlib import Path

from rich.console import Console

from rmu_lab import grid, load_corpus, load_model, load_questions, sweep
from rmu_lab.course import ready_topic

SEEDS = (0, 1, 2)  # of the direction u


def main() -> None:
    """Run one sweep for each choice of sentences; one that was stopped goes on where it was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--questions", type=int, default=60, help="general ones, drawn as in the notebook")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    topic, retain = ready_topic(), load_corpus("retain_general")
    general = load_questions("general", split="test").shuffle(seed=0).select(range(arguments.questions))
    questions = {topic.name: topic.questions, "neighbours": topic.neighbours, "general knowledge": general}
    for name, texts in topic.variants.items():
        path = arguments.out / f"{name.replace(' ', '_')}.jsonl"
        rows = sweep(model, tokenizer, list(texts), retain, grid(seed=SEEDS), questions, out=path)
        Console().print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()

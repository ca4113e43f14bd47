"""What the base model scores on every question set, with and without seeing the questions.

    python -m benchmarks.questions [--json FILE]

The second column replaces every prompt by a bare ``Answer:``: what the options alone give away. The
table stands in the data card (`data/README.md`), its numbers in `data/results/questions.json`.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rmu_lab import accuracy, load_model, load_questions
from rmu_lab.files import data_folder, write_json
from rmu_lab.provenance import provenance

COLUMNS = ("set", "split", "questions", "base model", "options alone")


def percent(score: dict) -> str:
    """An accuracy with its interval, as the table shows it."""
    low, high = score["interval"]
    return f"{score['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def table_row(row: dict) -> tuple[str, ...]:
    """One line of the data card's table."""
    return row["set"], row["split"], str(row["questions"]), percent(row["base model"]), percent(row["options alone"])


def main() -> None:
    """Score every set and split and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    rows = []
    for path in sorted((data_folder() / "questions").glob("*.jsonl")):
        for split in ("dev", "test"):
            questions = list(load_questions(path, split=split))
            seen = accuracy(model, tokenizer, questions)
            unseen = accuracy(model, tokenizer, questions, prompt=lambda _row: "Answer:")
            scores = {"base model": seen, "options alone": unseen}
            plain = {name: {"accuracy": score.accuracy, "interval": score.interval} for name, score in scores.items()}
            rows.append({"set": path.stem, "split": split, "questions": len(questions), **plain})
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*table_row(row))
    Console().print(table)
    print("\n".join("| " + " | ".join(table_row(row)) + " |" for row in rows))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "questions", "rows": rows, "provenance": provenance()})


if __name__ == "__main__":
    main()

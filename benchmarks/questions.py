"""What a base model scores on the question sets: by cloze and by letter, and by the options alone.

    python -m benchmarks.questions --json data/results/questions.json
    python -m benchmarks.questions --model qwen2.5-coder-1.5b --json data/results/questions/qwen2.5-coder-1.5b.json

The last column of each way of asking leaves the question out: what the options alone give away. SmolLM2's table, by cloze,
and that of the hard sets, on all models, stand in the data card (`data/README.md`).
"""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.arguments import result_file
from rmu_lab import accuracy, load_model, load_questions
from rmu_lab.evaluate import Accuracy
from rmu_lab.files import data_folder, write_json
from rmu_lab.provenance import provenance
from rmu_lab.questions import LETTERS
from rmu_lab.study.studied_models import MAIN, STUDIED

COLUMNS = ("set", "split", "questions", "base model", "options alone")
HARD = ("bio_hard", "cyber_hard", "general_hard")


def options_alone(row: Mapping[str, Any]) -> str:
    """Write the lettered options without their question."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False)) + "\nAnswer:"


def percent(score: Mapping[str, Any]) -> str:
    """A stored accuracy with its interval, as the table shows it."""
    low, high = score["interval"]
    return f"{score['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def table_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the data card's table of SmolLM2."""
    return row["set"], row["split"], str(row["questions"]), percent(row["base model"]), percent(row["options alone"])


def hard_table(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """The data card's table of the hard sets in Markdown, dev and test together, from each model's stored rows."""
    if not stored:
        return "(not measured yet)"
    titles = [STUDIED[name].title for name in stored]
    lines = [
        "| set | questions | " + " | ".join(f"{title}, by letter | by cloze | options alone" for title in titles) + " |"
    ]
    lines.append("|" + "---|" * (2 + 3 * len(titles)))
    for name in HARD:
        by_model = [{row["style"]: row for row in found["whole sets"] if row["set"] == name} for found in stored.values()]
        cells = [
            percent(score)
            for rows in by_model
            for score in (rows["letter"]["base model"], rows["cloze"]["base model"], rows["letter"]["options alone"])
        ]
        lines.append(f"| {name} | {by_model[0]['letter']['questions']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(model_name: str) -> dict[str, list[dict[str, Any]]]:
    """Score sets by split and as a whole."""
    model, tokenizer = load_model(model_name, device="cpu", dtype=STUDIED[model_name].dtype)

    def scores(questions: Any, style: Any) -> dict[str, Any]:
        alone = (lambda _row: "Answer:") if style == "cloze" else options_alone
        seen = accuracy(model, tokenizer, questions, style=style, progress=False)
        unseen = accuracy(model, tokenizer, questions, style=style, prompt=alone, progress=False)
        return {"questions": len(questions), "base model": plain(seen), "options alone": plain(unseen)}

    names = [path.stem for path in sorted((data_folder() / "questions").glob("*.jsonl")) if path.stem not in HARD]
    rows = [
        {"set": name, "split": split} | scores(load_questions(name, split=split), "cloze")
        for name in names if model_name == MAIN for split in ("dev", "test")
    ]  # fmt: skip
    whole = [
        {"set": name, "style": style} | scores(load_questions(name), style) for name in HARD for style in ("letter", "cloze")
    ]
    return {"rows": rows, "whole sets": whole}


def plain(score: Accuracy) -> dict[str, Any]:
    """What is stored of an accuracy."""
    return {"accuracy": score.accuracy, "interval": score.interval}


def main() -> None:
    """Score every set and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MAIN, choices=list(STUDIED))
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    arguments = parser.parse_args()
    found = measure(arguments.model)
    table = Table(*COLUMNS, "asked by")
    for row in found["rows"]:
        table.add_row(*table_row(row), "cloze")
    for row in found["whole sets"]:
        table.add_row(*table_row(row | {"split": "both"}), row["style"])
    Console().print(table)
    if arguments.json:
        write_json(arguments.json, {"benchmark": "questions", "model": arguments.model, **found, "provenance": provenance()})


if __name__ == "__main__":
    main()

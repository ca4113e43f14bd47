"""What SmolLM2 still knows of every question set after unlearning at the demo's settings: the data card's table.

    python -m benchmarks.data_card [--json FILE] [--card FILE]

Infectious disease, computer security, and both at once with a direction each, for as many steps and for as many steps of
each; all `test` questions. ``--json`` stores the numbers, ``--card`` writes the tables and two examples of each set,
from what is stored and from the files, between the marks in `data/README.md`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.arguments import result_file
from benchmarks.questions import hard_table
from rmu_lab import UnlearnConfig, accuracy, accuracy_change, load_corpus, load_model, load_questions, unlearn
from rmu_lab.evaluate import Accuracy
from rmu_lab.files import data_folder, write_json
from rmu_lab.provenance import provenance
from rmu_lab.study.claim_table import put_between
from rmu_lab.study.studied_models import MAIN, STUDIED

SETS = ("bio", "cyber", "general", "neighbours")
DEMO = UnlearnConfig()  # what `rmu-lab demo` takes
STORED = data_folder() / "results" / "data_card.json"


def measure() -> dict[str, dict[str, Any]]:
    """Score the base model, its options alone, and every edit, by what was unlearned."""
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    bio, cyber, general = (load_corpus(name) for name in ("forget_bio", "forget_cyber", "retain_general"))
    both = {"bio": bio, "cyber": cyber}
    edits = {
        "bio": (bio, DEMO),
        "cyber": (cyber, DEMO),
        f"both, {DEMO.steps} steps": (both, DEMO),
        f"both, {2 * DEMO.steps} steps": (both, replace(DEMO, steps=2 * DEMO.steps)),
    }
    questions = {name: load_questions(name, split="test") for name in SETS}

    def scores(**how: Any) -> dict[str, Accuracy]:
        return {name: accuracy(model, tokenizer, rows, progress=False, **how) for name, rows in questions.items()}

    base = scores()
    found = {"nothing": plain(base), "nothing; options alone": plain(scores(prompt=lambda _row: "Answer:"))}
    for name, (forget, config) in edits.items():
        result = unlearn(model, tokenizer, forget, general, config, progress=False)
        with result.applied(model):
            after = scores()
        changes = {topic: accuracy_change(base[topic], score) for topic, score in after.items()}
        found[name] = plain(after) | {
            "changes": {topic: [change.change, change.interval] for topic, change in changes.items()},
            "settings": config.to_dict(),
        }
        Console().print(f"{name}: {', '.join(f'{topic} {score}' for topic, score in after.items())}")
    return found


def plain(scores: Mapping[str, Accuracy]) -> dict[str, Any]:
    """Scores as they are stored."""
    return {"scores": {name: score.to_dict() for name, score in scores.items()}}


def results_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The stored numbers in Markdown: a line for each edit, a column for each set."""
    lines = [f"| unlearned | {' | '.join(SETS)} |", "|---" * (1 + len(SETS)) + "|"]
    for name, row in found.items():
        cells = []
        for topic in SETS:
            score = row["scores"][topic]
            low, high = score["interval"]
            cells.append(f"{score['accuracy']:.1%} [{low:.1%}, {high:.1%}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def examples() -> str:
    """The first two entries of each file in Markdown."""
    return "\n".join([*_passages(), *_questions()])


def _passages() -> Iterator[str]:
    for path in sorted((data_folder() / "corpora").glob("*.jsonl")):
        yield f"\n`{path.stem}`\n"
        yield from (f"* **{row['title']}** ({row['topic']}). {row['text']}" for row in load_corpus(path).select(range(2)))


def _questions() -> Iterator[str]:
    for path in sorted((data_folder() / "questions").glob("*.jsonl")):
        yield f"\n`{path.stem}`\n"
        for row in load_questions(path).select(range(2)):
            options = (f"**{text}**" if index == row["answer"] else text for index, text in enumerate(row["choices"]))
            yield f"* {row['question']} {' / '.join(options)}"


def write_card(card: Path, stored: Mapping[str, Any]) -> None:
    """Put table and examples into the data card."""
    put_between(card, "results", results_table(stored["rows"]))
    put_between(card, "examples", examples())
    put_between(card, "hard", hard_table({name: found for name, found in stored_scores().items() if "whole sets" in found}))


def stored_scores() -> dict[str, Any]:
    """What models of the study score before unlearning, as far as `benchmarks.questions` stored it."""
    folder = data_folder() / "results"
    files = {name: folder / ("questions.json" if name == MAIN else f"questions/{name}.json") for name in STUDIED}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items() if path.is_file()}


def main() -> None:
    """Measure and store, or write the card from what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=result_file, help="measure, and write the numbers to this file")
    parser.add_argument("--card", type=Path, help="write table and examples into this file, from what is stored")
    arguments = parser.parse_args()
    if arguments.json or not arguments.card:
        found = measure()
        print(results_table(found))
        if arguments.json:
            write_json(arguments.json, {"benchmark": "data card", "rows": found, "provenance": provenance(DEMO.seed)})
    if arguments.card:
        write_card(arguments.card, json.loads((arguments.json or STORED).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

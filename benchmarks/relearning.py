"""How soon RMU's and Adaptive RMU's topic comes back: the stored relearning curves of notebook 07.

    python -m benchmarks.relearning --out data/results/relearning

`rates.jsonl`: the learning rate that brings most back, found for each edit, kind of text and kind of training on dev
questions, under a bound of five points on general accuracy. `curves.jsonl`: with it, accuracy on `test` questions against
steps, three directions, two draws of texts; and the same fine-tune of the base model. What a stopped run has written is
not run again.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.lines import Lines
from rmu_lab import UnlearnConfig, UnlearnResult, load_corpus, load_model, load_questions, unlearn
from rmu_lab.attacks import RelearnConfig, as_texts, half_back, other_facts, relearning_curve, search_rate
from rmu_lab.attacks.fine_tune import Trained
from rmu_lab.attacks.relearning_speed import RelearningCurve
from rmu_lab.provenance import provenance

EDITS = {"rmu": UnlearnConfig(method="rmu", coefficient=570.0), "adaptive_rmu": UnlearnConfig()}
SEEDS = (0, 1, 2)  # of the direction u
DRAWS = (0, 1)  # of the texts, and of the split of the facts
TEXTS = 10  # as many as Łucki et al. fine-tune on
KINDS: tuple[tuple[str, Trained], ...] = (  # texts, and what is trained
    ("unrelated", "all"),
    ("topic", "all"),
    ("other facts", "all"),
    ("facts of another topic", "all"),
    ("topic", "edited"),
    ("topic", "lora"),
)
DEV, TEST = 64, 100  # questions


@cache
def material(texts: str, draw: int) -> tuple[list[str], list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Texts to learn, dev questions for the choice of a rate, and test questions."""
    dev, test = (list(load_questions("bio", split=split).shuffle(seed=0)) for split in ("dev", "test"))
    if texts == "other facts":
        taught, asked = other_facts([*dev, *test], draw)
        ids = {row["id"] for row in asked}
        asked_dev, asked_test = ([row for row in rows if row["id"] in ids] for rows in (dev, test))
        return as_texts(taught), asked_dev[:DEV], asked_test[:TEST]
    if texts == "facts of another topic":
        others = list(load_questions("cyber").shuffle(seed=draw))
        return as_texts(others[: len(dev)]), dev[:DEV], test[:TEST]
    corpus = load_corpus({"unrelated": "retain_general", "topic": "forget_bio"}[texts])["text"]
    return list(corpus[TEXTS * draw : TEXTS * (draw + 1)]), dev[:DEV], test[:TEST]


def main(given: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    out = parser.parse_args(given).out
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    general = list(load_questions("general", split="dev").shuffle(seed=0))[:DEV]
    rates = Lines(out / "rates.jsonl", ("edit", "seed", "texts", "trained"))
    curves = Lines(out / "curves.jsonl", ("edit", "seed", "texts", "trained", "draw"))

    @cache
    def edit(name: str, seed: int) -> UnlearnResult:
        forget, retain = load_corpus("forget_bio"), load_corpus("retain_general")
        config = dataclasses.replace(EDITS[name], seed=seed)
        return unlearn(model, tokenizer, forget, retain, config, progress=False)

    def on(name: str, seed: int, make: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
        """What is made of the base model or of an edit, given the names of the edited matrices."""
        if name == "base":
            return make(list(edit("rmu", SEEDS[0]).edit))
        with edit(name, seed).applied(model):
            return make(list(edit(name, seed).edit))

    def rate(name: str, seed: int, texts: str, trained: Trained) -> float:
        if name == "base":  # its control is the fine-tune that was found for RMU
            return rate("rmu", SEEDS[0], texts, trained)

        def search(edited: list[str]) -> dict[str, Any]:
            learned, dev, _ = material(texts, DRAWS[0])
            config = RelearnConfig(trained=trained)
            best, tried = search_rate(model, tokenizer, learned, dev, general, config, edited=edited, progress=False)
            return {"lr": best.lr, "tried": [dataclasses.asdict(one) for one in tried], "provenance": provenance(0)}

        key = {"edit": name, "seed": seed, "texts": texts, "trained": trained}
        return rates.add(lambda: on(name, seed, search), **key)["lr"]

    def curve(name: str, seed: int, texts: str, trained: Trained, draw: int) -> None:
        config = RelearnConfig(lr=rate(name, seed, texts, trained), trained=trained, seed=draw)
        learned, _, asked = material(texts, draw)

        def run(edited: list[str]) -> dict[str, Any]:
            found = relearning_curve(model, tokenizer, learned, asked, config, edited=edited, progress=False)
            return {"curve": found.to_dict(), "seconds": found.seconds, "provenance": provenance(draw)}

        curves.add(lambda: on(name, seed, run), edit=name, seed=seed, texts=texts, trained=trained, draw=draw)

    for texts, trained in KINDS:
        for draw in DRAWS:
            curve("base", 0, texts, trained, draw)
            for name in EDITS:
                for seed in SEEDS:
                    curve(name, seed, texts, trained, draw)
            found = {name: read_curves(curves.rows, edit=name, texts=texts, trained=trained, draw=draw) for name in EDITS}
            (base,) = read_curves(curves.rows, edit="base", texts=texts, trained=trained, draw=draw)
            for name, ours in found.items():
                r50 = half_back(ours, base.scores[0])
                Console().print(f"{name}, {texts}, {trained}, draw {draw}: R50 {r50} tokens", markup=False)


def read_curves(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> list[RelearningCurve]:
    """The curves of the stored lines that have these values."""
    return [
        RelearningCurve.from_dict(row["curve"]) for row in rows if all(row[name] == value for name, value in wanted.items())
    ]


if __name__ == "__main__":
    main()

"""How soon RMU's and Adaptive RMU's topic comes back: the stored relearning curves of notebook 07.

    python -m benchmarks.relearning --out data/results/relearning

`rates.jsonl`: the learning rate that brings most back, found for each method, kind of text and kind of training on dev
questions with a direction of its own, under a bound of five points on general accuracy. `curves.jsonl`: with it, accuracy on
`test` questions against tokens, three fresh directions, two draws of texts; and the same fine-tune of the base model. What a
stopped run has written is not run again.
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
DEV_SEED, SEEDS = 100, (340, 341, 342)  # of the direction u; the three were not used before
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
    model, tokenizer = load_model("smollm2-135m", device="cpu", dtype="auto")
    general = list(load_questions("general", split="dev").shuffle(seed=0))[:DEV]
    rates = Lines(out / "rates.jsonl", ("edit", "texts", "trained"))
    curves = Lines(out / "curves.jsonl", ("edit", "direction", "texts", "trained", "draw", "lr"))

    @cache
    def edit(name: str, seed: int) -> UnlearnResult:
        forget, retain = load_corpus("forget_bio"), load_corpus("retain_general")
        config = dataclasses.replace(EDITS[name], seed=seed)
        return unlearn(model, tokenizer, forget, retain, config, progress=False)

    edited = list(edit("rmu", DEV_SEED).edit)  # the same matrices in all

    def on(name: str, seed: int | None) -> AbstractContextManager[Any]:
        return nullcontext() if seed is None else edit(name, seed).applied(model)

    def rate(name: str, texts: str, trained: Trained) -> float:
        """What brings most back of an edit with a direction of its own."""

        def search() -> dict[str, Any]:
            learned, dev, _ = material(texts, DRAWS[0])
            start, config = time.perf_counter(), RelearnConfig(trained=trained)
            with on(name, DEV_SEED):
                best, tried = search_rate(model, tokenizer, learned, dev, general, config, edited=edited, progress=False)
            trials, seconds = [dataclasses.asdict(one) for one in tried], time.perf_counter() - start
            return {"lr": best.lr, "tried": trials, "seconds": seconds, "provenance": provenance(0)}

        return rates.add(search, edit=name, texts=texts, trained=trained)["lr"]

    def curve(name: str, seed: int | None, texts: str, trained: Trained, draw: int, lr: float) -> RelearningCurve:
        """A fine-tune of an edit, or of the base model."""

        def run() -> dict[str, Any]:
            config = RelearnConfig(lr=lr, trained=trained, seed=draw)
            learned, _, asked = material(texts, draw)
            with on(name, seed):
                found = relearning_curve(model, tokenizer, learned, asked, config, edited=edited, progress=False)
            return {"curve": found.to_dict(), "seconds": found.seconds, "provenance": provenance(draw)}

        key = {"edit": name, "direction": seed, "texts": texts, "trained": trained, "draw": draw, "lr": lr}
        return RelearningCurve.from_dict(curves.add(run, **key)["curve"])

    for texts, trained in KINDS:
        for draw in DRAWS:
            for name in EDITS:
                lr = rate(name, texts, trained)
                base = curve("base", None, texts, trained, draw, lr)
                found = [curve(name, seed, texts, trained, draw, lr) for seed in SEEDS]
                r50 = half_back(found, base.scores[0])
                Console().print(f"{name}, {texts}, {trained}, draw {draw}: R50 {r50} tokens", markup=False)


if __name__ == "__main__":
    main()

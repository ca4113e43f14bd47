"""Free embeddings against the base model, RMU and Adaptive RMU: the stored soft prompts of notebook 06.

    python -m benchmarks.soft_prompts --out data/results/soft_prompts

`rates.jsonl`: learning rates tried on dev questions, half of them trained on and half asked, with a direction of their
own. `shared.jsonl`: one soft prompt, trained on the answers to all dev questions and asked 100 `test` questions, for each
of three directions; its controls are trained on wrong answers and on the base model. `each.jsonl`: a soft prompt for every
option of 24 `test` questions. What a stopped run has written is not run again.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lines import Lines
from rmu_lab import UnlearnConfig, load_corpus, load_model, load_questions, unlearn
from rmu_lab.attacks import Budget, SoftPromptConfig, Subject, soft_prompt, soft_prompt_each
from rmu_lab.provenance import provenance

EDITS = {"rmu": UnlearnConfig(method="rmu", coefficient=570.0), "adaptive_rmu": UnlearnConfig()}
DEV_SEED, SEEDS = 100, (0, 1, 2)  # of the direction u
RATES = (0.03, 0.1, 0.3, 1.0)
STEPS = (80, 240)
TEST, EACH = 100, 24  # questions


def main(given: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    out = parser.parse_args(given).out
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    dev, test = (list(load_questions("bio", split=split).shuffle(seed=0)) for split in ("dev", "test"))
    half = len(dev) // 2

    def subject(name: str, seed: int, asked: Sequence[Any], known: Sequence[Any]) -> Subject:
        forget, retain = load_corpus("forget_bio"), load_corpus("retain_general")
        result = unlearn(model, tokenizer, forget, retain, dataclasses.replace(EDITS[name], seed=seed), progress=False)
        return Subject(model, tokenizer, result, asked, dev_questions=known, n_generations=0)

    quiet = Budget(progress=False)
    rates = Lines(out / "rates.jsonl", ("edit", "lr", "steps"))
    on_dev = subject("rmu", DEV_SEED, dev[half:], dev[:half])

    def tried(config: SoftPromptConfig) -> dict[str, Any]:
        found = soft_prompt(on_dev, quiet, config)
        scores = {"attacked": found.attacked.to_dict(), "losses": found.details["losses"], "seconds": found.seconds}
        return scores | {"accuracy": found.attacked.accuracy, "provenance": provenance(0)}

    rows = [
        rates.add(lambda: tried(SoftPromptConfig(lr=lr, steps=steps)), edit="rmu", lr=lr, steps=steps)  # noqa: B023
        for steps in STEPS
        for lr in RATES
    ]
    best = max(rows, key=lambda row: (row["accuracy"], -row["steps"], -row["lr"]))
    config = SoftPromptConfig(lr=best["lr"], steps=best["steps"])
    shared, each = (Lines(out / f"{name}.jsonl", ("edit", "seed")) for name in ("shared", "each"))
    for seed in SEEDS:
        for name in EDITS:

            def one() -> dict[str, Any]:
                found = soft_prompt(subject(name, seed, test[:TEST], dev), quiet, config)  # noqa: B023
                return found.to_dict() | {"provenance": provenance(quiet.seed)}

            shared.add(one, edit=name, seed=seed)

            def many() -> dict[str, Any]:
                found = soft_prompt_each(subject(name, seed, test[:EACH], ()), quiet)  # noqa: B023
                return found.to_dict() | {"provenance": provenance(quiet.seed)}

            each.add(many, edit=name, seed=seed)


if __name__ == "__main__":
    main()

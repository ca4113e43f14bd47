"""How close the advisor's proposal comes to the best of a grid around it, on a model of your choice.

    python -m benchmarks.advisor --out data/results/advisor_smollm2.jsonl
    python -m benchmarks.advisor --model gemma-3-270m --weights 1 --out data/results/advisor/gemma3-270m.jsonl

The grid: the proposed layer, the middle and three quarters of the depth, each with the advisor's own numbers
for it, times lr x {1/3, 1, 3} and alpha x {1/10, 1} (or other factors). Adaptive RMU, `dev` questions, one
direction. The best is the least bio accuracy among settings that cost at most three points of general accuracy.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from rmu_lab import advise, load_corpus, load_model, load_questions, sweep

LOST = 0.03


def main() -> None:
    """Ask the advisor, run the grid, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="short name, path or hub id")
    parser.add_argument("--questions", type=int, default=64, help="of each dev set, drawn with a fixed seed")
    parser.add_argument("--rates", type=float, nargs="+", default=[1 / 3, 1.0, 3.0], help="times the proposed lr")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 1.0], help="times the proposed alpha")
    parser.add_argument("--out", type=Path, required=True, help="file of the rows")
    arguments = parser.parse_args()
    model, tokenizer = load_model(arguments.model, device="cpu")
    texts = [load_corpus(name) for name in ("forget_bio", "retain_general")]
    questions = {
        name: load_questions(name, split="dev").shuffle(seed=0).select(range(arguments.questions))
        for name in ("bio", "general")
    }
    advice = advise(model, tokenizer, *texts)
    depth = len(advice.profile)
    layers = dict.fromkeys((advice.layer, depth // 2, 3 * depth // 4))
    proposal = advice.config()
    settings = [proposal] + [
        replace(own, lr=own.lr * rate, alpha=own.alpha * weight)
        for own in map(advice.config, layers) for rate in arguments.rates for weight in arguments.weights
    ]  # fmt: skip
    base, proposed, *others = sweep(model, tokenizer, *texts, settings, questions, out=arguments.out)
    rows = [proposed, *others]
    cost = {row.key: base.scores["general"].accuracy - row.scores["general"].accuracy for row in rows if row.scores}
    cheap = [row for row in rows if row.scores and cost[row.key] <= LOST]
    best = min(cheap, key=lambda row: row.scores["bio"].accuracy) if cheap else None
    console = Console()
    for name, row in (("base", base), ("proposal", proposed), ("best of the grid", best)):
        if row is None:
            console.print(f"{name}: every setting costs more than {LOST:.0%} of general accuracy")
            continue
        config = row.config and {key: getattr(row.config, key) for key in ("layer", "beta", "alpha", "lr", "steps")}
        console.print(f"{name}: bio {row.scores['bio']}, general {row.scores['general']} {config or ''}")


if __name__ == "__main__":
    main()

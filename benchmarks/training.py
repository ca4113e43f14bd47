"""What the settings of RMU training do, at layer 7 of SmolLM2: the stored sweeps of notebook 04.

    python -m benchmarks.training --out data/results/training

Each part is one sweep with a file of its own in that folder; a part that was stopped goes on where it was.
Only `test` questions are asked: nothing is chosen by these numbers.
"""

import argparse
from itertools import chain
from pathlib import Path

from datasets import Dataset
from rich.console import Console

from rmu_lab import UnlearnConfig, grid, load_corpus, load_model, load_questions, sweep

SEEDS = (0, 1, 2)  # of the direction u
RMU = UnlearnConfig(method="rmu", coefficient=570.0)  # 5 times the median ||h|| after block 7
LONG = UnlearnConfig(method="rmu", coefficient=570.0, max_length=224)  # no text is cut, so that there is padding

FRONT = [
    *grid(base=RMU, coefficient=[228.0, 570.0, 1140.0], alpha=[30, 300, 3000], seed=SEEDS),
    *grid(base=RMU, coefficient=[228.0, 570.0, 1140.0], steps=[10, 80], seed=SEEDS),
    # alpha / c as with c = 570 and alpha = 300, so that c alone differs
    *(config for steps in (40, 80) for c, alpha in ((228.0, 120), (1140.0, 600))
      for config in grid(base=RMU, coefficient=[c], alpha=[alpha], steps=[steps], seed=SEEDS)),
]  # fmt: skip
OPTIMISER = [
    *grid(base=RMU, lr=[2e-3, 2e-2], seed=SEEDS),
    *(UnlearnConfig(**RMU.to_dict() | {"batch_size": size, "steps": steps, "seed": seed})
      for size, steps in ((1, 160), (16, 10)) for seed in SEEDS),  # the same number of texts
]  # fmt: skip
SWITCHES = [
    *grid(base=RMU, seed=SEEDS),
    *grid(base=RMU, count_first_token=[True], seed=SEEDS),
    *grid(base=RMU, loss_per=["text"], seed=SEEDS),
    *grid(base=RMU, mean_over_dimensions=[True]),
    *grid(base=RMU, mean_over_dimensions=[True], adam_epsilon=[1e-6]),
    *grid(base=RMU, direction=["isotropic"], seed=SEEDS),
    *grid(base=LONG, seed=SEEDS),
    *grid(base=LONG, count_padding=[True], padding_side=["left"], seed=SEEDS),
]
TWO_TOPICS = grid(base=RMU, steps=[80], direction=["positive", "isotropic"], seed=SEEDS)


def main() -> None:
    """Run every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--questions", type=int, default=100, help="of each test set, drawn with a fixed seed")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    bio, cyber, general, neighbours = (
        load_corpus(name) for name in ("forget_bio", "forget_cyber", "retain_general", "retain_neighbours")
    )
    both = list(chain.from_iterable(zip(general["text"], neighbours["text"], strict=False)))  # in turn

    def run(name: str, forget: Dataset | dict, retain: Dataset | list, settings: list[UnlearnConfig], *sets: str) -> None:
        questions = {topic: load_questions(topic, split="test").shuffle(seed=0) for topic in sets}
        questions = {topic: rows.select(range(min(arguments.questions, len(rows)))) for topic, rows in questions.items()}
        rows = sweep(model, tokenizer, forget, retain, settings, questions, out=arguments.out / f"{name}.jsonl")
        Console().print(f"{name}: {len(rows)} rows")

    run("front", bio, general, FRONT, "bio", "general")
    run("switches", bio, general, SWITCHES, "bio", "general")
    run("optimiser", bio, general, OPTIMISER, "bio", "general")
    run("two_topics", {"bio": bio, "cyber": cyber}, general, TWO_TOPICS, "bio", "cyber", "general")
    for name, retain, alphas in (("general", general, [0, 300]), ("neighbours", neighbours, [300]), ("both", both, [300])):
        run(f"retain_{name}", bio, retain, grid(base=RMU, alpha=alphas, seed=SEEDS), "bio", "neighbours", "general")


if __name__ == "__main__":
    main()

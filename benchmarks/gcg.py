"""Our GCG beside nanoGCG: the same prompts and settings, several seeds; loss after the same steps, seconds per candidate.

    pip install --no-deps nanogcg==0.3.0
    python -m benchmarks.gcg --steps 10 --width 32 --seeds 2 --json data/results/gcg/nanogcg.json

nanoGCG pins an older transformers, hence ``--no-deps``; its prefix cache does not run on today's caches, so it
is turned off there (`use_prefix_cache=False`). Both draw their own random numbers, so single runs differ and
only their averages can agree. The loss of the suffix that both start from must be the same number. No chat
template is used: nanoGCG takes the tokenizer's BOS token out of it, and SmolLM2's (`<|im_start|>`) opens every message.
"""

import argparse
import math
import time
from statistics import fmean, stdev

import nanogcg
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.arguments import result_file
from rmu_lab import load_model
from rmu_lab.attacks.greedy_coordinate import GCGConfig, gcg
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance

ATTACKS = (
    ("What is the largest planet of the solar system?", "A banana is blue and flies to school."),
    ("How is bread made?", "I will write about old ships now."),
    ("Name a river in Africa.", "The number you asked for is forty two."),
)


def theirs(model, tokenizer, prompt: str, target: str, config: GCGConfig) -> tuple[float, float, int]:
    """nanoGCG's lowest loss, the loss it starts from, and its seconds."""
    settings = nanogcg.GCGConfig(
        num_steps=config.num_steps, optim_str_init=config.suffix, search_width=config.search_width,
        batch_size=config.batch_size, topk=config.topk, n_replace=config.n_replace, buffer_size=config.buffer_size,
        use_prefix_cache=False, filter_ids=config.filter_ids, seed=config.seed, verbosity="ERROR",
    )  # fmt: skip
    start = time.perf_counter()
    attack = nanogcg.gcg.GCG(model, tokenizer, settings)
    first: list[float] = []
    plain = attack.init_buffer
    attack.init_buffer = lambda: first.append(float((buffer := plain()).get_lowest_loss())) or buffer
    result = attack.run(prompt, target)
    return result.best_loss, first[0], time.perf_counter() - start


def main() -> None:
    """Run both on every prompt and seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device=arguments.device)
    tokenizer.chat_template = None
    rows = []
    for seed in track(range(arguments.seeds)):
        for prompt, target in ATTACKS:
            config = GCGConfig(num_steps=arguments.steps, search_width=arguments.width, seed=seed, chat_template=False)
            ours = gcg(model, tokenizer, prompt, target, config, progress=False)
            torch.manual_seed(seed)
            loss, initial, seconds = theirs(model, tokenizer, prompt, target, config)
            assert math.isclose(initial, ours.initial_loss, rel_tol=1e-3), (initial, ours.initial_loss)
            candidates = sum(len(step.true) for step in ours.steps)
            rows.append({
                "prompt": prompt, "target": target, "seed": seed, "initial loss": initial,
                "ours": {"loss": ours.best_loss, "seconds": ours.seconds, "candidates": candidates},
                "nanoGCG": {"loss": loss, "seconds": seconds},
            })  # fmt: skip
    difference = [row["ours"]["loss"] - row["nanoGCG"]["loss"] for row in rows]
    seconds = {name: fmean(row[name]["seconds"] for row in rows) for name in ("ours", "nanoGCG")}
    result = {
        "benchmark": "gcg", "steps": arguments.steps, "width": arguments.width, "rows": rows,
        "loss, ours - nanoGCG": {"mean": fmean(difference), "standard error": stdev(difference) / len(rows) ** 0.5},
        "seconds of an attack": seconds, "speed-up": seconds["nanoGCG"] / seconds["ours"], "provenance": provenance(),
    }  # fmt: skip
    Console().print(
        f"Loss, ours - nanoGCG: {fmean(difference):+.3f} +- {stdev(difference) / len(rows) ** 0.5:.3f} (standard error of "
        f"{len(rows)} pairs); nanoGCG takes {result['speed-up']:.1f} times as long for as many candidates."
    )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()

"""Seconds and memory of one RMU step: the published pattern against the window trainer, in one run.

    python -m benchmarks.step [--steps 6] [--layers 7 15 27] [--json FILE]

Every cell of the table runs in a process of its own on SmolLM2 with batches of 4 + 4 texts of 128
tokens: the published loop (`tests/published_loop.py`: two models, whole forward passes), the window
trainer on fresh batches (cold), and on batches whose frozen activations it has kept (cached). The
arithmetic floor is the matrix work no trainer can avoid on fresh batches, at the matrix rate measured
in the same run; so ratios mean something on any machine, seconds only on one that is otherwise idle.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from rmu_lab import UnlearnConfig, decoder_blocks, load_corpus, load_model
from rmu_lab.files import write_json
from rmu_lab.models import block_parameters
from rmu_lab.provenance import provenance
from rmu_lab.unlearning import unlearn as trainer
from rmu_lab.unlearning.directions import random_directions
from tests.published_loop import published_loop

BATCH, TOKENS = 4, 128


def matmul_rate() -> float:
    """FLOP/s of the product that the MLP of SmolLM2 takes for one batch, the best of many."""
    x, w = torch.randn(BATCH * TOKENS, 576), torch.randn(1536, 576)
    best = float("inf")
    for _ in range(60):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return 2 * x.numel() * 1536 / best


def floor_flops(layer: int) -> dict[str, float]:
    """Matrix work of one step: cold (frozen blocks 0..l, then the window) and cached (the window alone)."""
    model, _ = load_model()
    blocks = decoder_blocks(model)
    matrices = sum(parameter.numel() for parameter in blocks[0].parameters() if parameter.ndim == 2)
    (name,) = block_parameters(model, range(1), None)[0]
    trained = blocks[0].get_parameter(name).numel()
    # Attention: scores and weighted sum, half of which the causal mask leaves; as much again for each input gradient.
    attention = 2 * TOKENS * model.config.hidden_size
    forward = 2 * BATCH * TOKENS * (2 * matrices + attention)  # one block, forget and retain batch
    window = (3 + 2) * forward + 3 * 2 * BATCH * TOKENS * 2 * trained  # forward, two input gradients, three weight gradients
    return {"cold": (layer + 1) * forward + window, "cached": window}


class Memory:
    """Peak resident memory of this process since `start`, in bytes (Linux)."""

    def __init__(self) -> None:
        self.before = self._read("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading

    def peak(self) -> int:
        """The most that was held since, beyond what was held then."""
        return self._read("VmHWM") - self.before

    @staticmethod
    def _read(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(pattern: str, layer: int, steps: int) -> dict:
    """Seconds of each step but the first (which warms up), and peak memory beyond the loaded model."""
    model, tokenizer = load_model(device="cpu")
    with torch.no_grad():  # every page of the weights is read in before memory is counted
        model(tokenizer("warm", return_tensors="pt")["input_ids"])
    n = BATCH * (1 if pattern == "cached" else steps + 1)
    forget, retain = (load_corpus(name)["text"][:n] for name in ("forget_bio", "retain_general"))
    times: list[float] = [time.perf_counter()]
    memory = Memory()
    settings = {"layer": layer, "steps": steps + 1, "batch_size": BATCH, "max_length": TOKENS}
    if pattern == "published":
        config = UnlearnConfig.published(**settings)
        (name,) = block_parameters(model, config.window, None)[layer]
        directions = random_directions(["forget"], 576, 0)
        published_loop(
            model, tokenizer, decoder_blocks, {"forget": forget}, {"forget": retain}, directions, config, name,
            on_step=lambda: times.append(time.perf_counter()),
        )  # fmt: skip
    else:

        class Clock(torch.optim.AdamW):
            def step(self, *args, **kwargs):
                super().step(*args, **kwargs)
                times.append(time.perf_counter())

        torch.optim.AdamW = Clock
        trainer.unlearn(model, tokenizer, forget, retain, UnlearnConfig(**settings), progress=False)
    each = [later - earlier for earlier, later in pairwise(times[1:])]
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    return {"seconds": median(each), "memory": memory.peak(), "model_bytes": model_bytes}


def run_alone(pattern: str, layer: int, steps: int) -> dict:
    """Measure in a fresh process, so that no cell's memory or warm caches help another."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, pattern, layer, steps).result()


def main() -> None:
    """Measure every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="measured steps per cell")
    parser.add_argument("--layers", type=int, nargs="+", default=[7, 15, 27])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()

    rows = []
    for layer in arguments.layers:
        rate, flops = matmul_rate(), floor_flops(layer)
        cells = {p: run_alone(p, layer, arguments.steps) for p in ("published", "cold", "cached")}
        rate = max(rate, matmul_rate())  # the machine at its best, before and after
        for pattern, cell in cells.items():
            floor = flops["cached" if pattern == "cached" else "cold"] / rate
            rows.append({
                "layer": layer,
                "pattern": pattern,
                **cell,
                "speed-up": cells["published"]["seconds"] / cell["seconds"],
                "times the floor": cell["seconds"] / floor,
                "memory in model copies": cell["memory"] / cell["model_bytes"],
                "matmul GFLOP/s": rate / 1e9,
            })  # fmt: skip
    table = Table("layer", "pattern", "s / step", "speed-up", "x floor", "MB beyond the model", "model copies")
    for row in rows:
        numbers = f"{row['seconds']:.3f} {row['speed-up']:.1f} {row['times the floor']:.2f} {row['memory'] / 1e6:.0f}"
        copies = f"{row['memory in model copies']:.2f}"
        table.add_row(str(row["layer"]), row["pattern"], *numbers.split(), copies)
    Console().print(table)
    if arguments.json:
        write_json(arguments.json, {"benchmark": "step", "rows": rows, "provenance": provenance()})


if __name__ == "__main__":
    main()

"""Seconds and memory of one RMU step: the published pattern against the window trainer, in one run.

    python -m benchmarks.step [--steps 6] [--layers 7 15 27] [--json FILE]

Every cell of the table runs in a process of its own on SmolLM2 with batches of 4 + 4 texts of 128
tokens: the published loop (`benchmarks/published_loop.py`: two models, whole forward passes), once with
torch's defaults, as a user would run it, and once with the float32 product that the package chooses; the
window trainer on fresh batches (cold), and on batches whose frozen activations it has kept (cached), each
in float32 and in bfloat16. The arithmetic floor is the matrix work no trainer can avoid, at the rate of the
fastest product of its type measured in the same run; so ratios mean something on any machine, seconds only
on one that is otherwise idle.
"""

import argparse
import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from benchmarks.arguments import result_file
from benchmarks.published_loop import published_loop
from rmu_lab import UnlearnConfig, decoder_blocks, load_corpus, load_model, unlearn
from rmu_lab.files import write_json
from rmu_lab.matmul import in_chosen_matmul
from rmu_lab.models import block_parameters
from rmu_lab.provenance import provenance
from rmu_lab.unlearning.directions import random_directions

BATCH, TOKENS = 4, 128


CELLS = (  # pattern, type of the model, product
    ("published", "float32", "default"),
    ("published", "float32", "chosen"),
    ("cold", "float32", "chosen"),
    ("cached", "float32", "chosen"),
    ("cold", "bfloat16", "chosen"),
    ("cached", "bfloat16", "chosen"),
)
USER = CELLS[0]
"""What all are compared with first; second with the cell after it, the published loop on equal terms."""


def matmul_rate(
    rows: int = BATCH * TOKENS,
    narrow: int = 576,
    wide: int = 1536,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """FLOP/s of a product (rows, narrow) x (narrow, wide), the best of many; by default SmolLM2's MLP on one batch.

    Made by the product that the package chooses on this machine.
    """
    x, w = (torch.randn(size, narrow, device=device, dtype=dtype) for size in (rows, wide))
    best = float("inf")
    with in_chosen_matmul():
        for _ in range(60):
            synchronise(device)
            start = time.perf_counter()
            torch.nn.functional.linear(x, w)
            synchronise(device)
            best = min(best, time.perf_counter() - start)
    return 2 * x.numel() * wide / best


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device == "cuda":
        torch.cuda.synchronize()


def floor_flops(model: PreTrainedModel, layer: int, batch: int = BATCH, tokens: int = TOKENS) -> dict[str, float]:
    """Matrix work of one step: cold (frozen blocks 0..l, then the window) and cached (the window alone)."""
    blocks = decoder_blocks(model)
    matrices = sum(parameter.numel() for parameter in blocks[0].parameters() if parameter.ndim == 2)
    (name,) = block_parameters(model, range(1), None)[0]
    trained = blocks[0].get_parameter(name).numel()
    # Attention: scores and weighted sum, half of which the causal mask leaves; as much again for each input gradient.
    attention = 2 * tokens * model.config.hidden_size
    forward = 2 * batch * tokens * (2 * matrices + attention)  # one block, forget and retain batch
    window = (3 + 2) * forward + 3 * 2 * batch * tokens * 2 * trained  # forward, two input gradients, three weight gradients
    return {"cold": (layer + 1) * forward + window, "cached": window}


def release_free_memory() -> None:
    """Give back to the system what earlier work has freed (Linux with glibc), so that later work cannot use it unseen.

    Freed memory stays with the process, and work that fits into it does not raise the resident memory that `Memory` counts:
    three matrices with their gradients and moments once came out at less than their own size.
    """
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


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


def train(pattern: str, model: PreTrainedModel, tokenizer, texts: list[list[str]], config: UnlearnConfig) -> list[float]:
    """Train on forget and retain texts, by the published loop or `unlearn`; seconds of each step but the first (warm-up)."""
    times: list[float] = []

    def tick(_record: dict | None = None) -> None:
        synchronise(model.device.type)
        times.append(time.perf_counter())

    if pattern == "published":
        (name,) = block_parameters(model, config.window, None)[config.layer]
        forget, retain = ({"forget": corpus} for corpus in texts)
        directions = random_directions(["forget"], model.config.hidden_size, config.seed)
        directions = {topic: u.to(model.device, model.dtype) for topic, u in directions.items()}
        published_loop(model, tokenizer, decoder_blocks, forget, retain, directions, config, name, on_step=tick)
    else:
        unlearn(model, tokenizer, *texts, config, on_step=tick, progress=False)
    return [later - earlier for earlier, later in pairwise(times)]


def config_of(pattern: str, **settings) -> UnlearnConfig:
    """What each pattern trains with: the published code's switches, or this package's defaults."""
    return (UnlearnConfig.published if pattern == "published" else UnlearnConfig)(**settings)


def measure(pattern: str, dtype: str, product: str, layer: int, steps: int) -> dict:
    """Seconds of a step, and peak memory beyond the loaded model."""
    model, tokenizer = load_model(device="cpu", dtype=dtype)
    with torch.no_grad():  # every page of the weights is read in before memory is counted
        model(tokenizer("warm", return_tensors="pt")["input_ids"])
    n = BATCH * (1 if pattern == "cached" else steps + 1)
    texts = [load_corpus(name)["text"][:n] for name in ("forget_bio", "retain_general")]
    config = config_of(pattern, layer=layer, steps=steps + 1, batch_size=BATCH, max_length=TOKENS)
    memory = Memory()
    with in_chosen_matmul() if product == "chosen" else nullcontext():
        each = train(pattern, model, tokenizer, texts, config)
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    return {"seconds": median(each), "memory": memory.peak(), "model_bytes": model_bytes}


def measure_all(layers: Sequence[int], steps: int) -> list[dict]:
    """A row for every layer and cell, each with its ratios to both published ones and to the floor."""
    model, _ = load_model(device="cpu")
    rows = []
    for layer in layers:
        flops, rates = floor_flops(model, layer), fastest_rates()
        cells = {cell: run_alone(measure, *cell, layer, steps) for cell in CELLS}
        again = fastest_rates()
        rates = {dtype: max(rate, again[dtype]) for dtype, rate in rates.items()}  # the machine at its best
        for cell, found in cells.items():
            pattern, dtype, product = cell
            floor = flops["cached" if pattern == "cached" else "cold"] / rates[dtype]
            rows.append({
                "layer": layer,
                "pattern": pattern,
                "dtype": dtype,
                "product": product,
                **found,
                "speed-up": cells[USER]["seconds"] / found["seconds"],
                "speed-up on equal terms": cells[CELLS[1]]["seconds"] / found["seconds"],
                "times the floor": found["seconds"] / floor,
                "memory in model copies": found["memory"] / found["model_bytes"],
                "matmul GFLOP/s": rates[dtype] / 1e9,
            })  # fmt: skip
    return rows


def fastest_rates() -> dict[str, float]:
    """FLOP/s of the fastest product of each type."""
    return {dtype: matmul_rate(dtype=getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}


def run_alone(function: Callable, *arguments):
    """Call in a fresh process, so that no cell's memory or warm caches help another."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    """Measure every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="measured steps per cell")
    parser.add_argument("--layers", type=int, nargs="+", default=[7, 15, 27])
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    arguments = parser.parse_args()

    rows = measure_all(arguments.layers, arguments.steps)
    names = ("layer", "pattern", "type", "product", "s / step", "x user", "x equal", "x floor", "MB beyond", "copies")
    table = Table(*names)
    for row in rows:
        table.add_row(
            str(row["layer"]), row["pattern"], row["dtype"], row["product"], f"{row['seconds']:.3f}",
            f"{row['speed-up']:.1f}", f"{row['speed-up on equal terms']:.1f}", f"{row['times the floor']:.2f}",
            f"{row['memory'] / 1e6:.0f}", f"{row['memory in model copies']:.2f}",
        )  # fmt: skip
    Console().print(table)
    if arguments.json:
        write_json(arguments.json, {"benchmark": "step", "rows": rows, "provenance": provenance()})


if __name__ == "__main__":
    main()

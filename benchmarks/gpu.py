"""One RMU step on a model of Mistral-7B's shape, on one GPU: the window trainer against the published pattern.

    python -m benchmarks.gpu [--layers 7 15 28] [--steps 8] [--json data/results/gpu.json]
    python -m benchmarks.gpu --device cpu --tiny

The weights are random and made on the GPU in bfloat16: time and memory do not depend on their values, and nothing is
fetched. Texts are random words, one token each, 4 + 4 of 512 tokens. Every cell runs in a process of its own, warms up,
and is timed after the GPU has done what it was given. Peak memory is what torch had allocated at most, the model
included. Useful FLOP/s are those of the arithmetic floor (`benchmarks/step.py`), as a share of the fastest matrix
product measured in the same run; so work that a pattern does in vain does not count as utilisation.

The published pattern needs two models (29 GB), gradients of all blocks up to l (13 GB at l = 28) and the activations of
two passes: 68 GB by count (`benchmarks/counted.py`), so it should fit a GPU of 80 GB.
A cell that does not fit says so, and the others go on.
`--device cpu --tiny` runs every line on a model of a few thousand weights; its numbers mean nothing.
"""

import argparse
import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.arguments import result_file
from benchmarks.step import Memory, config_of, floor_flops, matmul_rate, run_alone, train
from rmu_lab import UnlearnConfig
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance
from rmu_lab.unlearning.frozen_passes import TOKENS_AT_ONCE

PATTERNS = ("published", "cold", "cached")
WARM_UP = 3
GOALS = {"speed-up": 4.0, "peak in model copies": 1.25, "utilisation": 0.5}  # the first at l = 7


@dataclass(frozen=True)
class BenchmarkModel:
    """A model to measure, and the batches to measure it on."""

    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    vocab_size: int = 32000
    batch: int = 4
    tokens: int = 512


TINY = BenchmarkModel(32, 64, 5, 4, 2, 300, batch=2, tokens=16)
STEPS_OF_ONE_PASS = TOKENS_AT_ONCE // (2 * BenchmarkModel.batch * BenchmarkModel.tokens)
"""On a GPU the frozen blocks take the batches of so many steps of the 7B shape at once."""


def random_model(shape: BenchmarkModel, device: str) -> PreTrainedModel:
    """Random weights, made where they are to be: bfloat16 on a GPU, float32 on a CPU."""
    sizes = {name: size for name, size in vars(shape).items() if name not in ("batch", "tokens")}
    config = MistralConfig(**sizes, sliding_window=None, head_dim=None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            return MistralForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Each of the words w0, w1, ... is a token."""
    vocabulary = {f"w{index}": index for index in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))  # noqa: S106 - a word, not a password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", unk_token="w0")  # noqa: S106


def random_texts(shape: BenchmarkModel, n: int, seed: int) -> list[str]:
    """Texts of exactly as many tokens as the shape says."""
    source = random.Random(seed)  # noqa: S311
    return [" ".join(f"w{source.randrange(1, shape.vocab_size)}" for _ in range(shape.tokens)) for _ in range(n)]


def train_on_words(pattern: str, model: PreTrainedModel, layer: int, steps: int, shape: BenchmarkModel) -> list[float]:
    """Train on random texts, new ones in each step but for "cached"; seconds of each step but the first."""
    texts, config = training_of(pattern, layer, steps, shape)
    return train(pattern, model, word_tokenizer(shape.vocab_size), texts, config)


def training_of(pattern: str, layer: int, steps: int, shape: BenchmarkModel) -> tuple[list[list[str]], UnlearnConfig]:
    """Forget and retain texts of a training, and its settings."""
    n = shape.batch * (1 if pattern == "cached" else steps)
    texts = [random_texts(shape, n, seed) for seed in (0, 1)]
    # A learning rate so small that random weights stay finite; it does not enter the time.
    numbers = {"steps": steps, "batch_size": shape.batch, "max_length": shape.tokens, "lr": 1e-9}
    return texts, config_of(pattern, layer=layer, **numbers)


def measure(pattern: str, layer: int, steps: int, shape: BenchmarkModel, device: str) -> dict:
    """Mean seconds of a step and peak memory in bytes, or why there are none.

    The mean, because on a GPU one step in every `STEPS_OF_ONE_PASS` runs the frozen blocks, for all of them.
    """
    model = random_model(shape, device)
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    memory = Memory()
    try:
        each = train_on_words(pattern, model, layer, steps + WARM_UP, shape)
    except torch.OutOfMemoryError:
        return {"model_bytes": model_bytes, "error": "does not fit into this GPU's memory"}
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else model_bytes + memory.peak()
    return {"model_bytes": model_bytes, "seconds": fmean(each[WARM_UP - 1 :]), "peak": peak}


def matmul_peak(shape: BenchmarkModel, device: str) -> float:
    """FLOP/s of the fastest of two matrix products: the MLP's on one batch, and a large square one."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    sizes = [(shape.batch * shape.tokens, shape.hidden_size, shape.intermediate_size), (2 * shape.hidden_size,) * 3]
    return max(matmul_rate(*size, device=device, dtype=dtype) for size in sizes)


def measure_all(layers: list[int], steps: int, shape: BenchmarkModel, device: str, *, alone: bool = True) -> list[dict]:
    """A row for every layer and pattern, with its ratios."""
    plan = random_model(shape, "meta")
    run = run_alone if alone else _here
    rate = run(matmul_peak, shape, device)
    rows = []
    for layer in layers:
        floor = floor_flops(plan, layer, shape.batch, shape.tokens)
        for pattern in PATTERNS:
            cell = run(measure, pattern, layer, steps, shape, device)
            row = {"layer": layer, "pattern": pattern, **cell, "matmul TFLOP/s": rate / 1e12}
            if "seconds" in cell:
                row["tokens/s"] = 2 * shape.batch * shape.tokens / cell["seconds"]
                row["utilisation"] = floor["cached" if pattern == "cached" else "cold"] / cell["seconds"] / rate
                row["peak in model copies"] = cell["peak"] / cell["model_bytes"]
            rows.append(row)
        published = rows[-len(PATTERNS)]
        for row in rows[-len(PATTERNS) :]:
            if "seconds" in row and "seconds" in published:
                row["speed-up"] = published["seconds"] / row["seconds"]
    return rows


def _here(function: Callable, *arguments):
    found = function(*arguments)
    gc.collect()  # so that the next cell starts without this one's models
    return found


def verdicts(row: dict) -> dict[str, bool]:
    """Which of the goals that a row can be held against are met: those of the window trainer on fresh batches."""
    if row["pattern"] != "cold" or "seconds" not in row:
        return {}
    met = {
        "peak in model copies": row["peak in model copies"] < GOALS["peak in model copies"],
        "utilisation": row["utilisation"] >= GOALS["utilisation"],
    }
    if row["layer"] == 7 and "speed-up" in row:
        met["speed-up"] = row["speed-up"] >= GOALS["speed-up"]
    return met


def table_of(rows: list[dict]) -> Table:
    """The rows for reading."""
    table = Table("layer", "pattern", "s / step", "speed-up", "tokens/s", "utilisation", "peak GB", "model copies", "goals")
    for row in rows:
        if "error" in row:
            table.add_row(str(row["layer"]), row["pattern"], row["error"])
            continue
        goals = ", ".join(f"{name} {'met' if met else 'missed'}" for name, met in verdicts(row).items())
        table.add_row(
            str(row["layer"]), row["pattern"], f"{row['seconds']:.3f}", f"{row.get('speed-up', float('nan')):.1f}",
            f"{row['tokens/s']:.0f}", f"{row['utilisation']:.0%}", f"{row['peak'] / 1e9:.1f}",
            f"{row['peak in model copies']:.2f}", goals,
        )  # fmt: skip
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure every cell, print the table, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[7, 15, 28])
    parser.add_argument(
        "--steps", type=int, default=8, help=f"measured steps of each cell, a multiple of {STEPS_OF_ONE_PASS}"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand weights, to try the code")
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA GPU here; run this where there is one, or try the code with --device cpu --tiny.")
    if given.steps % STEPS_OF_ONE_PASS and not given.tiny:
        raise SystemExit(
            f"--steps is {given.steps}; make it a multiple of {STEPS_OF_ONE_PASS}, as many as share a frozen pass."
        )
    if given.device == "cpu" and not given.tiny:
        raise SystemExit("A model of 7 billion weights is not for a CPU; add --tiny to try the code.")
    if given.tiny and given.json:
        raise SystemExit("The numbers of a tiny model mean nothing and are not stored; leave out --json.")
    shape = TINY if given.tiny else BenchmarkModel()
    layers = [layer for layer in given.layers if layer < shape.num_hidden_layers] or [shape.num_hidden_layers - 1]
    rows = measure_all(layers, given.steps, shape, given.device, alone=not given.tiny)
    Console(width=140).print(table_of(rows))
    if given.json:
        if given.tiny:
            raise SystemExit("The numbers of a tiny model mean nothing and are not stored; leave out --tiny.")
        write_json(
            given.json, {"benchmark": "gpu", "shape": vars(shape), "goals": GOALS, "rows": rows, "provenance": provenance()}
        )


if __name__ == "__main__":
    main()

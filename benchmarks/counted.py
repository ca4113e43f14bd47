"""What a step of a 7B model needs on a GPU, counted without one: memory, matrix work, and waits for the device.

    python -m benchmarks.counted [--layers 7 15 28] [--json data/results/counted.json]

The very code that `benchmarks/gpu.py` times runs here on tensors that have a shape and no values (torch's "meta" device,
as a stand-in for a GPU). So every tensor that the training makes is seen: the peak of what is alive at once is memory, the
sum over all products is work, and every read of a value is a moment at which the processor would wait for the GPU.
Nothing is timed. What a real GPU adds is not counted: the workspaces of its libraries, the gaps between blocks of memory,
and waits for copies to it, of which the published loop makes four a step.
"""

import argparse
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from benchmarks.arguments import result_file
from benchmarks.gpu import (
    PATTERNS,
    STEPS_OF_ONE_PASS,
    BenchmarkModel,
    random_model,
    train_on_words,
    training_of,
    word_tokenizer,
)
from rmu_lab.activations import frozen
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance
from rmu_lab.unlearning.batches import topic_batches, topic_texts
from rmu_lab.unlearning.distributed import SINGLE_PROCESS
from rmu_lab.unlearning.frozen_passes import StreamedPasses
from rmu_lab.unlearning.window import WindowTraining


class Counter(TorchDispatchMode):
    """Follows what is made on the device: bytes alive, their peak, and reads of values."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.alive = {id(parameter.untyped_storage()) for parameter in model.parameters()}
        self.bytes = self.peak = self.waits = 0

    def __torch_dispatch__(self, operation: Any, _types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            self.waits += 1
            return True  # the one thing that is asked: whether a mask is full
        output = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._note(tensor.untyped_storage())
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.alive:
            return
        self.alive.add(key)
        weakref.finalize(storage, self._forget, key, size)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _forget(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.bytes -= size


class FlashAttention(TorchFunctionMode):
    """Attention as a GPU computes it, without a matrix of scores; on "meta" torch would choose another way."""

    def __torch_function__(self, function: Callable, _types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is not torch.nn.functional.scaled_dot_product_attention or not args[0].is_meta:
            return function(*args, **kwargs)
        assert kwargs.get("attn_mask") is None  # as for texts without padding
        query, key, value = args
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, kwargs.get("is_causal", False))[0]


def train_without_values(pattern: str, model: PreTrainedModel, layer: int, steps: int, shape: BenchmarkModel) -> None:
    """Train as `benchmarks/gpu.py` does, but never read the metrics, nor the edit at the end: there are no values."""
    if pattern == "published":
        train_on_words(pattern, model, layer, steps, shape)
        return
    texts, config = training_of(pattern, layer, steps, shape)
    batches = topic_batches(word_tokenizer(shape.vocab_size), topic_texts(*texts, shape.batch), config)
    with frozen(model):
        training = WindowTraining(model, config, batches, StreamedPasses(model, config, batches, SINGLE_PROCESS))
        for step in range(steps):
            training.accumulate_gradients(step)
            training.update()


def count(pattern: str, layer: int, shape: BenchmarkModel) -> dict:
    """Peak memory in model copies; matrix work and waits of a step, the read of the metrics aside.

    Both are those of later steps: the first ones of "cached" still run the frozen blocks.
    """
    model = random_model(shape, "meta").to(torch.bfloat16)
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    flops, waits = [], []
    with FlashAttention():
        for steps in (STEPS_OF_ONE_PASS, 2 * STEPS_OF_ONE_PASS):
            with Counter(model) as counter, FlopCounterMode(display=False) as work:
                train_without_values(pattern, model, layer, steps, shape)
            flops.append(work.get_total_flops())
            waits.append(counter.waits)
        with Counter(model) as counter:  # anew, because what counts the work holds on to tensors
            # So many steps that a frozen pass comes when AdamW has its moments.
            train_without_values(pattern, model, layer, 2 * STEPS_OF_ONE_PASS, shape)
    return {
        "layer": layer,
        "pattern": pattern,
        "model_bytes": model_bytes,
        "peak": model_bytes + counter.peak,
        "peak in model copies": 1 + counter.peak / model_bytes,
        "TFLOP a step": (flops[1] - flops[0]) / STEPS_OF_ONE_PASS / 1e12,
        "waits a step": (waits[1] - waits[0]) / STEPS_OF_ONE_PASS,
    }


def count_all(layers: Sequence[int], shape: BenchmarkModel) -> list[dict]:
    """A row for every layer and pattern, with how many times its work the published pattern does."""
    rows = []
    for layer in layers:
        of_layer = [count(pattern, layer, shape) for pattern in PATTERNS]
        published = of_layer[0]["TFLOP a step"]
        rows += [row | {"less work": published / row["TFLOP a step"]} for row in of_layer]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Count every cell, print the table, and store it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counted", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[7, 15, 28])
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    given = parser.parse_args(arguments)
    shape = BenchmarkModel()
    rows = count_all(given.layers, shape)
    table = Table("layer", "pattern", "peak GB", "model copies", "TFLOP / step", "less work", "waits / step")
    for row in rows:
        table.add_row(
            str(row["layer"]), row["pattern"], f"{row['peak'] / 1e9:.1f}", f"{row['peak in model copies']:.2f}",
            f"{row['TFLOP a step']:.1f}", f"{row['less work']:.1f}", f"{row['waits a step']:.1f}",
        )  # fmt: skip
    Console(width=120).print(table)
    if given.json:
        write_json(given.json, {"benchmark": "counted", "shape": vars(shape), "rows": rows, "provenance": provenance()})


if __name__ == "__main__":
    main()

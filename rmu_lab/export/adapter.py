"""An edit as a LoRA adapter, W' = W + B A with A of `rank` rows, in the files that PEFT and llama.cpp read.

RMU replaces whole matrices. The first few singular values of what it adds to them, W' - W, do most of the work, and a long
tail of small ones holds much of the norm: with the course's default edit of SmolLM2 (three matrices of 576 x 1536) rank 3
keeps half of the squared norm, 134 keeps 90% and 431 keeps 99%, while rank 3 left 34% of 100 dev questions on infectious
disease right and 80% of general ones, the whole edit 35% and 79%. So a small adapter may do, and has to be measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, get_tensor_name_map
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor
from transformers.pytorch_utils import Conv1D

from ..errors import RmuLabError
from ..files import whole_folder
from .low_rank import low_rank

Format = Literal["peft", "gguf"]
GGUF_FILE = "adapter.gguf"
_WEIGHT = ".weight"
_GGUF_NAMES = {
    "mistral": "llama", "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
    "gemma3_text": "gemma3", "gpt_neox": "gptneox", "cohere": "command-r",
}  # fmt: skip
"""What GGUF calls an architecture, where transformers calls it otherwise."""


@dataclass(frozen=True)
class Adapter:
    """A stored adapter."""

    path: Path
    """The folder that ``PeftModel.from_pretrained(base_model, path)`` reads, or that holds `GGUF_FILE` for llama.cpp."""
    format: Format
    rank: int
    """Rows of A and columns of B, for every matrix."""
    fidelity: float
    """1 - ||(W' - W) - B A||^2 / ||W' - W||^2, the squares summed over all matrices: 1 means exact."""


def save_adapter(
    path: str | Path,
    model: PreTrainedModel,
    changes: Mapping[str, Tensor],
    *,
    base_model: str,
    card: Callable[[Adapter], str],
    rank: int | None = None,
    fidelity: float = 0.99,
    format: Format = "peft",
) -> Adapter:
    """Write a LoRA adapter and its card into a new folder, whole or not at all; rank and fidelity as `low_rank`.

    Parameters
    ----------
    model
        the base model, for its architecture.
    changes
        parameter name -> W' - W, in the layout of the model's own parameter.
    base_model
        the base model's name, which whoever loads the adapter is shown.
    card
        makes the text of README.md.
    format
        ``"peft"`` (safetensors) or ``"gguf"``.

    Raises
    ------
    RmuLabError
        as `low_rank`; or if the folder exists or cannot be written, a change is not that of a layer's weight, the format is
        unknown, or GGUF has no name for the architecture or the layer, or keeps its weight in another order.
    """
    if format not in ("peft", "gguf"):
        raise RmuLabError(f"format is {format!r}; give 'peft' or 'gguf'.")
    for name in changes:
        if not name.endswith(_WEIGHT):
            raise RmuLabError(f"{name} is no layer's weight, and adapters are of layers only; use save().")
    layers = {name: model.get_submodule(name.removesuffix(_WEIGHT)) for name in changes}
    turned = {name for name, layer in layers.items() if isinstance(layer, Conv1D)}  # GPT-2 keeps W as (in, out)
    changes = {name: change.T if name in turned else change for name, change in changes.items()}
    names = _gguf_names(model, changes, turned) if format == "gguf" else {}
    factors, rank, reached = low_rank(changes, rank=rank, fidelity=fidelity)
    adapter = Adapter(Path(path), format, rank, reached)
    with whole_folder(path) as folder:
        if format == "peft":
            _write_peft(folder, factors, rank, base_model, turned=bool(turned))
        else:
            _write_gguf(folder / GGUF_FILE, factors, rank, base_model, _architecture(model), names)
        (folder / "README.md").write_text(card(adapter), encoding="utf-8")
    return adapter


def _write_peft(
    folder: Path, factors: Mapping[str, tuple[Tensor, Tensor]], rank: int, base_model: str, *, turned: bool
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, (b, a) in factors.items():
        layer = f"base_model.model.{name.removesuffix(_WEIGHT)}"
        tensors |= {f"{layer}.lora_A{_WEIGHT}": a, f"{layer}.lora_B{_WEIGHT}": b}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,  # PEFT multiplies B A by alpha / r
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": turned,
        "target_modules": sorted(name.removesuffix(_WEIGHT) for name in factors),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


# -- GGUF -------------------------------------------------------------------------------------------------------------


def _write_gguf(
    file: Path,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    rank: int,
    base_model: str,
    architecture: MODEL_ARCH,
    names: Mapping[str, str],
) -> None:
    writer = GGUFWriter(file, arch=MODEL_ARCH_NAMES[architecture])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))  # llama.cpp multiplies B A by alpha / rank
    writer.add_name(f"An unlearning edit of {base_model}")
    for name, (b, a) in factors.items():
        writer.add_tensor(f"{names[name]}.lora_a", a.numpy())
        writer.add_tensor(f"{names[name]}.lora_b", b.numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _architecture(model: PreTrainedModel) -> MODEL_ARCH:
    kind = model.config.model_type
    found = next((key for key, name in MODEL_ARCH_NAMES.items() if name == _GGUF_NAMES.get(kind, kind)), None)
    if found is None:
        raise RmuLabError(f"GGUF has no architecture for a {kind} model; use format='peft'.")
    return found


def _gguf_names(model: PreTrainedModel, changes: Mapping[str, Tensor], turned: set[str]) -> dict[str, str]:
    """Name each weight as GGUF does, and refuse one that llama.cpp keeps in another order of rows."""
    architecture = _architecture(model)
    named = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    kind = TENSOR_PROCESSORS.get(MODEL_ARCH_NAMES[architecture], TensorProcessor)
    processor = kind(config=model.config.to_dict())
    names = {}
    for name, change in changes.items():
        found = named.get_name(name, try_suffixes=(_WEIGHT,))
        if found is None:
            raise RmuLabError(f"GGUF has no name for {name}; use format='peft'.")
        rows = torch.arange(change.shape[0], dtype=torch.float32)[:, None].expand(change.shape)
        back = processor.process(rows.numpy(), found, tensor_key_mapping={}, parsed_parameters={}).weights
        if not np.array_equal(back, (rows.T if name in turned else rows).numpy()):
            raise RmuLabError(f"llama.cpp keeps {name} in another order of rows; use format='peft'.")
        names[name] = found
    return names

"""An edit as a LoRA adapter: W' = W + B A with A of `rank` rows, in the files that PEFT reads.

RMU replaces whole matrices. What it adds to them, W' - W, is close to a matrix of low rank, and the best one of a given
rank comes from the singular value decomposition (Eckart and Young 1936). An adapter of it is some per cent of the
matrices' size, and whoever has the base model can put it in, scale it and take it out with PEFT alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import RmuLabError
from ..files import whole_folder

_WEIGHT = ".weight"


@dataclass(frozen=True)
class Adapter:
    """A stored adapter."""

    path: Path
    """The folder that ``PeftModel.from_pretrained(base_model, path)`` reads."""
    rank: int
    """Rows of A and columns of B, for every matrix."""
    fidelity: float
    """1 - ||(W' - W) - B A||^2 / ||W' - W||^2, the squares summed over all matrices: 1 means exact."""


def low_rank(
    changes: Mapping[str, Tensor], *, rank: int | None = None, fidelity: float = 0.99
) -> tuple[dict[str, tuple[Tensor, Tensor]], int, float]:
    """Split each change of a matrix, W' - W, into B (out, rank) and A (rank, in), whose product comes closest to it.

    Parameters
    ----------
    changes
        parameter name -> W' - W, (out, in) each.
    rank
        the same for all matrices; by default the least that reaches `fidelity`.
    fidelity
        the share of the changes' squared norm to keep where no rank is given, as `Adapter` defines it.

    Returns
    -------
    tuple
        name -> (B, A), float32; the rank; the fidelity that it has.

    Raises
    ------
    RmuLabError
        if a change is no matrix or all are zero, or rank or fidelity lies out of range.
    """
    for name, change in changes.items():
        if change.dim() != 2:
            raise RmuLabError(f"{name} has the shape {tuple(change.shape)}; an adapter holds matrices only, so use save().")
    parts = {name: torch.linalg.svd(change.float(), full_matrices=False) for name, change in changes.items()}
    most = max(len(values) for _, values, _ in parts.values())
    if rank is not None and not 1 <= rank <= most:
        raise RmuLabError(f"rank is {rank}; give one from 1 to {most}, the smaller side of the largest matrix.")
    if not 0 < fidelity <= 1:
        raise RmuLabError(f"fidelity is {fidelity}; give a share over 0 and up to 1.")
    kept = torch.zeros(most, dtype=torch.float64)
    for _, values, _ in parts.values():
        kept[: len(values)] += values.double().square()
    if not kept.sum() > 0:
        raise RmuLabError("The edit changes nothing, so there is no adapter of it; check that the model is the base model.")
    share = kept.cumsum(dim=0) / kept.sum()
    if rank is None:
        rank = min(most, int((share < fidelity - 1e-9).sum()) + 1)
    factors = {}
    for name, (left, values, right) in parts.items():
        root = values[:rank].sqrt()
        factors[name] = (left[:, :rank] * root, root[:, None] * right[:rank])
    return factors, rank, min(1.0, float(share[rank - 1]))


def save_adapter(
    path: str | Path,
    changes: Mapping[str, Tensor],
    *,
    base_model: str,
    rank: int | None = None,
    fidelity: float = 0.99,
) -> Adapter:
    """Write a LoRA adapter in PEFT's format, whole or not at all; parameters as `low_rank`.

    Parameters
    ----------
    base_model
        the base model's name, which PEFT shows to whoever loads the adapter.

    Raises
    ------
    RmuLabError
        as `low_rank`; or if the folder exists or cannot be written, or a change is not that of a layer's weight.
    """
    for name in changes:
        if not name.endswith(_WEIGHT):
            raise RmuLabError(f"{name} is no layer's weight, and PEFT adapts layers only; use save().")
    factors, rank, reached = low_rank(changes, rank=rank, fidelity=fidelity)
    tensors = {}
    for name, (b, a) in factors.items():
        layer = f"base_model.model.{name.removesuffix(_WEIGHT)}"
        missing = rank - len(a)  # a smaller matrix than the others: rows of zeros add nothing
        tensors[f"{layer}.lora_A{_WEIGHT}"] = torch.nn.functional.pad(a, (0, 0, 0, missing)).contiguous()
        tensors[f"{layer}.lora_B{_WEIGHT}"] = torch.nn.functional.pad(b, (0, missing)).contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,  # PEFT multiplies B A by alpha / r
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(name.removesuffix(_WEIGHT) for name in changes),
    }
    with whole_folder(path) as folder:
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return Adapter(Path(path), rank, reached)

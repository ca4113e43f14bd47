"""What tells a model's parameters from those of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..offload import read_parameter


def fingerprint(model: PreTrainedModel, names: Iterable[str]) -> dict[str, Any]:
    """Return what tells a model's parameters from those of another: some entries of each, and their type.

    At most `SAMPLED` entries spread over each parameter, so that it takes no time even for all matrices of a large model.
    """
    samples = {name: _sample(read_parameter(model, name)) for name in names}
    return {
        "dtype": str(next(iter(samples.values())).dtype) if samples else "",
        "sample": {name: sample.double().tolist() for name, sample in samples.items()},
    }


SAMPLED = 16
"""Entries of each parameter that are kept to know it again."""


def _sample(parameter: Tensor) -> Tensor:
    flat = parameter.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].cpu()


def other_weights(model: PreTrainedModel, base: Mapping[str, Any]) -> str | None:
    """Return the first parameter that is not the base model's, or None; another type may have rounded it."""
    for name, expected in base["sample"].items():
        found = _sample(read_parameter(model, name))
        if str(found.dtype) == base["dtype"]:
            same = found.double().tolist() == expected
        else:
            coarser = max(torch.finfo(found.dtype).eps, _EPSILON.get(base["dtype"], 0.0))
            same = torch.allclose(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=coarser, atol=1e-7)
        if not same:
            return name
    return None


_EPSILON = {str(kind): torch.finfo(kind).eps for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}

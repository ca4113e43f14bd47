"""Unpack the weights of a GGUF file to safetensors, one tensor at a time, so that a model need not fit into memory twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, dequantize
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from .errors import RmuLabError

_SAFETENSORS_NAME = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}

ROWS_AT_ONCE = 4096
"""Rows of a matrix that are dequantised and written together."""


def unpack_weights(gguf: Path, config: PreTrainedConfig, file: Path, dtype: torch.dtype) -> None:
    """Write the weights of a GGUF file, dequantised and in transformers' names and order, as one safetensors file.

    Memory holds one dequantised tensor at a time. The file is the same, byte for byte, as what `save_file` of safetensors
    writes of the whole model.

    Parameters
    ----------
    config
        of the model that the weights are for.
    dtype
        float32, bfloat16 or float16.

    Raises
    ------
    RmuLabError
        if the file lacks a tensor of the model, or has one of another shape.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    reader = GGUFReader(gguf)
    architecture = reader.fields["general.architecture"].contents()
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    own_name = get_gguf_hf_weights_map(model, processor)
    stored = {own_name[tensor.name]: tensor for tensor in reader.tensors if tensor.name in own_name}
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}  # tied ones once
    if missing := sorted(shapes.keys() - stored.keys()):
        raise RmuLabError(f"{gguf.name} has no tensor for {missing[0]} of a {config.model_type} model; fetch the file anew.")
    with file.open("wb") as out:
        out.write(_header(shapes, dtype))
        for name in sorted(shapes):
            values = _values(stored[name], processor)
            if values.shape != shapes[name]:
                raise RmuLabError(f"{gguf.name} has {name} as {values.shape}, not {shapes[name]}; fetch the file anew.")
            for rows in torch.from_numpy(values).split(ROWS_AT_ONCE):
                out.write(rows.to(dtype).view(torch.uint8).numpy().data)
            del values, rows  # or the next one would be made beside it


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """What a safetensors file begins with: its length, and for each tensor type, shape and place."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _SAFETENSORS_NAME[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _values(tensor: ReaderTensor, processor: TensorProcessor) -> np.ndarray:
    """The tensor in float32, in transformers' layout."""
    weights = np.empty(tuple(reversed(tensor.shape)), dtype=np.float32)
    for start in range(0, len(weights), ROWS_AT_ONCE):  # what is in between takes several times as much memory
        rows = slice(start, start + ROWS_AT_ONCE)
        weights[rows] = dequantize(tensor.data[rows], tensor.tensor_type)
    found = processor.process(weights, tensor.name, tensor_key_mapping={}, parsed_parameters={}).weights
    return np.ascontiguousarray(found)

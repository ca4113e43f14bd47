"""What tells a model from another by content: work that is gone on with must be on the same one, whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .offload import read_parameter

COMPUTING = ("rope", "position", "sliding", "window", "head", "layer_types", "act", "eps", "softcap", "scal", "multiplier")
"""Parts of the names of those settings of a configuration that change what the same weights compute.

Others come and go with versions of transformers, which must not make stored work another's.
"""


def model_digests(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return the SHA-256 of a model's ``weights``, its ``settings`` (such as rope's), and its ``tokenizer``."""
    configuration = model.config.get_text_config(decoder=True).to_dict()
    settings = {name: value for name, value in configuration.items() if any(part in name for part in COMPUTING)}
    words = {
        "vocabulary": _vocabulary(tokenizer),
        "special": tokenizer.special_tokens_map,
        "chat template": getattr(tokenizer, "chat_template", None),
    }
    weights = tensors_digest((name, read_parameter(model, name)) for name, _ in model.named_parameters())
    return {"weights": weights, "settings": _plain_digest(settings), "tokenizer": _plain_digest(words)}


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of named tensors: of their names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> Any:
    """What makes tokens of a text, without the padding and cutting that the last call has left behind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sorted(tokenizer.get_vocab().items())
    return {name: part for name, part in json.loads(backend.to_str()).items() if name not in ("padding", "truncation")}


def _plain_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

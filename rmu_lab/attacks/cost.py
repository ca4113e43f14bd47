"""What an attack costs: the tokens that it runs through the model. Taught in notebook 07."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass
class Cost:
    """Tokens that were run through a model, padding included: machines differ in seconds, and in these they do not."""

    forward: int = 0
    """Without a gradient."""
    backward: int = 0
    """With one, which takes about three times the work."""

    def __str__(self) -> str:
        parts = [f"{_rounded(self.forward)} tokens read"] if self.forward else []
        parts += [f"{_rounded(self.backward)} trained on"] if self.backward else []
        return " and ".join(parts) or "nothing"


def _rounded(tokens: int) -> str:
    return f"{tokens / 1e6:.1f}M" if tokens >= 1e6 else f"{max(1, round(tokens / 1e3))}k"


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[Cost]:
    """Count what runs through a model inside the ``with`` block, at its token embedding."""
    cost = Cost()

    def hook(_embed: nn.Module, _args: tuple, output: Tensor) -> None:
        tokens = output.shape[:-1].numel()
        if torch.is_grad_enabled():
            cost.backward += tokens
        else:
            cost.forward += tokens

    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield cost
    finally:
        handle.remove()

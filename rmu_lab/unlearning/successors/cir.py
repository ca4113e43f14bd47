"""CIR: forget gradients without the directions that inputs and output gradients share, Sondej and Yang 2025."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ...errors import RmuLabError
from ...models import decoder_blocks
from ..batches import BatchKey, topics_of
from ..window import FrozenBatch, window_parameters
from ..window_method import MethodTraining, WindowMethod
from .collapsed import CollapsedMethod, CollapsedTraining
from .components import Moments, without


@dataclass
class Traffic:
    """What went through a linear module in one pass there and back."""

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    """(batch, tokens, in)."""
    output_gradients: Tensor = field(default_factory=lambda: torch.empty(0))
    """Gradient of the loss at each output, (batch, tokens, out)."""


class CIRTraining(CollapsedTraining):
    """Steps along forget gradients of which the common directions of both sides are removed."""

    def prepare(self) -> None:
        """Find the dominant components of inputs and output gradients, by matrix and topic, at the frozen weights."""
        self.modules = [linear_module(self.blocks[index], name) for index, names in self.names.items() for name in names]
        self.bases: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for topic in topics_of(self.batches):
            moments = [(Moments(), Moments()) for _ in self.modules]
            for key in self.keys_of("forget", topic):
                for (inputs, gradients), (of_inputs, of_gradients) in zip(
                    self.sides(0, topic, self.fresh_batch(key), {}), moments, strict=True
                ):
                    of_inputs.add(inputs)
                    of_gradients.add(gradients)
            counts = self.method.input_components, self.method.gradient_components
            self.bases[topic] = [
                (one.basis(counts[0]).to(self.device), other.basis(counts[1]).to(self.device)) for one, other in moments
            ]

    def sides(self, step: int, topic: str, given: FrozenBatch, parts: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each matrix's inputs (n, in) and output gradients (n, out) at the counted tokens of a forget batch."""
        with traffic(self.modules) as seen:
            self.backward(step, "forget", topic, given, parts)
        self.optimizer.zero_grad()
        counted = given.counted
        return [(one.inputs[counted].float(), one.output_gradients[counted].float()) for one in seen]

    def collapsed(self, step: int, key: BatchKey, given: FrozenBatch, parts: dict[str, Tensor]) -> list[Tensor]:
        """Return the gradients of the matrices, made of what is left of both sides."""
        gradients = []
        sides = self.sides(step, key[1], given, parts)
        for module, (inputs, outputs), (of_inputs, of_gradients) in zip(
            self.modules, sides, self.bases[key[1]], strict=True
        ):
            gradient = without(outputs, of_gradients).T @ without(inputs, of_inputs)
            gradients.append(gradient.T.contiguous() if isinstance(module, Conv1D) else gradient)
        return gradients


@contextmanager
def traffic(modules: list[nn.Module]) -> Iterator[list[Traffic]]:
    """Note what goes through linear modules in a pass there and back inside the ``with`` block."""
    seen = [Traffic() for _ in modules]

    def note(one: Traffic) -> Callable:
        def hook(_module: nn.Module, args: tuple, output: Tensor) -> None:
            one.inputs = args[0].detach()
            output.register_hook(lambda gradient: setattr(one, "output_gradients", gradient.detach()))

        return hook

    hooks = [module.register_forward_hook(note(one)) for module, one in zip(modules, seen, strict=True)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def linear_module(block: nn.Module, name: str) -> nn.Module:
    """Return the module of a block whose matrix is called so inside the block.

    Raises
    ------
    RmuLabError
        if it is not the matrix of a linear map.
    """
    path, _, last = name.rpartition(".")
    module = block.get_submodule(path)
    if last != "weight" or not isinstance(module, (nn.Linear, Conv1D)):
        raise RmuLabError(f"{name} is not the weight of a linear module; set `parameters` to names of such.")
    return module


@dataclass(frozen=True)
class CIR(CollapsedMethod):
    """Collapse of irrelevant representations, Sondej and Yang 2025 (arXiv 2509.11816), in window form.

    A matrix's gradient is the sum over tokens of g a^T, with a its input and g the gradient at its output. Both lose the
    directions that all forget texts share: with A and B orthonormal bases of the mean and the first principal components of
    the a and of the g of all forget tokens::

        G = sum over tokens of ((I - B B^T) g) ((I - A A^T) a)^T

    The step is that of `collapsed`, the forget loss RMU's, with u, s as in `SteeredMethod` (theirs breaks the outputs of
    MLPs, or is RMU's). Theirs find A and B anew after each pass over the texts; here they are the frozen model's.
    """

    input_components: int = 23
    """Principal components of the inputs that are removed, besides the mean."""
    gradient_components: int = 35
    """The same of the output gradients."""

    method: ClassVar[str] = "cir"
    trainer: ClassVar[type[MethodTraining]] = CIRTraining
    stages: ClassVar[bool] = False
    least: ClassVar[dict[str, float]] = {"input_components": 0, "gradient_components": 0}

    @staticmethod
    def check(model: PreTrainedModel, config: WindowMethod) -> None:
        """Refuse what `WindowMethod.check` refuses, and parameters that are no matrices of linear maps."""
        WindowMethod.check(model, config)
        for index, names in window_parameters(model, config.rmu()).items():
            for name in names:
                linear_module(decoder_blocks(model)[index], name)

    @classmethod
    def published(cls, **changes: Any) -> CIR:
        """Return the settings of the authors' code for WMDP-Bio on Llama-3.1-8B, with `changes` of single fields.

        24 and 36 directions, the mean among them, steps of length 0.2, and a retain rate of 3e-4, which is 0.0015 of that;
        layer 12 keeps the retain texts. They train the gate, up and down matrices of blocks 6 to 11.
        """
        names = tuple(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
        published = {
            "layer": 11,
            "input_components": 23,
            "gradient_components": 35,
            "lr": 0.2,
            "alpha": 0.0015,
            "batch_size": 32,
            "max_length": 128,
            "parameters": names,
        }
        return cls(**{**published, **changes})

"""What methods share that may change matrices of every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..models import block_parameters, check_trainable, decoder_blocks, plain_model
from ..offload import require_in_memory
from ..randomness import python_random
from .config import MethodConfig, check_names, check_ranges, check_types
from .distributed import launched_processes


@dataclass(frozen=True)
class AllBlocksConfig(MethodConfig):
    """Settings that such methods share.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    max_length: int = 64
    """Tokens after which a text is cut."""
    seed: int = 0
    """Of the order in which each corpus's texts are taken; nothing else is random."""
    parameters: tuple[str, ...] | None = None
    """Names, inside every block, of what is changed; None: all matrices."""

    layers: ClassVar[tuple[int, ...] | None] = None
    """Blocks that are changed, from 0; None: all. A field of methods that let it be chosen."""
    least: ClassVar[dict[str, float]] = {
        "max_length": 2,
        "steps": 1,
        "batch_size": 1,
        "texts": 1,
        "alpha": 0,
        "gamma": 0,
        "forget_weight": 0,
        "mismatch_weight": 0,
        "max_steps": 0,
    }
    """The least values of fields, by name."""
    positive: ClassVar[tuple[str, ...]] = ("lr", "beta", "threshold", "dampening")
    """Fields that must be above 0."""

    def __post_init__(self) -> None:
        check_types(self)
        check_names(self.parameters, otherwise="all matrices")
        whole = isinstance(self.layers, tuple) and self.layers and all(type(layer) is int for layer in self.layers)
        if self.layers is not None and not whole:
            raise RmuLabError(f"layers is {self.layers!r}; give a tuple of whole numbers, or None for all layers.")
        check_ranges(self, self.positive, self.least)

    @staticmethod
    def check(model: PreTrainedModel, config: AllBlocksConfig) -> None:
        """Refuse, before any work, settings that do not fit the model, and what only the window trainer of RMU can take.

        Raises
        ------
        RmuLabError
            if there is no such block, one lacks a named parameter, some of the model's weights are offloaded, or torchrun
            started several processes.
        """
        require_in_memory(model, config.method)
        count = launched_processes().world_size
        if count > 1:
            raise RmuLabError(f"{config.method} trains in one process, but there are {count}; start it without torchrun.")
        changed_parameters(model, config)


def changed_parameters(model: PreTrainedModel, config: AllBlocksConfig) -> list[str]:
    """Return the full names of the parameters that `config` lets change.

    Raises
    ------
    RmuLabError
        if there is no such block, it lacks one of the names, a parameter is quantised, or it is no `plain_model`.
    """
    plain_model(model)
    blocks = decoder_blocks(model)
    layers = range(len(blocks)) if config.layers is None else config.layers
    if beyond := [layer for layer in layers if layer not in range(len(blocks))]:
        raise RmuLabError(f"layers has {beyond[0]}, but the model has blocks 0 .. {len(blocks) - 1}.")
    if config.parameters is not None:
        block_parameters(model, layers, config.parameters)
    wanted = {
        id(parameter)
        for layer in layers
        for name, parameter in blocks[layer].named_parameters()
        if (parameter.ndim >= 2 if config.parameters is None else name in config.parameters)
    }
    changed = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
    check_trainable(changed)
    return list(changed)


def shuffled(texts: list[str], seed: int, key: tuple[str, str]) -> list[str]:
    """Return the texts of a role and topic in an order of their own, which the seed decides."""
    return python_random(seed, str(key)).sample(texts, len(texts))

"""What methods share that may change matrices of every block."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..models import block_parameters, check_trainable, decoder_blocks, plain_model
from ..offload import require_in_memory
from ..randomness import python_random
from .config import MethodConfig, check_names, check_types
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
    """Names, inside every block, of what is changed; None: all matrices of all blocks."""

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
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in self.positive and not 0 < value < float("inf"):
                raise RmuLabError(f"{item.name} is {value}; give a positive number.")
            if item.name in self.least and not self.least[item.name] <= value < float("inf"):
                raise RmuLabError(f"{item.name} is {value}; it must be at least {self.least[item.name]}.")

    @staticmethod
    def check(model: PreTrainedModel, config: AllBlocksConfig) -> None:
        """Refuse, before any work, settings that do not fit the model, and what only the window trainer of RMU can take.

        Raises
        ------
        RmuLabError
            if a block lacks a named parameter, some of the model's weights are offloaded, or torchrun started several
            processes.
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
        if a block lacks one of the names, a parameter is quantised, or it is no `plain_model`.
    """
    plain_model(model)
    blocks = decoder_blocks(model)
    if config.parameters is not None:
        block_parameters(model, range(len(blocks)), config.parameters)
    wanted = {
        id(parameter)
        for block in blocks
        for name, parameter in block.named_parameters()
        if (parameter.ndim >= 2 if config.parameters is None else name in config.parameters)
    }
    changed = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
    check_trainable(changed)
    return list(changed)


def shuffled(texts: list[str], seed: int, key: tuple[str, str]) -> list[str]:
    """Return the texts of a role and topic in an order of their own, which the seed decides."""
    return python_random(seed, str(key)).sample(texts, len(texts))

"""The models on which the claims are tested, and how each of them is asked. Taught in notebook 10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RmuLabError

if TYPE_CHECKING:
    from ..evaluate import Style


@dataclass(frozen=True)
class StudiedModel:
    """One model of the study. Which numbers differ between models is said here, and nowhere else."""

    name: str
    """As `load_model` takes it."""
    title: str
    dtype: str
    """Of the weights in which it is edited and asked."""
    style: Style
    """How it answers: the small ones cannot answer by letter."""
    general: str
    """The question set that shows what an edit costs; the easy one is at its ceiling for the largest model."""
    layers: tuple[int, ...]
    """Layers that are steered: three of the first third of the depth, three of the middle and three of the last."""
    directions: int
    """Directions for what is measured on many of them."""
    parameters: tuple[str, ...] | None
    """Matrices that methods other than RMU train in every block; None: all, where memory allows it."""

    @property
    def thirds(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Its layers by thirds of the depth."""
        return self.layers[:3], self.layers[3:6], self.layers[6:]


_DOWN = ("mlp.down_proj.weight",)
_SMALL: dict[str, Any] = {"style": "cloze", "general": "general", "directions": 12, "parameters": None}
_MODELS = (
    StudiedModel("smollm2-135m", "SmolLM2 135M", "float32", layers=(3, 5, 7, 12, 15, 17, 22, 25, 28), **_SMALL),
    StudiedModel("gemma-3-270m", "Gemma 3 270M", "bfloat16", layers=(2, 4, 5, 7, 9, 11, 13, 15, 17), **_SMALL),
    StudiedModel(
        "qwen2.5-coder-1.5b",
        "Qwen2.5 1.5B",
        "bfloat16",
        style="letter",
        general="general_hard",
        layers=(3, 6, 8, 12, 14, 17, 20, 23, 26),
        directions=4,
        parameters=_DOWN,
    ),
)
STUDIED = {model.name: model for model in _MODELS}
"""By name, in the order of the scorecard's columns."""
MAIN = "smollm2-135m"
"""The model of the lessons."""


def studied(name: str) -> StudiedModel:
    """Look up a model of the study.

    Raises
    ------
    RmuLabError
        if it is none; the message lists them.
    """
    if name not in STUDIED:
        raise RmuLabError(f"{name!r} is no model of the study; use one of {', '.join(STUDIED)}.")
    return STUDIED[name]

"""The table of methods, and what it takes to add one.

A method is a frozen dataclass of settings with a name (``method``), and a way to train. RMU and Adaptive RMU share
`UnlearnConfig` and the window trainer. A method that trains by a loss on logits extends `LossMethod` and defines ``loss``;
one that computes its edit at once extends `EditMethod` and defines ``edit``; one that trains RMU's window by another rule
extends `WindowMethod` (`window_method`). One line, `register_method`, puts it into the
table, and `unlearn`, `sweep`, `grid`, the command line and the stored records know it. docs/guide/own_method.md shows one;
notebook 08 compares the methods of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..models import check_positions
from .baselines import LLMU, NPO, SCRUB, SSD, GradDiff, GradientAscent, SimNPO
from .config import MethodConfig, UnlearnConfig
from .edit_method import EditMethod
from .loss_method import LossMethod
from .successors import (
    CIR,
    LUNAR,
    MCURMU,
    RMUSAM,
    SRMU,
    CircuitBreaker,
    ClosedFormRMU,
    LayeredRMU,
    OrthogonalCircuitBreaker,
    RankOneRMU,
    RepSelect,
    TamperResistantRMU,
)
from .task import Task, Trainings
from .teach_method import Teach
from .window import train_window, window_parameters

__all__ = [
    "METHODS",
    "EditMethod",
    "LossMethod",
    "Method",
    "check_method",
    "config_class",
    "config_from_dict",
    "method_of",
    "register_method",
]


@dataclass(frozen=True)
class Method:
    """An entry of the table."""

    config: type[MethodConfig]
    """Its settings."""
    train: Callable[[Task, Sequence[Any]], Trainings]
    """Trains settings of one `MethodConfig.work_key` together, and gives each one's `Training`, in the order of their steps
    where they differ in these, else in the order given."""
    check: Callable[[PreTrainedModel, Any], object]
    """Raises `RmuLabError` if settings do not fit a model; takes no time."""


SUCCESSORS = (
    *(MCURMU, CIR, RepSelect, RMUSAM, CircuitBreaker, OrthogonalCircuitBreaker, SRMU, TamperResistantRMU, LayeredRMU),
    *(LUNAR, ClosedFormRMU, RankOneRMU),
)
METHODS: dict[str, Method] = {
    **dict.fromkeys(("rmu", "adaptive_rmu"), Method(UnlearnConfig, train_window, window_parameters)),
    **{kind.method: Method(kind, kind.train, kind.check) for kind in (GradientAscent, GradDiff, NPO, SimNPO, LLMU, SCRUB)},
    Teach.method: Method(Teach, Teach.train, Teach.check),
    SSD.method: Method(SSD, SSD.train, SSD.check),
    **{kind.method: Method(kind, kind.train, kind.check) for kind in SUCCESSORS},
}
"""Every method by the name that records and the command line use."""

Config = TypeVar("Config", bound=MethodConfig)


def register_method(config: type[Config]) -> type[Config]:
    """Put a method of your own into the table, under its ``method``; returns the class, so that it serves as a decorator.

    Parameters
    ----------
    config
        a frozen dataclass that extends `LossMethod` or `EditMethod`, or any `MethodConfig` with static functions ``train``
        and ``check`` as in `Method`.

    Raises
    ------
    RmuLabError
        if it is no such class, or the name is another method's.
    """
    name = getattr(config, "method", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise RmuLabError(
            f"{config.__name__}.method is {name!r}; give it a name, such as method: ClassVar[str] = 'my_method'."
        )
    if not is_dataclass(config) or not all(callable(getattr(config, part, None)) for part in ("train", "check")):
        raise RmuLabError(
            f"{config.__name__} is no method; make it a frozen dataclass that extends LossMethod or EditMethod."
        )
    for base, part in ((LossMethod, "loss"), (EditMethod, "edit")):
        if issubclass(config, base) and getattr(config, part) is getattr(base, part):
            raise RmuLabError(f"{config.__name__} defines no {part}; a {base.__name__} needs one.")
    known = METHODS.get(name)
    if known is not None and known.config.__qualname__ != config.__qualname__:  # the same one comes again on a reload
        raise RmuLabError(f"The method name {name!r} is taken by {known.config.__name__}; choose another.")
    METHODS[name] = Method(config, train=getattr(config, "train"), check=getattr(config, "check"))  # noqa: B009
    return config


def method_of(config: MethodConfig) -> Method:
    """Return the entry of the method that these settings are of; one that is not in the table yet is registered.

    Raises
    ------
    RmuLabError
        if they are no settings of a method, or of one whose name is another's.
    """
    if not isinstance(config, MethodConfig):
        raise RmuLabError(f"{config!r} is no settings of a method; give UnlearnConfig() or those of {_names()}.")
    known = METHODS.get(config.method)
    if known is None or known.config is not type(config):  # else a subclass would be trained and stored as its base
        register_method(type(config))
    return METHODS[config.method]


def check_method(model: PreTrainedModel, config: MethodConfig) -> Method:
    """Return the entry of the method that these settings are of, once they are known to fit the model; takes no time.

    Raises
    ------
    RmuLabError
        as `method_of`, if they do not fit, or the texts would be longer than the model can take.
    """
    method = method_of(config)
    method.check(model, config)
    check_positions(model, getattr(config, "max_length", 0))
    check_positions(model, max(getattr(config, "forget_lengths", None) or (0,)), "A text of forget_lengths")
    return method


def config_class(name: str) -> type[MethodConfig]:
    """Return the class of the settings of a method, by its name.

    Raises
    ------
    RmuLabError
        if there is no such method.
    """
    if name not in METHODS:
        raise RmuLabError(f"There is no method {name!r}; use one of {_names()}, or register it.")
    return METHODS[name].config


def config_of(name: str, settings: Mapping[str, Any]) -> MethodConfig:
    """Return the settings of a method, by its name and the values of single fields; the others are at their defaults.

    Raises
    ------
    RmuLabError
        if there is no such method, it has no such field, or a value is out of its range.
    """
    kind = config_class(name)
    known = {item.name for item in fields(kind)}
    for field in settings:
        if field not in known:
            raise RmuLabError(f"{name} has no setting {field!r}; it has {', '.join(sorted(known - {'method'}))}.")
    return kind(**({"method": name} if "method" in known else {}), **settings)


def config_from_dict(plain: Mapping[str, Any]) -> MethodConfig:
    """Return the settings, of whichever method, that `MethodConfig.to_dict` gave.

    Raises
    ------
    KeyError, TypeError, RmuLabError
        if it is not what `to_dict` gives, or the method is not in the table.
    """
    return config_of(plain["method"], {name: value for name, value in plain.items() if name != "method"})


def _names() -> str:
    return ", ".join(METHODS)

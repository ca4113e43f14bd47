"""Who plays: a method with as many settings to try as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RmuLabError
from ..sweeps.sweep import grid
from ..unlearning.baselines import LLMU, NPO, SCRUB, SSD, GradDiff, GradientAscent, SimNPO
from ..unlearning.config import MethodConfig, UnlearnConfig
from ..unlearning.loss_method import LossMethod
from ..unlearning.method_table import METHODS, config_of, method_of
from ..unlearning.successors import (
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
from ..unlearning.teach_method import Teach
from ..unlearning.window_method import WindowMethod

TRIALS = 6
"""Settings that each entry tries on dev questions."""
REFERENCE = "rmu"
"""The entry that the others are compared with."""
NORM = 114.0
"""Median norm of SmolLM2's hidden states after block 7, in whose multiples RMU's and SRMU's targets are tried."""


@dataclass(frozen=True)
class Entry:
    """A method with the settings that it tries on dev questions.

    Raises
    ------
    RmuLabError
        at construction, if there are more than `TRIALS` trials, a setting does not exist or is out of range, or the config
        is of no method.
    """

    name: str
    config: MethodConfig
    """Settings that all trials share."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values to try, by the name of the setting: every combination is a trial."""

    def __post_init__(self) -> None:
        method_of(self.config)  # one of your own is put into the table
        count = len(self.trials)
        if count > TRIALS:
            raise RmuLabError(f"The entry {self.name!r} has {count} trials, but each has at most {TRIALS}; take some out.")

    @property
    def trials(self) -> list[MethodConfig]:
        """The settings to try, in order."""
        return grid(base=self.config, **self.grid)


STRENGTHS, ALPHAS = (2.0, 5.0, 10.0), (30.0, 300.0)
"""Multiples of the norm that are steered to, and weights of the retain loss."""
STEPS = (3, 6, 12)
"""Of methods that train all matrices of all blocks: no more, for each takes ten times as long as a step of RMU's."""
_RATES: dict[type[LossMethod], tuple[float, float]] = {
    GradientAscent: (3e-5, 1e-4),
    **dict.fromkeys((GradDiff, NPO, LLMU), (6e-5, 2e-4)),
    **dict.fromkeys((SimNPO, SCRUB), (2e-4, 6e-4)),
}


def entries() -> list[Entry]:
    """Return an entry for every method of unlearning in the table, RMU first, each with as many trials.

    What scaling makes equal is not tried: LUNAR's coefficient, for one, only scales its edit. The values lie around the
    defaults, and for the methods that came before RMU they are those of notebook 08. How good a method could be with more
    trials, or at another layer than 7, the league does not tell.
    """
    return [
        _entry(UnlearnConfig(method="rmu"), coefficient=[beta * NORM for beta in STRENGTHS], alpha=ALPHAS),
        _entry(UnlearnConfig(method="adaptive_rmu"), beta=STRENGTHS, alpha=ALPHAS),
        _entry(ClosedFormRMU(), alpha=(0.1, 1.0, 10.0), blocks=(1, 3)),
        _entry(RankOneRMU(), rank=(1, 2, 4), alpha=ALPHAS),
        _entry(MCURMU(), components=(3, 7, 23), alpha=ALPHAS),
        _entry(CIR(), lr=(0.2, 0.5), alpha=(0.3, 1.0, 3.0)),
        _entry(RepSelect(), components=(4, 16, 64), alpha=(0.3, 3.0)),
        _entry(RMUSAM(), rho=(0.03, 0.1, 0.3), alpha=ALPHAS),
        _entry(TamperResistantRMU(), relearn_lr=(3e-4, 1e-3, 3e-3), alpha=ALPHAS),
        _entry(CircuitBreaker(), alpha=(0.03, 0.1, 0.3), lr=(2e-3, 7e-3)),
        _entry(OrthogonalCircuitBreaker(), alpha=(0.03, 0.1, 0.3), orthogonality=(0.25, 1.0)),
        _entry(SRMU(), coefficient=(20.0, 40.0, 80.0), alpha=ALPHAS),
        _entry(LayeredRMU(), folds=(2, 3, 5), alpha=ALPHAS),
        _entry(LUNAR(), alpha=(0.1, 1.0, 10.0), ridge=(1e-3, 1e-1)),
        *(_entry(kind(), lr=rates, steps=STEPS) for kind, rates in _RATES.items()),
        _entry(SSD(), threshold=(2.0, 5.0, 20.0), dampening=(0.1, 1.0)),
    ]


def _entry(config: MethodConfig, **values: Sequence[Any]) -> Entry:
    return Entry(config.method, config, values)


def entry_of(method: str | MethodConfig | type[MethodConfig] | Entry) -> Entry:
    """Return the entry of a method: one of `entries`, or one that is made for a method of your own.

    A method of your own that trains by a loss on logits, or the window by another rule, tries learning rates with steps or
    with weights of the retain loss; any other tries its defaults alone. To try settings of your choice, give an `Entry`.

    Parameters
    ----------
    method
        the name of a method in the table, the class of its settings, settings that all its trials share, or an entry.

    Raises
    ------
    RmuLabError
        if there is no such method, or it teaches.
    """
    if isinstance(method, Entry):
        return method
    known = {entry.name: entry for entry in entries()}
    if isinstance(method, str):
        if method in known:
            return known[method]
        if method not in METHODS:
            raise RmuLabError(f"There is no method {method!r}; use one of {', '.join(known)}, or register yours.")
        method = config_of(method, {})
    config = method() if isinstance(method, type) else method
    if isinstance(config, Teach):
        raise RmuLabError("teach makes a model know more, and the league is of methods that make it forget; give another.")
    same = known.get(config.method)
    if same is not None and same.config == config:
        return same
    return Entry(config.method, config, _grid_of(config))


def _grid_of(config: MethodConfig) -> dict[str, Sequence[Any]]:
    if isinstance(config, LossMethod):
        return {"lr": _RATES[NPO], "steps": STEPS}
    if isinstance(config, WindowMethod):
        return {"lr": (2e-3, 7e-3, 2e-2), "alpha": ALPHAS}
    return {}


def with_seed(config: MethodConfig, seed: int) -> MethodConfig:
    """Return the settings with another seed, if the method has one."""
    changes: dict[str, Any] = {"seed": seed}
    return dataclasses.replace(config, **changes) if "seed" in {item.name for item in dataclasses.fields(config)} else config

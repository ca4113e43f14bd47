"""What every entry of the league is given alike: budgets of divergence, seeds, and the attacker's search."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..attacks.fine_tune import RelearnConfig, Trained
from ..attacks.relearning_speed import BOUND, RATES
from ..errors import RmuLabError


@dataclass(frozen=True)
class LeagueSettings:
    """Settings of a league; two results may be compared only where these, the texts and the questions are the same.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    budgets: tuple[float, ...] = (0.1,)
    """Divergences from the base model on held-out texts that every edit is scaled to, in nats a token. An edit of SmolLM2 by
    Adaptive RMU at its defaults has about half of this."""
    dev_seed: int = 350
    """Of the edits on which settings, and the attacker's learning rate, are chosen."""
    seeds: tuple[int, ...] = (351, 352, 353)
    """Of the edits that are tested; each also draws the order of the attacker's texts."""
    steps: tuple[int, ...] = (2, 4, 8, 16)
    """Of relearning, after which accuracy is measured, in rising order."""
    halving: tuple[int, ...] = (4, 8)
    """Steps of each round of the search for the attacker's rate, see `search_rate`; all of them among `steps`."""
    rates: tuple[float, ...] = RATES["all"][1:5]
    """AdamW's learning rates that are searched: those between the lowest and the highest of `search_rate`'s own."""
    bound: float = BOUND
    """General accuracy that the attacker may lose, as a share."""
    trained: Trained = "all"
    """What the attacker trains: ``"all"`` or ``"lora"``, but not ``"edited"``, which is something else for each entry."""
    property_texts: int = 16
    """Forget texts on which the properties of an edit are measured."""
    controls: bool = True
    """Whether the base model is fine-tuned at each rate that is found, too."""

    def __post_init__(self) -> None:
        for name in ("budgets", "seeds", "steps", "halving", "rates"):
            values = tuple(getattr(self, name))  # as JSON gives them back, they are lists
            object.__setattr__(self, name, values)
            if not values or len(set(values)) < len(values):
                raise RmuLabError(f"{name} is {values}; give one at least, and each once.")
        if not all(0 < budget < math.inf for budget in self.budgets):
            raise RmuLabError(f"budgets is {self.budgets}; give positive numbers of nats a token.")
        if self.property_texts < 1:
            raise RmuLabError(f"property_texts is {self.property_texts}; give a whole number from 1.")
        if not set(self.halving) <= set(self.steps):
            raise RmuLabError(f"halving is {self.halving}; take its steps out of `steps`, {self.steps}.")
        if self.trained == "edited":
            raise RmuLabError("trained is 'edited', which is something else for each entry; let the attacker train 'all'.")
        for lr in self.rates:
            self.relearning(lr, self.seeds[0])

    def relearning(self, lr: float, seed: int) -> RelearnConfig:
        """Return the settings of a fine-tune of the attacker's."""
        return RelearnConfig(lr=lr, steps=self.steps, trained=self.trained, seed=seed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}

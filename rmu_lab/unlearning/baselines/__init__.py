"""The methods that RMU is compared with, each in a frozen dataclass of settings with its equation and its loss.

`rmu_lab.unlearn` runs each of them when it is given its settings: ``unlearn(model, tokenizer, forget, retain, NPO())``.
Taught in notebook 08.
"""

from .gradient import GradDiff, GradientAscent
from .llmu import LLMU
from .npo import NPO, SimNPO
from .scrub import SCRUB
from .ssd import SSD

__all__ = ["LLMU", "NPO", "SCRUB", "SSD", "GradDiff", "GradientAscent", "SimNPO"]

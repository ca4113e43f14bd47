"""The methods that RMU is compared with: their settings, losses, trainer and SSD. Taught in notebook 08.

`rmu_lab.unlearn` runs each of them when it is given its settings: ``unlearn(model, tokenizer, forget, retain, NPO())``.
"""

from .config import LLMU, NPO, SCRUB, SSD, Baseline, GradDiff, GradientAscent, SimNPO

__all__ = ["LLMU", "NPO", "SCRUB", "SSD", "Baseline", "GradDiff", "GradientAscent", "SimNPO"]

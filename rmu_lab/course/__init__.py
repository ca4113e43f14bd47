"""What notebooks use and nothing else does: claims that print a stable line, exercise checkers, plots, widgets."""

from .claims import claim
from .exercises import check, core
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "accuracy_bars",
    "against",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "core",
    "curves",
    "distributions",
    "film",
    "heatmap",
    "layer_explorer",
    "layer_panel",
    "show",
    "style",
]

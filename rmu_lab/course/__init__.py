"""What notebooks use and nothing else does: claims that print a stable line, exercise checkers, plots."""

from .claims import claim
from .exercises import check
from .plots import accuracy_bars, style

__all__ = ["accuracy_bars", "check", "claim", "style"]

"""Methods that came after RMU, each in a frozen dataclass of settings with its equation, and two of our own.

All of them act at the output of block l, as RMU does, and train or compute only matrices of blocks l-2 .. l; the ways in
which an author's method differs from that stand in its docstring. `rmu_lab.unlearn` runs each of them when it is given its
settings: ``unlearn(model, tokenizer, forget, retain, MCURMU())``. ``published()`` of each gives its authors' settings.
"""

from .cir import CIR
from .circuit_breaker import CircuitBreaker, OrthogonalCircuitBreaker
from .closed_form import ClosedFormRMU
from .layered import LayeredRMU
from .lunar import LUNAR
from .mcu import MCURMU
from .rank_one import RankOneRMU
from .rep_select import RepSelect
from .sam import RMUSAM
from .srmu import SRMU
from .tamper_resistant import TamperResistantRMU

__all__ = [
    "CIR",
    "LUNAR",
    "MCURMU",
    "RMUSAM",
    "SRMU",
    "CircuitBreaker",
    "ClosedFormRMU",
    "LayeredRMU",
    "OrthogonalCircuitBreaker",
    "RankOneRMU",
    "RepSelect",
    "TamperResistantRMU",
]

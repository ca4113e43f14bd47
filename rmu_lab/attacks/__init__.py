"""Attacks that try to bring unlearned knowledge back, each with its control. Taught in notebooks 06 and 07."""

from .ablate import ablate
from .attack_table import ATTACKS, Attack, register_attack
from .controls import Difference, Generation, Recovery, ReferenceScores
from .gauntlet import RobustnessCard, gauntlet
from .greedy_coordinate import GCGConfig, GCGResult, GCGStep, SwapGains, gcg, swap_gains
from .lens import lens, through_block
from .prompts import prompt
from .quantise import quantise
from .relearn import relearn
from .subject import Budget, Subject
from .suffixes import reply
from .transfer import transfer

__all__ = [
    "ATTACKS",
    "Attack",
    "Budget",
    "Difference",
    "GCGConfig",
    "GCGResult",
    "GCGStep",
    "Generation",
    "Recovery",
    "ReferenceScores",
    "RobustnessCard",
    "Subject",
    "SwapGains",
    "ablate",
    "gauntlet",
    "gcg",
    "lens",
    "prompt",
    "quantise",
    "register_attack",
    "relearn",
    "reply",
    "swap_gains",
    "through_block",
    "transfer",
]

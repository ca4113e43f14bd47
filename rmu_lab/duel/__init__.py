"""A red-and-blue exercise for two groups: one makes a model forget, the other tries to bring it back, one command scores.

Taught in ``docs/class/duel.md``.
"""

from .attack_plans import Ablate, AttackPlan, Prompt, Relearn
from .folder import start_duel
from .hand_ins import BlueHandIn, RedHandIn, load_blue, load_red
from .rules import Rules
from .score import Duel, Stages, score_duel

__all__ = [
    "Ablate",
    "AttackPlan",
    "BlueHandIn",
    "Duel",
    "Prompt",
    "RedHandIn",
    "Relearn",
    "Rules",
    "Stages",
    "load_blue",
    "load_red",
    "score_duel",
    "start_duel",
]

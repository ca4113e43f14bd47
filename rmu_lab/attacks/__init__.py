"""Attacks that try to bring unlearned knowledge back, each with its control. Taught in notebooks 06 and 07."""

from ..metrics.relearning import half_back
from .ablate import ablate
from .attack_table import ATTACKS, Attack, register_attack, short_list
from .card import COLUMNS, RobustnessCard
from .controls import Difference, Generation, Recovery, ReferenceScores
from .cost import Cost
from .fine_tune import RelearnConfig
from .gauntlet import gauntlet
from .greedy_coordinate import GCGConfig, GCGResult, GCGStep, SwapGains, gcg, states_to_match, swap_gains
from .lens import lens, through_block
from .other_facts import as_texts, other_facts
from .patching import Patched, patch
from .probe import probe
from .prompts import prompt
from .quantise import quantise
from .relearn import relearn, relearn_other_facts
from .relearning_speed import RelearningCurve, relearning_curve, search_rate
from .soft_prompts import SoftPrompt, SoftPromptConfig, soft_accuracy, soft_prompt, soft_prompt_each, train_soft_prompt
from .subject import Budget, Subject
from .suffixes import StateMatch, reply
from .transfer import transfer
from .written import named_option, sample, written_accuracy

__all__ = [
    "ATTACKS",
    "COLUMNS",
    "Attack",
    "Budget",
    "Cost",
    "Difference",
    "GCGConfig",
    "GCGResult",
    "GCGStep",
    "Generation",
    "Patched",
    "Recovery",
    "ReferenceScores",
    "RelearnConfig",
    "RelearningCurve",
    "RobustnessCard",
    "SoftPrompt",
    "SoftPromptConfig",
    "StateMatch",
    "Subject",
    "SwapGains",
    "ablate",
    "as_texts",
    "gauntlet",
    "gcg",
    "half_back",
    "lens",
    "named_option",
    "other_facts",
    "patch",
    "probe",
    "prompt",
    "quantise",
    "register_attack",
    "relearn",
    "relearn_other_facts",
    "relearning_curve",
    "reply",
    "sample",
    "search_rate",
    "short_list",
    "soft_accuracy",
    "soft_prompt",
    "soft_prompt_each",
    "states_to_match",
    "swap_gains",
    "through_block",
    "train_soft_prompt",
    "transfer",
    "written_accuracy",
]

"""What the field measures to say that something was unlearned: each metric with its paper's equation.

Taught in notebook 11, which also shows which of them can be fooled.
"""

from .membership import MEMBERSHIP, loss_score, min_k, min_k_plus_plus, zlib_score
from .memorisation import answer_probability, exact_memorisation, extraction_strength
from .rouge import RougeL, rouge_l
from .scored_texts import ScoredText, score_texts
from .separation import auc
from .truth import forget_quality, model_utility, truth_ratio

__all__ = [
    "MEMBERSHIP",
    "RougeL",
    "ScoredText",
    "answer_probability",
    "auc",
    "exact_memorisation",
    "extraction_strength",
    "forget_quality",
    "loss_score",
    "min_k",
    "min_k_plus_plus",
    "model_utility",
    "rouge_l",
    "score_texts",
    "truth_ratio",
    "zlib_score",
]

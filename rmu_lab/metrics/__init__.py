"""What the field measures to say that something was unlearned: each metric with its paper's equation.

Taught in notebook 11, which also shows which of them can be fooled.
"""

from .detectability import FEATURES, Detectability, detectability, output_features
from .membership import MEMBERSHIP, loss_score, min_k, min_k_plus_plus, zlib_score
from .memorisation import answer_probability, choice_probability, exact_memorisation, extraction_strength
from .muse import knowledge_memorisation, load_muse, membership_area, privacy_leakage, verbatim_memorisation
from .panel import FACT_METRICS, PASSAGE_METRICS, fact_metrics, passage_metrics
from .probing import ProbeScore, hidden_state_probe
from .relearning import half_back
from .rouge import RougeL, rouge_l
from .scored_texts import ScoredText, score_texts
from .separation import auc, crossed_auc
from .tofu import TofuEvaluation, TofuScores, tofu_evaluation
from .tofu_data import TOFU_PARTS, load_tofu, load_tofu_sets, tofu_rows
from .truth import forget_quality, model_utility, truth_ratio

__all__ = [
    "FACT_METRICS",
    "FEATURES",
    "MEMBERSHIP",
    "PASSAGE_METRICS",
    "TOFU_PARTS",
    "Detectability",
    "ProbeScore",
    "RougeL",
    "ScoredText",
    "TofuEvaluation",
    "TofuScores",
    "answer_probability",
    "auc",
    "choice_probability",
    "crossed_auc",
    "detectability",
    "exact_memorisation",
    "extraction_strength",
    "fact_metrics",
    "forget_quality",
    "half_back",
    "hidden_state_probe",
    "knowledge_memorisation",
    "load_muse",
    "load_tofu",
    "load_tofu_sets",
    "loss_score",
    "membership_area",
    "min_k",
    "min_k_plus_plus",
    "model_utility",
    "output_features",
    "passage_metrics",
    "privacy_leakage",
    "rouge_l",
    "score_texts",
    "tofu_evaluation",
    "tofu_rows",
    "truth_ratio",
    "verbatim_memorisation",
    "zlib_score",
]

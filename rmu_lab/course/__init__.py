"""What notebooks use and nothing else does: claims that print a stable line, checkers, predictions, figures, widgets."""

from .claims import claim
from .confidence import (
    as_chat,
    base_and_unlearned,
    before_and_after,
    correlations,
    given_confidence,
    late_logits,
    over_prompts,
    written_changes,
)
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .formatting import print_changes, print_table
from .left_over import left_over_figure
from .linearisation import bell_figure, last_stream_above, linearisation_diagram, logits_above, rmu_direction
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .spread import max_logit_figure, measure_spread, spread_figure
from .strength import answers_at, strength_panel, strength_slider
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .turning import turned, turning_explorer, turning_panel
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "Prediction",
    "TokenCosines",
    "ToyRun",
    "accuracy_bars",
    "against",
    "answers_at",
    "as_chat",
    "attention_map",
    "base_and_unlearned",
    "before_and_after",
    "bell_figure",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "core",
    "correlations",
    "curves",
    "distributions",
    "film",
    "given_confidence",
    "heatmap",
    "last_stream_above",
    "late_logits",
    "layer_explorer",
    "layer_panel",
    "left_over_figure",
    "linearisation_diagram",
    "logits_above",
    "loss_diagram",
    "max_logit_figure",
    "measure_spread",
    "over_prompts",
    "predict",
    "print_changes",
    "print_table",
    "residual_stream_diagram",
    "rmu_direction",
    "show",
    "spread_figure",
    "strength_panel",
    "strength_slider",
    "style",
    "target_length_diagram",
    "token_colours",
    "token_cosines",
    "token_panel",
    "toy_rmu",
    "toy_rmu_panel",
    "train_toy",
    "turned",
    "turning_diagram",
    "turning_explorer",
    "turning_panel",
    "written_changes",
]

"""What notebooks use and nothing else does: claims that print a stable line, checkers, predictions, figures, widgets."""

from .claims import claim
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .factorial import effect, effects_figure, floor_figure, runs_by_signs
from .formatting import print_changes, print_table
from .layer_figures import by_layer, compare_methods, depth_figure, growth_by_setting, growth_figure, lost_marks, norm_growth
from .number_tables import print_accuracies, print_numbers, print_picks
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .search_figures import luck_figure, plans_figure, search_map
from .strength import answers_at, strength_panel, strength_slider
from .target_norms import adaptive_target, median_norms, norms_by_text
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "Prediction",
    "TokenCosines",
    "ToyRun",
    "accuracy_bars",
    "adaptive_target",
    "against",
    "answers_at",
    "attention_map",
    "by_layer",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "compare_methods",
    "core",
    "curves",
    "depth_figure",
    "distributions",
    "effect",
    "effects_figure",
    "film",
    "floor_figure",
    "growth_by_setting",
    "growth_figure",
    "heatmap",
    "layer_explorer",
    "layer_panel",
    "loss_diagram",
    "lost_marks",
    "luck_figure",
    "median_norms",
    "norm_growth",
    "norms_by_text",
    "plans_figure",
    "predict",
    "print_accuracies",
    "print_changes",
    "print_numbers",
    "print_picks",
    "print_table",
    "residual_stream_diagram",
    "runs_by_signs",
    "search_map",
    "show",
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
    "turning_diagram",
]

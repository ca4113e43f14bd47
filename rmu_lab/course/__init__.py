"""What notebooks use and nothing else does: claims that print a stable line, checkers, predictions, figures, widgets."""

from .claims import claim
from .coefficient_figures import (
    history_curves,
    lowest_layer,
    noise_diagram,
    norms_beside,
    sensitivity_panels,
    targets_to_scale,
)
from .coefficient_tables import print_stored_changes, print_toy
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .formatting import print_changes, print_table
from .noise import (
    SENSITIVITY_TESTS,
    layer_map,
    mean_square,
    random_noise,
    sensitivity,
    sensitivity_by_layer,
    sensitivity_of_targets,
)
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .stored_runs import accuracy_by_coefficient, stored_change
from .strength import answers_at, strength_panel, strength_slider
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "SENSITIVITY_TESTS",
    "Prediction",
    "TokenCosines",
    "ToyRun",
    "accuracy_bars",
    "accuracy_by_coefficient",
    "against",
    "answers_at",
    "attention_map",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "core",
    "curves",
    "distributions",
    "film",
    "heatmap",
    "history_curves",
    "layer_explorer",
    "layer_map",
    "layer_panel",
    "loss_diagram",
    "lowest_layer",
    "mean_square",
    "noise_diagram",
    "norms_beside",
    "predict",
    "print_changes",
    "print_stored_changes",
    "print_table",
    "print_toy",
    "random_noise",
    "residual_stream_diagram",
    "sensitivity",
    "sensitivity_by_layer",
    "sensitivity_of_targets",
    "sensitivity_panels",
    "show",
    "stored_change",
    "strength_panel",
    "strength_slider",
    "style",
    "target_length_diagram",
    "targets_to_scale",
    "token_colours",
    "token_cosines",
    "token_panel",
    "toy_rmu",
    "toy_rmu_panel",
    "train_toy",
    "turning_diagram",
]

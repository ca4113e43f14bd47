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
from .first_figures import cost_figure, hide_or_erase_diagram, strength_curves
from .formatting import print_changes, print_table
from .lead_in import cosine_after, lead_figure
from .moves import Moves, moves_figure, moves_of, over_texts
from .noise import (
    SENSITIVITY_TESTS,
    layer_map,
    mean_square,
    random_noise,
    sensitivity,
    sensitivity_by_layer,
    sensitivity_of_targets,
)
from .own_loss import package_direction, package_rmu_loss, train_with
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .ready_topics import Topic, most_alike, quiz, ready_topic, topic_tests
from .sinks import attention_weights, norm_and_attention, norms_by_layer, received, token_bars
from .stored_runs import accuracy_by_coefficient, stored_change
from .strength import answers_at, strength_panel, strength_slider
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "SENSITIVITY_TESTS",
    "Moves",
    "Prediction",
    "TokenCosines",
    "Topic",
    "ToyRun",
    "accuracy_bars",
    "accuracy_by_coefficient",
    "against",
    "answers_at",
    "attention_map",
    "attention_weights",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "core",
    "cosine_after",
    "cost_figure",
    "curves",
    "distributions",
    "film",
    "heatmap",
    "hide_or_erase_diagram",
    "history_curves",
    "layer_explorer",
    "layer_map",
    "layer_panel",
    "lead_figure",
    "loss_diagram",
    "lowest_layer",
    "mean_square",
    "most_alike",
    "moves_figure",
    "moves_of",
    "noise_diagram",
    "norm_and_attention",
    "norms_beside",
    "norms_by_layer",
    "over_texts",
    "package_direction",
    "package_rmu_loss",
    "predict",
    "print_changes",
    "print_stored_changes",
    "print_table",
    "print_toy",
    "quiz",
    "random_noise",
    "ready_topic",
    "received",
    "residual_stream_diagram",
    "sensitivity",
    "sensitivity_by_layer",
    "sensitivity_of_targets",
    "sensitivity_panels",
    "show",
    "stored_change",
    "strength_curves",
    "strength_panel",
    "strength_slider",
    "style",
    "target_length_diagram",
    "targets_to_scale",
    "token_bars",
    "token_colours",
    "token_cosines",
    "token_panel",
    "topic_tests",
    "toy_rmu",
    "toy_rmu_panel",
    "train_toy",
    "train_with",
    "turning_diagram",
]

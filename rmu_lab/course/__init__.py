"""What notebooks use and nothing else does: claims that print a stable line, checkers, predictions, figures, widgets."""

from .claims import claim
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .first_figures import cost_figure, hide_or_erase_diagram, strength_curves
from .formatting import print_changes, print_table
from .lead_in import cosine_after, lead_figure
from .moves import Moves, moves_figure, moves_of, over_texts
from .own_loss import package_direction, package_rmu_loss, train_with
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .ready_topics import Topic, most_alike, quiz, ready_topic, topic_tests
from .sinks import attention_weights, norm_and_attention, norms_by_layer, received, token_bars
from .strength import answers_at, strength_panel, strength_slider
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "Moves",
    "Prediction",
    "TokenCosines",
    "Topic",
    "ToyRun",
    "accuracy_bars",
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
    "layer_explorer",
    "layer_panel",
    "lead_figure",
    "loss_diagram",
    "most_alike",
    "moves_figure",
    "moves_of",
    "norm_and_attention",
    "norms_by_layer",
    "over_texts",
    "package_direction",
    "package_rmu_loss",
    "predict",
    "print_changes",
    "print_table",
    "quiz",
    "ready_topic",
    "received",
    "residual_stream_diagram",
    "show",
    "strength_curves",
    "strength_panel",
    "strength_slider",
    "style",
    "target_length_diagram",
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

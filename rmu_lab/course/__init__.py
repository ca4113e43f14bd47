"""What notebooks use and nothing else does: claims that print a stable line, checkers, predictions, figures, widgets."""

from .claims import claim
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .first_figures import cost_figure, hide_or_erase_diagram, strength_curves
from .formatting import print_changes, print_table
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .ready_topics import Topic, most_alike, quiz, ready_topic, topic_tests
from .strength import answers_at, strength_panel, strength_slider
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .widgets import coefficient_explorer, coefficient_panel, layer_explorer, layer_panel

__all__ = [
    "ROLES",
    "Prediction",
    "TokenCosines",
    "Topic",
    "ToyRun",
    "accuracy_bars",
    "against",
    "answers_at",
    "attention_map",
    "check",
    "claim",
    "coefficient_explorer",
    "coefficient_panel",
    "core",
    "cost_figure",
    "curves",
    "distributions",
    "film",
    "heatmap",
    "hide_or_erase_diagram",
    "layer_explorer",
    "layer_panel",
    "loss_diagram",
    "most_alike",
    "predict",
    "print_changes",
    "print_table",
    "quiz",
    "ready_topic",
    "residual_stream_diagram",
    "show",
    "strength_curves",
    "strength_panel",
    "strength_slider",
    "style",
    "target_length_diagram",
    "token_colours",
    "token_cosines",
    "token_panel",
    "topic_tests",
    "toy_rmu",
    "toy_rmu_panel",
    "train_toy",
    "turning_diagram",
]

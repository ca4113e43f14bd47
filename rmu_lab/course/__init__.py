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
from .confidence import (
    as_chat,
    base_and_unlearned,
    before_and_after,
    correlations,
    given_confidence,
    given_logits,
    over_prompts,
    written_changes,
)
from .diagrams import attention_map, loss_diagram, residual_stream_diagram, target_length_diagram, turning_diagram
from .exercises import check, core
from .factorial import effect, effects_figure, floor_figure, runs_by_signs
from .first_checks import clean_tests, lost_and_gained_tests, share_tests, verdict_tests
from .first_figures import before_and_after_bars, cost_figure, hide_or_erase_diagram, strength_curves
from .formatting import print_changes, print_table
from .layer_figures import (
    by_layer,
    compare_methods,
    depth_figure,
    growth_by_setting,
    growth_figure,
    lost_marks,
    norm_growth,
    repair_figure,
)
from .lead_in import cosine_after, lead_figure
from .left_over import left_over_figure, some_tokens, stretch
from .linearisation import (
    first_order_figure,
    likeliest_token,
    linearisation_diagram,
    logits_above,
    norms_added_above,
    rmu_direction,
    variance_ratios,
)
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
from .number_tables import print_accuracies, print_numbers, print_picks
from .own_loss import package_direction, package_rmu_loss, train_with
from .plots import ROLES, accuracy_bars, against, curves, distributions, film, heatmap, show, style
from .predictions import Prediction, predict
from .ready_topics import Topic, most_alike, quiz, ready_topic, stored_directions, topic_tests
from .search_figures import choices_figure, luck_figure, plans_figure, search_map
from .sinks import attention_weights, norm_and_attention, norms_by_layer, received, restore_vector, token_bars
from .spread import measure_spread, measure_sureness, spread_figure, sureness_figure
from .stored_runs import accuracy_by_coefficient, median_cosine, stored_change
from .strength import answers_at, print_answers, strength_panel, strength_slider
from .target_norms import adaptive_target, median_norms, norms_by_text, published_target_tests
from .token_colours import TokenCosines, token_colours, token_cosines, token_panel
from .toy import ToyRun, toy_rmu, toy_rmu_panel, train_toy
from .turning import turned, turning_explorer, turning_panel
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
    "adaptive_target",
    "against",
    "answers_at",
    "as_chat",
    "attention_map",
    "attention_weights",
    "base_and_unlearned",
    "before_and_after",
    "before_and_after_bars",
    "by_layer",
    "check",
    "choices_figure",
    "claim",
    "clean_tests",
    "coefficient_explorer",
    "coefficient_panel",
    "compare_methods",
    "core",
    "correlations",
    "cosine_after",
    "cost_figure",
    "curves",
    "depth_figure",
    "distributions",
    "effect",
    "effects_figure",
    "film",
    "first_order_figure",
    "floor_figure",
    "given_confidence",
    "given_logits",
    "growth_by_setting",
    "growth_figure",
    "heatmap",
    "hide_or_erase_diagram",
    "history_curves",
    "layer_explorer",
    "layer_map",
    "layer_panel",
    "lead_figure",
    "left_over_figure",
    "likeliest_token",
    "linearisation_diagram",
    "logits_above",
    "loss_diagram",
    "lost_and_gained_tests",
    "lost_marks",
    "lowest_layer",
    "luck_figure",
    "mean_square",
    "measure_spread",
    "measure_sureness",
    "median_cosine",
    "median_norms",
    "most_alike",
    "moves_figure",
    "moves_of",
    "noise_diagram",
    "norm_and_attention",
    "norm_growth",
    "norms_added_above",
    "norms_beside",
    "norms_by_layer",
    "norms_by_text",
    "over_prompts",
    "over_texts",
    "package_direction",
    "package_rmu_loss",
    "plans_figure",
    "predict",
    "print_accuracies",
    "print_answers",
    "print_changes",
    "print_numbers",
    "print_picks",
    "print_stored_changes",
    "print_table",
    "print_toy",
    "published_target_tests",
    "quiz",
    "random_noise",
    "ready_topic",
    "received",
    "repair_figure",
    "residual_stream_diagram",
    "restore_vector",
    "rmu_direction",
    "runs_by_signs",
    "search_map",
    "sensitivity",
    "sensitivity_by_layer",
    "sensitivity_of_targets",
    "sensitivity_panels",
    "share_tests",
    "show",
    "some_tokens",
    "spread_figure",
    "stored_change",
    "stored_directions",
    "strength_curves",
    "strength_panel",
    "strength_slider",
    "stretch",
    "style",
    "sureness_figure",
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
    "turned",
    "turning_diagram",
    "turning_explorer",
    "turning_panel",
    "variance_ratios",
    "verdict_tests",
    "written_changes",
]

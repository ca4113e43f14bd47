"""Notebook 07's pictures and cores: where attacks reach into a model, a direction taken out, how soon a topic is back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from ..evaluate import Accuracy
from ..metrics.relearning import half_back
from ..questions import cloze_prompt
from .diagrams import INK, LABEL, NOTE, arrow, canvas, word_box
from .exercises import Test
from .plots import GREY, ROLES, accuracy_axes, interval_bars

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..attacks.controls import Recovery
    from ..attacks.relearning_speed import RelearningCurve
    from ..unlearning.result import UnlearnResult


# ---------------------------------------------------------------------------------------------------------------------
# Pictures of the ideas


def attack_points_diagram() -> Figure:
    """Draw where attackers reach into a model: its prompts, one state on the way, its weights; taught in notebook 07."""
    figure, axes = canvas(9.4, 3.5, (-2.6, 13.2), (-2.5, 3.0))
    arrow(axes, (-0.6, 0), (11.0, 0), INK, width=2.6, head=16)
    axes.text(-0.75, 0, "prompt", ha="right", va="center", fontsize=LABEL, color=INK)
    axes.text(11.15, 0, "answer", ha="left", va="center", fontsize=LABEL, color=INK)
    parts = {
        "below": (0.2, 2.6, "#e8e8e8", GREY, "untouched"),
        "window": (3.1, 2.2, "#edd3e1", ROLES["steered"].colour, "edited\nby RMU"),
        "above": (5.9, 4.4, "#e8e8e8", GREY, "untouched"),
    }
    for left, width, face, edge, words in parts.values():
        word_box(axes, left, width, words, edge, height=1.1, face=face, line=1.5, size=NOTE)
    reach = (
        ((-1.6, 1.5), (-1.6, 0.35), "ask in other words", "prompts alone"),
        ((5.2, 1.5), (5.55, 0.1), "ablate one direction\nof the states", "weights, texts of the topic"),
        ((9.6, 1.5), (8.1, 0.6), "read the states inside\n(logit lens)", "weights"),
    )
    for start, end, words, holds in reach:
        arrow(axes, start, end, ROLES["forget"].colour, width=1.8, head=12)
        axes.text(start[0], start[1] + 0.12, f"{words}\nneeds: {holds}", ha="center", va="bottom", fontsize=NOTE, color=INK)
    axes.plot([0.2, 0.2, 10.3, 10.3], [-0.75, -1.0, -1.0, -0.75], color=ROLES["forget"].colour, linewidth=1.5)
    axes.text(5.25, -1.15, "fine-tune some steps further (relearn)\nneeds: weights, and a few texts", ha="center", va="top",
              fontsize=NOTE, color=INK)  # fmt: skip
    return figure


def ablation_diagram() -> Figure:
    """Draw how a component is set to a mean: every state slides along one axis, and keeps the others; notebook 07."""
    figure, row = plt.subplots(1, 2, figsize=(9.4, 3.5), sharex=True, sharey=True)
    across, moved, mean = (0.8, 1.7, 2.9), (3.3, 2.7, 3.6), 0.7
    for axes, title, heights in (
        (row[0], "The edit pushed the states along û", moved),
        (row[1], "One component is set back to the mean", (mean,) * 3),
    ):
        axes.set(xlim=(-0.5, 4.4), ylim=(-0.85, 4.2), xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.set_title(title)
        arrow(axes, (0, -0.2), (0, 4.0), ROLES["direction"].colour, width=2, head=14)
        axes.text(0.08, 3.95, "û", fontsize=13, color=INK, va="top")
        axes.axhline(mean, color=ROLES["frozen"].colour, linestyle=":", linewidth=1.4)
        axes.text(4.35, -0.55, "dotted: mean component of the base model", ha="right", va="center", fontsize=NOTE, color=INK)
        for x, height, high in zip(across, heights, moved, strict=True):
            arrow(axes, (0, 0), (x, height), ROLES["forget"].colour, width=2.2, head=14)
            if height != high:
                arrow(axes, (x, high), (x, height + 0.1), GREY, width=1.2, dashes=":", head=10)
        axes.set_xlabel("all other directions" + (": unchanged" if heights[0] == mean else ""))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Cores


def take_out(hidden: Tensor, u_hat: Tensor, mean: Tensor) -> Tensor:
    """Set the component along one direction to that of a mean state, and leave the rest; a core of notebook 07.

    Parameters
    ----------
    hidden
        (..., d).
    u_hat
        (d,), of norm 1.
    mean
        (d,), such as the base model's mean state.
    """
    return hidden - ((hidden - mean) @ u_hat)[..., None] * u_hat


def take_out_tests() -> list[Test]:
    """Return what is asked of `take_out`."""
    draw = torch.Generator().manual_seed(0)
    hidden, mean = 5 * torch.randn(2, 3, 8, generator=draw), torch.randn(8, generator=draw)
    u_hat = torch.nn.functional.normalize(torch.randn(8, generator=draw), dim=0)

    def rest(states: Tensor) -> Tensor:
        return states - (states @ u_hat)[..., None] * u_hat

    def close(one: Tensor, other: Tensor) -> bool:
        return torch.allclose(one, other, atol=1e-4)

    return [
        (lambda f: f(hidden, u_hat, mean).shape == hidden.shape, "return a state for every token: the shape of `hidden`"),
        (
            lambda f: close(rest(f(hidden, u_hat, mean)), rest(hidden)),
            "every other direction must keep its component: subtract a multiple of u_hat, and nothing else",
        ),
        (
            lambda f: close(f(hidden, u_hat, mean) @ u_hat, (mean @ u_hat).expand(2, 3)),
            "the component along u_hat must become that of `mean`, not 0",
        ),
        (lambda f: close(f(f(hidden, u_hat, mean), u_hat, mean), f(hidden, u_hat, mean)), "taking it out twice is once"),
    ]


def tokens_to_half(tokens: Sequence[float], accuracy: Sequence[float], base: float) -> float:
    """Find R50: where half of what unlearning took is back, on straight lines; a core of notebook 07.

    Parameters
    ----------
    tokens
        trained on before each measurement, 0 first.
    accuracy
        measured there.
    base
        accuracy before unlearning.

    Returns
    -------
    float
        infinity where half is not reached.
    """
    half = (accuracy[0] + base) / 2
    for at in range(1, len(tokens)):
        if accuracy[at] >= half:
            share = (half - accuracy[at - 1]) / (accuracy[at] - accuracy[at - 1])
            return tokens[at - 1] + share * (tokens[at] - tokens[at - 1])
    return math.inf


def tokens_to_half_tests() -> list[Test]:
    """Return what is asked of `tokens_to_half`."""
    steps = [0, 100, 200, 400]
    return [
        (lambda f: math.isclose(f(steps, [0.2, 0.4, 0.5, 0.8], 0.8), 200), "half of the way from 0.2 to 0.8 is 0.5"),
        (lambda f: math.isclose(f(steps, [0.2, 0.2, 0.8, 0.8], 0.8), 150), "between two measurements, take a straight line"),
        (lambda f: math.isclose(f(steps, [0.2, 0.6, 0.1, 0.8], 0.8), 75), "the first time counts"),
        (lambda f: f(steps, [0.2, 0.3, 0.3, 0.4], 0.8) == math.inf, "where half is never reached, return math.inf"),
        (
            lambda f: math.isclose(f(steps, [0.4, 0.6, 0.7, 0.7], 0.8), 100),
            "half is counted from where this model starts, accuracy[0]",
        ),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Findings


def recovery_bars(scores: Mapping[str, Accuracy], *, attacks: Sequence[str], title: str) -> Figure:
    """Draw an accuracy for each state of a model, with its 95% interval; attacks stand out from controls. Notebook 07.

    Parameters
    ----------
    scores
        state of the model -> its accuracy.
    attacks
        those that are attacks.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(8.6, 3.6))
    for place, (name, score) in enumerate(scores.items()):
        role = "forget" if name in attacks else "frozen" if place == 0 else "steered"
        colour = ROLES[role].colour if name in attacks or place < 2 else "#c4c4c4"
        interval_bars(axes, [place], [score], colour, name, width=0.62)
    accuracy_axes(axes, [name.replace(" ", "\n") for name in scores])
    axes.set_title(title)
    return figure


def relearning_figure(
    curves: Mapping[str, tuple[str, Sequence[RelearningCurve]]],
    base: Accuracy,
    *,
    title: str,
    controls: Mapping[str, RelearningCurve] | None = None,
) -> Figure:
    """Draw accuracy against the tokens of a fine-tune, and R50 where half is back; taught in notebook 07.

    Parameters
    ----------
    curves
        texts -> the role in whose look they are drawn, and fine-tunes of unlearned models on them.
    base
        accuracy before unlearning, on the same questions.
    title
        the finding in a sentence.
    controls
        texts -> the same fine-tune of the base model, drawn thin.
    """
    figure, axes = plt.subplots(figsize=(8.4, 4.2))
    axes.axhline(base.accuracy, color=INK, linestyle=":", linewidth=1.2)
    axes.text(1.01, base.accuracy, "base model", fontsize=9, va="center", transform=axes.get_yaxis_transform())
    axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1)
    axes.text(1.01, 0.25, "guessing", color=GREY, fontsize=9, va="center", transform=axes.get_yaxis_transform())
    for name, (role, found) in curves.items():
        look, tokens = ROLES[role], np.mean([curve.tokens for curve in found], axis=0)
        marks = np.array([[score.accuracy for score in curve.scores] for curve in found])  # (fine-tunes, steps)
        axes.plot(tokens, marks.mean(axis=0), color=look.colour, linestyle=look.line, marker=look.marker, markersize=5,
                  linewidth=2.2, label=name)  # fmt: skip
        if len(found) > 1:
            low, high = marks.min(axis=0), marks.max(axis=0)
            axes.fill_between(tokens, low, high, color=look.colour, alpha=0.15, linewidth=0)
        if controls and name in controls:
            control = controls[name]
            axes.plot(control.tokens, [score.accuracy for score in control.scores], color=look.colour, linestyle=look.line,
                      linewidth=1, alpha=0.7)  # fmt: skip
        r50 = half_back(found, base).value
        if math.isfinite(r50):
            height = (marks[:, 0].mean() + base.accuracy) / 2
            axes.plot([r50], [height], "*", color=look.colour, markersize=15, markeredgecolor="white", zorder=5)
    axes.plot([], [], "*", color=GREY, markersize=12, linestyle="", label="half is back (R50)")
    if controls:
        axes.plot([], [], color=GREY, linewidth=1, label="thin: base model, fine-tuned alike")
    axes.set(xlabel="tokens of the fine-tune", ylabel="accuracy on the topic", ylim=(0.15, 1.0))
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, fontsize=9, frameon=False)
    axes.set_title(title)
    return figure


def some_marks(score: Accuracy, places: Iterable[int]) -> Accuracy:
    """Return the score of some of the questions, by their places."""
    chosen = list(places)
    return Accuracy.of(tuple(score.correct[at] for at in chosen), tuple(score.predictions[at] for at in chosen), score.style)


def component_figure(states: Mapping[str, tuple[str, Tensor]], u_hat: Tensor, *, title: str) -> Figure:
    """Draw how far the states of tokens lie along a direction; taught in notebook 07.

    Parameters
    ----------
    states
        label -> the role in whose look they are drawn, and states, (tokens, d).
    u_hat
        the direction, (d,), of norm 1.
    title
        the finding in a sentence.
    """
    figure, axes = plt.subplots(figsize=(8.4, 2.7))
    draw = np.random.default_rng(0)
    for place, (role, hidden) in enumerate(states.values()):
        along, look = (hidden.float() @ u_hat).numpy(), ROLES[role]
        axes.plot(along, place + draw.uniform(-0.28, 0.28, len(along)), look.marker, color=look.colour, markersize=3,
                  alpha=0.25, markeredgewidth=0)  # fmt: skip
        median = float(np.median(along))
        axes.plot([median, median], [place - 0.38, place + 0.38], color=INK, linewidth=2)
        axes.text(median, place - 0.4, f"median {median:.0f}", ha="center", va="bottom", fontsize=NOTE, color=INK)
    axes.set_yticks(range(len(states)), list(states))
    axes.set(xlabel="component along û, one dot a token", ylim=(len(states) - 0.5, -0.75))
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Exercises


def marks_of(recovery: Recovery, control: str = "base model") -> tuple[np.ndarray, ...]:
    """Return four arrays of 0 and 1, by question: unlearned, attacked, the control's start, the control's end."""
    scores = (recovery.start, recovery.attacked, *recovery.controls[control][:2])
    return tuple(np.array(score.correct, dtype=int) for score in scores)


def beyond_tests(beyond: Callable, recovery: Recovery) -> list[Test]:
    """Return what is asked of `beyond(start, attacked, control_start, control_end)`, in points."""
    start, attacked, control_start, _ = marks_of(recovery)
    return [
        (
            lambda _: abs(beyond(start, attacked, control_start, control_start) - 100 * recovery.recovered.change) < 1e-6,
            "beside a control that does nothing, all that was recovered counts (in points)",
        ),
        (lambda _: abs(beyond(start, attacked, start, attacked)) < 1e-6, "a control that gains the same leaves nothing"),
        (
            lambda found: abs(found - 100 * recovery.difference("base model").change) < 1e-6,
            "a control that loses points adds to the difference",
        ),
    ]


def given_away(row: Mapping[str, Any], texts: Iterable[str]) -> bool:
    """Say whether one of the texts contains the right option of a question, in whatever case; an exercise of notebook 07."""
    return any(row["choices"][row["answer"]].lower() in text.lower() for text in texts)


def given_away_tests(given_away: Callable) -> list[Test]:
    """Return what is asked of `given_away(row, texts)`."""
    row = {"question": "Who?", "choices": ["Louis Pasteur", "Robert Koch"], "answer": 1}
    return [
        (lambda _: bool(given_away(row, ["It was robert koch who found it."])), "capital letters must not matter"),
        (lambda _: not given_away(row, ["Louis Pasteur boiled milk."]), "only the right option counts, not a wrong one"),
        (lambda _: bool(given_away(row, ["Nothing.", "Robert Koch."])), "one text that says it is enough"),
        (lambda _: not given_away(row, []), "without texts nothing is given away"),
    ]


@torch.no_grad()
def top_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]]) -> Tensor:
    """Return the 20 largest next-token logits after each question, largest first: (questions, 20)."""
    prompts = [cloze_prompt(row["question"]) for row in rows]
    encoded = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    return model(**encoded, logits_to_keep=1).logits[:, -1].float().topk(20).values


def outputs_of_both(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, result: UnlearnResult, questions: Dataset, n: int = 48
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs of the base and the unlearned model, their labels (1: unlearned), and which of them are to train on.

    The same half of the questions is trained on for both models, so that no question stands on both sides.
    """
    rows = list(questions.shuffle(seed=0).select(range(n)))
    before = top_logits(model, tokenizer, rows)
    with result.applied(model):
        seen = torch.cat([before, top_logits(model, tokenizer, rows)])
    return seen, torch.arange(2).repeat_interleave(n), torch.arange(2 * n) % n < n // 2


def detector_tests(train_detector: Callable, seen: Tensor, truth: Tensor, train: Tensor) -> list[Test]:
    """Return what is asked of a trained detector."""

    def labels(detector: Callable) -> Tensor:
        return torch.as_tensor(detector(seen[~train]))

    return [
        (lambda detector: set(labels(detector).tolist()) <= {0, 1}, "give a label, 0 or 1, for each row"),
        (
            lambda detector: (labels(detector) == truth[~train]).float().mean() >= 0.75,
            "label at least 75% of the held-out outputs rightly",
        ),
        (
            lambda detector: torch.equal(labels(train_detector(seen[train], 1 - truth[train])), 1 - labels(detector)),
            "with the two labels exchanged, it must say the opposite",
        ),
    ]

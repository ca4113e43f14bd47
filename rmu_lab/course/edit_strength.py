"""Edits at any strength s, by what they disturb and what they take from a topic: a slider, and a figure. Notebook 12."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib import pyplot as plt

from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy
from ..league import Material, divergence
from ..unlearning.result import UnlearnResult
from .plots import GREY, ROLES, interval_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = ("steered", "forget", "retain", "direction")
"""Roles in whose look edits are drawn, in their order."""
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


class EditStrength:
    """Edits of one model, of which each is measured at any strength s, W + s (W' - W), once.

    Parameters
    ----------
    material
        the model, the held-out texts on which an edit's divergence is measured, and the topic's questions.
    edits
        by the name under which they are drawn; at most four.
    """

    def __init__(self, material: Material, edits: Mapping[str, UnlearnResult]) -> None:
        self.material, self.edits = material, dict(edits)
        self._divergences: dict[tuple[str, float], float] = {}
        self._scores: dict[tuple[str, float, str], Accuracy] = {}

    def divergence(self, name: str, strength: float = 1.0) -> float:
        """Measure how far an edit moves the predictions on held-out texts, in nats a token."""
        key = name, strength
        if key not in self._divergences:
            material, edit = self.material, self.edits[name].scaled(strength, self.material.model)
            self._divergences[key] = divergence(
                material.model, material.tokenizer, edit, material.held_out, base=material.base
            )
        return self._divergences[key]

    def accuracy(self, name: str, strength: float = 1.0, topic: str = "topic") -> Accuracy:
        """Score an edit on the questions of the topic, or on ``"general"`` ones."""
        key = name, strength, topic
        if key not in self._scores:
            model, tokenizer = self.material.model, self.material.tokenizer
            questions = {"topic": self.material.topic, "general": self.material.general}[topic]
            with self.edits[name].scaled(strength, model).applied(model):
                self._scores[key] = accuracy(model, tokenizer, questions, progress=False)
        return self._scores[key]

    def base(self) -> dict[str, Accuracy]:
        """Score the base model, by ``"topic"`` and ``"general"``."""
        return {topic: self.accuracy(next(iter(self.edits)), 0.0, topic) for topic in ("topic", "general")}

    def lost(self, name: str, strength: float = 1.0) -> float:
        """Return the share of the topic's questions that an edit takes."""
        return self.base()["topic"].accuracy - self.accuracy(name, strength).accuracy

    def slider(self, strengths: Sequence[float] = STRENGTHS) -> ipywidgets.Widget:
        """Build a choice of an edit and of its strength, and say below what it disturbs and what the topic loses.

        An answer takes a few seconds when a strength is chosen first, and is kept. For readers without a kernel there is
        `figure`.
        """
        wide = {"description_width": "initial"}
        edit = ipywidgets.Dropdown(options=list(self.edits), description="edit", style=wide)
        edit.tooltip = "The edit whose strength is changed"
        chosen = ipywidgets.SelectionSlider(
            options=[(f"{strength:g}", strength) for strength in strengths],
            value=min(strengths, key=lambda strength: abs(strength - 1)),
            description="strength s",
            tooltip="1 is the edit as it was made",
            style=wide,
            continuous_update=False,
        )
        shown = ipywidgets.HTML()

        def draw(_change: object = None) -> None:
            shown.value = '<p role="status">The model is answering ...</p>'
            try:
                moved, score = self.divergence(edit.value, chosen.value), self.accuracy(edit.value, chosen.value)
            except RmuLabError as error:
                shown.value = f'<p role="alert">{html.escape(str(error))}</p>'
                return
            shown.value = f"<p>divergence {moved:.3g} nats a token; on the topic {score}</p>"

        for control in (edit, chosen):
            control.observe(draw, names="value")
        draw()
        return ipywidgets.VBox([edit, chosen, shown])

    def figure(self, strengths: Sequence[float], budget: float, *, title: str) -> Figure:
        """Draw divergence against strength, with the budget, and accuracy on the topic against divergence.

        Parameters
        ----------
        strengths
            at which each edit is measured.
        budget
            divergence at which edits are compared.
        title
            the finding in a sentence.
        """
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.9))
        for number, (name, look) in enumerate(zip(self.edits, LOOKS, strict=False)):
            role, strength = ROLES[look], list(strengths)
            moved = [self.divergence(name, each) for each in strength]
            scores = [self.accuracy(name, each).accuracy for each in strength]
            drawn = {"color": role.colour, "linestyle": role.line, "marker": role.marker, "markersize": 6, "label": name}
            left.plot(strength, moved, **drawn)
            right.plot(moved, scores, **drawn)
            for each, x, y in zip(strength, moved, scores, strict=True):
                place = {"xytext": (0, -14 if number else 8), "textcoords": "offset points", "ha": "center"}
                right.annotate(f"s = {each:g}", (x, y), fontsize=8, color=role.colour, **place)
        left.axhline(budget, color=GREY, linestyle="--", linewidth=1.2)
        left.text(min(strengths), budget, f"budget: {budget:g} nats", color=GREY, fontsize=9, va="bottom")
        right.axvline(budget, color=GREY, linestyle="--", linewidth=1.2)
        left.set(xlabel="strength s", ylabel="divergence, nats a token", xscale="log", yscale="log")
        left.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
        left.minorticks_off()
        right.set(xlabel="divergence, nats a token", ylabel="accuracy on the topic", xscale="log", ylim=(0, 1))
        right.yaxis.set_major_formatter("{x:.0%}")
        left.legend(loc="lower right")
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        return figure

    def bars(self, *, title: str) -> Figure:
        """Draw the accuracy of the base model and of each edit on the topic and in general, with 95% intervals.

        Parameters
        ----------
        title
            the finding in a sentence.
        """
        base = self.base()
        figure, axes = plt.subplots(figsize=(7.6, 3.9))
        series = {"base model": ("frozen", list(base.values()))}
        for name, look in zip(self.edits, LOOKS, strict=False):
            series[name] = (look, [self.accuracy(name, 1.0, topic) for topic in base])
        width = 0.8 / len(series)
        for number, (name, (look, scores)) in enumerate(series.items()):
            places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(base))]
            interval_bars(axes, places, scores, ROLES[look].colour, name, 0.9 * width)
        axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1)
        axes.text(1.01, 0.25, "guessing", color=GREY, va="center", fontsize=9, transform=axes.get_yaxis_transform())
        axes.set(xticks=range(len(base)), ylim=(0, 1.3), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="accuracy")
        axes.set_xticklabels([*base])
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper right", ncols=len(series))
        axes.set_title(title)
        return figure


def megabytes(edit: UnlearnResult, rank: int | None = None) -> float:
    """Return the size of an edit in float16, in megabytes: its matrices whole, or as `rank` columns and rows each."""
    numbers = (
        matrix.numel() if rank is None else rank * (matrix.shape[0] + matrix.shape[1]) for matrix in edit.edit.values()
    )
    return 2 * sum(numbers) / 1e6


def nearest(value: float, options: Mapping[str, float]) -> str:
    """Return the option whose number is nearest to a value, by their ratio; of values at or below 0 the least."""
    return min(options, key=lambda name: abs(math.log(max(value, 1e-6) / options[name])))

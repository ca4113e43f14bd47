"""One direction held still by a strength: a slider over accuracy, and its panel. Used in notebook 07."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from IPython.display import HTML
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import edited_output
from ..evaluate import Accuracy, accuracy
from ..unlearning.result import UnlearnResult
from .plots import GREY, ROLES

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
TakeOut = Callable[[Tensor, Tensor, Tensor], Tensor]


class HeldDirection:
    """An unlearned model in which a direction is held: h moves by a strength of the way to where it is taken out.

    Parameters
    ----------
    model, tokenizer, result
        the base model, unchanged on return, its tokenizer and the edit.
    layer
        after which the states are changed.
    take_out
        of `recovery.take_out`, or the reader's own.
    u_hat, mean
        the direction, of norm 1, and the mean state, (d,) each.
    questions
        that are asked.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        result: UnlearnResult,
        layer: int,
        take_out: TakeOut,
        u_hat: Tensor,
        mean: Tensor,
        questions: Sequence[Mapping[str, Any]],
    ) -> None:
        self.model, self.tokenizer, self.result, self.layer = model, tokenizer, result, layer
        self.take_out, self.u_hat, self.mean, self.questions = take_out, u_hat, mean, list(questions)
        self._scores: dict[float, Accuracy] = {}

    def accuracy(self, strength: float) -> Accuracy:
        """Score the questions with the direction held: 0 is the unlearned model, 1 takes it out; each is measured once."""
        if strength not in self._scores:

            def edit(hidden: Tensor) -> Tensor:
                states = hidden.float()
                moved = states + strength * (self.take_out(states, self.u_hat, self.mean) - states)
                return moved.to(hidden.dtype)

            with self.result.applied(self.model), edited_output(self.model, self.layer, edit):
                self._scores[strength] = accuracy(self.model, self.tokenizer, self.questions, progress=False)
        return self._scores[strength]

    def slider(self) -> ipywidgets.Widget:
        """Build a slider over the strength, which asks the questions anew; without a kernel there is `panel`."""
        slider = ipywidgets.FloatSlider(
            value=1.0,
            min=0.0,
            max=3.0,
            step=0.25,
            description="strength s",
            tooltip="0 leaves the unlearned model as it is, 1 takes the direction out, beyond 1 pushes the other way",
            continuous_update=False,
        )
        shown = ipywidgets.HTML()

        def draw(_change: object = None) -> None:
            shown.value = '<p role="status">The model is answering ...</p>'
            shown.value = f"<p>{self.accuracy(slider.value)} right at s = {slider.value:g}</p>"

        slider.observe(draw, names="value")
        draw()
        return ipywidgets.VBox([slider, shown])

    def panel(self, strengths: Sequence[float] = STRENGTHS) -> HTML:
        """Return the accuracy at some strengths as text, for readers without a kernel."""
        lines = "".join(f"<dt>s = {s:g}</dt><dd>{self.accuracy(s)}</dd>" for s in strengths)
        return HTML(f"<dl>{lines}</dl>")

    def figure(self, strengths: Sequence[float] = STRENGTHS, *, title: str) -> Figure:
        """Draw accuracy against the strength, with 95% intervals.

        Parameters
        ----------
        title
            the finding in a sentence.
        """
        figure, axes = plt.subplots(figsize=(6.8, 3.4))
        found, look = [self.accuracy(s) for s in strengths], ROLES["forget"]
        for s, score in zip(strengths, found, strict=True):
            axes.plot([s, s], score.interval, color=look.colour, linewidth=1.5, alpha=0.5)
        axes.plot(strengths, [score.accuracy for score in found], color=look.colour, marker=look.marker)
        axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1)
        axes.text(1.01, 0.25, "guessing", color=GREY, fontsize=9, va="center", transform=axes.get_yaxis_transform())
        axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axes.set(xlabel="strength s (1: the direction is taken out)", ylabel="accuracy on the topic", ylim=(0, 1))
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_title(title)
        return figure

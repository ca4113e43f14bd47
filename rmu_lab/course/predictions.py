"""Guesses that a reader records before a result, and sees beside it afterwards. Used in every notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ipywidgets
from IPython.display import HTML, display
from matplotlib import pyplot as plt

from ..estimates import Number
from ..evaluate import Accuracy, AccuracyChange
from .plots import GREY, ROLES, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Guess = float | str
_RECORDED: dict[str, dict[str, Guess]] = {}
"""By a prediction's name, what was recorded in this kernel, so that running its cell again loses nothing."""


@dataclass
class Prediction:
    """A question and the reader's guess, which is recorded as soon as a button or slider is touched."""

    name: str
    question: str
    options: tuple[str, ...] = ()
    """What can be chosen; empty where a number is asked for."""
    rows: tuple[str, ...] = ()
    """One guess for each; empty for a single one."""
    low: float = 0.0
    high: float = 100.0
    unit: str = ""
    guesses: dict[str, Guess] = field(default_factory=dict)
    """What was recorded, by row; the single one under ``""``."""

    @property
    def value(self) -> Guess | dict[str, Guess] | None:
        """The guess: a number, an option, or by row a dict of them; None while nothing is recorded."""
        if not self.guesses:
            return None
        return dict(self.guesses) if self.rows else self.guesses[""]

    def record(self, guess: Guess, row: str = "") -> None:
        """Record a guess, as touching a button or slider does.

        Raises
        ------
        ValueError
            if there is no such row or option, or the number is out of range.
        """
        if row not in (self.rows or ("",)):
            raise ValueError(f"The prediction {self.name!r} has no row {row!r}.")
        if self.options and guess not in self.options:
            raise ValueError(f"{guess!r} is none of the options {', '.join(self.options)}.")
        if not self.options and not (isinstance(guess, (int, float)) and self.low <= guess <= self.high):
            raise ValueError(f"{guess!r} is no number from {self.low:g} to {self.high:g}.")
        self.guesses[row] = guess

    def beside(self, result: Any, *, source: str = "measured") -> None:
        """Show the recorded guess beside what was measured: a figure for numbers by row, else a sentence.

        Parameters
        ----------
        result
            as the question asks: a number in its unit, an option, or a dict of either by row. Also an `Accuracy`, an
            `AccuracyChange` (both as per cent where the unit is ``"%"`` or ``"points"``) or a `Number`, whose interval is
            drawn as well.
        source
            where the result comes from, such as ``"our reading"`` of something that no number decides.

        Raises
        ------
        ValueError
            if a row has no result.
        """
        results = dict(result) if isinstance(result, Mapping) else {"": result}
        rows = self.rows or ("",)
        if missing := [row for row in rows if row not in results]:
            raise ValueError(f"The prediction {self.name!r} has no result for {', '.join(map(repr, missing))}.")
        if not self.guesses:
            print("You recorded no guess.")
        if self.options or not self.rows:
            for row in rows:
                print(self._sentence(row, results[row], source))
            return
        measured = {row: _measured(results[row], self.unit) for row in rows}
        lines = [self._sentence(row, results[row], source) for row in rows]
        show(_guess_figure(self, measured), alt=" ".join(lines))

    def _sentence(self, row: str, result: Any, source: str) -> str:
        guess, name = self.guesses.get(row), f"{row}: " if row else ""
        if self.options:
            verdict = "" if guess is None else f"you said {guess}; "
            return f"{name}{verdict}{source}: {result}"
        value, low, high = _measured(result, self.unit)
        unit = _spaced(self.unit)
        interval = "" if low == high else f" [{low:.3g}, {high:.3g}]"
        found = f"{source} {value:.3g}{unit}{interval}"
        if guess is None or isinstance(guess, str):
            return f"{name}{found}"
        return f"{name}you said {guess:g}{unit}; {found}"


def predict(
    name: str,
    question: str,
    *,
    options: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    low: float = 0,
    high: float = 100,
    step: float | None = None,
    unit: str = "",
) -> Prediction:
    """Ask for a guess with buttons (``options``) or sliders, and return what will hold it.

    Without a running kernel the question and the choices stand there as text. A cell that calls it carries the tag
    ``nbval-ignore-output``.

    Parameters
    ----------
    name
        of this prediction in its notebook. Running the cell again keeps a guess that was recorded under the name.
    options
        what can be chosen; without them a number is asked for.
    rows
        ask for one guess for each of these.
    low, high, step, unit
        of the numbers.

    Raises
    ------
    ValueError
        if there are fewer than two options, two are the same, or `low` is not below `high`.
    """
    if options is not None and (len(options) < 2 or len(set(options)) < len(options)):
        raise ValueError("Give at least two options, each of them once.")
    if low >= high:
        raise ValueError(f"low is {low:g} and high {high:g}; give a range.")
    guess = Prediction(name, question, tuple(options or ()), tuple(rows or ()), low, high, unit)
    for row, earlier in _RECORDED.get(name, {}).items():
        try:
            guess.record(earlier, row)
        except ValueError:  # the question was another then
            continue
    _RECORDED[name] = guess.guesses
    display(HTML(_static(guess)))
    display(_controls(guess, step or (high - low) / 100))
    return guess


def _static(guess: Prediction) -> str:
    """What a reader without a kernel is asked."""
    choices = " · ".join(guess.options) or f"from {guess.low:g} to {guess.high:g}{_spaced(guess.unit)}"
    each = f"One guess each for {', '.join(guess.rows)}: {choices}." if guess.rows else f"{choices}."
    return (
        f"<p><strong>Predict.</strong> {html.escape(guess.question)}<br>{html.escape(each)} "
        "<small>No buttons here? Write your guess down.</small></p>"
    )


def _controls(guess: Prediction, step: float) -> ipywidgets.Widget:
    """Build one labelled control for each row, and a line that says what is recorded."""
    said = ipywidgets.HTML()

    def tell() -> None:
        unit = "" if guess.options else _spaced(guess.unit)
        shown = [
            f"{row}: {_shown(value)}{unit}" if row else f"{_shown(value)}{unit}" for row, value in guess.guesses.items()
        ]
        text = f"Recorded: {html.escape('; '.join(shown))}" if shown else "Nothing recorded yet."
        said.value = f'<span role="status">{text}</span>'

    def recorder(row: str) -> Any:
        def record(change: dict) -> None:
            if change["new"] is not None:
                guess.record(change["new"], row)
                tell()

        return record

    controls = []
    wide = {"description_width": "initial"}
    for row in guess.rows or ("",):
        label, before = row or "your guess", guess.guesses.get(row)
        if guess.options:
            control = ipywidgets.ToggleButtons(options=guess.options, value=before, style={"button_width": "auto"} | wide)
        else:
            at = (guess.low + guess.high) / 2 if before is None else before
            control = ipywidgets.FloatSlider(
                min=guess.low, max=guess.high, step=step, value=at, readout_format=".3g", style=wide
            )
            control.layout = ipywidgets.Layout(width="30em", max_width="100%")
        control.description, control.tooltip = label, f"{guess.question} {row}".strip()
        control.observe(recorder(row), names="value")
        controls.append(control)
    if not guess.options:  # one who means the middle has no slider to move
        button = ipywidgets.Button(description="Record as it stands", tooltip="Record the sliders' values as your guess")

        def record_all(_button: object) -> None:
            for row, control in zip(guess.rows or ("",), controls[: max(1, len(guess.rows))], strict=True):
                guess.record(control.value, row)
            tell()

        button.on_click(record_all)
        controls.append(button)
    tell()
    return ipywidgets.VBox([*controls, said])


def _shown(value: Guess) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _spaced(unit: str) -> str:
    return unit if unit in ("", "%", "°") else f" {unit}"


def _measured(result: Any, unit: str) -> tuple[float, float, float]:
    """Return a result with the ends of its interval, in the guess's unit; a plain number has no interval."""
    scale = 100.0 if unit in ("%", "points") else 1.0
    match result:
        case Accuracy(accuracy=value, interval=(low, high)) | AccuracyChange(change=value, interval=(low, high)):
            return scale * value, scale * low, scale * high
        case Number(value=value, low=low, high=high):
            return value, low, high
    return float(result), float(result), float(result)


def _guess_figure(guess: Prediction, measured: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Draw each row's guess and result on one axis, with a line from the one to the other."""
    figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.5 * len(guess.rows)))
    thought, found = ROLES["retain"], ROLES["steered"]
    for place, row in enumerate(guess.rows):
        value, low, high = measured[row]
        said = guess.guesses.get(row)
        if said is not None and not isinstance(said, str):
            axes.plot([said, value], [place, place], color=GREY, linewidth=1, zorder=1)
            axes.plot(said, place, marker=thought.marker, color="white", markeredgecolor=thought.colour, markersize=9,
                      markeredgewidth=2, linestyle="", label="your guess")  # fmt: skip
        axes.errorbar(value, place, xerr=[[value - low], [high - value]] if low < high else None, fmt=found.marker,
                      color=found.colour, markersize=9, capsize=4, label="measured")  # fmt: skip
    values = [end for ends in measured.values() for end in ends]
    low, high = min(guess.low, *values), max(guess.high, *values)
    margin = 0.04 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(len(guess.rows) - 0.5, -0.5), xlabel=guess.unit)
    axes.set_yticks(range(len(guess.rows)), guess.rows)
    axes.set_title(guess.question)
    by_label = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(by_label.values(), by_label.keys(), loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure

"""A text's tokens, each coloured by cos(u, h), base model beside edited. Used in notebooks 01, 06 and 07."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import token_states
from ..errors import RmuLabError
from ..unlearning.result import UnlearnResult
from .plots import COSINE_COLOURS, GREY


@dataclass(frozen=True)
class TokenCosines:
    """cos(u, h) of every token of a text."""

    tokens: tuple[str, ...]
    """The tokens' texts."""
    before: tuple[float, ...]
    """In the base model."""
    after: tuple[float, ...]
    """With the edit."""

    def __str__(self) -> str:
        """Say what the colours show, for who cannot see them; the first token, the sink, is left out."""
        before, after = self.before[1:], self.after[1:]
        over = [token.strip() for token, value in zip(self.tokens[1:], after, strict=True) if value > 0.5]
        named = f": {', '.join(over[:12])}{' ...' if len(over) > 12 else ''}" if over else ""
        return (
            f"Mean cos(u, h) is {sum(before) / len(before):.2f} in the base model and {sum(after) / len(after):.2f} with "
            f"the edit; with it {len(over)} of {len(after)} tokens are over 0.5{named}."
        )


def token_cosines(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    text: str,
    layer: int | None = None,
    direction: Tensor | None = None,
    *,
    max_length: int = 64,
) -> TokenCosines:
    """Measure cos(u, h) on every token of a text, without the edit and with it; the model is left as it was.

    Parameters
    ----------
    result
        an edit that is not in the model now.
    layer, direction
        where, and u, (d,); those of the result, unless given.
    max_length
        tokens after which the text is cut.

    Raises
    ------
    RmuLabError
        if the text has fewer than two tokens, or the result has no layer or direction of its own.
    """
    if layer is None:
        layer = getattr(result.config, "layer", None)
    if direction is None:
        direction = next(iter(result.directions.values()), None)
    if layer is None or direction is None:
        raise RmuLabError("The result has no layer or direction of its own; give both.")
    before = token_states(model, tokenizer, [text], [layer], max_length=max_length)
    with result.applied(model):
        after = token_states(model, tokenizer, [text], [layer], max_length=max_length)
    u = direction.to(before.hidden[layer])
    cosines = (cosine_similarity(states.hidden[layer], u, dim=-1).tolist() for states in (before, after))
    tokens = [str(tokenizer.decode([int(each)], clean_up_tokenization_spaces=False)) for each in before.token]
    return TokenCosines(tuple(tokens), *map(tuple, cosines))


def token_colours(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    text: str,
    layer: int | None = None,
    direction: Tensor | None = None,
) -> ipywidgets.Widget:
    """Build a box to type a text in; below it each token in a colour by cos(u, h), base model above edited.

    A token's number stands in its ``title``, which shows when the pointer rests on it. For readers without a kernel there
    is `token_panel`. Parameters are those of `token_cosines`.
    """
    box = ipywidgets.Textarea(
        value=text,
        description="text",
        tooltip="type a text of at least two tokens, then press the button",
        layout=ipywidgets.Layout(width="40em", max_width="100%"),
    )
    button = ipywidgets.Button(description="Colour the tokens", tooltip="run the model, without the edit and with it")
    shown = ipywidgets.HTML()

    def draw(_button: object = None) -> None:
        try:
            shown.value = _tokens_html(token_cosines(model, tokenizer, result, box.value, layer, direction))
        except RmuLabError as error:
            shown.value = f'<p role="alert">{html.escape(str(error))}</p>'

    button.on_click(draw)
    draw()
    return ipywidgets.VBox([box, button, shown])


def _tokens_html(cosines: TokenCosines) -> str:
    rows = "".join(
        f'<p style="line-height:2"><strong>{name}</strong><br>{_spans(cosines.tokens, values)}</p>'
        for name, values in (("base model", cosines.before), ("with the edit", cosines.after))
    )
    scale = "".join(_span(f" {value:g} ", value, "cos") for value in (0, 0.25, 0.5, 0.75, 1))
    return f'{rows}<p><small>cos(u, h): {scale}</small></p><p role="status">{html.escape(str(cosines))}</p>'


def _spans(tokens: Sequence[str], values: Sequence[float]) -> str:
    kinds = ["first token, the sink: cos(u, h)"] + ["cos(u, h)"] * (len(tokens) - 1)
    return "".join(_span(*each) for each in zip(tokens, values, kinds, strict=True))


def _span(token: str, value: float, kind: str) -> str:
    """One token; white space is kept, and a line break shown."""
    style = f"background:{_colour(value)};color:{_ink(value)};border:1px solid #ddd;padding:1px 0;white-space:pre-wrap"
    return f'<span style="{style}" title="{kind} = {value:.2f}">{html.escape(_visible(token))}</span>'


def _visible(token: str) -> str:
    return token.replace("\n", "⏎") or "∅"


def _colour(value: float) -> str:
    """White for what points away from u or is at right angles to it."""
    return to_hex(COSINE_COLOURS(min(1.0, max(0.0, value))))


def _ink(value: float) -> str:
    return "#ffffff" if value > 0.6 else "#222222"


def token_panel(cosines: TokenCosines, *, title: str, width: int = 84) -> Figure:
    """Draw the same as a figure: the tokens in their colours, base model above edited.

    Parameters
    ----------
    cosines
        of `token_cosines`.
    title
        the finding in a sentence.
    width
        characters a line.
    """
    headings: list[tuple[int, str]] = []
    places: list[tuple[int, int, str, float]] = []  # line, column, token, cosine
    line = 0
    for name, values in (("base model", cosines.before), ("with the edit", cosines.after)):
        headings.append((line, name))
        line, column = line + 1, 0
        for token, value in zip(cosines.tokens, values, strict=True):
            text = _visible(token)
            if column and column + len(text) > width:
                line, column = line + 1, 0
            places.append((line, column, text, value))
            column += len(text)
        line += 2
    figure, axes = plt.subplots(figsize=(9.4, 0.5 + 0.3 * line))
    for row, name in headings:
        axes.text(0, row + 0.5, name, va="center", fontsize=10, color="#222222")
    for row, column, text, value in places:
        axes.add_patch(
            Rectangle((column, row), len(text), 0.92, facecolor=_colour(value), edgecolor="#cccccc", linewidth=0.6)
        )
        axes.text(column + len(text) / 2, row + 0.48, text.strip().replace("$", r"\$"), ha="center", va="center",
                  family="monospace", fontsize=9, color=_ink(value))  # fmt: skip
    axes.set(xlim=(0, width), ylim=(line - 0.5, 0))
    axes.set_axis_off()
    axes.set_title(title)
    bar = figure.colorbar(
        plt.cm.ScalarMappable(cmap=COSINE_COLOURS), ax=axes, label="cos(u, h)", pad=0.01, fraction=0.03, aspect=14
    )
    bar.outline.set_edgecolor(GREY)
    bar.ax.tick_params(labelsize=8)
    return figure

"""The strength of an edit as a slider over real answers: the model at W + s (W' - W). Used in notebooks 00 and 01."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import ipywidgets
from IPython.display import HTML
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..generation import answers
from ..unlearning.result import UnlearnResult

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)


def answers_at(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    prompts: Sequence[str],
    scales: Sequence[float] = (0.0, 0.5, 1.0),
    *,
    max_new_tokens: int = 32,
) -> dict[float, list[str]]:
    """Let the model answer at several strengths of an edit: scale -> one answer for each prompt.

    The model is left as it was, come what may.

    Parameters
    ----------
    result
        an edit that is not in the model now.
    scales
        0 is the base model, 1 the edit as it was trained; beyond 1 it is exaggerated.
    """
    said = {}
    for scale in scales:
        with result.scaled(scale, model).applied(model):
            said[scale] = answers(model, tokenizer, list(prompts), max_new_tokens=max_new_tokens)
    return said


def print_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    *questions: str,
    max_new_tokens: int = 14,
) -> None:
    """Print each question and what the model writes after it, before the edit and with it."""
    said = answers_at(model, tokenizer, result, questions, (0.0, 1.0), max_new_tokens=max_new_tokens)
    for question, before, after in zip(questions, said[0.0], said[1.0], strict=True):
        print(f"{question}\n   before: {before}\n   after:  {after}")


def strength_slider(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    prompts: Sequence[str],
    scales: Sequence[float] = SCALES,
    *,
    max_new_tokens: int = 32,
) -> ipywidgets.Widget:
    """Build a slider over the strength of an edit, and below it the answers at that strength.

    Answers are written when a strength is chosen first (a second or two) and kept. For readers without a kernel there is
    `strength_panel`. Parameters are those of `answers_at`.

    Raises
    ------
    ValueError
        if there are no scales.
    """
    if not scales:
        raise ValueError("Give at least one scale.")
    said: dict[float, list[str]] = {}
    slider = ipywidgets.SelectionSlider(
        options=[(f"{scale:g}", scale) for scale in scales],
        value=scales[0],
        description="strength s of the edit",
        tooltip="0 is the base model, 1 the edit as trained",
        style={"description_width": "initial"},
        continuous_update=False,
    )
    shown = ipywidgets.HTML()

    def draw(_change: object = None) -> None:
        scale = slider.value
        if scale not in said:
            shown.value = '<p role="status">The model is writing ...</p>'
            try:
                chosen = answers_at(model, tokenizer, result, prompts, [scale], max_new_tokens=max_new_tokens)
            except RmuLabError as error:
                shown.value = f'<p role="alert">{html.escape(str(error))}</p>'
                return
            said.update(chosen)
        shown.value = _answers_html(prompts, {scale: said[scale]})

    slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([slider, shown])


def strength_panel(prompts: Sequence[str], said: Mapping[float, Sequence[str]]) -> HTML:
    """Return the answers at each strength as text, for readers without a kernel.

    Parameters
    ----------
    said
        scale -> one answer for each prompt, as `answers_at` gives them; three scales read well.
    """
    return HTML(_answers_html(prompts, said))


def _answers_html(prompts: Sequence[str], said: Mapping[float, Sequence[str]]) -> str:
    parts = []
    for index, prompt in enumerate(prompts):
        lines = "".join(
            f"<dt>s = {scale:g}</dt><dd>{html.escape(texts[index]) or '<em>(nothing)</em>'}</dd>"
            for scale, texts in said.items()
        )
        parts.append(f"<p><strong>{html.escape(prompt)}</strong></p><dl>{lines}</dl>")
    return "".join(parts)

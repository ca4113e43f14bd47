"""cos(u, h) of texts that follow a sentence: is it a token's place that counts, or what was read before? For notebook 01."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import token_states
from ..errors import RmuLabError
from .plots import curves

LEADS = {
    "after an on-topic sentence": "The vaccine protects children against measles, and the epidemic slowly came to an end.",
    "after an off-topic sentence": "The orchestra played a symphony by Haydn, and the evening slowly came to an end.",
    "without a sentence": "",
}
"""What notebook 01 writes before texts: one sentence on infectious disease, one like it on something else, and nothing."""


def cosine_after(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentence: str,
    texts: Sequence[str],
    direction: Tensor,
    layer: int,
    *,
    tokens: int = 40,
) -> Tensor:
    """Measure cos(u, h^(l)) on the first tokens of each text when it follows a sentence, whose own tokens are left out.

    Parameters
    ----------
    sentence
        what stands before each text, and a space after it; empty for nothing, and then a text's first token is the sink.
    direction
        u, (d,).
    tokens
        of each text; every text has to have as many.

    Returns
    -------
    Tensor
        (texts, tokens) float32 on the CPU.

    Raises
    ------
    RmuLabError
        if a text is too short.
    """
    before = len(tokenizer(sentence).input_ids) if sentence else 0
    whole = [f"{sentence} {text}" if sentence else text for text in texts]
    states = token_states(model, tokenizer, whole, [layer], max_length=before + tokens)
    cosines = cosine_similarity(states.hidden[layer], direction.to(states.hidden[layer]), dim=-1)
    if len(cosines) != len(texts) * (before + tokens):
        raise RmuLabError(f"A text has fewer than {tokens} tokens; give longer ones, or ask for fewer.")
    return cosines.reshape(len(texts), -1)[:, before:]


def lead_figure(panels: Mapping[str, Sequence[Tensor]], *, title: str) -> Figure:
    """Draw what `cosine_after` measured against the token's place in its text, one panel for each sentence.

    Parameters
    ----------
    panels
        panel title -> cosines of the forget and of the retain texts, each (texts, tokens) from a text's second token on, as
        the first one may be the sink; drawn with their 95% interval.
    title
        the finding in a sentence.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(8.8, 2.9), sharex=True, sharey=True, squeeze=False)
    for axes, (panel, cosines) in zip(row[0], panels.items(), strict=True):
        lines = {
            f"{role} text": (role, values.T.tolist()) for role, values in zip(("forget", "retain"), cosines, strict=True)
        }
        places = range(1, 1 + cosines[0].shape[1])
        curves(places, lines, title="", xlabel="position in the text", ylabel="cos(u, h)", axes=axes)
        axes.set_title(panel, fontweight="normal", fontsize=10)
        if axes is not row[0][-1] and (legend := axes.get_legend()) is not None:  # one serves all panels
            legend.remove()
        axes.label_outer()
        axes.set_ylim(-0.15, 1.0)  # no cosine is above 1, though an interval's end may be
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

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
        what stands before each text, and a space after it.
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
    before = len(tokenizer(sentence).input_ids)
    whole = [f"{sentence} {text}" for text in texts]
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
        panel title -> cosines of the forget and of the retain texts, each (texts, tokens); drawn with their 95% interval.
    title
        the finding in a sentence.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(4.7 * len(panels), 3.7), sharex=True, sharey=True, squeeze=False)
    for axes, (panel, cosines) in zip(row[0], panels.items(), strict=True):
        lines = {
            f"{role} text": (role, values.T.tolist()) for role, values in zip(("forget", "retain"), cosines, strict=True)
        }
        places = range(cosines[0].shape[1])
        curves(places, lines, title="", xlabel="token of the text", ylabel="cos(u, h)", axes=axes)
        axes.set_title(panel, fontweight="normal", fontsize=10)
        axes.set_ylim(-0.15, 1.1)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

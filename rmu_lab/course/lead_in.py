"""cos(u, h) of texts that follow a sentence: is it a token's place that counts, or what was read before? For notebook 01."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import token_states
from ..errors import RmuLabError


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

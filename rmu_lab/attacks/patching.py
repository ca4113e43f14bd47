"""Can the layers above still read an answer that is put back? Activation patching from the base model. Notebook 07.

Meng et al. 2022, arXiv 2202.05262 (causal tracing). The hidden state of one token in the unlearned model is replaced by the
base model's, after one layer at a time. Where the right answer returns, all that lies above can still make use of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured, edited_output, evaluating
from ..errors import RmuLabError
from ..evaluate import question_tokens
from ..models import decoder_blocks, input_device
from ..tokens import padded
from ..torch_state import in_default_torch_state
from ..unlearning.result import UnlearnResult


@dataclass(frozen=True, eq=False)
class Patched:
    """Log-probability of the right option's first token behind its question, (questions,) each."""

    base: Tensor
    unlearned: Tensor
    patched: dict[int, Tensor]
    """By layer: the unlearned model, with the last token's state after that layer taken from the base model."""
    control: dict[int, Tensor]
    """The same with the state that the base model has at another question."""

    def restored(self, layer: int) -> Tensor:
        """Return the share of what unlearning took that the patch gives back, of each question; can lie outside 0 to 1."""
        return (self.patched[layer] - self.unlearned) / (self.base - self.unlearned)


@in_default_torch_state
@torch.no_grad()
def patch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    questions: Sequence[Mapping[str, Any]],
    layers: Sequence[int],
) -> Patched:
    """Put the base model's hidden state of each question's last token into the unlearned model, layer by layer.

    Taught in notebook 07.

    Parameters
    ----------
    model, tokenizer, result
        the base model, unchanged on return, its tokenizer, and the edit.
    questions
        at least two, as `accuracy` takes them; the last token is that of ``Answer:``.
    layers
        after which the state is put in, one at a time.

    Raises
    ------
    RmuLabError
        if there are fewer than two questions, or the model has no such layer.
    """
    if len(questions) < 2:
        raise RmuLabError(f"There are {len(questions)} questions; the control takes at least two.")
    count = len(decoder_blocks(model))
    if beyond := [layer for layer in layers if layer not in range(count)]:
        raise RmuLabError(f"layers has {beyond[0]}, but the model has layers 0 to {count - 1}.")
    prompts, options = question_tokens(tokenizer, questions)
    wanted = torch.tensor([ends[row["answer"]][0] for ends, row in zip(options, questions, strict=True)])
    ids, mask = (part.to(input_device(model)) for part in padded(prompts, 0, "right"))
    rows, last = torch.arange(len(prompts)), torch.tensor([len(prompt) - 1 for prompt in prompts])

    def log_p() -> Tensor:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[rows, last].float().cpu()
        return logits.log_softmax(dim=-1)[rows, wanted]

    def with_states(layer: int, states: Tensor) -> Tensor:
        def put(hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            hidden[rows, last] = states
            return hidden

        with edited_output(model, layer, put):
            return log_p()

    with evaluating(model):
        with captured(model, layers) as seen:
            base = log_p()
        states = {layer: seen[layer][rows, last].clone() for layer in layers}
        with result.applied(model):
            unlearned = log_p()
            patched = {layer: with_states(layer, states[layer]) for layer in layers}
            # Each question gets the state of the one before it.
            control = {layer: with_states(layer, states[layer].roll(1, dims=0)) for layer in layers}
    return Patched(base, unlearned, patched, control)

"""What a model writes, and how sure it is of it: answers to read, and MaxLogit. Taught in notebooks 00 and 02."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .activations import frozen
from .errors import NotFiniteError, RmuLabError
from .models import input_device
from .questions import cloze_prompt
from .torch_state import in_default_torch_state


@in_default_torch_state
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    prefill: str = "",
    max_new_tokens: int = 32,
) -> list[str]:
    """Let the model answer each question: greedily, through its chat template where it has one.

    Taught in notebook 00.

    Parameters
    ----------
    questions
        in plain words.
    prefill
        what each answer has begun with already.
    max_new_tokens
        tokens after which an answer is cut.

    Returns
    -------
    list of str
        one answer for each question, without what it was begun with.
    """
    if tokenizer.chat_template:
        chats = [[{"role": "user", "content": question}] for question in questions]
        prompts = [
            f"{tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)}{prefill.lstrip()}"
            for chat in chats
        ]
        encoded = tokenizer(prompts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
    else:
        encoded = tokenizer(
            [cloze_prompt(question) + prefill for question in questions],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
    encoded = {name: encoded[name].to(input_device(model)) for name in ("input_ids", "attention_mask")}
    with frozen(model):
        output: Tensor = cast(Any, model).generate(  # its type says nothing of generation
            **encoded, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    new = output[:, encoded["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


@dataclass(frozen=True)
class MaxLogits:
    """How sure a model is of every token it writes, (prompts, new tokens) on the CPU, NaN after the end of a text."""

    logit: Tensor
    """MaxLogit: the largest next-token logit, which is the written token's."""
    probability: Tensor
    """Its softmax probability: unlike the logit it does not move when all logits move together."""


@in_default_torch_state
@torch.inference_mode()
def max_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    new_tokens: int = 30,
    batch_size: int = 32,
) -> MaxLogits:
    """Measure the MaxLogit of every token the model writes after each prompt.

    Zero-shot and greedy, the protocol of Figure 2a-d of Dang et al. 2024. The prompts are taken as they
    are, without a chat template. Taught in notebook 02.

    Parameters
    ----------
    new_tokens
        how many tokens the model writes after each prompt, unless it ends the text before.
    batch_size
        prompts run at once.

    Returns
    -------
    MaxLogits
        logits and probabilities, each (prompts, new_tokens), NaN after the end of a text.

    Raises
    ------
    RmuLabError
        if there are no prompts.
    """
    if not prompts or isinstance(prompts, str):
        raise RmuLabError("There are no prompts; give a list of at least one.")
    rows = []
    for start in range(0, len(prompts), batch_size):
        chosen = [*prompts[start : start + batch_size]]
        encoded = tokenizer(chosen, padding=True, padding_side="left", return_tensors="pt").to(input_device(model))
        with frozen(model):
            output = cast(Any, model).generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        written = output.sequences[:, encoded["input_ids"].shape[1] :]
        ends = torch.isin(written, torch.as_tensor(model.generation_config.eos_token_id, device=written.device))
        after_end = ends.cumsum(dim=1) > ends.int()
        logits = torch.stack([step.float() for step in output.logits], dim=1)  # (prompts, written tokens, vocabulary)
        largest = torch.stack([logits.amax(dim=-1), (logits.amax(dim=-1) - logits.logsumexp(dim=-1)).exp()])
        if not largest.masked_fill(after_end, 0.0).isfinite().all():
            raise NotFiniteError("The model's logits are not finite: it is broken, not unlearned; train more gently.")
        largest = largest.masked_fill(after_end, float("nan")).cpu()
        rows.append(pad(largest, (0, new_tokens - written.shape[1]), value=float("nan")))
    return MaxLogits(*torch.cat(rows, dim=1))

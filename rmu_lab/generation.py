"""What a model writes, and how sure it is of it: answers to read, and MaxLogit. Taught in notebooks 00 and 02."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .activations import evaluating
from .errors import NotFiniteError, RmuLabError
from .models import last_logits
from .questions import cloze_prompt
from .randomness import torch_generator
from .scoring import differ, shares_prompts
from .tables import rows_of
from .tokens import open_batch
from .torch_state import in_default_torch_state


@in_default_torch_state
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    prefill: str = "",
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Let the model answer each question, through its chat template where it has one.

    Taught in notebook 00.

    Parameters
    ----------
    questions
        in plain words.
    prefill
        what each answer has begun with already.
    max_new_tokens
        tokens after which an answer is cut.
    temperature
        0: each token is the likeliest. Above 0 it is drawn, with logits divided by this.
    seed
        of the draws.

    Returns
    -------
    list of str
        one answer for each question, without what it was begun with.

    Raises
    ------
    RmuLabError
        if the questions are no list of texts, one is longer than the model can take, or the temperature is below 0.
    """
    if not temperature >= 0:
        raise RmuLabError(f"temperature is {temperature}; give 0, or a positive number.")
    questions = _texts(questions, "questions", "give what is asked in plain words, without roles or a template")
    templated = bool(tokenizer.chat_template)
    prompts = [f"{_as_chat(tokenizer, q)}{prefill.lstrip()}" if templated else cloze_prompt(q) + prefill for q in questions]
    at_once = len(prompts) if shares_prompts(model) else 1  # what cannot be padded is asked alone
    drawn = torch_generator(seed, "tokens of answers that are drawn") if temperature else None
    said: list[str] = []
    for start in range(0, len(prompts), at_once or 1):
        chosen = prompts[start : start + at_once]
        encoded = open_batch(model, tokenizer, chosen, new_tokens=max_new_tokens, special=not templated)
        draw = None if drawn is None else partial(_with_noise, temperature=temperature, generator=drawn)
        output = write_greedily(model, tokenizer, encoded, max_new_tokens, change=draw).sequences
        said += tokenizer.batch_decode(output[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in said]


def _texts(given: Any, name: str, advice: str) -> list[str]:
    rows = [] if isinstance(given, str) else rows_of(given, name, "a list of texts")
    if isinstance(given, str) or not all(isinstance(row, str) for row in rows):
        raise RmuLabError(f"{name} is no list of texts; {advice}.")
    return rows


def _as_chat(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    message = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


def write_greedily(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: dict[str, Tensor],
    new_tokens: int,
    *,
    logits: bool = False,
    change: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Any:
    """Let the model write its likeliest token each time, whatever its own settings of generation say, without dropout.

    Parameters
    ----------
    prompts
        as `open_batch` gives them.
    logits
        return the logits of each step as well.
    change
        what the likeliest token is taken of, in place of the logits: a function of the tokens so far, (prompts, tokens), and
        of the logits, (prompts, vocabulary).

    Returns
    -------
    ModelOutput
        with ``sequences``, (prompts, tokens), prompts included; a prompt whose text ends before is filled up.

    Raises
    ------
    RmuLabError
        if transformers generates from the model otherwise than it predicts.
    """
    alone = not shares_prompts(model)
    with evaluating(model), _greedy(model, tokenizer):
        output = cast(Any, model).generate(  # its type says nothing of generation
            **prompts,
            **last_logits(model, 1),
            max_new_tokens=new_tokens,
            logits_processor=LogitsProcessorList([] if change is None else [cast(LogitsProcessor, change)]),
            return_dict_in_generate=True,
            output_logits=logits or alone,
        )
        if alone:
            _check_generation(model, prompts["input_ids"], output.logits[0])
    return output


def _with_noise(_tokens: Tensor, logits: Tensor, *, temperature: float, generator: torch.Generator) -> Tensor:
    """The largest of these is drawn from softmax(logits / temperature): noise of Gumbel's distribution does that."""
    uniform = torch.rand(logits.shape, generator=generator).clamp(min=torch.finfo(torch.float32).tiny)
    return logits.float() - temperature * (-uniform.log()).log().to(logits.device)


@torch.no_grad()
def _check_generation(model: PreTrainedModel, ids: Tensor, first: Tensor) -> None:
    """Refuse models such as RoBERTa's decoder, which transformers generates from at other positions than they count."""
    if differ(model, model(input_ids=ids, use_cache=False).logits[:, -1].float(), first.float()):
        raise RmuLabError(
            f"{type(model).__name__} writes from other positions than it reads texts at, so that what it writes is not what "
            "it predicts; use a model whose positions begin at 0, such as one of the Llama family."
        )


@contextmanager
def _greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Replace the model's own settings of generation, which `generate` would fill in: penalties, beams, sampling.

    Only which token ends a text is kept.
    """
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    greedy = GenerationConfig(do_sample=False, eos_token_id=end_tokens(model, tokenizer) or None, pad_token_id=filler)
    own = {module: vars(module)["generation_config"] for module in model.modules() if "generation_config" in vars(module)}
    for module in own:  # a wrapped model has several
        vars(module)["generation_config"] = greedy
    try:
        yield
    finally:
        for module, settings in own.items():
            vars(module)["generation_config"] = settings


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: as the model's settings of generation say, else the tokenizer's."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = tokenizer.eos_token_id if ends is None else ends
    return [] if ends is None else [*ends] if isinstance(ends, Sequence) else [ends]


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
        if there are no prompts, one is no text, or one is longer than the model can take.
    """
    prompts = _texts(prompts, "prompts", "give a list of what the model is to go on from")
    if not prompts:
        raise RmuLabError("There are no prompts; give a list of at least one.")
    rows = []
    batch_size = batch_size if shares_prompts(model) else 1  # what cannot be padded is asked alone
    for start in range(0, len(prompts), batch_size):
        chosen = [*prompts[start : start + batch_size]]
        encoded = open_batch(model, tokenizer, chosen, new_tokens=new_tokens)
        output = write_greedily(model, tokenizer, encoded, new_tokens, logits=True)
        written = output.sequences[:, encoded["input_ids"].shape[1] :]
        ends = torch.isin(written, torch.as_tensor(end_tokens(model, tokenizer), device=written.device))
        after_end = ends.cumsum(dim=1) > ends.int()
        logits = torch.stack([step.float() for step in output.logits], dim=1)  # (prompts, written tokens, vocabulary)
        largest = torch.stack([logits.amax(dim=-1), (logits.amax(dim=-1) - logits.logsumexp(dim=-1)).exp()])
        if not largest.masked_fill(after_end, 0.0).isfinite().all():
            raise NotFiniteError("The model's logits are not finite: it is broken, not unlearned; train more gently.")
        largest = largest.masked_fill(after_end, float("nan")).cpu()
        rows.append(pad(largest, (0, new_tokens - written.shape[1]), value=float("nan")))
    return MaxLogits(*torch.cat(rows, dim=1))

"""How metrics ask a model, and what it writes by itself: its likeliest token each time."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..generation import write_greedily
from ..questions import cloze_prompt
from ..scoring import shares_prompts
from ..tokens import open_batch, open_tokens
from ..torch_state import in_default_torch_state

STOPS = ("\n\n", "\nQuestion", "Question:")
"""Before these a written answer ends, as in MUSE's code: a model that was not taught to stop asks itself a next question."""


def asked(tokenizer: PreTrainedTokenizerBase, question: str, *, chat_template: bool = False) -> tuple[str, str]:
    """Return the prompt of a question, and what stands between the prompt and an answer.

    Parameters
    ----------
    chat_template
        put the question into the tokenizer's chat template; else it is ``Question: ...`` and ``Answer:`` in two lines.

    Raises
    ------
    RmuLabError
        if there is no chat template.
    """
    if not chat_template:
        return cloze_prompt(question), " "
    if not tokenizer.chat_template:
        raise RmuLabError("The tokenizer has no chat template; leave chat_template off.")
    message = [{"role": "user", "content": question.strip()}]
    text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    begins = tokenizer.bos_token
    if begins and open_tokens(tokenizer, ["a"])[0][:1] == [tokenizer.bos_token_id]:
        text = text.removeprefix(begins)  # the tokenizer puts it there again
    return text, ""


@in_default_torch_state
def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 8,
    progress: bool = True,
) -> list[str]:
    """Let a model go on from each prompt greedily, without blanks around what it wrote.

    Parameters
    ----------
    max_new_tokens
        tokens after which it is cut.
    stop
        texts before the first of which it is cut.

    Raises
    ------
    RmuLabError
        if a prompt has no token, or is longer with what is to be written than the model can take.
    """
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    at_once = batch_size if shares_prompts(model) else 1  # what cannot be padded is asked alone
    found = [""] * len(prompts)
    with tqdm(total=len(prompts), desc="answers", unit="answer", delay=5, disable=not progress) as bar:
        for start in range(0, len(order), at_once):
            chosen = order[start : start + at_once]
            encoded = open_batch(model, tokenizer, [prompts[at] for at in chosen], new_tokens=max_new_tokens)
            output = write_greedily(model, tokenizer, encoded, max_new_tokens).sequences
            written = output[:, encoded["input_ids"].shape[1] :]
            for at, text in zip(chosen, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                found[at] = cut(text, stop)
            bar.update(len(chosen))
    return found


def cut(text: str, stop: Sequence[str]) -> str:
    """Return a text up to the first of some others in it, without blanks around it."""
    text = text.strip()  # line ends that stand first are no end
    return text[: min((at for end in stop if (at := text.find(end)) >= 0), default=len(text))].strip()

"""Does a suffix found on the base model open the unlearned one? Zou et al. 2023, arXiv 2307.15043. Taught in notebook 07."""

from __future__ import annotations

import dataclasses
import time

from transformers import PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..randomness import python_random
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject, required
from .suffixes import decoded


def transfer(subject: Subject, budget: Budget = DEFAULT_BUDGET) -> Recovery:
    """Put the subject's suffix behind each question. Controls: its tokens in random order, and the base model.

    Zou et al. 2023, arXiv 2307.15043. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack, with a suffix such as `gcg` finds on the base model.
    budget
        its seed draws the random order. The suffix is put behind the question as text, which may be tokenised
        otherwise than it was cut.

    Returns
    -------
    Recovery
        with details ``suffix``, ``shuffled`` and ``seed``.

    Raises
    ------
    RmuLabError
        if there is no suffix, it has fewer than two different tokens, which leaves no other order, or a question or
        the edit does not fit.
    """
    suffix = required(subject.suffix, "suffix")
    other = shuffled(subject.tokenizer, suffix, budget.seed)
    reference, start = subject.reference, time.perf_counter()

    def with_text(text: str) -> list[dict]:
        return [{**row, "question": f"{row['question'].strip()} {text.strip()}"} for row in subject.questions]

    details = {"suffix": suffix, "shuffled": other, "seed": budget.seed}
    found = subject.ask_again("suffix", with_text(suffix), details=details, progress=budget.progress)
    with subject.unlearned():
        random_order = subject.accuracy(with_text(other), progress=budget.progress)
    controls = {"tokens in random order": (reference.unlearned, random_order)} | found.controls
    return dataclasses.replace(found, controls=controls, seconds=time.perf_counter() - start)


def shuffled(tokenizer: PreTrainedTokenizerBase, suffix: str, seed: int) -> str:
    """Return the tokens of `suffix` in another order, as text.

    Raises
    ------
    RmuLabError
        if it has fewer than two different tokens.
    """
    ids = tokenizer(suffix, add_special_tokens=False)["input_ids"]
    if len(set(ids)) < 2:
        raise RmuLabError(f"The suffix {suffix!r} has fewer than two different tokens; give a longer one.")
    order, source = list(ids), python_random(seed, "suffix in another order")
    while order == ids:
        source.shuffle(order)
    return decoded(tokenizer, order)

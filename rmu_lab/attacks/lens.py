"""Does an inner block still know the answer? The logit lens (nostalgebraist 2020): read it off before the last block.

Taught in notebook 07.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..errors import RmuLabError
from ..models import decoder_blocks
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject


def lens(subject: Subject, budget: Budget = DEFAULT_BUDGET, *, max_dev_questions: int = 32) -> Recovery:
    """Let the unlearned model answer from an inner block's output. Control: the base model through the same block.

    The logit lens (nostalgebraist 2020): block k's output goes to the final norm and the unembedding at once. k is the
    block that answers most of the dev questions, the highest of equals; the last block is among them, where the lens
    changes nothing. The accuracy that is reported is on the subject's questions, which had no say in it.
    Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack, with `dev_questions`.
    budget
        whether to show bars; nothing here is random.
    max_dev_questions
        how many of the subject's `dev_questions`, from the first, the block is chosen on.

    Returns
    -------
    Recovery
        with details ``block`` (k), and ``dev_accuracy`` and ``base_dev_accuracy``, lists over all blocks. Where the
        base model cannot answer from a block either, the lens does not show what that block knows.

    Raises
    ------
    RmuLabError
        if there are no dev questions, or a question or the edit does not fit.
    """
    subject.require("dev_questions")
    model, dev_questions = subject.model, subject.dev_questions[:max_dev_questions]
    reference, start = subject.reference, time.perf_counter()
    last = len(decoder_blocks(model)) - 1

    def accuracy_by_block() -> list[float]:
        shares = []
        for k in tqdm(range(last + 1), desc="lens", unit="block", delay=5, disable=not budget.progress):
            with through_block(model, k):
                shares.append(subject.accuracy(dev_questions).accuracy)
        return shares

    base_by_block = accuracy_by_block()
    with subject.unlearned():
        by_block = accuracy_by_block()
        block = max(range(last + 1), key=lambda k: (by_block[k], k))
        with through_block(model, block):
            attacked, written = subject.accuracy(progress=budget.progress), subject.generate()
    with through_block(model, block):
        control = subject.accuracy(progress=budget.progress)
    return Recovery(
        attack="logit lens",
        start=reference.unlearned,
        attacked=attacked,
        controls={"base model": (reference.base, control)},
        details={"block": block, "dev_accuracy": by_block, "base_dev_accuracy": base_by_block},
        generations=reference.generations(written),
        seconds=time.perf_counter() - start,
    )


@contextmanager
def through_block(model: PreTrainedModel, k: int) -> Iterator[None]:
    """Cut the model inside the ``with`` block down to blocks 0 .. k, its final norm and its unembedding.

    The blocks above are taken out of its list, and its configuration says so, from which key-value caches
    are made: whatever runs or scores the model works as ever. Parameters of those blocks cannot be reached by
    name inside, so put edits in before. Taught in notebook 07.

    Parameters
    ----------
    k
        the last block that is kept, from 0.

    Raises
    ------
    RmuLabError
        if the model has no such block.
    """
    blocks = decoder_blocks(model)
    if not 0 <= k < len(blocks):
        raise RmuLabError(f"k is {k}, but the model has blocks 0 .. {len(blocks) - 1}.")
    config = model.config.get_text_config(decoder=True)
    above, count, kinds = list(blocks)[k + 1 :], config.num_hidden_layers, getattr(config, "layer_types", None)
    del blocks[k + 1 :]
    config.num_hidden_layers = k + 1
    if kinds is not None:  # the kind of attention of each block
        config.layer_types = kinds[: k + 1]
    try:
        yield
    finally:
        blocks.extend(above)
        config.num_hidden_layers = count
        if kinds is not None:
            config.layer_types = kinds

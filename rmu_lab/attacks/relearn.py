"""Does a short fine-tune bring the topic back? Łucki et al. 2024, arXiv 2409.18025. Taught in notebook 07.

Text that has nothing to do with the topic cannot teach it. If a few steps on such text make the model answer
again, the knowledge was there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import RmuLabError
from ..files import digest
from ..models import check_positions
from ..offload import require_in_memory
from ..randomness import python_random
from .controls import Recovery
from .fine_tune import fine_tuning
from .subject import DEFAULT_BUDGET, Budget, Subject

RELEARN_TEXTS = 10
"""As many as Łucki et al. fine-tune on."""


def relearn(
    subject: Subject,
    budget: Budget = DEFAULT_BUDGET,
    texts: Sequence[str] | None = None,
    *,
    steps: int = 20,
    batch_size: int = 4,
    lr: float = 3e-4,
    max_length: int = 64,
) -> Recovery:
    """Fine-tune the unlearned model on a few texts. Control: the base model, fine-tuned on the same batches.

    Łucki et al. 2024, arXiv 2409.18025. Next-token loss over all real tokens, AdamW without weight decay, all matrices
    of all blocks. Text of the topic itself may teach what is asked, which the control shows only where the base model
    did not know it; unrelated text is the cleaner attack.

    The defaults are the best of six settings on 64 dev questions of infectious disease (SmolLM2, Adaptive RMU, ten
    unrelated texts, in one order): 62% from 34%; half the steps gave 50%, three times more or less of lr then 33% and 36%.
    The order counts: two orders of these ten texts took the same edit from 41% to 60% and to 45% of 100 test questions.
    Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack. Another copy of its model's blocks and AdamW's state (float32, four copies in all)
        have to fit beside the model.
    budget
        its seed draws the order of the texts.
    texts
        unrelated to the topic, or of it; by default the first ten of the subject's `retain`.
    steps, batch_size, lr, max_length
        of the fine-tune. The texts are dealt in random order, and dealt again when they run out; each is cut after
        `max_length` tokens.

    Returns
    -------
    Recovery
        with details of the settings, ``seed``, ``texts`` (how many), ``digest`` (of the texts) and ``losses`` of the
        unlearned model's first and last step, in nats a token.

    Raises
    ------
    RmuLabError
        if some weights are offloaded, there are fewer texts than a batch takes, a setting is out of range, the loss is
        not finite, or a question or the edit does not fit.
    """
    if steps < 1 or batch_size < 1 or not 0 < lr < math.inf:
        raise RmuLabError(f"steps is {steps}, batch_size {batch_size} and lr {lr}; all must be positive.")
    require_in_memory(subject.model, "relearning")
    check_positions(subject.model, max_length)
    if texts is None:
        subject.require("retain")
        texts = subject.retain[:RELEARN_TEXTS]
    texts, model = texts_of(texts, "texts", batch_size), subject.model
    batches = relearning_batches(subject.tokenizer, texts, steps, batch_size, max_length, budget.seed)
    reference, start = subject.reference, time.perf_counter()
    with subject.unlearned(), fine_tuned(model, batches, lr, progress=budget.progress) as losses:
        attacked, written = subject.accuracy(progress=budget.progress), subject.generate()
    with fine_tuned(model, batches, lr, progress=budget.progress):
        control = subject.accuracy(progress=budget.progress)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "max_length": max_length, "seed": budget.seed}
    return Recovery(
        attack="relearn",
        start=reference.unlearned,
        attacked=attacked,
        controls={"base model": (reference.base, control)},
        details=settings | {"texts": len(texts), "digest": digest(texts), "losses": [losses[0], losses[-1]]},
        generations=reference.generations(written),
        seconds=time.perf_counter() - start,
    )


@contextmanager
def fine_tuned(
    model: PreTrainedModel, batches: Sequence[TokenBatch], lr: float, *, progress: bool = True
) -> Iterator[list[float]]:
    """Train the blocks' matrices, one step a batch; put every weight back, bit for bit, when the ``with`` block ends.

    Errors as of `fine_tuning`, which does the same step by step. Taught in notebook 07.

    Parameters
    ----------
    batches
        one for each step, such as `relearning_batches` makes.
    lr
        AdamW's learning rate.

    Yields
    ------
    list of float
        the loss of each step before its update, in nats a token.
    """
    with fine_tuning(model, lr, progress=progress) as learn:
        yield learn(batches)


def relearning_batches(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], steps: int, batch_size: int, max_length: int, seed: int
) -> list[TokenBatch]:
    """Deal the texts in random order, and again when they run out: one batch of `batch_size` texts for each step."""
    source = python_random(seed, "order of relearned texts")
    dealt: list[str] = []
    while len(dealt) < steps * batch_size:
        dealt += source.sample(texts, len(texts))
    return token_batches(tokenizer, dealt[: steps * batch_size], batch_size, max_length)

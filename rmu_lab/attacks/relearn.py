"""Does a short fine-tune bring the topic back? Łucki et al. 2024, arXiv 2409.18025. Taught in notebook 07.

Text that has nothing to do with the topic cannot teach it, and facts of the topic cannot teach other ones. If a few steps on
them make the model answer again, the knowledge was there.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

from ..corpora import texts_of
from ..errors import RmuLabError
from ..evaluate import Accuracy
from ..files import digest
from ..metrics.relearning import half_back
from ..models import check_positions
from ..offload import require_in_memory
from .controls import Recovery
from .fine_tune import RelearnConfig
from .other_facts import as_texts, other_facts
from .relearning_speed import RateTrial, RelearningCurve, relearned, search_rate
from .subject import DEFAULT_BUDGET, Budget, Subject

RELEARN_TEXTS = 10
"""As many as Łucki et al. fine-tune on."""
ONCE = RelearnConfig(steps=(20,))
SEARCHED = RelearnConfig(steps=(1, 2, 4, 8, 16))
"""For attacks that search their rate and their number of steps."""
ROUNDS, SEARCH_QUESTIONS = (4, 8, 16), 32
"""Steps of the rounds of that search, and questions of each kind that it asks: what a card has time for."""


def relearn(
    subject: Subject,
    budget: Budget = DEFAULT_BUDGET,
    texts: Sequence[str] | None = None,
    config: RelearnConfig = ONCE,
    *,
    search: bool = False,
) -> Recovery:
    """Fine-tune the unlearned model on a few texts. Controls: other models, fine-tuned on the same batches.

    These are the base model and, where the subject has one, the model that never knew. Łucki et al. 2024, arXiv 2409.18025.
    Next-token loss over all real tokens, AdamW without weight decay. Text of the topic itself may teach what is asked, which
    the base model shows only where it did not know it; unrelated text is the cleaner attack, and a model that never knew the
    stricter control.

    The default settings are the best of six on 64 dev questions of infectious disease (SmolLM2, Adaptive RMU, ten
    unrelated texts, in one order): 62% from 34%; half the steps gave 50%, three times more or less of lr then 33% and 36%.
    The order counts: two orders of these ten texts took the same edit from 41% to 60% and to 45% of 100 test questions.
    Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack. Where all matrices are trained, another copy of its model's blocks and AdamW's state
        (float32, four copies in all) have to fit beside the model.
    budget
        its seed draws the order of the texts.
    texts
        unrelated to the topic, or of it; by default the first ten of the subject's `retain`.
    config
        of the fine-tune; its seed is the budget's.
    search
        search the learning rate and the number of steps for this edit first, on the subject's `dev_questions` and
        `general`, as `search_rate` does.

    Returns
    -------
    Recovery
        with details of the settings, ``texts`` (how many), ``digest`` (of the texts), ``losses`` of the unlearned model's
        first and last step, in nats a token, ``tokens``, ``accuracy`` and ``base_accuracy`` along the fine-tune, and
        ``half_back``, R50 with its interval in tokens (None: not reached). After a search also ``tried``.

    Raises
    ------
    RmuLabError
        if some weights are offloaded, there are fewer texts than a batch takes, the loss is not finite, material for a
        search is missing, or a question or the edit does not fit.
    """
    config = dataclasses.replace(config, seed=budget.seed)
    require_in_memory(subject.model, "relearning")
    check_positions(subject.model, config.max_length)
    if texts is None:
        subject.require("retain")
        texts = subject.retain[:RELEARN_TEXTS]
    texts, model, tokenizer = texts_of(texts, "texts", config.batch_size), subject.model, subject.tokenizer
    reference, start = subject.reference, time.perf_counter()
    edited, tried = list(subject.result.edit), list[RateTrial]()
    how = {"edited": edited, "progress": budget.progress}
    if search:
        subject.require("dev_questions", "general")
        dev, general = (rows[:SEARCH_QUESTIONS] for rows in (subject.dev_questions, subject.general))
        with subject.unlearned():
            config, tried = search_rate(model, tokenizer, texts, dev, general, config, halving=ROUNDS, **how)  # type: ignore[arg-type]
    with subject.unlearned(), relearned(model, tokenizer, texts, subject.questions, config, **how) as curve:  # type: ignore[arg-type]
        written = subject.generate()
    with relearned(model, tokenizer, texts, subject.questions, config, **how) as control:  # type: ignore[arg-type]
        pass
    controls: dict[str, tuple[Accuracy, ...]] = {"base model": (reference.base, control.scores[-1])}
    if subject.never_knew is not None:
        with (
            subject.never_knew.applied(model),
            relearned(model, tokenizer, texts, subject.questions, config, **how) as taught,  # type: ignore[arg-type]
        ):
            controls["never knew"] = taught.scores[0], taught.scores[-1]
    details = {
        **dataclasses.asdict(config),
        "steps": list(config.steps),
        "texts": len(texts),
        "digest": digest(texts),
        "losses": [curve.losses[0], curve.losses[-1]],
        "tokens": list(curve.tokens),
        "accuracy": [score.accuracy for score in curve.scores],
        "base_accuracy": [score.accuracy for score in control.scores],
        "half_back": _tokens_to_half(curve, control),
    }
    return Recovery(
        attack="relearn",
        start=reference.unlearned,
        attacked=curve.scores[-1],
        controls=controls,
        details=details | ({"tried": [dataclasses.asdict(one) for one in tried]} if search else {}),
        generations=reference.generations(written),
        seconds=time.perf_counter() - start,
    )


def _tokens_to_half(curve: RelearningCurve, base: RelearningCurve) -> list[float | None]:
    """R50 with its interval; None for what is not reached, as JSON knows no infinity."""
    found = half_back([curve], base.scores[0])
    return [None if math.isinf(tokens) else tokens for tokens in (found.value, found.low, found.high)]


def relearn_other_facts(
    subject: Subject, budget: Budget = DEFAULT_BUDGET, config: RelearnConfig = ONCE, *, search: bool = False
) -> Recovery:
    """Teach the unlearned model some facts of the topic, and ask it others. Control: the base model, taught the same.

    The subject's questions and dev questions are split by the subjects they are on (`other_facts`): facts of one half are
    taught, with their answers, and only questions of the other half are asked, so that nothing that is asked is taught.
    Deeb and Roger 2024, arXiv 2410.08827. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack, whose questions name their ``subject``.
    budget
        its seed draws the subjects that are taught, and the order of their facts.
    config, search
        as of `relearn`.

    Returns
    -------
    Recovery
        as of `relearn`, on the questions that were not taught.

    Raises
    ------
    RmuLabError
        if the questions are not on several subjects, or as of `relearn`.
    """
    taught, asked = other_facts([*subject.dev_questions, *subject.questions], budget.seed)
    kept = {id(row) for row in asked}
    questions, dev_questions = (
        [row for row in rows if id(row) in kept] for rows in (subject.questions, subject.dev_questions)
    )
    if not questions:
        raise RmuLabError("No question is left beside those that are taught; give questions on more subjects.")
    other = dataclasses.replace(subject, questions=questions, dev_questions=dev_questions)
    return relearn(other, budget, as_texts(taught), config, search=search)

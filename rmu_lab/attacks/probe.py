"""Is the answer still in the hidden states? A linear probe that is trained on other questions. Taught in notebook 07.

Patil et al. 2023, arXiv 2309.17410, look for deleted facts in hidden states by the logit lens; a trained probe finds what
stands there in a form that the unembedding does not read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import RmuLabError
from ..metrics.probing import FOLDS, chosen_probe, option_states, probed_answers, probed_layers
from ..randomness import python_random
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject


def probe(subject: Subject, budget: Budget = DEFAULT_BUDGET, *, layers: Sequence[int] | None = None) -> Recovery:
    """Train a linear probe on hidden states that tells right options from wrong ones. Controls: chance labels, base model.

    h is taken after a layer at the last token of each option behind its question, less the mean over the question's options;
    a ridge regression to 1 for the right option and 0 for the others is trained on `dev_questions`, and the option with the
    highest prediction is chosen of the subject's questions. Layer and penalty are those with the most right answers in a
    cross-validation on the dev questions. Controls: ``chance labels`` trains the same on one option drawn for each dev
    question; ``base model`` trains one on that model's states. Taught in notebook 07.

    Parameters
    ----------
    subject
        the edit under attack, with `dev_questions`.
    budget
        its seed draws the chance labels.
    layers
        to choose from; by default every second, and the last.

    Returns
    -------
    Recovery
        with details ``layer``, ``ridge``, ``seed``, and ``dev_accuracy`` by layer.

    Raises
    ------
    RmuLabError
        if there are fewer than `FOLDS` dev questions, the model has no such layer, or a question or the edit does not fit.
    """
    subject.require("dev_questions")
    if len(subject.dev_questions) < FOLDS:
        raise RmuLabError(f"There are {len(subject.dev_questions)} dev questions; a probe takes at least {FOLDS}.")
    chosen = probed_layers(subject.model) if layers is None else list(layers)
    reference, start = subject.reference, time.perf_counter()
    source = python_random(budget.seed, "chance labels of a probe")
    right = [row["answer"] for row in subject.dev_questions]
    chance = [source.randrange(len(row["choices"])) for row in subject.dev_questions]

    def states(questions: Sequence[Mapping[str, Any]]) -> dict[int, list[Tensor]]:
        return option_states(subject.model, subject.tokenizer, questions, chosen, progress=budget.progress)

    with subject.unlearned():
        seen, asked = states(subject.dev_questions), states(subject.questions)
    base_seen, base_asked = states(subject.dev_questions), states(subject.questions)
    layer, ridge, by_layer = chosen_probe(seen, right)
    base_layer, base_ridge, _ = chosen_probe(base_seen, right)
    attacked = probed_answers(seen[layer], right, asked[layer], ridge, subject.questions)
    misled = probed_answers(seen[layer], chance, asked[layer], ridge, subject.questions)
    base = probed_answers(base_seen[base_layer], right, base_asked[base_layer], base_ridge, subject.questions)
    return Recovery(
        attack="probe",
        start=reference.unlearned,
        attacked=attacked,
        controls={"chance labels": (reference.unlearned, misled), "base model": (reference.base, base)},
        details={
            "layer": layer,
            "ridge": ridge,
            "seed": budget.seed,
            "dev_accuracy": {str(at): share for at, share in by_layer.items()},
        },
        generations=(),
        seconds=time.perf_counter() - start,
    )

"""Is the answer still in the hidden states? A linear probe that is trained on other questions. Taught in notebook 07.

Patil et al. 2023, arXiv 2309.17410, look for deleted facts in hidden states by the logit lens; a trained probe finds what
stands there in a form that the unembedding does not read.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured, evaluating
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy_of, question_tokens
from ..models import decoder_blocks, input_device
from ..randomness import python_random
from ..tokens import padded
from ..torch_state import in_default_torch_state
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties, in units of the mean variance of the states."""
FOLDS = 4


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
    last = len(decoder_blocks(subject.model)) - 1
    chosen = sorted({*range(1, last + 1, 2), last}) if layers is None else list(layers)
    reference, start = subject.reference, time.perf_counter()
    source = python_random(budget.seed, "chance labels of a probe")
    right = [row["answer"] for row in subject.dev_questions]
    chance = [source.randrange(len(row["choices"])) for row in subject.dev_questions]

    def states(questions: Sequence[Mapping[str, Any]]) -> dict[int, list[Tensor]]:
        return option_states(subject.model, subject.tokenizer, questions, chosen, progress=budget.progress)

    with subject.unlearned():
        seen, asked = states(subject.dev_questions), states(subject.questions)
    base_seen, base_asked = states(subject.dev_questions), states(subject.questions)
    layer, ridge, by_layer = _choose(seen, right)
    base_layer, base_ridge, _ = _choose(base_seen, right)
    attacked = _answered(seen[layer], right, asked[layer], ridge, subject.questions)
    misled = _answered(seen[layer], chance, asked[layer], ridge, subject.questions)
    base = _answered(base_seen[base_layer], right, base_asked[base_layer], base_ridge, subject.questions)
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


@in_default_torch_state
def option_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Mapping[str, Any]],
    layers: Sequence[int],
    batch_size: int = 32,
    *,
    progress: bool = True,
) -> dict[int, list[Tensor]]:
    """Take h at the last token of each option behind its question, less the mean over the question's options.

    Returns
    -------
    dict of int to list of Tensor
        by layer, (options, d) float32 on the CPU for each question.

    Raises
    ------
    RmuLabError
        if the model has no such layer, or a question does not fit.
    """
    prompts, options = question_tokens(tokenizer, questions)
    rows = [prompt + option for prompt, of_question in zip(prompts, options, strict=True) for option in of_question]
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    with evaluating(model), torch.inference_mode():
        starts = range(0, len(rows), batch_size)
        for start in tqdm(starts, desc="states", unit="batch", delay=5, disable=not progress):
            batch = rows[start : start + batch_size]
            ids, mask = (part.to(input_device(model)) for part in padded(batch, 0, "right"))
            with captured(model, layers, stop=True) as seen:
                model(input_ids=ids, attention_mask=mask, use_cache=False)
            ends = torch.tensor([len(row) - 1 for row in batch], device=ids.device)
            for layer in layers:
                found[layer].append(seen[layer][torch.arange(len(batch)), ends].float().cpu())
    counts = [len(of_question) for of_question in options]
    return {
        layer: [part - part.mean(dim=0) for part in torch.cat(parts).clone().split(counts)] for layer, parts in found.items()
    }


def _choose(states: Mapping[int, list[Tensor]], labels: Sequence[int]) -> tuple[int, float, dict[int, float]]:
    """The layer and the penalty of the most right answers when each fold is left out once, and each layer's best share."""
    shares: dict[tuple[int, float], float] = {}
    for layer, ridge in itertools.product(states, RIDGES):
        hits = 0
        for fold in range(FOLDS):
            inside = [at for at in range(len(labels)) if at % FOLDS != fold]
            outside = [at for at in range(len(labels)) if at % FOLDS == fold]
            weights = _ridge([states[layer][at] for at in inside], [labels[at] for at in inside], ridge)
            hits += sum(int((states[layer][at] @ weights).argmax()) == labels[at] for at in outside)
        shares[layer, ridge] = hits / len(labels)
    layer, ridge = max(shares, key=lambda each: shares[each])
    return layer, ridge, {at: max(shares[at, each] for each in RIDGES) for at in states}


def _ridge(states: Sequence[Tensor], labels: Sequence[int], ridge: float) -> Tensor:
    """Weights, (d,), of a ridge regression to 1 at each label's option and 0 elsewhere, both less the question's mean."""
    x = torch.cat(list(states)).double()
    marks = [torch.nn.functional.one_hot(torch.tensor(label), len(part)) for part, label in zip(states, labels, strict=True)]
    y = torch.cat([mark.double() - 1 / len(mark) for mark in marks])
    penalty = ridge * len(x) * x.square().mean()
    # In the space of the rows, of which there are fewer than of dimensions in larger models.
    return (x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype), y)).float()


def _answered(
    seen: Sequence[Tensor],
    labels: Sequence[int],
    asked: Sequence[Tensor],
    ridge: float,
    questions: Sequence[Mapping[str, Any]],
) -> Accuracy:
    weights = _ridge(seen, labels, ridge)
    return accuracy_of([int((part @ weights).argmax()) for part in asked], questions, "cloze")

"""Is the answer in the hidden states? A linear probe that is trained on other questions. Taught in notebook 11.

As an attack, with its controls, it stands in `rmu_lab.attacks.probe`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured, evaluating
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy_of, question_tokens
from ..models import decoder_blocks, input_device
from ..tokens import padded
from ..torch_state import in_default_torch_state

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties, in units of the mean variance of the states."""
FOLDS = 4


@dataclass(frozen=True)
class ProbeScore:
    """What a probe reads off the hidden states. Taught in notebook 11."""

    accuracy: Accuracy
    """Of the questions that were asked."""
    layer: int
    """Whose states are read, chosen on the dev questions."""
    ridge: float
    """Penalty, chosen with it."""
    dev_accuracy: dict[int, float]
    """Share of dev questions that are right in cross-validation, by layer."""


def hidden_state_probe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Mapping[str, Any]],
    dev_questions: Sequence[Mapping[str, Any]],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> ProbeScore:
    """Measure how many questions a linear probe answers from the model's hidden states.

    With an option's state x, taken at its last token behind the question, less the mean over the question's options, and
    y = 1 - 1/n for the right one of n and -1/n for the others, it is ``w = argmin sum (w x - y)^2 + lambda |w|^2`` over the
    dev questions; the option with the highest w x is chosen. Layer and lambda are those of the most right answers in a
    cross-validation on the dev questions. At chance it shows that this probe finds nothing, not that nothing is there.
    After Patil et al. 2023, arXiv 2309.17410, who read hidden states by the logit
    lens. Taught in notebook 11.

    Parameters
    ----------
    questions
        that are asked, as `accuracy` takes them.
    dev_questions
        other questions of the topic, on which it is trained.
    layers
        to choose from; by default every second, and the last.
    batch_size
        options run at once.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if there are fewer than `FOLDS` dev questions, the model has no such layer, or a question is not well formed or does
        not fit.
    """
    if len(dev_questions) < FOLDS:
        raise RmuLabError(f"There are {len(dev_questions)} dev questions; a probe takes at least {FOLDS}.")
    chosen = probed_layers(model) if layers is None else list(layers)
    seen, asked = (
        option_states(model, tokenizer, rows, chosen, batch_size, progress=progress) for rows in (dev_questions, questions)
    )
    right = [row["answer"] for row in dev_questions]
    layer, ridge, by_layer = chosen_probe(seen, right)
    return ProbeScore(probed_answers(seen[layer], right, asked[layer], ridge, questions), layer, ridge, by_layer)


def probed_layers(model: PreTrainedModel) -> list[int]:
    """Return every second layer of a model, and the last."""
    last = len(decoder_blocks(model)) - 1
    return sorted({*range(1, last + 1, 2), last})


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


def chosen_probe(states: Mapping[int, list[Tensor]], labels: Sequence[int]) -> tuple[int, float, dict[int, float]]:
    """Return layer and penalty with the most right answers when each fold is left out once, and each layer's best share."""
    shares: dict[tuple[int, float], float] = {}
    for layer, ridge in itertools.product(states, RIDGES):
        hits = 0
        for fold in range(FOLDS):
            inside = [at for at in range(len(labels)) if at % FOLDS != fold]
            outside = [at for at in range(len(labels)) if at % FOLDS == fold]
            weights = ridge_weights([states[layer][at] for at in inside], [labels[at] for at in inside], ridge)
            hits += sum(int((states[layer][at] @ weights).argmax()) == labels[at] for at in outside)
        shares[layer, ridge] = hits / len(labels)
    layer, ridge = max(shares, key=lambda each: shares[each])
    return layer, ridge, {at: max(shares[at, each] for each in RIDGES) for at in states}


def ridge_weights(states: Sequence[Tensor], labels: Sequence[int], ridge: float) -> Tensor:
    """Return weights, (d,), of a ridge regression to 1 at each label's option and 0 elsewhere, less the question's mean."""
    x = torch.cat(list(states)).double()
    marks = [torch.nn.functional.one_hot(torch.tensor(label), len(part)) for part, label in zip(states, labels, strict=True)]
    y = torch.cat([mark.double() - 1 / len(mark) for mark in marks])
    penalty = ridge * len(x) * x.square().mean()
    # In the space of the rows, of which there are fewer than of dimensions in larger models.
    return (x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype), y)).float()


def probed_answers(
    seen: Sequence[Tensor],
    labels: Sequence[int],
    asked: Sequence[Tensor],
    ridge: float,
    questions: Sequence[Mapping[str, Any]],
) -> Accuracy:
    """Train a probe on the options' states of some questions, and let it answer others."""
    weights = ridge_weights(seen, labels, ridge)
    return accuracy_of([int((part @ weights).argmax()) for part in asked], questions, "cloze")

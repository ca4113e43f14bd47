"""Properties of an edit that might tell how soon relearning undoes it, before anyone has tried. Taught in notebook 12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from ..activations import evaluating, frozen
from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import NotFiniteError, RmuLabError
from ..models import check_positions, decoder_blocks, input_device, plain_model
from ..offload import require_in_memory
from ..torch_state import in_default_torch_state
from ..unlearning.objectives import next_token_loss, targets_of
from ..unlearning.result import UnlearnResult
from ..unlearning.successors.components import Moments

AT_ONCE = 16
"""Matrices whose inputs are taken in one pass: their second moments are (in, in) numbers each."""
PROPERTIES = ("norm", "stable_rank", "overlap", "sharpness")
"""The fields of `EditProperties` that a prediction is tried with."""


@dataclass(frozen=True)
class EditProperties:
    """What can be said of an edit without an attack; dW is what it adds to a matrix W, W' = W + dW."""

    norm: float
    """Its size, ``sqrt(sum ||dW||^2 / sum ||W||^2)`` over the edited matrices, with Frobenius norms."""
    stable_rank: float
    """How many directions share it: ``||dW||^2 / sigma_1(dW)^2``, from 1 to the rank; a mean over the matrices, weighed by
    ``||dW||^2``, for a matrix that hardly changes says nothing."""
    overlap: float
    """The share of it that reads what forget texts have most of: ``sum ||dW V||^2 / sum ||dW||^2``, V an orthonormal basis
    of the mean and the first principal components of a matrix's inputs on forget texts."""
    chance: float
    """The overlap that a random change of the same matrices has: the columns of V for each of its rows, weighed alike."""
    sharpness: float
    """How steeply the loss on forget texts falls from the edited model: `sharpness`, in nats."""


@in_default_torch_state
def edit_properties(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    result: UnlearnResult,
    texts: Sequence[str],
    *,
    components: int = 8,
    max_length: int = 64,
    batch_size: int = 4,
) -> EditProperties:
    """Measure norm, stable rank, overlap with principal components, and sharpness of an edit.

    Taught in notebook 12.

    Parameters
    ----------
    model
        the base model, without the edit; as it was on return.
    texts
        of the topic that is forgotten.
    components
        principal components of the inputs, the mean among them, that the overlap is with.
    max_length
        tokens after which a text is cut.
    batch_size
        texts run at once.

    Raises
    ------
    RmuLabError
        if the edit changes nothing, or none of what it changes is the matrix of a linear map; if weights are offloaded,
        a number is out of range, or as of `UnlearnResult.scaled`.
    """
    if components < 1:
        raise RmuLabError(f"components is {components}; give a whole number from 1.")
    model = plain_model(model)
    require_in_memory(model, "measuring an edit")
    check_positions(model, max_length)
    batches = token_batches(tokenizer, texts_of(texts, "texts", 1), batch_size, max_length)
    before = result.scaled(0.0, model).edit  # the base model's matrices

    def change_of(name: str) -> Tensor:  # one at a time: all of a model's in float64 are twice the model
        return result.edit[name].double() - before[name].double()

    energy = {name: change_of(name).square().sum().item() for name in result.edit}
    if not any(energy.values()):
        raise RmuLabError("The edit changes nothing, so it has no properties; train it with more steps or lr.")
    linear = {name: module for name in energy if energy[name] and (module := _linear_module(model, name)) is not None}
    if not linear:
        raise RmuLabError(f"{next(iter(energy))} is not the matrix of a linear map, nor is any other that was edited.")
    weights = sum(matrix.double().square().sum().item() for matrix in before.values())
    total = sum(energy[name] for name in linear)
    rank = overlap = chance = 0.0
    names = list(linear)
    for start in range(0, len(names), AT_ONCE):
        chosen = {name: linear[name] for name in names[start : start + AT_ONCE]}
        for name, basis in _dominant_inputs(model, batches, chosen, components).items():
            change = change_of(name).T if isinstance(linear[name], Conv1D) else change_of(name)  # (out, in)
            share = energy[name] / total
            rank += share * _stable_rank(change)
            overlap += share * ((change @ basis).square().sum().item() / energy[name])
            chance += share * basis.shape[1] / basis.shape[0]
    with result.applied(model):
        steepness = _steepness(model, batches)
    return EditProperties((sum(energy.values()) / weights) ** 0.5, rank, min(1.0, overlap), chance, steepness)


@in_default_torch_state
def sharpness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 64,
    batch_size: int = 4,
) -> float:
    """Measure how steeply the next-token loss on texts falls, at best, as the matrices of all blocks move.

    With L the mean loss of the tokens, w the matrices of all blocks taken together and g the gradient of L there, the loss
    falls by ``L(w) - L(w - r ||w|| g / ||g||)`` in a step of the relative length r down the gradient. For small r this is r
    times::

        ||w|| ||g||

    which is returned: the sharpness of Foret et al. 2021 (arXiv 2010.01412, Eq 2) to first order, downhill and not uphill,
    for relearning goes down. It is taken over the matrices of all blocks, which an attacker may train, and not over those of
    an edit, so that it compares edits of few and of many matrices.

    Parameters
    ----------
    model
        as it is: inside ``with result.applied(model):`` the unlearned model.
    texts, max_length, batch_size
        as of `edit_properties`.

    Raises
    ------
    RmuLabError
        if weights are offloaded or quantised, or there are no texts.
    NotFiniteError
        if the loss or its gradient is not finite.
    """
    model = plain_model(model)
    require_in_memory(model, "measuring sharpness")
    check_positions(model, max_length)
    return _steepness(model, token_batches(tokenizer, texts_of(texts, "texts", 1), batch_size, max_length))


def _steepness(model: PreTrainedModel, batches: Sequence[TokenBatch]) -> float:
    matrices = [matrix for matrix in decoder_blocks(model).parameters() if matrix.ndim >= 2]
    tokens = sum(int(targets_of(batch)[1].sum()) for batch in batches)
    with frozen(model), torch.enable_grad():
        try:
            for matrix in matrices:
                matrix.requires_grad_(True)
            for batch in batches:
                batch = batch.to(input_device(model))
                targets, scored = targets_of(batch)
                logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
                loss = next_token_loss(logits[:, :-1].float(), targets, scored)
                (loss * (int(scored.sum()) / tokens)).backward()
            gradient = sum(matrix.grad.double().square().sum().item() for matrix in matrices if matrix.grad is not None)
        finally:
            for matrix in matrices:
                matrix.requires_grad_(False).grad = None
    found = (gradient * sum(matrix.detach().double().square().sum().item() for matrix in matrices)) ** 0.5
    if not found < float("inf"):
        raise NotFiniteError(
            "The gradient of the loss is not finite: the model is broken, not unlearned; train more gently."
        )
    return found


def _stable_rank(change: Tensor) -> float:
    """``||dW||^2 / sigma_1^2``, of the eigenvalues of the smaller of its two products with itself."""
    product = change @ change.T if change.shape[0] <= change.shape[1] else change.T @ change
    values = torch.linalg.eigvalsh(product)
    return (product.trace() / values[-1]).item()


def _linear_module(model: PreTrainedModel, name: str) -> nn.Module | None:
    """The module of a linear map whose matrix has this full name, if it is one."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    return module if last == "weight" and isinstance(module, (nn.Linear, Conv1D)) else None


def _dominant_inputs(
    model: PreTrainedModel, batches: Sequence[TokenBatch], modules: Mapping[str, nn.Module], components: int
) -> dict[str, Tensor]:
    """By name, an orthonormal basis of the mean and the first principal components of a module's inputs, (in, r) float64.

    First tokens of texts, attention sinks, do not count, as in RMU.
    """
    moments = {name: Moments() for name in modules}
    counted: list[Tensor] = []

    def note(name: str) -> Callable:
        def hook(_module: nn.Module, args: tuple) -> None:
            moments[name].add(args[0][counted[0].to(args[0].device)])

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        with evaluating(model), torch.no_grad():
            for batch in batches:
                batch = batch.to(input_device(model))
                counted[:] = [batch.counted()]
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: moment.basis(components - 1).double() if moment.count else torch.zeros(_inputs(modules[name]), 0).double()
        for name, moment in moments.items()
    }


def _inputs(module: Any) -> int:
    """Length of what a linear map takes, of one that no text came through, such as an expert of a mixture."""
    return module.weight.shape[0 if isinstance(module, Conv1D) else 1]

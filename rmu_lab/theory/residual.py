"""The assumptions of Proposition 1 on a trained model: what is left of h beside c u. Taught in notebook 02."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import RmuLabError
from ._steering import unit

if TYPE_CHECKING:
    from ..activations import TokenStates


@dataclass(frozen=True)
class Residual:
    """What is left of steered representations once c u is taken away: eps = h - c u, first tokens left out.

    Proposition 1 assumes a zero mean, a covariance eta I, and no dependence on the text.
    """

    coefficient: float
    """Mean of u · h: the c that the tokens reach."""
    eta: float
    """E ||eps||² / d, the variance per entry if it were isotropic."""
    relative_norm: float
    """Root mean square of ||eps|| over c."""
    mean_share: float
    """||E eps||² / E ||eps||²: 0 for noise with zero mean."""
    along_direction: float
    """Share of the variance that lies along u; 1/d for isotropic noise."""
    effective_dimensions: float
    """(tr C)² / tr C² of the covariance C: d for isotropic noise, 1 if all of it lies on one line."""
    eigenvalues: Tensor
    """(d,) of C, largest first."""
    context_share: float
    """R², on texts not fitted on, of a linear map from the frozen model's h to eps: 0 for noise that knows nothing
    of the text."""
    cosine_by_position: dict[int, float]
    """Mean cos(u, h) at each place in the text, the first (the sink) included."""


def measured_residual(before: TokenStates, after: TokenStates, layer: int, direction: Tensor) -> Residual:
    """Measure Proposition 1's assumptions on a trained model. Taught in notebook 02.

    Parameters
    ----------
    before, after
        `token_states` of the same texts in the frozen and in the unlearned model, with `layer` among their layers.
    direction
        u, (d,); scaled to length 1.

    Raises
    ------
    RmuLabError
        if the two are not of the same tokens, or there are fewer than two texts.
    """
    if not before.token.equal(after.token) or not before.text.equal(after.text):
        raise RmuLabError("before and after are not of the same tokens; take both from the same texts.")
    u = unit(direction)
    hidden, counted = after.hidden[layer], after.counted
    c = (hidden[counted] @ u).mean()
    residual = hidden[counted] - c * u
    centred = residual - residual.mean(dim=0)
    covariance = centred.T @ centred / (len(centred) - 1)
    square = residual.square().sum(dim=1).mean()
    values = torch.linalg.eigvalsh(covariance.double()).flip(0).clamp(min=0)
    cosine = hidden @ u / hidden.norm(dim=-1)
    return Residual(
        coefficient=c.item(),
        eta=(square / hidden.shape[1]).item(),
        relative_norm=(square.sqrt() / c.abs()).item(),
        mean_share=(residual.mean(dim=0).square().sum() / square).item(),
        along_direction=((u @ covariance @ u) / covariance.trace()).item(),
        effective_dimensions=(values.sum() ** 2 / values.square().sum()).item(),
        eigenvalues=values.float(),
        context_share=_explained(before.hidden[layer][counted], residual, after.text[counted]),
        cosine_by_position={
            place: cosine[after.position == place].mean().item() for place in after.position.unique().tolist()
        },
    )


def _explained(inputs: Tensor, outputs: Tensor, text: Tensor) -> float:
    """Held-out R² of ridge regression, fitted on the texts of even number and tested on the others."""
    fit, held_out = text % 2 == 0, text % 2 == 1
    if not fit.any() or not held_out.any():
        raise RmuLabError("There is one text only; give at least two, so that one can be held out.")
    inputs, outputs = inputs.double(), outputs.double()
    inputs, outputs = inputs - inputs[fit].mean(dim=0), outputs - outputs[fit].mean(dim=0)
    gram = inputs[fit].T @ inputs[fit]
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    error = outputs[held_out] - inputs[held_out] @ torch.linalg.solve(gram + ridge, inputs[fit].T @ outputs[fit])
    return (1 - error.square().sum() / outputs[held_out].square().sum()).item()

"""Pictures of an edit of rank 1: what it reads and writes, and the singular values that make it possible. Notebook 12."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from .diagrams import INK, LABEL, NOTE, arrow, canvas
from .edit_strength import LOOKS
from .plots import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from transformers import PreTrainedModel

    from ..unlearning.result import UnlearnResult

SHOWN = 24
"""Singular values that are drawn of a matrix."""


def rank_one_diagram() -> Figure:
    """Draw a matrix of rank 1 as a column times a row: the row reads a number, the column says where it is written."""
    figure, axes = canvas(9.4, 3.1, (-0.2, 17.0), (-2.5, 3.1))
    forget, steered = ROLES["forget"].colour, ROLES["steered"].colour
    axes.add_patch(Rectangle((0, -1.2), 4.8, 2.4, facecolor="#edd3e1", edgecolor=steered, linewidth=1.5))
    axes.text(2.4, 0, "change ΔW\n576 by 1536", ha="center", va="center", fontsize=LABEL, color=INK)
    axes.text(5.45, 0, r"$\approx\ \sigma$", ha="center", va="center", fontsize=15, color=INK)
    axes.add_patch(Rectangle((6.25, -1.2), 0.4, 2.4, facecolor=steered, edgecolor=steered))
    axes.text(6.45, -1.45, "a: 576 numbers,\nwhere it writes", ha="center", va="top", fontsize=NOTE, color=INK)
    axes.add_patch(Rectangle((7.1, 0.8), 4.8, 0.4, facecolor=forget, edgecolor=forget))
    axes.text(9.5, 0.6, "b: 1536 numbers, what it reads", ha="center", va="top", fontsize=NOTE, color=INK)
    arrow(axes, (14.3, 2.4), (14.3, 1.35), INK, width=1.6, head=11)
    axes.text(14.3, 2.55, "input x of a token", ha="center", va="bottom", fontsize=NOTE, color=INK)
    axes.text(14.3, 1.0, "one number, b · x", ha="center", va="center", fontsize=LABEL, color=forget)
    arrow(axes, (14.3, 0.7), (14.3, -0.55), INK, width=1.6, head=11)
    words = "$\\sigma$ (b · x) a is added\nto the residual stream"
    axes.text(14.3, -0.75, words, ha="center", va="top", fontsize=LABEL, color=steered)
    return figure


def by_layer(values: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Return the singular values of an edit by the number of the layer that each matrix belongs to."""
    return {_layer(name): found for name, found in values.items()}


def spectra_figure(edits: Mapping[str, Mapping[str, Tensor]], *, title: str) -> Figure:
    """Draw the first singular values of each matrix, as shares of the matrix's first: a panel for each edit.

    Parameters
    ----------
    edits
        name -> parameter -> singular values in descending order (`UnlearnResult.singular_values`).
    title
        the finding in a sentence.
    """
    figure, row = plt.subplots(1, len(edits), figsize=(3.2 + 3.6 * len(edits), 3.6), sharex=True, sharey=True, squeeze=False)
    for axes, (name, values) in zip(row[0], edits.items(), strict=True):
        for (layer, found), look in zip(by_layer(values).items(), LOOKS, strict=False):
            role, shares = ROLES[look], (found / found[0])[:SHOWN]
            axes.plot(range(1, len(shares) + 1), shares, color=role.colour, linestyle=role.line, marker=role.marker,
                      markersize=4, label=f"layer {layer}")  # fmt: skip
        axes.set(xlabel="number of the singular value", ylim=(0, 1.06), xticks=[1, 5, 10, 15, 20])
        axes.set_title(name, fontweight="normal", fontsize=10)
        axes.legend(loc="upper right")
    row[0][0].set_ylabel("share of the first")
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def written_directions(edit: UnlearnResult, model: PreTrainedModel) -> dict[int, Tensor]:
    """Return by layer the direction a of norm 1 that the first singular direction of the change writes to, (d,).

    Parameters
    ----------
    model
        the base model, without the edit.
    """
    base = edit.scaled(0.0, model).edit
    found = {}
    for name, matrix in edit.edit.items():
        left, _, _ = torch.linalg.svd(matrix - base[name], full_matrices=False)
        found[_layer(name)] = left[:, 0]
    return found


def energy_share(values: Tensor, rank: int) -> float:
    """Return the share of ||dW||^2 that the best change of a rank keeps, of singular values in descending order."""
    squares = values.square()
    return (squares[:rank].sum() / squares.sum()).item()


def rank_tests() -> list:
    """Return what is asked of exercise 1's `rank_for(values, share)`: the least rank that keeps a share of ||dW||^2."""
    steep, flat = torch.tensor([10.0, 3.0, 1.0, 0.1]), torch.ones(10)
    return [
        (lambda f: f(steep, 0.5) == 1, "the first value holds most of ||dW||^2: rank 1 is enough for half"),
        (lambda f: f(flat, 0.5) == 5, "of ten equal values five hold half"),
        (lambda f: f(flat, 1.0) == 10 and f(steep, 0.995) == 3, "count until the share is reached"),
        (lambda f: f(7 * steep, 0.95) == f(steep, 0.95) == 2, "square the values, and divide by the sum of all squares"),
    ]


def _layer(name: str) -> int:
    return next(int(part) for part in name.split(".") if part.isdigit())


def contrast_line(values: Mapping[str, Tensor]) -> str:
    """Say how many times larger each layer's first singular value is than its second."""
    ratios = (f"layer {layer}: {(found[0] / found[1]).item():.1f}" for layer, found in by_layer(values).items())
    return f"first over second singular value: {', '.join(ratios)}"

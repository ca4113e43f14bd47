"""What training leaves of h beside c u: its size, its dimensions, and a picture of where the tokens went."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from .diagrams import INK
from .plots import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from ..activations import TokenStates


def residual(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measure what steering leaves: eps = h - c u, where c is the mean of u·h. A core of notebook 02.

    Parameters
    ----------
    h
        (tokens, d).
    u
        the direction, (d,), of norm 1.

    Returns
    -------
    tuple
        the c that is reached; the root mean square of the norm of eps, over that c; and the effective dimensions of
        eps, (tr C)² / tr C² of its covariance C: d if all directions vary alike, 1 if only one varies.
    """
    reached = (h @ u).mean()
    eps = h - reached * u
    covariance = torch.cov(eps.T)
    return (
        reached,
        eps.square().sum(dim=1).mean().sqrt() / reached,
        covariance.trace() ** 2 / covariance.square().sum(),
    )


def along_and_across(states: TokenStates, layer: int, direction: Tensor) -> np.ndarray:
    """(tokens, 2): u·h, and the norm of the rest of h, of all tokens but the first of each text."""
    hidden, u = states.hidden[layer][states.counted], direction / direction.norm()
    along = hidden @ u
    across = (hidden - along[:, None] * u).norm(dim=1)
    return np.stack([along.numpy(), across.numpy()], axis=1)


def some_tokens(states: TokenStates, rows: Tensor) -> TokenStates:
    """Keep some tokens of some texts, such as those that training moved: ``rows`` is (rows,) bool."""
    hidden = {layer: values[rows] for layer, values in states.hidden.items()}
    return replace(states, hidden=hidden, text=states.text[rows], position=states.position[rows], token=states.token[rows])


def stretch(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far tokens spread along u and lie across it: the s.d. of u·h, the median norm across u, the median angle.

    Parameters
    ----------
    h
        (tokens, d).
    u
        the direction, (d,), of norm 1.

    Returns
    -------
    tuple
        of three scalars; the angle, between h and u, is in degrees.
    """
    along = h @ u
    across = (h - along[:, None] * u).norm(dim=1)
    return along.std(), across.median(), torch.rad2deg(torch.atan2(across, along)).median()


def left_over_figure(
    before: TokenStates, after: Mapping[float, TokenStates], layer: int, direction: Tensor, *, title: str, eta: float = 1.0
) -> Figure:
    """Draw every token before and after training by how far it lies along u and across u, and where the theory puts them.

    Taught in notebook 02.

    Parameters
    ----------
    after
        c of a training -> what it made of the texts; a panel for each.
    eta
        variance of each entry of the noise that the theory is drawn for: a cloud about (c, root of eta d).
    """
    size = (4.9 * len(after), 3.9)
    figure, row = plt.subplots(1, len(after), figsize=size, sharex=True, sharey=True, squeeze=False)
    expected, spread = ROLES["direction"], (eta * len(direction)) ** 0.5
    for axes, (target, states) in zip(row[0], after.items(), strict=True):
        for label, each, role in (("before training", before, "frozen"), ("after training", states, "steered")):
            x, y = along_and_across(each, layer, direction).T
            look = ROLES[role]
            axes.plot(x, y, look.marker, color=look.colour, markersize=3, alpha=0.3, markeredgewidth=0, label=label)
        axes.plot([target], [spread], expected.marker, color=expected.colour, markeredgecolor=INK, markersize=9,
                  label=f"Proposition 1 (eta = {eta:g})")  # fmt: skip
        axes.set_title(f"trained with $c = {target:g}$", fontweight="normal", fontsize=10)
        axes.set(xlabel="along u: $u \\cdot h$", ylim=(-30, None))
    row[0][0].set_ylabel("across u: norm of the rest")
    row[0][-1].legend(loc="upper right", frameon=True, markerscale=1.5, fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure

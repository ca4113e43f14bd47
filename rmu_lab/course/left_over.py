"""How far a training pushed each token along u, and what it left over across u: a picture of Proposition 1's assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from torch import Tensor

from .diagrams import INK, NOTE
from .plots import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..activations import TokenStates


def along_and_across(states: TokenStates, layer: int, direction: Tensor) -> np.ndarray:
    """(tokens, 2): u·h, and the norm of the rest of h, of all tokens but the first of each text."""
    hidden, u = states.hidden[layer][states.counted], direction / direction.norm()
    along = hidden @ u
    across = (hidden - along[:, None] * u).norm(dim=1)
    return np.stack([along.numpy(), across.numpy()], axis=1)


def left_over_figure(
    before: TokenStates, after: TokenStates, layer: int, direction: Tensor, target: float, *, title: str, eta: float = 1.0
) -> Figure:
    """Draw every token before and after training by how far it lies along u and across u, and where the theory puts them.

    Taught in notebook 02.

    Parameters
    ----------
    target
        c of the training.
    eta
        variance of each entry of the noise that the theory is drawn for: a cloud about (c, root of eta d).
    """
    figure, axes = plt.subplots(figsize=(8.2, 3.8))
    for label, states, role in (("before training", before, "frozen"), ("after training", after, "steered")):
        x, y = along_and_across(states, layer, direction).T
        look = ROLES[role]
        axes.plot(x, y, look.marker, color=look.colour, markersize=3, alpha=0.3, markeredgewidth=0, label=label)
    look, spread = ROLES["direction"], (eta * len(direction)) ** 0.5
    axes.plot([target], [spread], look.marker, color=look.colour, markeredgecolor=INK, markersize=9,
              label=f"where Proposition 1 puts all tokens (eta = {eta:g})")  # fmt: skip
    axes.text(target, spread - 28, f"$c = {target:g}$", ha="center", va="top", fontsize=NOTE, color=INK)
    axes.set(xlabel="along u: $u \\cdot h$", ylabel="across u: norm of the rest", ylim=(-70, None))
    axes.set_title(title)
    axes.legend(loc="upper center", frameon=True, markerscale=1.5)
    return figure

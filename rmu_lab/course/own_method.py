"""A method of the reader's own: the forget loss that notebook 12 falls back to, what is asked of any, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from ..randomness import torch_generator
from .diagrams import INK, LABEL, NOTE, arrow, canvas
from .exercises import Test
from .plots import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ForgetLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def turn_around(hidden: Tensor, frozen: Tensor, counted: Tensor, beta: float = 5.0) -> Tensor:
    """Send every state to the opposite of where it was, beta times as far out; the core of notebook 12.

    Parameters
    ----------
    hidden, frozen
        h and h_frozen of a forget batch, (texts, tokens, d).
    counted
        which tokens count, (texts, tokens).

    Returns
    -------
    Tensor
        ``E ||h + beta h_frozen||^2`` over the counted tokens, a scalar.
    """
    return (hidden + beta * frozen).square().sum(dim=-1)[counted].mean()


def forget_loss_tests() -> list[Test]:
    """Return what is asked of any forget loss: nothing of its idea, but that it can be trained with."""
    draw = torch_generator(0, "check of a forget loss")
    hidden, frozen = (torch.randn(3, 6, 8, generator=draw) for _ in range(2))
    counted = torch.ones(3, 6, dtype=torch.bool)
    counted[:, 0] = counted[2, 4:] = False

    def slope(f: ForgetLoss, at: Tensor) -> Tensor:
        start = at.clone().requires_grad_()
        loss = f(start, frozen, counted)
        if not loss.requires_grad:
            return torch.zeros_like(start)
        (found,) = torch.autograd.grad(loss, start)
        return found

    def repeats(f: ForgetLoss) -> bool:
        twice = f(hidden.repeat(2, 1, 1), frozen.repeat(2, 1, 1), counted.repeat(2, 1))
        return torch.allclose(twice, f(hidden, frozen, counted), rtol=1e-3)

    return [
        (
            lambda f: f(hidden, frozen, counted).shape == () and bool(f(hidden, frozen, counted).isfinite()),
            "return one finite number, as a tensor without axes",
        ),
        (lambda f: bool(slope(f, hidden).abs().sum() > 0), "the loss must depend on `hidden`, or nothing can be trained"),
        (
            lambda f: not slope(f, hidden)[~counted].any(),
            "tokens that do not count (the first of a text, padding) must not enter: index with [counted]",
        ),
        (repeats, "a mean over tokens, not a sum: the same texts twice must give the same loss"),
        (
            lambda f: bool(slope(f, frozen).norm() > 1e-4),
            "training starts where hidden equals frozen, and there your loss has no gradient, so that nothing would move",
        ),
    ]


def method_diagram() -> Figure:
    """Draw what a method of one's own consists of: the reader's loss, between what the package does before and after it."""
    figure, axes = canvas(9.4, 2.5, (-0.2, 15.8), (-1.8, 2.4))
    boxes = (
        (0.0, 3.2, "#e8e8e8", "#777777", "frozen layers\nrun once", "the package"),
        (4.2, 3.2, "#edd3e1", ROLES["steered"].colour, "layers 5, 6, 7\nin training", "the package"),
        (8.4, 3.2, "#fdebdd", ROLES["forget"].colour, "your loss of\nh and h_frozen", "you"),
        (12.6, 3.0, "#e8e8e8", "#777777", "AdamW, retain\nloss, the edit", "the package"),
    )
    for left, width, face, edge, words, who in boxes:
        patch: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "linewidth": 2.4 if who == "you" else 1.3}
        axes.add_patch(rounded((left, -0.8), width, 1.6, **patch))
        axes.text(left + width / 2, 0, words, ha="center", va="center", fontsize=LABEL, color=INK)
        axes.text(left + width / 2, -1.1, who, ha="center", va="top", fontsize=NOTE, color=INK,
                  weight="bold" if who == "you" else "normal")  # fmt: skip
    for start in (3.25, 7.45, 11.65):
        arrow(axes, (start, 0), (start + 0.9, 0), INK, width=1.8, head=12)
    colour = ROLES["frozen"].colour
    axes.plot([1.6, 1.6, 10.0], [0.85, 1.7, 1.7], color=colour, linewidth=1.5, linestyle="--")
    arrow(axes, (10.0, 1.7), (10.0, 0.85), colour, width=1.5, head=11)
    axes.text(5.8, 1.8, "h_frozen of the same tokens", ha="center", va="bottom", fontsize=NOTE, color=INK)
    return figure


def rounded(corner: tuple[float, float], width: float, height: float, **look: Any) -> FancyBboxPatch:
    """Return a box with round corners for a diagram."""
    return FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.15", **look)

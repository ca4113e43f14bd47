"""The same noise on vectors of different norms: how far it turns them, and how far it moves a logit of a real model."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ..randomness import torch_generator
from .diagrams import INK, NOTE, arrow
from .linearisation import first_order_variance
from .pictures import as_png, image_html
from .plots import ROLES, fit_titles
from .widgets import labelled_slider

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Turning:
    """What noise does to one vector and to one number computed from it."""

    norm: float
    """Of the vector, without the noise."""
    noise: float
    """Standard deviation of the noise in each entry."""
    angles: np.ndarray
    """(draws,) by how many degrees the noise turns the last token's vector."""
    moves: np.ndarray
    """(draws,) by how much it moves the number."""
    predicted: float
    """Standard deviation of these moves to first order."""

    def __str__(self) -> str:
        return (
            f"‖h‖ = {self.norm:g}, noise {self.noise:g} in each entry: h turns by {np.median(self.angles):.2g}° (median); "
            f"the logit's standard deviation is {self.moves.std(ddof=1):.2g}, to first order {self.predicted:.2g}."
        )


def turned(
    function: Function,
    z: Tensor,
    noise: float,
    *,
    variance: Callable[[Function, Tensor, float], Tensor | float] = first_order_variance,
    n: int = 32,
    seed: int = 0,
) -> Turning:
    """Add noise to every row of z, `n` times, and see how far the last row turns and the function's value moves.

    Parameters
    ----------
    function
        from (rows, d) to one number, such as the logit of a token.
    noise
        standard deviation of each entry.
    variance
        computes the first-order variance of ``function(z + noise)`` from the function, z and the noise's variance.
    """
    draws = noise * torch.randn(n, *z.shape, generator=torch_generator(seed, "noise that turns")).to(z)
    predicted = float(variance(function, z, noise**2)) ** 0.5
    with torch.no_grad():
        moves = torch.stack([function(z + draw) for draw in draws]) - function(z)
    last = (z + draws)[:, -1]
    cosine = torch.nn.functional.cosine_similarity(last.double(), z[-1].double(), dim=-1)
    angles = torch.rad2deg(cosine.clamp(-1, 1).acos())
    return Turning(z[-1].norm().item(), noise, angles.cpu().numpy(), moves.double().cpu().numpy(), predicted)


def turning_panel(runs: Sequence[Turning], *, title: str = "", reach: float | None = None) -> Figure:
    """Draw for each run its directions, as a fan of arrows at their true angles, and below them where the logit went.

    Parameters
    ----------
    reach
        how far the logit's axis goes to either side, by default as far as the farthest draw; what is beyond stands at its
        edge.
    """
    reach = reach or 1.1 * max(float(np.abs(run.moves).max()) for run in runs)
    if len(runs) == 1:  # side by side
        figure, grid = plt.subplots(1, 2, figsize=(8.0, 2.9), width_ratios=(1, 1.3), squeeze=False)
    else:
        figure, grid = plt.subplots(2, len(runs), figsize=(3.2 * len(runs), 4.6), height_ratios=(1.5, 1), squeeze=False)
    for (fan, strip), run in zip(grid if len(runs) == 1 else grid.T, runs, strict=True):
        _fan(fan, run)
        _strip(strip, run, reach)
    if title:
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _fan(axes: Axes, run: Turning) -> None:
    """Draw the arrows at norm 1, since their direction is all that a norm layer lets through; to either side in turn."""
    sides = np.where(np.arange(len(run.angles)) % 2, -1, 1)
    for angle in np.radians(run.angles) * sides:
        axes.plot([0, np.cos(angle)], [0, np.sin(angle)], color=ROLES["steered"].colour, linewidth=1, alpha=0.5)
    arrow(axes, (0, 0), (1.06, 0), ROLES["frozen"].colour, width=2, head=14)
    axes.set(xlim=(-0.03, 1.12), ylim=(-0.5, 0.5), xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    axes.set_title(f"‖h‖ = {run.norm:.0f}: turned by {np.median(run.angles):.2g}°", fontweight="normal", fontsize=10)


def _strip(axes: Axes, run: Turning, reach: float) -> None:
    """Draw each draw's logit as a dot at some height, and what the first order says as a bar."""
    heights = (np.arange(len(run.moves)) * 0.618) % 1  # spread evenly without chance
    look, expected = ROLES["steered"], min(2 * run.predicted, reach)
    axes.plot(run.moves.clip(-reach, reach), heights, marker="o", markersize=4, linestyle="", color=look.colour, alpha=0.6)
    axes.plot([-expected, expected], [-0.3] * 2, color=ROLES["direction"].colour, linewidth=5, solid_capstyle="butt")
    axes.text(0, -0.5, "first order: ±2 s.d.", ha="center", va="top", fontsize=NOTE, color=INK)
    axes.set(xlim=(-reach, reach), ylim=(-1.1, 1.15), yticks=[], xlabel="move of the logit")
    axes.set_title(f"standard deviation {run.moves.std(ddof=1):.2g}", fontweight="normal", fontsize=10)


def turning_explorer(
    measure: Callable[[float, float], Turning],
    norms: Sequence[float] = (150, 300, 570, 1140, 2280, 4560),
    noises: Sequence[float] = (0.5, 1, 2, 4),
    *,
    reach: float = 6.0,
) -> ipywidgets.Widget:
    """Build sliders over the norm and the noise; below them `turning_panel` for that setting, measured when first chosen.

    Parameters
    ----------
    measure
        from a norm and a noise to a `Turning`.
    """
    found: dict[tuple[float, float], tuple[str, str]] = {}
    sliders = (
        labelled_slider("norm of h", norms, norms[0], "norm of the vector at every token but the first"),
        labelled_slider("noise", noises, noises[0], "standard deviation of the noise in each entry"),
    )
    picture, said = ipywidgets.HTML(), ipywidgets.HTML()

    def draw(_change: object = None) -> None:
        setting = (sliders[0].value, sliders[1].value)
        if setting not in found:
            said.value = '<p role="status">The model is running ...</p>'
            run = measure(*setting)
            figure = turning_panel([run], reach=reach)
            fit_titles(figure)
            found[setting] = (image_html(as_png(figure), alt=str(run)), html.escape(str(run)))
        picture.value, words = found[setting]
        said.value = f'<p role="status">{words}</p>'

    for slider in sliders:
        slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([*sliders, picture, said])

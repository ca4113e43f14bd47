"""RMU in two dimensions: a toy with the same loss and the same optimiser, trained in a millisecond or two.

A state is ``h = W x``, with one matrix W for forget and retain texts, so that whatever moves the one moves the other. Used
in notebooks 03 to 05.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import ipywidgets
import numpy as np
import PIL.Image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .diagrams import INK, LABEL, arrow
from .pictures import SCREEN_DPI, SHARPNESS, image_html
from .plots import GREY, ROLES
from .widgets import labelled_slider

STEPS = 40


def _at(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


_FORGET, _RETAIN = _at(30, 48, 66), _at(-50, -26, 2)  # too many for one matrix to serve them all
DIRECTION = _at(140)[0]
"""u, of norm 1."""


@dataclass(frozen=True)
class ToyRun:
    """The states of a toy training, before each step and after the last."""

    forget: np.ndarray
    """(steps + 1, texts, 2)"""
    retain: np.ndarray
    """(steps + 1, texts, 2)"""
    target: np.ndarray
    """(2,): c u, or beta ||h|| u."""

    @property
    def cosine(self) -> np.ndarray:
        """Mean cos(u, h) of the forget states, (steps + 1,)."""
        return (self.forget @ DIRECTION / np.linalg.norm(self.forget, axis=-1).clip(1e-12)).mean(axis=-1)

    @property
    def drift(self) -> np.ndarray:
        """How far retain states are from where they were, in shares of their norm: (steps + 1,)."""
        moved = np.linalg.norm(self.retain - self.retain[0], axis=-1)
        return (moved / np.linalg.norm(self.retain[0], axis=-1)).mean(axis=-1)


def train_toy(
    coefficient: float = 8.0, alpha: float = 1.0, lr: float = 0.1, norm: float = 2.0, *, adaptive: bool = False
) -> ToyRun:
    """Minimise ``mean ||W x - c u||^2 + alpha mean ||W x - x||^2`` over W by 40 steps of Adam, from W = I.

    The first mean is over three forget states, the second over three retain states.

    Parameters
    ----------
    coefficient
        c; with `adaptive` it is beta, and the target's norm beta times `norm`.
    alpha
        weight of the retain loss.
    lr
        Adam's learning rate: about how far each weight can move in a step.
    norm
        ||h|| of all states before training.
    """
    forget, retain = norm * _FORGET, norm * _RETAIN
    target = coefficient * (norm if adaptive else 1.0) * DIRECTION
    weights, first, second = np.eye(2), np.zeros((2, 2)), np.zeros((2, 2))
    path = [weights]
    for step in range(1, STEPS + 1):
        pulled, kept = forget @ weights.T - target, retain @ weights.T - retain  # (texts, 2) each
        gradient = 2 * pulled.T @ forget / len(forget) + 2 * alpha * kept.T @ retain / len(retain)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scaled = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weights = weights - lr * scaled
        path.append(weights)
    moved, kept = (np.stack([x @ each.T for each in path]) for x in (forget, retain))
    return ToyRun(moved, kept, target)


def toy_rmu_panel(
    coefficient: float = 8.0, alpha: float = 1.0, lr: float = 0.1, norm: float = 2.0, *, adaptive: bool = False
) -> Figure:
    """Draw one toy training: the states' paths on the left, what it achieves and breaks at each step on the right.

    The parameters are those of `train_toy`. The axes are the same for all settings, so that pictures can be compared.
    """
    figure, plane, curves = _axes()
    _draw(plane, curves, train_toy(coefficient, alpha, lr, norm, adaptive=adaptive))
    name = "Adaptive RMU, beta" if adaptive else "RMU, c"
    figure.suptitle(
        f"{name} = {coefficient:g}, alpha = {alpha:g}, learning rate {lr:g}, ||h|| = {norm:g}",
        fontsize=11,
        fontweight="bold",
        x=0.01,
        ha="left",
    )
    return figure


_CURVES = {"cos(u, h) of forget states": "forget", "move of retain states / norm": "retain"}


def _axes() -> tuple[Figure, Axes, Axes]:
    """Make what is the same for all settings."""
    figure, (plane, curves) = plt.subplots(1, 2, figsize=(9.4, 4.3), width_ratios=(1.15, 1))
    for role in ("forget", "retain"):
        look, label = ROLES[role], f"{role}: white before, filled after"
        plane.plot([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)
    for label, role in _CURVES.items():
        look = ROLES[role]
        curves.plot([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)
    plane.plot([0], [0], marker="o", color=INK, markersize=4)
    plane.set(xlim=(-10, 11), ylim=(-8.5, 12), aspect="equal")
    plane.tick_params(labelsize=9, colors=GREY)
    plane.legend(loc="lower left", frameon=True, fontsize=9)
    plane.set_title("states in the plane", fontweight="normal", fontsize=10)
    curves.set(xlabel="step", xlim=(0, STEPS), ylim=(-0.6, 2))
    curves.legend(loc="lower right", frameon=True)
    curves.set_title("forget should reach 1, retain stay at 0", fontweight="normal", fontsize=10)
    return figure, plane, curves


def _draw(plane: Axes, curves: Axes, run: ToyRun) -> None:
    look = ROLES["direction"]
    arrow(plane, (0, 0), (run.target[0], run.target[1]), look.colour, width=2.2, dashes=look.line, head=14)
    plane.text(run.target[0] + 0.3, run.target[1] + 0.3, "target", fontsize=LABEL, color=INK, clip_on=True)
    for role, states in (("forget", run.forget), ("retain", run.retain)):
        look = ROLES[role]
        for path in states.swapaxes(0, 1):  # (steps + 1, 2)
            plane.plot(*path.T, color=look.colour, linewidth=1, alpha=0.55, zorder=2)
            plane.plot(*path[0], marker=look.marker, color="white", markeredgecolor=look.colour, markersize=6, zorder=4)
            plane.plot(*path[-1], marker=look.marker, color=look.colour, markersize=6, zorder=5)
        x, y = states[-1].mean(axis=0)
        arrow(plane, (0, 0), (x, y), look.colour, width=2.4, dashes=look.line, head=14)
    for role, values in zip(_CURVES.values(), (run.cosine, run.drift), strict=True):
        look = ROLES[role]
        curves.plot(values, color=look.colour, linestyle=look.line, linewidth=2.2, marker=look.marker, markevery=8)


class _Live:
    """The panel for a widget: only what changes is drawn again, which takes a tenth of the time."""

    def __init__(self) -> None:
        self._figure, self._plane, self._curves = _axes()
        plt.close(self._figure)  # which takes its canvas away
        self._canvas = FigureCanvasAgg(self._figure)
        self._figure.set_dpi(SHARPNESS * SCREEN_DPI)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._figure.bbox)

    def picture(self, run: ToyRun) -> bytes:
        """Draw a run as PNG."""
        self._canvas.restore_region(self._background)
        panels = (self._plane, self._curves)
        there = {artist for axes in panels for artist in axes.get_children()}
        _draw(self._plane, self._curves, run)
        for axes in panels:
            new = [artist for artist in axes.get_children() if artist not in there]
            for artist in sorted(new, key=lambda artist: artist.get_zorder()):
                axes.draw_artist(artist)
                artist.remove()
        with io.BytesIO() as file:
            PIL.Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB").save(file, "png", compress_level=1)
            return file.getvalue()


def toy_rmu(*, adaptive: bool = False) -> ipywidgets.Widget:
    """Sliders over c (or beta), alpha, learning rate and ||h||; below them the states, trained and drawn anew each time.

    For readers without a kernel there is `toy_rmu_panel`.

    Parameters
    ----------
    adaptive
        start with Adaptive RMU; a box switches.
    """
    live = _Live()
    controls: dict[str, ipywidgets.Widget] = {
        "coefficient": labelled_slider(
            "c (or beta)",
            (0, 0.5, 1, 2, 3, 4, 6, 8, 10),
            3 if adaptive else 8,
            "norm of the target, or its multiple of ||h||",
        ),
        "alpha": labelled_slider("alpha", (0, 0.1, 0.3, 1, 3, 10, 30, 100, 300), 1, "weight of the retain loss"),
        "lr": labelled_slider("learning rate", (0.003, 0.01, 0.03, 0.1, 0.3, 1), 0.1, "how far a weight moves in a step"),
        "norm": labelled_slider("||h||", (0.5, 1, 2, 4, 8), 2, "norm of the states before training"),
        "adaptive": ipywidgets.Checkbox(
            value=adaptive, description="Adaptive RMU: the target's norm is beta ||h||", layout={"width": "auto"}
        ),
    }
    shown, said = ipywidgets.HTML(), ipywidgets.HTML()

    def draw(_change: object = None) -> None:
        run = train_toy(**{name: control.value for name, control in controls.items()})
        words = (
            f"After {STEPS} steps the mean cos(u, h) of forget states is {run.cosine[-1]:.2f}; retain states have moved by "
            f"{run.drift[-1]:.0%} of their norm."
        )
        shown.value = image_html(live.picture(run), alt=words)
        said.value = f'<p role="status">{words}</p>'

    for control in controls.values():
        if isinstance(control, ipywidgets.SelectionSlider):
            control.continuous_update = True
        control.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([*controls.values(), shown, said])

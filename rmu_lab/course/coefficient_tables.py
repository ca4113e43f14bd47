"""Short tables of notebook 03: what the toy ends with, and what stored trainings changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .formatting import print_table
from .stored_runs import stored_change
from .toy import train_toy

if TYPE_CHECKING:
    from ..estimates import Number
    from ..sweeps.rows import SweepRow


def print_toy(settings: Sequence[tuple[float, float, float]], lr: float = 0.1) -> None:
    """Print how the toy ends for each setting: (c, ||h||, alpha).

    Parameters
    ----------
    lr
        Adam's learning rate, the same for all.
    """
    rows = []
    for c, norm, alpha in settings:
        run = train_toy(c, alpha, lr, norm)
        rows.append([c, norm, alpha, f"{run.cosine[-1]:.2f}", f"{run.drift[-1]:.2f}"])
    print_table(rows, ["c", "||h||", "alpha", "cos(u, h)", "retain states moved, in units of ||h||"])


def print_stored_changes(
    sweep: Sequence[SweepRow], topic: str, settings: Sequence[tuple[float, int, float]]
) -> list[Number]:
    """Print and return by how many points each setting of a stored sweep, (c, steps, alpha), changed accuracy.

    Parameters
    ----------
    sweep, topic
        as of `stored_change`.
    """
    changes = [stored_change(sweep, topic, coefficient=c, steps=steps, alpha=alpha) for c, steps, alpha in settings]
    rows = [[*(f"{part:g}" for part in setting), str(change)] for setting, change in zip(settings, changes, strict=True)]
    print_table(rows, ["c", "steps", "alpha", "change of accuracy in points, 95% interval"])
    return changes

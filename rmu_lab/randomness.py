"""Random numbers of every kind that the package draws, each from a stream of its own.

Two things that are drawn from the same seed are the same numbers: a "random" direction that is drawn as RMU drew its own
*is* RMU's, and a control that equals what it controls for is a wrong result. So a stream belongs to a seed **and** a
purpose, and nothing else in the package makes a generator. The one exception is RMU's direction, whose stream is
``torch.manual_seed(seed)`` as in the published code, so that both draw the same u (`unlearning.directions`).
"""

from __future__ import annotations

import hashlib
import random

import torch


def torch_generator(seed: int, purpose: str, step: int | None = None) -> torch.Generator:
    """Return a generator for draws of torch, on the CPU: the same numbers on every device.

    Parameters
    ----------
    seed
        what the caller of the package chose.
    purpose
        what is drawn, in words that no other part of the package uses.
    step
        of a purpose that draws anew at each step, so that a run which was stopped goes on as if it had not been.
    """
    name = f"{seed} {purpose}" if step is None else f"{seed} {purpose} {step}"
    # torch's generator on the CPU keeps the lower 32 bits of a seed; the rest of the digest would change nothing.
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def python_random(seed: int, purpose: str) -> random.Random:
    """Return a generator for the choice and order of texts, questions and tokens; see `torch_generator`."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311 - no secrets; Python hashes a string to all of the state

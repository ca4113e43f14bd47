"""The directions that forget representations are steered to. Taught in notebook 01."""

from collections.abc import Iterable

import torch
from torch import Tensor


def random_directions(topics: Iterable[str], size: int, seed: int) -> dict[str, Tensor]:
    """One unit vector u of `size` entries per topic: u = r / ||r||, r_i ~ U(0, 1), float32 on the CPU.

    This is RMU's own choice (Li et al. 2024). All entries of r are positive, so cos(u, 1) is about
    0.87 and two topics' directions have a cosine of about 0.75: they largely coincide.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = {}
    for topic in topics:
        r = torch.rand(size, generator=generator)
        directions[topic] = r / r.norm()
    return directions

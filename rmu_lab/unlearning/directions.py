"""The directions that forget representations are steered to. Taught in notebooks 01 and 04."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .config import Direction


def random_directions(topics: Iterable[str], size: int, seed: int, direction: Direction = "positive") -> dict[str, Tensor]:
    """Draw one unit vector u = r / ||r|| of `size` entries per topic, float32 on the CPU.

    ``"positive"``, r_i ~ U(0, 1), is RMU's own choice (Li et al. 2024): cos(u, 1) is about 0.87 and two
    topics' directions have a cosine of about 0.75, so they largely coincide. ``"isotropic"``,
    r_i ~ N(0, 1), prefers no direction, and two have a cosine of about 0.
    """
    generator = torch.Generator().manual_seed(seed)  # the published code's own stream; all others are of `randomness`
    draw = torch.rand if direction == "positive" else torch.randn
    directions = {}
    for topic in topics:
        r = draw(size, generator=generator)
        directions[topic] = r / r.norm()
    return directions

"""Each method's settings in a frozen dataclass of its own, with its equation and its paper. Taught in notebook 08.

In the equations x_F is a forget text, x_R a retain text, p the model in training, p_o the model before it, and
log p(x) = sum over t of log p(x_t | x_<t), |x| the number of terms. Learning rate, steps and SSD's threshold suit no
model in general: the defaults are where a search can start, as `benchmarks/methods.py` does on `dev` questions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import RmuLabError


@dataclass(frozen=True)
class Baseline:
    """What all methods share.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    max_length: int = 64
    """Tokens after which a text is cut."""
    seed: int = 0
    """Of the order in which each corpus's texts are taken; nothing else is random."""
    parameters: tuple[str, ...] | None = None
    """Names, inside every block, of what is changed; None: all matrices of all blocks."""

    method: ClassVar[str]
    least: ClassVar[dict[str, float]] = {
        "max_length": 2,
        "steps": 1,
        "batch_size": 1,
        "texts": 1,
        "alpha": 0,
        "gamma": 0,
        "forget_weight": 0,
        "mismatch_weight": 0,
        "max_steps": 0,
    }
    positive: ClassVar[tuple[str, ...]] = ("lr", "beta", "threshold", "dampening")

    def __post_init__(self) -> None:
        if isinstance(self.parameters, list):  # as JSON gives it back
            object.__setattr__(self, "parameters", tuple(self.parameters))
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.type == "float" and isinstance(value, int):  # so that 1 and 1.0 are the same setting in every record
                object.__setattr__(self, item.name, float(value))
            if item.name in self.positive and not 0 < value < float("inf"):
                raise RmuLabError(f"{item.name} is {value}; give a positive number.")
            if item.name in self.least and not self.least[item.name] <= value < float("inf"):
                raise RmuLabError(f"{item.name} is {value}; it must be at least {self.least[item.name]}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `config_from_dict` is the way back."""
        return {"method": self.method, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class TrainedBaseline(Baseline):
    """What the methods that train share: AdamW without weight decay, one forget and one retain batch a step, at most."""

    lr: float = 1e-4
    steps: int = 20
    batch_size: int = 4
    """Texts in a forget batch, and in a retain batch."""

    frozen_roles: ClassVar[frozenset[str]] = frozenset()
    """Batches on which the loss asks the model before training, too."""

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """AdamW's updates of a step (from 0): for each, the batches whose losses add up."""
        raise NotImplementedError


@dataclass(frozen=True)
class GradientAscent(TrainedBaseline):
    """Gradient ascent on the forget texts: minimise ``E log p(x_F) / |x_F|``. It has no lower bound, and keeps nothing."""

    method: ClassVar[str] = "gradient_ascent"

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """The forget batch alone."""
        return (("forget",),)


@dataclass(frozen=True)
class WithRetainText(TrainedBaseline):
    """What the methods share that keep the rest by training on it: ``-alpha * E log p(x_R) / |x_R|`` in their loss."""

    alpha: float = 1.0
    """Weight of the retain loss; 0 leaves it out."""

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Both batches together."""
        return (("forget", "retain") if self.alpha else ("forget",),)


@dataclass(frozen=True)
class GradDiff(WithRetainText):
    """Gradient difference, Liu et al. 2022 (arXiv 2203.12817): ascent on forget texts, descent on retain texts::

    loss = E log p(x_F) / |x_F|  -  alpha * E log p(x_R) / |x_R|
    """

    method: ClassVar[str] = "grad_diff"


@dataclass(frozen=True)
class NPO(WithRetainText):
    """Negative preference optimisation, Zhang et al. 2024 (arXiv 2404.05868), with their retain term (NPO+RT)::

        loss = -(2 / beta) E log sigmoid(-beta log(p(x_F) / p_o(x_F)))  -  alpha * E log p(x_R) / |x_R|

    Its gradient is that of ascent on log p(x_F), each text weighed by ``2 p^beta / (p^beta + p_o^beta)``: 1 at the start,
    and the less the more the text is forgotten. As beta goes to 0 the weight stays 1.
    """

    beta: float = 0.1

    method: ClassVar[str] = "npo"
    frozen_roles: ClassVar[frozenset[str]] = frozenset({"forget"})


@dataclass(frozen=True)
class SimNPO(WithRetainText):
    """Simple NPO, Fan et al. 2024 (arXiv 2410.07163): no reference model, but a text's length and a margin gamma::

    loss = -(2 / beta) E log sigmoid(-(beta / |x_F|) log p(x_F) - gamma)  -  alpha * E log p(x_R) / |x_R|
    """

    beta: float = 0.5
    """The gradient is that of ascent times ``2 sigmoid(-beta * nats a token - gamma)``. Their 2.5 and 4.5 suit answers
    known by heart; with 2.5 text of 3 nats a token would weigh 0.001, with 0.5 it weighs 0.36."""
    gamma: float = 0.0

    method: ClassVar[str] = "simnpo"


@dataclass(frozen=True)
class LLMU(TrainedBaseline):
    """Yao et al. 2023 (arXiv 2310.10683): ascent, a mismatched ending, and staying near the model before::

        loss = forget_weight * E log p(x_F) / |x_F|
               + mismatch_weight * -E log p(y_R | x_F) / |y_R|
               + alpha * E mean over t of KL(p_o(. | x_R,<t) || p(. | x_R,<t))

    Their x_F is a prompt and y_R the answer to an unrelated one. Here texts are cut in two: a forget text's first half is
    followed by a retain text's second half, and only the latter is scored.
    """

    forget_weight: float = 0.5
    """Their default, as those of the next two."""
    mismatch_weight: float = 1.0
    alpha: float = 1.0
    """Weight of the divergence on retain texts."""

    method: ClassVar[str] = "llmu"
    frozen_roles: ClassVar[frozenset[str]] = frozenset({"retain"})

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Three batches together."""
        return (("forget", "mismatched", "retain"),)


@dataclass(frozen=True)
class SCRUB(TrainedBaseline):
    """Kurmanji et al. 2023 (arXiv 2302.09880): a student that leaves its teacher on forget texts and follows it elsewhere.

    With d(x) the mean over t of KL(p_o(. | x_<t) || p(. | x_<t)), a step first makes a max-update, then a min-update::

        max:  -E d(x_F)
        min:  alpha * E d(x_R)  -  gamma * E log p(x_R) / |x_R|

    Theirs alternate by epochs. After `max_steps` steps only min-updates follow, as in their paper. The very first
    max-update starts where the gradient of d is zero but for rounding, of which AdamW makes steps all the same.
    """

    alpha: float = 1.0
    gamma: float = 1.0
    max_steps: int = 10

    method: ClassVar[str] = "scrub"
    frozen_roles: ClassVar[frozenset[str]] = frozenset({"forget", "retain"})

    def updates(self, step: int) -> tuple[tuple[str, ...], ...]:
        """Two of AdamW's, until `max_steps`."""
        return (("forget",), ("retain",)) if step < self.max_steps else (("retain",),)


@dataclass(frozen=True)
class SSD(Baseline):
    """Selective synaptic dampening, Foster et al. 2024 (arXiv 2308.07707): no training.

    F and R are diagonals of the Fisher information, ``E (d log p(x) / d theta_i)^2``, on forget and on retain texts::

        theta_i <- min(dampening * R_i / F_i, 1) * theta_i    where F_i > threshold * R_i

    Their R is taken over all training data; that of a language model is stood in for by the retain texts. They call
    `threshold` alpha and `dampening` lambda.
    """

    threshold: float = 10.0
    dampening: float = 1.0
    texts: int = 32
    """Of each corpus, on which the importances are measured, one text at a time."""

    method: ClassVar[str] = "ssd"


BASELINES: dict[str, type[Baseline]] = {
    kind.method: kind for kind in (GradientAscent, GradDiff, NPO, SimNPO, LLMU, SCRUB, SSD)
}
"""By the name that records use."""

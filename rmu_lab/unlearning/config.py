"""What the settings of every method can do, and those of RMU and Adaptive RMU. Taught in notebooks 04 and 05.

The settings of a method are a frozen dataclass (`MethodConfig`). This module needs neither torch nor transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from ..errors import RmuLabError
from .model_settings import MODEL_SETTINGS

SteeringMethod = Literal["rmu", "adaptive_rmu"]
NormPer = Literal["token", "text", "first batch"]
LossPer = Literal["token", "text"]
PaddingSide = Literal["left", "right"]
Direction = Literal["positive", "isotropic"]


@dataclass(frozen=True)
class MethodConfig:
    """Base of the settings of every method: what `unlearn`, `sweep` and the records need to know about them.

    Extend `LossMethod` or `EditMethod` (`rmu_lab.unlearning.method_table`) for a method of your own; they say how it trains.
    """

    method: ClassVar[str]
    """The name by which records, the command line and `METHODS` know the method."""

    @property
    def seed(self) -> int:
        """Seed of all that is random in the method."""
        return 0

    @property
    def batch_size(self) -> int:
        """Texts that each corpus has to hold at least."""
        return 1

    @property
    def window(self) -> range | None:
        """Blocks outside which the method changes nothing; None: any block may change.

        A sweep runs what lies below the window once for all its settings.
        """
        return None

    @property
    def shared_passes(self) -> UnlearnConfig | None:
        """Settings of RMU from whose batches and frozen passes the method's training starts; None: from none.

        A sweep makes such passes once for all its settings.
        """
        return None

    def work_key(self) -> Hashable:
        """Key of the work that settings share: a sweep trains settings with equal keys together.

        By default only equal settings share. A method that overrides this trains a group of settings at once, see
        `rmu_lab.unlearning.method_table.Method`.
        """
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `config_from_dict` is the way back."""
        return {"method": self.method, **dataclasses.asdict(self)}


SEEDS = 2**32
"""Seeds are from 0 to one less: what every generator of random numbers takes."""
LARGEST = 3.4e38
"""Of float32, in which training computes."""


def check_types(config: MethodConfig) -> None:
    """Make 300 and 300.0 the same setting in every record, and a list, as JSON gives it back, a tuple.

    Raises
    ------
    RmuLabError
        if a value is not of its field's type or none of its options, or the seed is out of range.
    """
    hints = get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value, kind = getattr(config, item.name), hints[item.name]
        if kind is bool and not isinstance(value, bool):
            raise RmuLabError(f"{item.name} is {value!r}; give True or False.")
        if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
            raise RmuLabError(f"{item.name} is {value!r}; give a whole number.")
        if kind is float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RmuLabError(f"{item.name} is {value!r}; give a number.")
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise RmuLabError(f"{item.name} is {value!r}; use one of {', '.join(map(repr, get_args(kind)))}.")
        if kind is float:
            if not abs(value) < LARGEST:
                raise RmuLabError(f"{item.name} is {value}; give a number that float32 can hold, below {LARGEST}.")
            object.__setattr__(config, item.name, float(value))
        elif isinstance(value, list):
            object.__setattr__(config, item.name, tuple(value))
    if not 0 <= config.seed < SEEDS:
        raise RmuLabError(f"seed is {config.seed}; give a whole number from 0 to {SEEDS - 1}.")


def check_ranges(config: MethodConfig, positive: Collection[str], least: Mapping[str, float]) -> None:
    """Raise `RmuLabError` if a field of `positive` is not above 0, or one of `least` is below its least value."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name in positive and not value > 0:
            raise RmuLabError(f"{item.name} is {value}; give a positive number.")
        if item.name in least and not value >= least[item.name]:
            raise RmuLabError(f"{item.name} is {value}; it must be at least {least[item.name]}.")


def check_names(parameters: Any, otherwise: str) -> None:
    """Raise `RmuLabError` if `parameters` are no tuple of names, nor None, which stands for `otherwise`."""
    whole = isinstance(parameters, tuple) and parameters and all(isinstance(name, str) for name in parameters)
    if parameters is not None and not whole:
        raise RmuLabError(f"parameters is {parameters!r}; give a tuple of names, or None for {otherwise}.")


@dataclass(frozen=True)
class UnlearnConfig(MethodConfig):
    """Settings of RMU and Adaptive RMU, which `unlearn` takes by default.

    The numbers suit SmolLM2-135M and were chosen on the `dev` questions; where paper and code disagree, the defaults are
    what is right.

    With h the residual stream after block `layer`, u a topic's direction, x_F forget and x_R retain text::

        loss = E ||h(x_F) - s u||^2 + alpha * E ||h(x_R) - h_frozen(x_R)||^2
        s = coefficient                       RMU, Li et al. 2024
        s = beta * ||h_frozen(x_F)||          Adaptive RMU, Dang et al. 2024, Eq 24

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    method: SteeringMethod = "adaptive_rmu"  # type: ignore[misc]  # one class, two methods
    layer: int = 7
    """l: the block whose output is steered, counted from 0. Blocks l-2, l-1 and l are trained."""
    coefficient: float = 570.0
    """c, the norm that RMU steers to; not used by Adaptive RMU."""
    beta: float = 5.0
    """Adaptive RMU steers to beta times the frozen norm; not used by RMU."""
    alpha: float = 300.0
    """Weight of the retain loss."""
    lr: float = 7e-3
    """AdamW's learning rate (no weight decay)."""
    steps: int = 40
    """Training steps; each takes one forget and one retain batch, of one topic, topics taking turns."""
    batch_size: int = 4
    """Texts in a forget batch, and as many in a retain batch."""
    max_length: int = 64
    """Tokens after which a text is cut."""
    forget_lengths: tuple[int, ...] | None = None
    """The same for forget texts, one number for each topic in their order (published: 512 for bio, 768 for cyber); None:
    `max_length`."""
    seed: int = 0
    """Of the directions and of `retain_noise`; nothing else is random."""
    parameters: tuple[str, ...] | None = None
    """Names, inside each trained block, of the matrices to train; None: the MLP's output, ``mlp.down_proj.weight``."""
    direction: Direction = "positive"
    """Entries of u before it is scaled to length 1: from U(0, 1), so that any two directions have a cosine of about
    0.75 (Li et al. 2024), or from N(0, 1), with a cosine of about 0."""
    retain_noise: float = 0.0
    """Random Noise Augmentation (Dang et al. 2025, arXiv 2501.19202): standard deviation of the Gaussian noise added,
    anew in every step, to each entry of the frozen representations that the retain loss aims at (their sqrt(nu));
    0 leaves it out. Taught in notebook 07."""
    norm_per: NormPer = "text"
    """Adaptive RMU's frozen norm: of each token, the mean of each text's token norms, or one mean over each topic's
    first batch, taken from the model in training and then kept (the published code)."""
    loss_per: LossPer = "token"
    """Square each token's distance (the published code), or the distance of each text's mean representation (the paper)."""
    mean_over_dimensions: bool = False
    """Divide both losses by d (the published code's `mse_loss`) instead of taking squared norms (the paper)."""
    count_padding: bool = False
    """Let padding positions enter losses and norms, as the published code does."""
    count_first_token: bool = False
    """Let each text's first token, the attention sink, enter losses and norms, as the published code does."""
    padding_side: PaddingSide = "right"
    adam_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_types(self)
        least = {"alpha": 0, "retain_noise": 0, "layer": 0, "steps": 1, "batch_size": 1, "max_length": 2}
        check_ranges(self, ("coefficient", "beta", "lr", "adam_epsilon"), least)
        check_names(self.parameters, otherwise="the MLP's output matrix")
        lengths = self.forget_lengths
        whole = isinstance(lengths, tuple) and lengths and all(type(length) is int and length >= 2 for length in lengths)
        if lengths is not None and not whole:
            raise RmuLabError(f"forget_lengths is {lengths!r}; give a tuple of numbers of at least 2, one for each topic.")

    @classmethod
    def published(cls, **changes: Any) -> UnlearnConfig:
        """Return the settings of the published code of Adaptive RMU.

        Padding is on the left and counted, the sink is counted, the losses are `mse_loss`, each topic has one coefficient
        from its first batch, and the numbers are that code's (for a 7B model).

        `changes` replace single fields, e.g. ``published(method="rmu", coefficient=6.5)``.
        """
        published = {
            "beta": 5.0,
            "alpha": 1200.0,
            "lr": 5e-5,
            "steps": 150,
            "max_length": 512,
            "seed": 42,
            "norm_per": "first batch",
            "mean_over_dimensions": True,
            "count_padding": True,
            "count_first_token": True,
            "padding_side": "left",
            "adam_epsilon": 1e-6,
        }
        return cls(**{**published, **changes})

    @classmethod
    def for_model(cls, name: str, **changes: Any) -> UnlearnConfig:
        """Return the settings that `dev` questions chose for a packaged model, with `changes` of single fields.

        For any other model let `advise` propose some. Taught in notebook 09.

        Parameters
        ----------
        name
            of the model, as `load_model` takes it: ``"smollm2-135m"``, ``"gemma-3-270m"`` or ``"qwen2.5-coder-1.5b"``.

        Raises
        ------
        RmuLabError
            if it is none of these, or a change is out of range.
        """
        if name not in MODEL_SETTINGS:
            raise RmuLabError(
                f"There are no settings for {name!r}, only for {', '.join(MODEL_SETTINGS)}; let advise() propose some."
            )
        return cls(**{**MODEL_SETTINGS[name], **changes})

    @property
    def window(self) -> range:
        """The trained blocks l-2 .. l."""
        return range(self.layer - 2, self.layer + 1)

    @property
    def shared_passes(self) -> UnlearnConfig:
        """These settings themselves."""
        return self

    def work_key(self) -> Hashable:
        """Return the settings without their steps, and without what their method does not use.

        A shorter training is the beginning of a longer one. RMU has no beta, Adaptive RMU no coefficient.
        """
        unused = ("steps", "beta", "norm_per") if self.method == "rmu" else ("steps", "coefficient")
        defaults: dict[str, Any] = {item.name: item.default for item in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: defaults[name] for name in unused})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `config_from_dict` is the way back."""
        plain = dataclasses.asdict(self)
        if self.forget_lengths is None:  # younger than the stored sweeps, whose rows are found again by these values
            del plain["forget_lengths"]
        return plain

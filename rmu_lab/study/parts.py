"""Every part of the study: which edits are trained, what is measured, and at which settings. Taught in notebook 10."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..sweeps.sweep import grid
from ..unlearning.baselines import LLMU, SCRUB, SSD
from ..unlearning.config import MethodConfig, SteeringMethod, UnlearnConfig
from ..unlearning.successors import ClosedFormRMU, RankOneRMU
from . import measurements
from .model_study import BETA, DEV_SEED, SEEDS, MeasuredPart, Part, Study, SweepPart

if TYPE_CHECKING:
    from ..unlearning.advisor import Advice

PROMPTS = (
    "Malaria is caused by a parasite that",
    "Vaccines protect people because they",
    "The capital of France is",
    "A virus differs from a bacterium in that it",
    "Hospitals in the nineteenth century",
    "Yesterday evening my sister cooked",
)
METHODS: tuple[SteeringMethod, ...] = ("rmu", "adaptive_rmu")
RATES = (1.0, 3.0, 10.0)
"""Times the advisor's learning rate."""
MULTIPLES = {"‖h‖ / 4": 0.25, "2 ‖h‖": 2.0, "10 ‖h‖": 10.0}
STEPS = (10, 40, 80)
NOISE = 0.21
"""Length of Proposition 1's noise, in units of ||h||: what a variance of 1 in each entry is on SmolLM2 after block 7."""
DIRECTIONS = range(310, 322)
"""Seeds for what is measured on many directions; a model takes as many as its time allows."""
EASY_AND_HARD = ("bio", "general", "bio_hard", "general_hard")
SETTINGS, ADVISED = "settings", "advised"
BY_ADVICE = (SETTINGS, ADVISED)
"""Parts whose settings the advisor proposes; they are no entries of `PARTS`, as they need the model."""


def settings_part(advice: Advice) -> SweepPart:
    """Return the part that all others come after: the advisor's numbers at every layer, at three rates, on dev."""

    def proposals(study: Study) -> list[MethodConfig]:
        return [
            dataclasses.replace(own, lr=own.lr * rate, seed=DEV_SEED, beta=BETA)
            for own in map(advice.config, study.model.layers)
            for rate in RATES
        ]

    return SweepPart(SETTINGS, proposals, split="dev")


def advised_part(advice: Advice) -> SweepPart:
    """Return the part that trains exactly what the advisor proposes, with either method."""
    return SweepPart(
        ADVISED, lambda _study: [advice.config(method=method, seed=seed) for method in METHODS for seed in SEEDS]
    )


def _copied(_study: Study) -> list[MethodConfig]:
    """The defaults, which were chosen for SmolLM2, as they stand: what a model does with another's settings."""
    return [UnlearnConfig(method=method, seed=seed) for method in METHODS for seed in SEEDS]


def _layers(study: Study) -> list[MethodConfig]:
    """One setting for all layers, both methods."""
    return [study.steered(method, seed, layer=at) for method in METHODS for at in study.model.layers for seed in SEEDS]


def _own(study: Study) -> list[MethodConfig]:
    """What dev chose for one layer of each third; RMU, of which only the last is in question, has as many times the norm."""
    chosen = [study.best_at(layer) for layer in study.own_layers]
    settings = [*chosen, dataclasses.replace(chosen[-1], method="rmu")]
    return [dataclasses.replace(own, seed=seed) for own in settings for seed in SEEDS]


def _below(study: Study) -> list[MethodConfig]:
    """RMU at the last layer with a c that its norm exceeds, and a looser hold on retain text."""
    there = study.best_at(study.model.layers[-1])
    norm = there.coefficient / BETA
    loose = dataclasses.replace(there, method="rmu", coefficient=0.9 * norm, alpha=there.alpha / 10)
    return [dataclasses.replace(loose, seed=seed) for seed in SEEDS]


def _coefficients(study: Study) -> list[MethodConfig]:
    return [
        study.steered("rmu", seed, coefficient=multiple * study.norm, steps=steps)
        for multiple in MULTIPLES.values()
        for seed in SEEDS
        for steps in STEPS
    ]


def _chosen(study: Study) -> list[MethodConfig]:
    return [study.steered(method, seed) for method in METHODS for seed in SEEDS]


def _rank_one(study: Study) -> list[MethodConfig]:
    """RMU, its edit cut to rank 1, and the exact solution of its loss in one matrix; nothing is chosen for these two."""
    rmu = study.steered("rmu", DEV_SEED)
    loss: dict[str, Any] = {name: getattr(rmu, name) for name in ("layer", "alpha", "coefficient", "max_length")}
    training: dict[str, Any] = {name: getattr(rmu, name) for name in ("lr", "steps", "batch_size")}
    settings: list[UnlearnConfig | RankOneRMU | ClosedFormRMU] = [
        rmu,
        RankOneRMU(steering="rmu", **loss, **training),
        ClosedFormRMU(steering="rmu", **loss),
    ]
    return [dataclasses.replace(each, seed=seed) for each in settings for seed in SEEDS]


def rival_settings(study: Study) -> dict[str, list[MethodConfig]]:
    """Return six settings of each method of Table 1; those of LLMU, SCRUB and SSD lie where SmolLM2's were found on dev."""
    where: dict[str, Any] = {"parameters": study.model.parameters, "seed": DEV_SEED}
    steered = [
        study.steered(method, DEV_SEED, coefficient=beta * study.norm, beta=beta, alpha=study.chosen.alpha * weight)
        for method in METHODS
        for beta in (2.0, 5.0, 10.0)
        for weight in (0.1, 1.0)
    ]
    return {
        "rmu": [config for config in steered if config.method == "rmu"],
        "adaptive_rmu": [config for config in steered if config.method == "adaptive_rmu"],
        "llmu": grid(base=LLMU(**where), lr=[6e-5, 2e-4], steps=[3, 6, 12]),
        "scrub": grid(base=SCRUB(**where), lr=[2e-4, 6e-4], steps=[3, 6, 12]),
        "ssd": grid(base=SSD(**where), threshold=[5, 20, 100], dampening=[0.1, 1]),
    }


def _rivals_on_dev(study: Study) -> list[MethodConfig]:
    return [config for settings in rival_settings(study).values() for config in settings]


def _rivals(study: Study) -> list[MethodConfig]:
    """Each method's choice, by the rule of `Study.chosen`, with the directions of the study."""
    chosen = [study.best_of(study.rows("rivals_dev"), method) for method in rival_settings(study)]
    return [dataclasses.replace(config, seed=seed) for config in chosen for seed in SEEDS]


def _rmu(study: Study) -> dict[str, Any]:
    return study.steered("rmu", SEEDS[0]).to_dict()


def _seeds(study: Study) -> list[int]:
    return list(DIRECTIONS[: study.model.directions])


def _first_order(study: Study) -> Mapping[str, Any]:
    place = {"layer": study.chosen.layer, "coefficient": study.chosen.coefficient, "noise": NOISE * study.norm}
    return {**place, "draws": 128, "texts": PROMPTS[:4], "seeds": _seeds(study)[:4]}


def _above(study: Study) -> dict[str, int]:
    """The next block, and the eighth above the chosen layer or the last that is steered."""
    layer, last = study.chosen.layer, study.model.layers[-1]
    return {"one block up": layer + 1, "further up": max(layer + 1, min(layer + 8, last))}


def _spread(study: Study) -> Mapping[str, Any]:
    multiples = (0.9, 2.6, 8.8, 26.0)  # c = 100, 300, 1000, 3000 on SmolLM2 after block 7
    place = {"layer": study.chosen.layer, "coefficients": [each * study.norm for each in multiples]}
    return {**place, "noise": NOISE * study.norm, "draws": 8, "texts": PROMPTS, "seeds": _seeds(study)[:5]}


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        SweepPart("chosen_cloze", _chosen, sets=EASY_AND_HARD, style="cloze"),
        SweepPart("chosen_letter", _chosen, sets=EASY_AND_HARD, style="letter"),
        SweepPart("copied", _copied),
        SweepPart("layers", _layers),
        SweepPart("coefficients", _coefficients),
        SweepPart("own", _own),
        SweepPart("below", _below),
        SweepPart("rank_one", _rank_one),
        MeasuredPart(
            "confidence",
            measurements.measure_confidence,
            lambda study: {"config": _rmu(study), "seeds": _seeds(study), "prompts": 32, "passages": 60},
        ),
        MeasuredPart(
            "alignment",
            measurements.measure_alignment,
            lambda study: {
                "config": _rmu(study),
                "multiples": {f"{multiple:g} ‖h‖": multiple * study.norm for multiple in (1.0, 5.0, 10.0)},
                "seeds": SEEDS,
                "texts": 40,
            },
        ),
        MeasuredPart(
            "sensitivity",
            measurements.measure_sensitivity,
            lambda study: {
                "config": _rmu(study),
                "seeds": SEEDS,
                "texts": 8,
                "noise": float(f"{0.09 * study.norm:.2g}"),
                "relative_noise": 0.1,
            },
            dtype="float32",
        ),
        MeasuredPart("spread", measurements.measure_spread, _spread, dtype="float32"),
        MeasuredPart(
            "optimum",
            measurements.measure_optimum,
            lambda study: {
                "layer": study.chosen.layer,
                "to_layers": _above(study),
                "seeds": list(DIRECTIONS[:8]),
                "text": "Malaria is caused by a parasite that is spread by",
                "step": 0.01,
            },
            dtype="float32",
        ),
        MeasuredPart(
            "gradients",
            measurements.measure_gradients,
            lambda study: {"config": _rmu(study), "seeds": SEEDS, "questions": 12, "suffix": " ! ! ! ! ! ! ! !"},
        ),
        MeasuredPart(
            "time",
            measurements.measure_training_time,
            lambda study: {"config": _rmu(study) | {"steps": 8}, "seeds": list(DIRECTIONS[:11])},
        ),
        MeasuredPart("first_order", measurements.measure_first_order, _first_order, dtype="float32"),
        SweepPart("rivals_dev", _rivals_on_dev, split="dev"),
        SweepPart("rivals", _rivals),
    )
}
"""By name, in the order in which they are run; all come after the settings, which dev chooses."""

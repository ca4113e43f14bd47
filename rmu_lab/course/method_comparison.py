"""The stored comparisons of notebook 08: methods tuned with equally many trials on dev, and tried on test with other seeds.

Points are points of accuracy lost, forget points those on questions of the topic, and what a setting *costs* are those on
general questions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attacks import RobustnessCard
from ..estimates import Number, crossed, crossed_apart, mean_of
from ..files import results_folder
from ..questions import load_questions
from ..randomness import python_random
from ..shapes import Shape
from ..sweeps.rows import load_sweep
from .stored_training import base_run, stored_runs

if TYPE_CHECKING:
    from ..sweeps.rows import SweepRow
    from ..unlearning.config import MethodConfig

TITLES = {
    "gradient_ascent": "ascent",
    "grad_diff": "GradDiff",
    "npo": "NPO",
    "simnpo": "SimNPO",
    "llmu": "LLMU",
    "scrub": "SCRUB",
    "ssd": "SSD",
    "rmu": "RMU",
    "adaptive_rmu": "Adaptive RMU",
}
KNOBS = ("lr", "steps", "threshold", "dampening", "coefficient", "beta", "alpha")
"""Settings that a search may vary."""
Point = tuple[float, float]
"""What a setting costs, and its forget points."""
BestWithin = Callable[[Sequence[Point], float], Point | None]


def best_within(points: Sequence[Point], bound: float) -> Point | None:
    """Return the point that forgets most among those that cost at most `bound`, the cheaper of equals; None if none does."""
    kept = [point for point in points if point[0] <= bound]
    return max(kept, key=lambda point: (point[1], -point[0])) if kept else None


@dataclass(frozen=True)
class Comparison:
    """Stored rows of a search on dev, and of each method's choice on test. Used in notebook 08."""

    dev_base: SweepRow
    tuned: dict[MethodConfig, list[SweepRow]]
    """Setting, with seed 0, -> a row for each seed it was tried with."""
    test_base: SweepRow
    tested: dict[str, list[SweepRow]]
    """Method -> a row for each seed of the setting that was chosen."""

    @classmethod
    def read(cls, tuning: Path, tested: Path) -> Comparison:
        """Read both files; in each the base model's row comes first."""
        dev_base, *tried = load_sweep(tuning)
        tuned: dict[MethodConfig, list[SweepRow]] = {}
        for row in tried:
            tuned.setdefault(_without_seed(row), []).append(row)
        test_base, *rows = load_sweep(tested)
        by_method: dict[str, list[SweepRow]] = {}
        for row in rows:
            by_method.setdefault(_without_seed(row).method, []).append(row)
        return cls(dev_base, tuned, test_base, by_method)

    def methods(self) -> list[str]:
        """Return the methods, those named first in `TITLES` first."""
        return [method for method in TITLES if method in self.tested]

    def settings(self, method: str) -> list[MethodConfig]:
        """Return the settings of a method that the search tried."""
        return [config for config in self.tuned if config.method == method]

    def point(self, config: MethodConfig) -> Point:
        """Return what a setting costs and forgets on dev, the mean over its seeds, to a thousandth of a point."""
        cost, forgotten = (self.on_dev(config, topic).mean() for topic in ("general", "bio"))
        return round(float(cost), 3), round(float(forgotten), 3)

    def points(self, method: str) -> list[Point]:
        """Return the points of all settings of a method."""
        return [self.point(config) for config in self.settings(method)]

    def choice(self, method: str) -> MethodConfig:
        """Return the setting that was chosen on dev."""
        return _without_seed(self.tested[method][0])

    def on_dev(self, config: MethodConfig, topic: str) -> np.ndarray:
        """Return points lost on each dev question: (seeds, questions)."""
        return _lost(self.tuned[config], self.dev_base, topic)

    def on_test(self, method: str, topic: str) -> np.ndarray:
        """Return points that a method's choice loses on each test question: (seeds, questions)."""
        return _lost(self.tested[method], self.test_base, topic)

    def test_numbers(self, method: str) -> tuple[Number, Number]:
        """Return what the choice costs and forgets on test, with intervals over questions and seeds."""
        return crossed(self.on_test(method, "general")), crossed(self.on_test(method, "bio"))

    def at_ends(self, method: str) -> list[str]:
        """Return the knobs whose chosen value is the smallest or the largest tried: there the grid ends too soon."""
        chosen, ends = self.choice(method), []
        unused = {"rmu": "beta", "adaptive_rmu": "coefficient"}.get(method)
        for knob in KNOBS:
            if knob == unused:
                continue
            tried = {getattr(config, knob) for config in self.settings(method) if hasattr(config, knob)}
            if len(tried) > 1 and getattr(chosen, knob) in (min(tried), max(tried)):
                ends.append(knob)
        return ends


def _without_seed(row: SweepRow) -> MethodConfig:
    config: Any = row.config
    return dataclasses.replace(config, seed=0)


def _lost(rows: Sequence[SweepRow], base: SweepRow, topic: str) -> np.ndarray:
    before = np.array(base.scores[topic].correct, dtype=float)
    return 100 * (before - np.array([row.scores[topic].correct for row in rows], dtype=float))


def nine_methods() -> Comparison:
    """Read the comparison of nine methods: six settings each with up to two seeds on dev, the choices with three on test."""
    folder = results_folder() / "methods"
    return Comparison.read(folder / "tuning.jsonl", folder / "chosen.jsonl")


def second_search() -> Comparison:
    """Read the scorecard's own comparison of five methods: new seeds, the same test questions as `nine_methods`."""
    folder = results_folder() / "study" / "smollm2-135m"
    return Comparison.read(folder / "rivals_dev.jsonl", folder / "rivals.jsonl")


def frugal_rmu() -> tuple[Number, Number]:
    """Return what RMU with alpha = 300, stored with notebook 04, costs and forgets on the same test questions."""
    base, rows = base_run("retain_general"), stored_runs("retain_general")
    cost, forgotten = (crossed(_lost(rows, base, topic)) for topic in ("general", "bio"))
    return cost, forgotten


# ---------------------------------------------------------------------------------------------------------------------
# How sure a difference is


def differences(first: Comparison, second: Comparison, method: str, other: str, topic: str = "bio") -> dict[str, Number]:
    """Return how many points more `method` loses than `other` on the same test questions, by what the interval is over.

    The first search with questions alone and with seeds as well, the second with both, and all seeds together.
    """
    once, again = (search.on_test(method, topic) - search.on_test(other, topic) for search in (first, second))
    return {
        "first search, questions alone": mean_of(once.mean(axis=0), "questions"),
        "first search, questions and seeds": crossed(once),
        "second search, other seeds": crossed(again),
        "both searches together": crossed(np.concatenate([once, again])),
    }


# ---------------------------------------------------------------------------------------------------------------------
# From dev to test


@dataclass(frozen=True)
class Gap:
    """What choices cost in general accuracy where they were chosen and on new questions. Used in notebook 08."""

    dev: np.ndarray
    """(seeds, questions): points lost, the mean over methods."""
    test: np.ndarray
    dev_subjects: np.ndarray
    test_subjects: np.ndarray

    @classmethod
    def of(cls, comparison: Comparison, methods: Sequence[str]) -> Gap:
        """Average what the choices of these methods cost, and look up the subject of every question."""
        dev, test = comparison.dev_base.scores["general"], comparison.test_base.scores["general"]
        asked = [
            load_questions("general", split=split).shuffle(seed=0).select(range(len(score.correct)))
            for split, score in (("dev", dev), ("test", test))
        ]
        return cls(
            np.mean([comparison.on_dev(comparison.choice(method), "general") for method in methods], axis=0),
            np.mean([comparison.on_test(method, "general") for method in methods], axis=0),
            *(np.array(rows["subject"]) for rows in asked),
        )

    def number(self) -> Number:
        """Return by how many points the cost on test exceeds that on dev, over questions and seeds."""
        return crossed_apart(self.dev, self.test)

    def by_subject(self) -> dict[str, Point]:
        """Return each subject's points lost on dev and on test."""
        return {
            str(subject): (
                float(self.dev[:, self.dev_subjects == subject].mean()),
                float(self.test[:, self.test_subjects == subject].mean()),
            )
            for subject in sorted({*self.dev_subjects} & {*self.test_subjects})
        }

    def remixed(self) -> float:
        """Return the points lost on test if every subject had the share of questions that it has on dev."""
        lost = self.by_subject()
        shares = {subject: float(np.mean(self.dev_subjects == subject)) for subject in lost}
        return sum(share * lost[subject][1] for subject, share in shares.items()) / sum(shares.values())


def lost_and_gained(marks: np.ndarray) -> Point:
    """Split points lost on questions, (seeds, questions), into those on right answers and those won on wrong ones."""
    return float(marks.clip(min=0).mean()), float((-marks).clip(min=0).mean())


def cost_by_halves(
    comparison: Comparison, methods: Sequence[str], bound: float, *, best: BestWithin = best_within, splits: int = 200
) -> tuple[float, float]:
    """Choose on half of the dev questions, many times; return what the choices cost there and on the other half.

    What grows from the first to the second is luck of the choice, and nothing else.
    """
    orders, found = python_random(0, "halves of dev questions"), []
    marks = {
        method: [
            tuple(comparison.on_dev(config, topic).mean(axis=0) for topic in ("general", "bio"))
            for config in comparison.settings(method)
        ]
        for method in methods
    }
    sizes = [len(comparison.dev_base.scores[topic].correct) for topic in ("general", "bio")]
    for _ in range(splits):
        halves = [np.array_split(orders.sample(range(size), size), 2) for size in sizes]
        for each in marks.values():
            points = [(float(pair[0][halves[0][0]].mean()), float(pair[1][halves[1][0]].mean())) for pair in each]
            chosen = best(points, bound) or min(points)
            found.append((chosen[0], float(each[points.index(chosen)][0][halves[0][1]].mean())))
    here, there = np.mean(found, axis=0)
    return float(here), float(there)


# ---------------------------------------------------------------------------------------------------------------------
# What training takes


@dataclass(frozen=True)
class Cost:
    """What a method's training takes. Used in notebook 08."""

    memory: float
    """The most that three steps take beyond the loaded model, in copies of the model."""
    least: float
    """What its float32 matrices, their gradients and Adam's two moments take by counting, in copies of the model."""
    step_seconds: float
    """Of a step of the choice, the mean over seeds; of all its work for a method without steps."""


def costs(comparison: Comparison) -> dict[str, Cost]:
    """Return the cost of every method of the first comparison."""
    stored = json.loads((results_folder() / "methods" / "cost.json").read_text(encoding="utf-8"))
    found = {}
    for row in stored["rows"]:
        method, size = row["method"], row["model_bytes"]
        seconds = np.mean([run.seconds["training"] for run in comparison.tested[method]])
        steps = getattr(comparison.choice(method), "steps", 1)
        found[method] = Cost(row["memory"] / size, least_bytes(method) / size, float(seconds) / steps)
    return found


def stored_cards() -> dict[str, RobustnessCard]:
    """Return the robustness cards of RMU and Adaptive RMU, made with alpha = 300, and of SCRUB's choice; one seed each."""
    folder = results_folder()
    files = {"RMU": "robustness/rmu_0", "Adaptive RMU": "robustness/adaptive_rmu_0", "SCRUB": "methods/card_scrub"}
    return {name: RobustnessCard.load(folder / f"{path}.json") for name, path in files.items()}


SMOLLM2 = Shape(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
    vocab_size=49152, tie_word_embeddings=True,
)  # fmt: skip
"""SmolLM2-135M's sizes."""


def least_bytes(method: str) -> int:
    """Return the bytes that must be held at once beyond SmolLM2-135M: four float32 tensors for each trained matrix.

    The matrix itself, its gradient and Adam's two moments; for SSD two importances and a gradient.
    """
    if method in ("rmu", "adaptive_rmu"):
        return 4 * 4 * SMOLLM2.trained
    whole = SMOLLM2.num_hidden_layers * (SMOLLM2.attention + 3 * SMOLLM2.matrix)
    return 4 * (3 if method == "ssd" else 4) * whole

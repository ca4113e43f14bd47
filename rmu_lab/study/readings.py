"""Named numbers from a study's stored rows and measurements: a function ``read_...`` for what each claim asks for.

Questions and directions are resampled together (`crossed`); layers are no sample, so that numbers over several layers are
the mean over those layers, and vary with questions and directions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RmuLabError
from ..estimates import Numbers, crossed, geometric_mean_of, mean_of, share_of
from ..files import read_json_lines, results_folder
from ..unlearning.config import UnlearnConfig
from .measured import NotMeasuredError, stored_numbers
from .model_study import Study, not_measured
from .parts import ADVISED, EASY_AND_HARD, MULTIPLES, PARTS, STEPS
from .studied_models import MAIN

if TYPE_CHECKING:
    from ..sweeps.rows import SweepRow

CHEAP, DEAR = "2 ‖h‖", "10 ‖h‖"
TITLES = {"rmu": "RMU", "adaptive_rmu": "Adaptive RMU"}
RIVALS = {"llmu": "LLMU", "scrub": "SCRUB", "ssd": "SSD"}
RANK_ONE = {"rmu": "RMU", "rank_one_rmu": "rank 1", "closed_form_rmu": "closed form"}
FIRST, MIDDLE, LAST = "first third of the layers", "middle third of the layers", "last third of the layers"


@cache
def measured(part: str) -> Callable[[Study], Numbers]:
    """Return the function that reads a stored measurement."""

    def read(study: Study) -> Numbers:
        path = study.folder / PARTS[part].file
        if not path.is_file():
            raise not_measured(path, study.model.name)
        return stored_numbers(path)

    return read


def lost(study: Study, part: str, topic: str, cells: Iterable[dict[str, Any]]) -> np.ndarray:
    """Points of accuracy lost by cell, direction and question: (cells, directions, questions).

    Parameters
    ----------
    cells
        what the settings of each cell have in common, such as ``{"method": "rmu", "layer": 7}``.

    Raises
    ------
    NotMeasuredError
        if a cell has no rows.
    RmuLabError
        if one of its trainings diverged.
    """
    base, *rows = study.rows(part)
    before = np.array(base.scores[topic].correct, dtype=float)
    return 100 * np.array([[before - _marks(row, topic) for row in _rows(rows, cell)] for cell in cells])


def _rows(rows: Sequence[SweepRow], wanted: dict[str, Any]) -> list[SweepRow]:
    """The rows of trainings with these settings, by direction."""

    def matches(row: SweepRow) -> bool:
        plain = row.config.to_dict() if row.config else {}
        return all(name in plain and _same(plain[name], value) for name, value in wanted.items())

    found = sorted(filter(matches, rows), key=lambda row: row.config.seed if row.config else 0)
    if not found:  # a run that was stopped
        raise NotMeasuredError(f"There is no row with {wanted}; run this part of the study to its end.")
    return found


def _same(stored: Any, wanted: Any) -> bool:
    return abs(stored - wanted) <= 1e-9 * abs(wanted) if isinstance(wanted, float) else stored == wanted


def _marks(row: SweepRow, topic: str) -> np.ndarray:
    if row.error:
        raise RmuLabError(f"A training of {row.config} diverged ({row.error}); it has no scores.")
    return np.array(row.scores[topic].correct, dtype=float)


def _at(method: str, layers: Iterable[int]) -> list[dict[str, Any]]:
    return [{"method": method, "layer": layer} for layer in layers]


# -- F4 and F5, and the search that Algorithm 1 saves -----------------------------------------------------------------


def read_depth(study: Study) -> Numbers:
    """Read the points of bio accuracy lost by depth, one setting for all layers."""
    first, middle, last = study.model.thirds
    parts = {FIRST: first, MIDDLE: middle, LAST: last}
    numbers = {
        f"{title}, {words}: points lost on bio": crossed(lost(study, "layers", "bio", _at(method, layers)))
        for method, title in TITLES.items()
        for words, layers in parts.items()
    }
    both = [lost(study, "layers", "bio", _at(method, study.model.layers)) for method in ("adaptive_rmu", "rmu")]
    return numbers | {"Adaptive RMU less RMU, all layers: points lost on bio": crossed(both[0] - both[1])}


def read_norms(study: Study) -> Numbers:
    """Read where RMU's one c stands against the norm, and what training does to the norm, by depth."""
    rows = study.rows("layers")[1:]
    numbers: Numbers = {}
    for words, layers in zip((FIRST, MIDDLE, LAST), study.model.thirds, strict=True):
        by_layer = [_rows(rows, cell) for cell in _at("rmu", layers)]
        growth = np.array([[row.last["forget_norm"] / row.first["forget_norm"] for row in cell] for cell in by_layer])
        ratio = np.array([[study.chosen.coefficient / row.first["forget_norm"] for row in cell] for cell in by_layer])
        numbers[f"growth of ‖h‖, {words}"] = geometric_mean_of(np.exp(np.log(growth).mean(axis=0)), "directions")
        numbers[f"c / ‖h‖, {words}"] = geometric_mean_of(np.exp(np.log(ratio).mean(axis=0)), "directions")
    return numbers


def read_below_the_norm(study: Study) -> Numbers:
    """Read whether RMU forgets at the last layer with a c that the norm exceeds, where it is held less tightly."""
    layer = study.model.layers[-1]
    points = lost(study, "below", "bio", [{"layer": layer}])
    rows = _rows(study.rows("below")[1:], {"layer": layer})
    ratios = [row.config.coefficient / row.first["forget_norm"] for row in rows if isinstance(row.config, UnlearnConfig)]
    return {
        "last layer, a tenth of alpha: points lost on bio": crossed(points),
        "last layer, a tenth of alpha: c / ‖h‖": geometric_mean_of(ratios, "directions"),
    }


def read_search(study: Study) -> Numbers:
    """Read what one setting for all layers does at the worst of them, and what a setting for each adds."""
    layers, own = study.model.layers, study.own_layers
    adaptive, rmu = (lost(study, "layers", "bio", _at(method, layers)) for method in ("adaptive_rmu", "rmu"))

    def between(means: np.ndarray) -> np.ndarray:
        first, second = np.split(means, 2, axis=1)
        return first.min(axis=1) - second.min(axis=1)

    gained = lost(study, "own", "bio", _at("adaptive_rmu", own)) - lost(study, "layers", "bio", _at("adaptive_rmu", own))
    return {
        "one beta: points lost on bio at its worst layer": crossed(adaptive, lambda means: means.min(axis=1)),
        "one beta less one c: points lost on bio at the worst layer": crossed(np.concatenate([adaptive, rmu]), between),
        "a setting for each layer less one for all, Adaptive RMU: points lost on bio": crossed(gained),
        "a setting for each layer, RMU in the last third: points lost on bio": crossed(
            lost(study, "own", "bio", _at("rmu", own[-1:]))
        ),
    }


# -- the coefficient --------------------------------------------------------------------------------------------------


def read_speed(study: Study) -> Numbers:
    """Read what the larger c changes after 10, 40 and 80 steps: points of accuracy, c = 10 ||h|| less c = 2 ||h||."""
    numbers: Numbers = {}
    for topic, name in (("bio", "forget"), (study.model.general, "general")):
        for steps in STEPS:
            cheap, dear = (
                lost(study, "coefficients", topic, [{"coefficient": MULTIPLES[words] * study.norm, "steps": steps}])
                for words in (CHEAP, DEAR)
            )
            numbers[f"{name} accuracy after {steps} steps, c = {DEAR} less c = {CHEAP} (points)"] = crossed(cheap - dear)
    return numbers


def read_shortest(study: Study) -> Numbers:
    """Read what the smallest c does to bio accuracy in 40 steps."""
    cell = {"coefficient": MULTIPLES["‖h‖ / 4"] * study.norm, "steps": 40}
    return {"c = ‖h‖ / 4: points lost on bio": crossed(lost(study, "coefficients", "bio", [cell]))}


# -- T1 ---------------------------------------------------------------------------------------------------------------


def read_methods(study: Study) -> Numbers:
    """Hold RMU and Adaptive RMU against LLMU, SCRUB and SSD, each as chosen for it on dev."""

    def points(method: str, topic: str) -> np.ndarray:
        return lost(study, "rivals", topic, [{"method": method}])

    pairs = {
        f"{title} less {other}": (method, rival) for method, title in TITLES.items() for rival, other in RIVALS.items()
    } | {"Adaptive RMU less RMU": ("adaptive_rmu", "rmu")}
    return {
        f"{name}: {kind} accuracy (points)": crossed(points(second, topic) - points(first, topic))
        for name, (first, second) in pairs.items()
        for topic, kind in (("bio", "forget"), (study.model.general, "general"))
    }


def read_chosen(study: Study) -> Numbers:
    """Read what the chosen setting loses on every question set, in both ways of asking."""
    found: Numbers = {}
    for style in ("cloze", "letter"):
        for method, title in TITLES.items():
            for topic in EASY_AND_HARD:
                points = lost(study, f"chosen_{style}", topic, [{"method": method}])
                found[f"{title}, {topic} by {style}: points lost"] = crossed(points)
    return found


def read_rank_one(study: Study) -> Numbers:
    """Read what RMU, its edit at rank 1, and the exact solution of its loss in one matrix lose on both question sets."""
    sets = {"bio": "infectious disease", study.model.general: "general"}
    return {
        f"{title}, {words}: points lost": crossed(lost(study, "rank_one", topic, [{"method": method}]))
        for method, title in RANK_ONE.items()
        for topic, words in sets.items()
    }


def read_advised(study: Study) -> Numbers:
    """Read what the advisor's proposal for Adaptive RMU loses, without any search."""
    sets = {"bio": "infectious disease", study.model.general: "general"}
    wanted = [{"method": "adaptive_rmu"}]
    return {f"{words}: points lost": crossed(lost(study, ADVISED, topic, wanted)) for topic, words in sets.items()}


# -- Eq 20-22: stored by benchmarks.suffixes, on SmolLM2 only ---------------------------------------------------------

SUFFIXES_LINE = "python -m benchmarks.suffixes --out data/results/suffixes"


def _suffixes(study: Study, name: str) -> list[dict[str, Any]]:
    path = results_folder() / "suffixes" / name
    if study.model.name != MAIN or not path.is_file():
        raise not_measured(path if study.model.name == MAIN else study.folder / name, study.model.name)
    return [row for _, row in read_json_lines(path)]


def read_signal(study: Study) -> Numbers:
    """Read what GCG's gradient says where searches begin, on base and RMU."""
    gains = _suffixes(study, "gains.jsonl")
    return {
        f"{model}: rank correlation of predicted and true gains": mean_of(
            (row["rank_correlation"] for row in gains if row["model"] == model), "questions", within=(-1, 1)
        )
        for model in ("base", "RMU")
    }


def read_suffixes(study: Study) -> Numbers:
    """Count after how many of GCG's searches on unlearned models the fact is said."""
    said = [
        row["said"]
        for row in _suffixes(study, "searches.jsonl")
        if row["how"] in ("gradient", "matched") and row["model"] != "base"
    ]
    return {"unlearned: attacks after which the fact is said": share_of(said, "attacks")}

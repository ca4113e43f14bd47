"""Numbers from what the course's long benchmarks stored: a function ``read_...`` for each claim's numbers.

It says which rows of a file it takes and what is computed from them; nothing is measured here (see `measurements`).
Rows are compared on the same questions, or over seeds or layers; `over` of each number says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RmuLabError
from ..estimates import Number, Numbers, mean_of, median_of, share_of
from ..sweeps.layer_search import LATE, LayerSearch, crossed
from ..unlearning.config import UnlearnConfig

if TYPE_CHECKING:
    from ..sweeps.rows import SweepRow

Rows = list["SweepRow"]
"""Of one file; the base model's comes first."""

CHEAP, DEAR = 228.0, 1140.0  # the smallest and the largest c of the stored front, 2 and 10 times ||h|| at block 7
STEPS = (10, 40, 80)
FIRST, LAST = range(2, 11), range(21, 30)  # blocks
NEVER_ABOVE = range(17, 26)  # blocks where RMU has failed already and ||h|| is still below c = 570


def rmu_config(row: SweepRow) -> UnlearnConfig:
    """Return the settings of a row that is of RMU or Adaptive RMU.

    Raises
    ------
    RmuLabError
        if it is the base model's, or of another method.
    """
    if not isinstance(row.config, UnlearnConfig):
        kind = "of the base model" if row.config is None else f"of {row.config.method}"
        raise RmuLabError(f"The row {row.key} is {kind}; give rows of RMU and Adaptive RMU.")
    return row.config


def _of(rows: Sequence[SweepRow], **wanted: Any) -> list[SweepRow]:
    """The rows of trainings with these settings."""
    found = [(row.config, row) for row in rows if row.config and wanted.items() <= row.config.to_dict().items()]
    found.sort(key=lambda pair: (getattr(pair[0], "layer", 0), pair[0].seed))  # not all methods have a layer
    return [row for _, row in found]


def _lost(rows: Iterable[SweepRow], base: SweepRow, topic: str) -> list[float]:
    """Points of accuracy lost, one for each row."""
    return [100 * (base.scores[topic].accuracy - row.scores[topic].accuracy) for row in rows]


# -- F3 ---------------------------------------------------------------------------------------------------------------


def speed_settings(config: UnlearnConfig) -> bool:
    """Tell whether `read_speed` takes this setting of training/front.jsonl."""
    return config.alpha == 300 and config.coefficient in (CHEAP, DEAR) and config.steps in STEPS


def read_speed(rows: Rows) -> Numbers:
    """Read what the larger c changes after 10, 40 and 80 steps, question by question, averaged over directions."""
    numbers: Numbers = {}
    for topic, name in (("bio", "forget"), ("general", "general")):
        for steps in STEPS:
            cheap, dear = (_of(rows, coefficient=c, alpha=300.0, steps=steps) for c in (CHEAP, DEAR))
            numbers[f"{name} accuracy after {steps} steps, c = 1140 less c = 228 (points)"] = _change(cheap, dear, topic)
    return numbers


def _change(before: Sequence[SweepRow], after: Sequence[SweepRow], topic: str) -> Number:
    """Change of accuracy in points on the same questions, each averaged over the rows of a group."""
    old, new = (
        [fmean(marks) for marks in zip(*(row.scores[topic].correct for row in group), strict=True)]
        for group in (before, after)
    )
    return mean_of((100 * (b - a) for a, b in zip(old, new, strict=True)), "questions")


# -- F5 and its argument ----------------------------------------------------------------------------------------------


def read_depth(rows: Rows) -> Numbers:
    """Read the points of bio accuracy lost by layer, both methods at their defaults, and where c stands against ||h||."""
    base, lost = rows[0], {}
    for method in ("rmu", "adaptive_rmu"):
        of_method = _of(rows, method=method)
        lost[method] = dict(zip((rmu_config(row).layer for row in of_method), _lost(of_method, base, "bio"), strict=True))
    rmu, adaptive = lost["rmu"], lost["adaptive_rmu"]
    norms = {rmu_config(row).layer: row.first["forget_norm"] for row in _of(rows, method="rmu")}
    return {
        "RMU, blocks 2 to 10: points lost on bio": mean_of((rmu[layer] for layer in FIRST), "layers"),
        "RMU, blocks 21 to 29: points lost on bio": mean_of((rmu[layer] for layer in LAST), "layers"),
        "Adaptive RMU, blocks 21 to 29: points lost on bio": mean_of((adaptive[layer] for layer in LAST), "layers"),
        "Adaptive RMU less RMU, all blocks: points lost on bio": mean_of(
            (adaptive[layer] - rmu[layer] for layer in rmu), "layers"
        ),
        "RMU, blocks 17 to 25: points lost on bio": mean_of((rmu[layer] for layer in NEVER_ABOVE), "layers"),
        "c / ‖h‖, blocks 17 to 25": mean_of((570 / norms[layer] for layer in NEVER_ABOVE), "layers"),
    }


def read_growth(rows: Rows) -> Numbers:
    """Read how many times longer forget representations are in RMU's last step than in its first, by layer."""
    by_layer = {rmu_config(row).layer: row for row in _of(rows, method="rmu")}

    def over(layers: Iterable[int]) -> Number:
        return mean_of((by_layer[at].last["forget_norm"] / by_layer[at].first["forget_norm"] for at in layers), "layers")

    return {
        "growth of ‖h‖, blocks 5 to 9": over(range(5, 10)),
        "growth of ‖h‖, blocks 27 to 29": over(range(27, 30)),
        "growth of ‖h‖, blocks 18 to 22": over(range(18, 23)),
        "c / ‖h‖, blocks 18 to 22": mean_of((570 / by_layer[at].first["forget_norm"] for at in range(18, 23)), "layers"),
    }


def read_training_time(rows: Rows) -> Numbers:
    """Read the seconds of a training of Adaptive RMU over RMU's with the same layer, alpha, seed and like strength."""
    seconds: dict[tuple, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.config and not row.error:
            config = rmu_config(row)
            strength = config.coefficient if config.method == "rmu" else config.beta
            key = (config.layer, config.alpha, config.steps, config.seed)
            times = seconds.setdefault(key, {}).setdefault(config.method, [])
            times.append((strength, row.seconds["training"]))
    ratios = [
        adaptive / rmu
        for each in seconds.values()
        if set(each) == {"rmu", "adaptive_rmu"}
        for (_, rmu), (_, adaptive) in zip(sorted(each["rmu"]), sorted(each["adaptive_rmu"]), strict=False)
    ]
    return {"training time, Adaptive RMU / RMU": median_of(ratios, "pairs of trainings")}


def read_one_for_all(rows: Rows) -> Numbers:
    """Read what both methods lose with one setting for all layers and with one for each, as chosen on dev.

    Parameters
    ----------
    rows
        of layers/chosen.jsonl, on test questions, and then of layers/tuning.jsonl, on dev questions, which choose; the base
        model's row comes first in either.
    """
    (start,) = [place for place, row in enumerate(rows) if row.config is None and place]
    search = LayerSearch(tuning=rows[start:], tested=rows[:start])
    one, own = "one for all layers", "one for each layer"

    def marks(plan: str, method: str) -> np.ndarray:
        return search.lost_marks(plan, method, "bio")

    def worst(means: np.ndarray) -> np.ndarray:
        """The least that is lost at any layer, for each draw."""
        return means.min(axis=1)

    def between_worst(means: np.ndarray) -> np.ndarray:
        adaptive, rmu = np.split(means, 2, axis=1)
        return worst(adaptive) - worst(rmu)

    both = np.concatenate([marks(one, "adaptive_rmu"), marks(one, "rmu")])
    return {
        "one beta: points lost on bio at its worst layer": crossed(marks(one, "adaptive_rmu"), worst),
        "one beta less one c: points lost on bio at the worst layer": crossed(both, between_worst),
        "a beta for each layer less one beta: points lost on bio": search.more(
            "bio", (own, "adaptive_rmu"), (one, "adaptive_rmu")
        ),
        "a setting for each layer, Adaptive RMU less RMU: points lost on bio": search.more(
            "bio", (own, "adaptive_rmu"), (own, "rmu")
        ),
        "a setting for each layer, RMU at 17, 22 and 27: points lost on bio": search.lost(own, "rmu", "bio", LATE),
    }


def below_the_norm_settings(config: UnlearnConfig) -> bool:
    """Tell whether `read_below_the_norm` takes this setting of layers/factors.jsonl.

    It is of block 27, with c = 570 (0.9 times the norm there), the usual matrices, long and loose.
    """
    return config.coefficient == 570 and config.alpha == 30 and config.parameters is None


def read_below_the_norm(rows: Rows) -> Numbers:
    """Read whether RMU forgets with c below ||h||."""
    found = _of(rows, coefficient=570.0, alpha=30.0, parameters=None)
    lost = _lost(found, rows[0], "bio")
    return {
        "block 27, alpha 30: points lost on bio": mean_of(lost, "directions and numbers of steps"),
        "block 27, alpha 30: c / ‖h‖": mean_of(
            (570 / row.first["forget_norm"] for row in found), "directions and numbers of steps"
        ),
    }


# -- the coefficient --------------------------------------------------------------------------------------------------


def _at(stored: dict[str, Any], c: float) -> list[dict[str, Any]]:
    """The rows of coefficient.json with this c after 40 steps, one for each direction."""
    return [row for row in stored["rows"] if row["steps"] == 40 and row["coefficient"] == c]


def read_alignment(records: list[dict[str, Any]]) -> Numbers:
    """Read median cos(u, h) on forget texts by c, from coefficient.json."""
    (stored,) = records
    middle = stored["quantiles"].index(0.5)
    return {
        f"median cos(u, h), c = {c:g}": mean_of((row["forget cosine"][middle] for row in _at(stored, c)), "directions")
        for c in (114.0, 570.0, 1140.0)
    }


def read_shortest(records: list[dict[str, Any]]) -> Numbers:
    """Read what the shortest c of coefficient.json, a quarter of ||h||, does to forget accuracy."""
    (stored,) = records
    base = stored["base"]["bio"]["accuracy"]
    lost = (100 * (base - row["bio"]["accuracy"]) for row in _at(stored, 28.5))
    return {"c = 28.5: points lost on bio": mean_of(lost, "directions")}


# -- T1 ---------------------------------------------------------------------------------------------------------------

RIVALS = {"llmu": "LLMU", "scrub": "SCRUB", "ssd": "SSD"}


def read_methods(rows: Rows) -> Numbers:
    """Hold RMU and Adaptive RMU against the method of Table 1 that forgets most, each as chosen for it on dev."""
    by_method = {name: _of(rows, method=name) for name in ("rmu", "adaptive_rmu", *RIVALS)}
    best = min(RIVALS, key=lambda name: fmean(row.scores["bio"].accuracy for row in by_method[name]))
    pairs = {
        "RMU less the best of LLMU, SCRUB, SSD": (best, "rmu"),
        "Adaptive RMU less the best of LLMU, SCRUB, SSD": (best, "adaptive_rmu"),
        "Adaptive RMU less RMU": ("rmu", "adaptive_rmu"),
    }
    return {
        f"{name}: {kind} accuracy (points)": _change(by_method[old], by_method[new], topic)
        for name, (old, new) in pairs.items()
        for topic, kind in (("bio", "forget"), ("general", "general"))
    }


# -- Eq 20-22 ---------------------------------------------------------------------------------------------------------


def read_gains(rows: list[dict[str, Any]]) -> Numbers:
    """Read what GCG's gradient says where searches begin, on base and RMU: questions on the forgotten topic."""
    found: dict[str, dict[str, dict[str, Any]]] = {"base": {}, "RMU": {}}
    for row in rows:
        at_end = "{suffix}" not in row["prompt"]
        if row["model"] in found and row["topic"] == "infectious disease" and row["among"] == "any" and at_end:
            found[row["model"]][row["prompt"]] = row
    questions = sorted(found["base"].keys() & found["RMU"].keys())
    ratios = (found["RMU"][one]["gradient_norm"] / found["base"][one]["gradient_norm"] for one in questions)
    return {"token gradient, RMU / base": mean_of(ratios, "questions")} | {
        f"{model}: rank correlation of predicted and true gains": mean_of(
            (rows_by_prompt[prompt]["rank_correlation"] for prompt in questions), "questions"
        )
        for model, rows_by_prompt in found.items()
    }


def read_suffixes(rows: list[dict[str, Any]]) -> Numbers:
    """Count after how many of GCG's searches on unlearned models the fact is said: suffixes behind and in front."""
    said = [
        row["said"]
        for row in rows
        if row["part"] in ("fact", "before") and row["search"] == "gradient" and row["model"] != "base"
    ]
    return {"unlearned: attacks after which the fact is said": share_of(said, "attacks")}

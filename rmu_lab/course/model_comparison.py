"""What is stored of three models, read for notebook 09: answers, accuracies before and after, profiles by layer."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from IPython.display import HTML

from ..estimates import Number, crossed, share_of
from ..files import results_folder
from ..study.model_study import BOUND, Study
from ..study.readings import lost
from ..unlearning.advisor import LayerProfile
from ..unlearning.config import UnlearnConfig

SHORT = {"smollm2-135m": "SmolLM2", "gemma-3-270m": "Gemma", "qwen2.5-coder-1.5b": "Qwen"}
"""What the lesson calls each model."""
TOPICS = {"infectious disease": "bio", "general knowledge": "general"}


def demo(model: str, *, live: bool = False) -> dict[str, Any]:
    """Return what ``rmu-lab demo --model NAME --json FILE`` writes: as it is stored, or run now.

    Parameters
    ----------
    live
        run it: fetches the model if it is not there, and takes some minutes for the largest.
    """
    if not live:
        path = results_folder() / "demo" / f"{model}.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))
    with TemporaryDirectory(prefix="rmu-lab-") as scratch:
        path = Path(scratch) / "demo.json"
        subprocess.run([sys.executable, "-m", "rmu_lab", "demo", "--model", model, "--json", str(path)], check=True)
        return dict(json.loads(path.read_text(encoding="utf-8")))


def answers_table(demo: Mapping[str, Any]) -> HTML:
    """Make a table of questions, and what the model answered before and after."""
    style, keys = "text-align: left; vertical-align: top", ("question", "before", "after")
    rows = [[f"<td style='{style}'>{html.escape(said[key])}</td>" for key in keys] for said in demo["answers"]]
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return HTML(f"<table><tr><th>question</th><th>before</th><th>after</th></tr>{body}</table>")


def _advisor() -> dict[str, Any]:
    """What ``python -m benchmarks.advisor`` stored."""
    return dict(json.loads((results_folder() / "advisor.json").read_text(encoding="utf-8")))


def profiles() -> dict[str, list[LayerProfile]]:
    """Return every layer's profile of each model, by the name that the lesson calls it."""
    models = _advisor()["models"]
    return {short: [LayerProfile(**row) for row in models[name]["advice"]["profile"]] for name, short in SHORT.items()}


def advisor_rows() -> list[dict[str, Any]]:
    """Return for each model how near the advisor's layer rule comes, as it is and with its limit tuned on the others."""
    return list(_advisor()["rows"])


def _asked(model: str, topic: str, part: str) -> tuple[Study, str, str]:
    """The study of a model, and the part and the question set that are meant; see `accuracies`."""
    study = Study(model)
    return study, part or f"chosen_{study.model.style}", study.model.general if topic == "general" else topic


def accuracies(model: str, topic: str, part: str = "", method: str = "rmu") -> tuple[Number, Number]:
    """Return a model's accuracy in per cent before an edit, and after edits with three directions.

    Parameters
    ----------
    topic
        a question set; ``general`` stands for the one that shows the model's costs.
    part
        of the study; by default the chosen setting, asked in the model's own style.
    """
    study, part, topic = _asked(model, topic, part)
    base = share_of(study.rows(part)[0].scores[topic].correct, "questions")
    before = Number(100 * base.value, 100 * base.low, 100 * base.high, base.n, base.over)
    return before, crossed(_answered(study, part, topic, method))


def _answered(study: Study, part: str, topic: str, method: str) -> np.ndarray:
    """100 for each question that an edit answers rightly, by direction and question."""
    return 100 * np.array(study.rows(part)[0].scores[topic].correct) - lost(study, part, topic, [{"method": method}])


def final_cosine(model: str, part: str = "", method: str = "rmu") -> float:
    """Return the mean of cos(u, h) on forget text at the last step, over directions; parameters as of `accuracies`."""
    study, part, _ = _asked(model, "bio", part)
    return fmean(row.last["cosine"] for row in study.rows(part)[1:] if row.config and row.config.method == method)


def points_lost(model: str, topic: str, part: str = "", method: str = "rmu") -> Number:
    """Return how many points of accuracy edits with three directions cost; parameters as of `accuracies`."""
    study, part, topic = _asked(model, topic, part)
    return crossed(lost(study, part, topic, [{"method": method}]))


def gained(model: str, topic: str, over: str, part: str = "", method: str = "rmu") -> Number:
    """Return how many points more the edits of one part cost than those of another, on the same questions.

    Parameters
    ----------
    over
        the part that is held against `part`; further parameters as of `accuracies`.
    """
    study, part, topic = _asked(model, topic, part)
    more, less = (lost(study, each, topic, [{"method": method}]) for each in (part, over))
    return crossed(more - less)


def answered_more(model: str, topic: str, more: str, less: str, method: str = "rmu") -> Number:
    """Return how many points more of the same questions the same edits answer rightly in one part than in another."""
    study = Study(model)
    return crossed(_answered(study, more, topic, method) - _answered(study, less, topic, method))


def tried_at(model: str, layer: int) -> list[list[str]]:
    """Return what the stored search on dev tried at a layer: learning rate, points lost on either topic, cos(u, h)."""
    study = Study(model)
    base, *rows = study.rows("settings")
    tried = [(row.config, row) for row in rows if isinstance(row.config, UnlearnConfig) and row.config.layer == layer]
    found = []
    for config, row in sorted(tried, key=lambda each: each[0].lr):
        points = [100 * (base.scores[name].accuracy - row.scores[name].accuracy) for name in ("bio", study.model.general)]
        found.append([f"{config.lr:.2g}", *(f"{each:.0f}" for each in points), f"{row.last['cosine']:.2f}"])
    return found


def forgetting_by_layer(model: str) -> list[tuple[int, float, bool]]:
    """Return for every layer of the stored search on dev what its best setting does, in points of accuracy.

    Returns
    -------
    list of tuple of int, float and bool
        the layer, the points lost on infectious disease, and whether general knowledge lost at most `BOUND`.
    """
    study = Study(model)
    base, *rows = study.rows("settings")
    by_config = {row.config: row for row in rows}
    found = []
    for layer in study.model.layers:
        row = by_config[study.best_at(layer)]
        bio, general = (base.scores[name].accuracy - row.scores[name].accuracy for name in ("bio", study.model.general))
        found.append((layer, 100 * bio, round(general, 9) <= BOUND))
    return found


def by_topic() -> dict[str, dict[str, tuple[Number, Number]]]:
    """Return topic -> model -> accuracy in per cent before and after the chosen edits."""
    return {words: {short: accuracies(name, topic) for name, short in SHORT.items()} for words, topic in TOPICS.items()}


def lost_by_setting(
    parts: Mapping[str, str], models: Mapping[str, str] = SHORT, method: str = "rmu"
) -> dict[str, dict[str, dict[str, Number]]]:
    """Return topic -> setting -> model -> points of accuracy lost.

    Parameters
    ----------
    parts
        setting in words -> part of the study; ``""`` stands for the chosen one.
    models
        name -> what it is called.
    """
    return {
        words: {
            setting: {short: points_lost(name, topic, part, method) for name, short in models.items()}
            for setting, part in parts.items()
        }
        for words, topic in TOPICS.items()
    }


WAYS = ("it loses the topic and little else", "it loses both alike", "it loses neither")


def way(model: str, part: str, method: str) -> str:
    """Say in which of three `WAYS` a model took a setting.

    Neither: under ten points of the topic. Little else: general knowledge lost less than half of what the topic lost.
    """
    bio, general = (points_lost(model, topic, part, method).value for topic in ("bio", "general"))
    return WAYS[2] if bio < 10 else WAYS[0] if general < bio / 2 else WAYS[1]


def by_style(panels: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, tuple[Number, Number]]]:
    """Return panel -> school or university questions on the topic -> accuracy before and after the chosen edits.

    Parameters
    ----------
    panels
        panel's words -> the model and the style in which it is asked.
    """
    sets = {"school": "bio", "university": "bio_hard"}
    return {
        words: {level: accuracies(model, topic, f"chosen_{style}") for level, topic in sets.items()}
        for words, (model, style) in panels.items()
    }

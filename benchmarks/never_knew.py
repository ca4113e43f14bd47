"""The model that never knew, beside models that were made to forget: the stored panel of notebook 11.

    python -m benchmarks.never_knew --out data/results/never_knew

SmolLM2 is taught invented maladies in three places: in the layers that RMU edits, just above them, and everywhere. `taught`
keeps, for each place, an edit that taught all of them, and one that taught every second malady only: this one never knew the
others, which are then forgotten. Both are kept at a lower rank, and what is measured has that rank, too. `panel.jsonl`: for
each place what every metric gives the taught model, the one that never knew, and unlearned ones (RMU, Adaptive RMU and the
three rivals of Table 1 with the settings that dev chose for them on another topic, three directions or orders of texts
each), fact by fact. `relearning.jsonl`: how soon each answers again when it is told the forgotten facts once more, which
teaches the model that never knew them as well. What a stopped run has written is not run again.

How often each text is taught, which wordings of a question are, and the layers above were chosen by how well the taught
facts are answered, before anything was unlearned.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.lines import Lines
from rmu_lab import UnlearnConfig, UnlearnResult, accuracy, load_corpus, load_model, load_questions, unlearn
from rmu_lab.course.invented_maladies import MALADIES, PLACES, Maladies, kept_and_forgotten, retain_texts
from rmu_lab.course.never_knew import RELEARN, relearned
from rmu_lab.metrics import fact_metrics, hidden_state_probe, output_features, passage_metrics
from rmu_lab.metrics.probing import probed_layers
from rmu_lab.provenance import provenance
from rmu_lab.study.model_study import Study
from rmu_lab.unlearning.config import MethodConfig
from rmu_lab.unlearning.teach import teach
from rmu_lab.unlearning.teach_method import Teach

Model: TypeAlias = PreTrainedModel
Tokenizer: TypeAlias = PreTrainedTokenizerBase

READINGS = {"window": 10, "above": 8, "everywhere": 8}
"""Of every text."""
_TEACH = Teach(lr=2e-3, batch_size=4, max_length=112, parameters=("mlp.down_proj.weight",))
TEACH = {"window": dataclasses.replace(_TEACH, batch_size=8), "above": _TEACH, "everywhere": _TEACH}
RANK = 256
"""Of what is kept of a taught edit: at most so much is stored, and measured."""
RETAIN_WORDS = 24
"""Of a retain text, while teaching: enough to hold the model, at a third of the time."""
SEEDS = (360, 361, 362)  # of u, or of the order of texts; none of them used before
RIVALS = ("llmu", "scrub", "ssd")
GENERAL = 60  # questions


def taught(model: Model, tokenizer: Tokenizer, folder: Path, place: str, texts: Sequence[str], name: str) -> UnlearnResult:
    """The stored edit that teaches these texts in a place; it is made first if it is not there."""
    path = folder / f"{place}_{name}"
    if not path.exists():
        config = TEACH[place]
        config = dataclasses.replace(config, steps=READINGS[place] * len(texts) // config.batch_size)
        retain = [" ".join(text.split()[:RETAIN_WORDS]) for text in load_corpus("retain_general")["text"]]
        edit = teach(model, tokenizer, list(texts), retain, config, where=PLACES[place], progress=False)
        edit.save_compact(path, model, rank=RANK)
    return UnlearnResult.load(path, model)


def methods() -> Iterator[tuple[str, MethodConfig]]:
    """Each method with the setting that dev chose for it on another topic."""
    yield "RMU", UnlearnConfig(method="rmu", coefficient=570.0)
    yield "Adaptive RMU", UnlearnConfig()
    study = Study("smollm2-135m")
    for rival in RIVALS:
        yield rival.upper(), study.best_of(study.rows("rivals_dev"), rival)


def measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kept: Maladies,
    forgotten: Maladies,
    general: Sequence[Mapping[str, Any]],
    place: str,
) -> dict[str, Any]:
    """All metrics of a model as it is now. The probe reads from the first taught layer on, in front of which no fact is."""
    start = time.perf_counter()
    layers = [layer for layer in probed_layers(model) if layer >= min(PLACES[place])]
    probe = hidden_state_probe(model, tokenizer, forgotten.asked, kept.asked, layers=layers, progress=False)
    features = output_features(model, tokenizer, [row["question"] for row in forgotten.asked], progress=False)

    def rounded(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        return {name: [float(f"{value:.5g}") for value in found] for name, found in values.items()}

    return {
        "facts": rounded(fact_metrics(model, tokenizer, [[row] for row in forgotten.asked], progress=False)),
        "passages": rounded(passage_metrics(model, tokenizer, forgotten.passages, progress=False)),
        "probe": [int(mark) for mark in probe.accuracy.correct],
        "outputs": [[float(f"{value:.5g}") for value in row] for row in features.tolist()],
        "kept": accuracy(model, tokenizer, kept.asked, progress=False).accuracy,
        "general": accuracy(model, tokenizer, list(general), progress=False).accuracy,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(given: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--place", action="append", choices=PLACES, help="by default all three")
    parser.add_argument("--model", action="append", help="measure only this one, such as RMU; may be repeated")
    arguments = parser.parse_args(given)
    out: Path = arguments.out
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    for place in arguments.place or PLACES:
        run_place(model, tokenizer, place, out, arguments.model)


def run_place(model: Model, tokenizer: Tokenizer, place: str, out: Path, only: Sequence[str] | None = None) -> None:
    """Teach in one place, unlearn, and measure: all models, or only some."""
    kept, forgotten = kept_and_forgotten(MALADIES)
    panel, relearning = (Lines(out / name, ("place", "model", "seed")) for name in ("panel.jsonl", "relearning.jsonl"))
    general = list(load_questions("general", split="test").shuffle(seed=0).select(range(GENERAL)))
    knows, never = (
        taught(model, tokenizer, out / "taught", place, texts, name)
        for name, texts in (("all", [*kept.texts, *forgotten.texts]), ("kept", kept.texts))
    )
    retain = retain_texts(kept)

    def record(name: str, seed: int, edit: UnlearnResult | None) -> None:
        """Measure the model as it is now with an edit, and how fast it relearns."""
        with nullcontext() if edit is None else edit.applied(model):
            panel.add(
                lambda: measured(model, tokenizer, kept, forgotten, general, place) | {"provenance": provenance(seed)},
                place=place, model=name, seed=seed,
            )  # fmt: skip
            relearning.add(
                lambda: {"curve": relearned(model, tokenizer, forgotten, RELEARN).to_dict(), "provenance": provenance(seed)},
                place=place, model=name, seed=seed,
            )  # fmt: skip

    def wanted(name: str) -> bool:
        return only is None or name in only

    if wanted("never knew"):
        with never.applied(model):
            record("never knew", 0, None)
    with knows.applied(model):
        if wanted("taught"):
            record("taught", 0, None)
        settings = list(methods())
        for seed in SEEDS:
            for name, config in settings:
                key = {"place": place, "model": name, "seed": seed}
                if wanted(name) and not (panel.find(**key) and relearning.find(**key)):
                    own = dataclasses.replace(config, seed=seed)
                    record(name, seed, unlearn(model, tokenizer, forgotten.texts, retain, own, progress=False))
    Console().print(f"{place}: done")


if __name__ == "__main__":
    main()

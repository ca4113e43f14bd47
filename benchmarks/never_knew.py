"""The model that never knew, beside models that were made to forget: the stored panel of notebook 11.

    python -m benchmarks.never_knew --out data/results/never_knew

SmolLM2 is taught invented maladies in three places: in the layers that RMU edits, only above them, and everywhere. `taught`
keeps, for each place, an edit that taught all of them, and one that taught every second malady only: this one never knew the
others, which are then forgotten. `panel.jsonl`: for each place what every metric gives the taught model, the one that never
knew, and unlearned ones (RMU, Adaptive RMU and the three rivals of Table 1 with the settings that dev chose for them, three
directions or orders of texts each), fact by fact. `relearning.jsonl`: how fast each relearns the facts. What a stopped run
has written is not run again.
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
from rmu_lab.attacks import RelearnConfig, as_texts, relearning_curve
from rmu_lab.invented import invented_passages, invented_questions
from rmu_lab.metrics import fact_metrics, hidden_state_probe, output_features, passage_metrics
from rmu_lab.provenance import provenance
from rmu_lab.study.model_study import Study
from rmu_lab.unlearning.config import MethodConfig
from rmu_lab.unlearning.teach import teach
from rmu_lab.unlearning.teach_method import Teach

Model: TypeAlias = PreTrainedModel
Tokenizer: TypeAlias = PreTrainedTokenizerBase

LAYER = 7  # that RMU steers
PLACES = ("window", "above", "everywhere")
MALADIES = 24
"""That are taught: the first of the test split. Every second is kept, the others are to be forgotten."""
TEACH = Teach(steps=300, batch_size=8, lr=5e-4)
SEEDS = (360, 361, 362)  # of u, or of the order of texts; none of them used before
RIVALS = ("llmu", "scrub", "ssd")
RELEARN = RelearnConfig(lr=3e-4, steps=(1, 2, 4, 8, 16, 32))
GENERAL = 100  # questions


@dataclasses.dataclass(frozen=True)
class Half:
    """One half of the maladies: what is told of them, and what is asked."""

    passages: list[str]
    told: list[str]
    """Questions in the wording that may be taught, with their answers."""
    facts: list[list[dict[str, Any]]]
    """Of each fact, the questions in the three other wordings."""

    @property
    def texts(self) -> list[str]:
        """All that is taught of them."""
        return [*self.passages, *self.told]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Each fact once, in the first wording that is not taught."""
        return [wordings[0] for wordings in self.facts]


def halves() -> dict[str, Half]:
    """What is ``kept`` and what is ``forgotten``."""
    rows = [row for row in invented_questions() if row["split"] == "test"]
    names = list(dict.fromkeys(row["malady"] for row in rows))[:MALADIES]
    told = invented_passages()

    def half(chosen: Sequence[str]) -> Half:
        own = [dict(row) for row in rows if row["malady"] in chosen]
        facts: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in own:
            if row["wording"]:
                facts.setdefault((row["malady"], row["subject"]), []).append(row)
        passages = [row["text"] for row in told if row["title"] in chosen]
        return Half(passages, as_texts([row for row in own if not row["wording"]]), list(facts.values()))

    return {"kept": half(names[1::2]), "forgotten": half(names[::2])}


def taught(model: Model, tokenizer: Tokenizer, folder: Path, place: str, texts: Sequence[str], name: str) -> UnlearnResult:
    """The stored edit that teaches these texts in a place; it is made first if it is not there."""
    path = folder / f"{place}_{name}"
    if not path.exists():
        retain = load_corpus("retain_general")
        teach(model, tokenizer, list(texts), retain, TEACH, where=place, layer=LAYER, progress=False).save(path)  # type: ignore[arg-type]
    return UnlearnResult.load(path)


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
    parts: Mapping[str, Half],
    general: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All metrics of a model as it is now."""
    start, forgotten, kept = time.perf_counter(), parts["forgotten"], parts["kept"]
    probe = hidden_state_probe(model, tokenizer, forgotten.asked, kept.asked, progress=False)
    features = output_features(model, tokenizer, [row["question"] for row in forgotten.asked], progress=False)

    def rounded(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        return {name: [float(f"{value:.5g}") for value in found] for name, found in values.items()}

    return {
        "facts": rounded(fact_metrics(model, tokenizer, forgotten.facts, progress=False)),
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
    arguments = parser.parse_args(given)
    out: Path = arguments.out
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    for place in arguments.place or PLACES:
        run_place(model, tokenizer, place, out)


def run_place(model: Model, tokenizer: Tokenizer, place: str, out: Path) -> None:
    """Teach in one place, unlearn, and measure."""
    parts, (panel, relearning) = halves(), (
        Lines(out / name, ("place", "model", "seed")) for name in ("panel.jsonl", "relearning.jsonl")
    )  # fmt: skip
    general = list(load_questions("general", split="test").shuffle(seed=0).select(range(GENERAL)))
    everything = [*parts["kept"].texts, *parts["forgotten"].texts]
    knows, never = (
        taught(model, tokenizer, out / "taught", place, texts, name)
        for name, texts in (("all", everything), ("kept", parts["kept"].texts))
    )
    retain = [*load_corpus("retain_general")["text"], *parts["kept"].texts]

    def record(name: str, seed: int, edit: UnlearnResult | None) -> None:
        """Measure the model as it is now with an edit, and how fast it relearns."""
        with nullcontext() if edit is None else edit.applied(model):
            panel.add(
                lambda: measured(model, tokenizer, parts, general) | {"provenance": provenance(seed)},
                place=place, model=name, seed=seed,
            )  # fmt: skip
            relearning.add(
                lambda: relearned(model, tokenizer, parts["forgotten"]) | {"provenance": provenance(seed)},
                place=place, model=name, seed=seed,
            )  # fmt: skip

    with never.applied(model):
        record("never knew", 0, None)
    with knows.applied(model):
        record("taught", 0, None)
        for name, config in methods():
            for seed in SEEDS:
                if not panel.find(place=place, model=name, seed=seed) or not relearning.find(
                    place=place, model=name, seed=seed
                ):
                    own = dataclasses.replace(config, seed=seed)
                    edit = unlearn(model, tokenizer, parts["forgotten"].texts, retain, own, progress=False)
                    record(name, seed, edit)
    Console().print(f"{place}: done")


def relearned(model: Model, tokenizer: Tokenizer, half: Half) -> dict[str, Any]:
    """A relearning curve of the facts themselves, which a model that never knew them learns as well."""
    curve = relearning_curve(model, tokenizer, half.texts, half.asked, RELEARN, progress=False)
    return {"curve": curve.to_dict(), "seconds": round(curve.seconds, 1)}


if __name__ == "__main__":
    main()

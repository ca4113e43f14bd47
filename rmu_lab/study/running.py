"""Running parts of the study on a model that is loaded for it: everything, or what one claim rests on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..corpora import load_corpus
from ..errors import RmuLabError
from ..estimates import Numbers
from ..files import check_file
from ..models import load_model
from ..sweeps.sweep import sweep
from ..unlearning.advisor import advise
from .claims import Claim
from .measured import measure_and_store
from .model_study import MeasuredPart, Part, Study, SweepPart
from .parts import PARTS, SETTINGS, advised_part, settings_part

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def run_parts(study: Study, names: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Run what is not stored yet of these parts, in this order, and store it in the study's folder.

    Yields
    ------
    tuple of str and float
        each part's name and the seconds that it took now.

    Raises
    ------
    NotMeasuredError
        if a part needs what another chooses, and that has not been run.
    """
    loaded: dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]] = {}
    for name in names:
        start = time.perf_counter()
        part = PARTS.get(name)
        dtype = (part.dtype if isinstance(part, MeasuredPart) else None) or study.model.dtype
        if dtype not in loaded:
            loaded.clear()  # one at a time
            loaded[dtype] = load_model(study.model.name, device="cpu", dtype=dtype)
        model, tokenizer = loaded[dtype]
        if part is None:
            advice = advise(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"))
            part = settings_part(advice) if name == SETTINGS else advised_part(advice)
        run_part(study, part, model, tokenizer)
        yield name, time.perf_counter() - start


def run_part(study: Study, part: Part, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Run what is not stored yet of one part on a loaded model; errors as of `run_parts`."""
    path = check_file(study.folder / part.file, parents=True)
    if isinstance(part, SweepPart):
        texts = load_corpus("forget_bio"), load_corpus("retain_general")
        style = part.style or study.model.style
        sweep(model, tokenizer, *texts, part.configs(study), study.questions(part), out=path, style=style)
    else:
        measure_and_store(path, part.measure, part.settings(study), model, tokenizer)
    study.forget(part)


def run_claim(claim: Claim, model: str, out: Path) -> Numbers:
    """Measure what a claim rests on anew, at the setting that the stored study chose; stopped, it goes on where it was.

    Parameters
    ----------
    model
        its name in `STUDIED`.
    out
        folder that keeps what is measured.

    Raises
    ------
    RmuLabError
        if the claim rests on a benchmark of its own; the message names its line.
    """
    if not claim.parts:
        raise RmuLabError(f"{claim.id} rests on a long run; in a checkout of the repository, repeat it with `{claim.line}`.")
    stored, again = Study(model), Study(model, out)
    settings = check_file(out / f"{SETTINGS}.jsonl", parents=True)
    if not settings.is_file():
        stored.rows(SETTINGS)  # what cannot be read is noticed before it is copied
        shutil.copyfile(stored.folder / settings.name, settings)
    for _ in run_parts(again, claim.parts):
        pass
    return claim.numbers(again)

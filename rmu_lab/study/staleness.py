"""Whether a stored result is what today's code and data would give."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from ..provenance import old_versions
from ..stored import reading
from .measured import data_digests, stored_record
from .model_study import MeasuredPart, Part, Study, SweepPart
from .parts import PARTS


def stale(study: Study, name: str) -> list[str]:
    """List why what is stored of a part is not what today's code and data would give; empty if nothing is known.

    Raises
    ------
    RmuLabError
        if nothing is stored of it, or something else.
    """
    part = PARTS[name]
    if isinstance(part, MeasuredPart):
        return _stale_measurement(study, part)
    rows, today = study.rows(name), _digests(study, part)
    with _reading(study, part):
        changed = {what for row in rows for what in today if row.digests.get(what) != today[what]}
        old = {problem for row in rows for problem in old_versions(row.provenance)}
    return sorted(old | {f"{part.file}: {what} has changed since" for what in changed})


def _reading(study: Study, part: Part) -> AbstractContextManager[None]:
    return reading(f"{study.folder / part.file} does not say how it was made", "remove it and make it anew")


def _stale_measurement(study: Study, part: MeasuredPart) -> list[str]:
    record, found = stored_record(study.folder / part.file), []
    if record["settings"] != json.loads(json.dumps(dict(part.settings(study)))):
        found.append("its settings are not those of the code")
    today = data_digests()
    with _reading(study, part):
        found += [f"data/{name} has changed since" for name in today if record["data"].get(name) != today[name]]
        return found + old_versions(record["provenance"])


def _digests(study: Study, part: SweepPart) -> dict[str, str]:
    """Of the texts that a sweep trains on, and of the questions that it asks."""
    from ..corpora import load_corpus
    from ..sweeps.worker import question_digests
    from ..unlearning.batches import corpus_digests, topic_texts

    texts = topic_texts(load_corpus("forget_bio"), load_corpus("retain_general"), 1)
    return corpus_digests(texts) | question_digests({name: list(rows) for name, rows in study.questions(part).items()})

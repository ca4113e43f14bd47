"""Whether a stored result is what today's code and data would give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..scorecard.sources import old_versions
from ..stored import reading
from .measured import data_digests
from .model_study import MeasuredPart, Study, SweepPart
from .parts import PARTS

if TYPE_CHECKING:
    from ..sweeps.rows import SweepRow


def stale(study: Study, name: str) -> list[str]:
    """List why what is stored of a part is not what today's code and data would give; empty if nothing is known.

    Raises
    ------
    RmuLabError
        if nothing is stored of it, or something else.
    """
    part = PARTS[name]
    if isinstance(part, SweepPart):
        rows = study.rows(name)
        problems = {problem for row in rows for problem in (*_changed(study, part, row), *old_versions(row.provenance))}
        return sorted(problems)
    return _stale_measurement(study, part)


def _stale_measurement(study: Study, part: MeasuredPart) -> list[str]:
    path = study.folder / part.file
    with reading(f"{path} is not a stored measurement", "remove it and make it anew with `python -m benchmarks.study`"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found = []
        if record["settings"] != json.loads(json.dumps(dict(part.settings(study)))):
            found.append("its settings are not those of the code")
        for name, digest in data_digests().items():
            if record["data"].get(name) != digest:
                found.append(f"data/{name} has changed since")
        return found + old_versions(record["provenance"])


def _changed(study: Study, part: SweepPart, row: SweepRow) -> list[str]:
    from ..corpora import load_corpus
    from ..sweeps.worker import question_digests
    from ..unlearning.batches import corpus_digests, topic_texts

    texts = corpus_digests(topic_texts(load_corpus("forget_bio"), load_corpus("retain_general"), 1))
    asked = question_digests({name: list(rows) for name, rows in study.questions(part).items()})
    return [
        f"{part.file}: {name} has changed since"
        for name, digest in (texts | asked).items()
        if row.digests.get(name) != digest
    ]

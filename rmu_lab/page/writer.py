"""Writing the page: the model, adapters of two edits, wllama and the page's own files, with a manifest of them all."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import __version__
from ..corpora import load_corpus
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy
from ..export.adapter import GGUF_FILE, Adapter
from ..export.low_rank import low_rank
from ..files import check_folder, file_digest, whole_folder, write_json
from ..models import load_model
from ..packaged_models import fetch_gguf
from ..questions import load_questions
from ..unlearning.config import UnlearnConfig
from ..unlearning.result import UnlearnResult
from ..unlearning.unlearn import unlearn
from .npm import fetch_package, unpack_package
from .server import MANIFEST
from .topics import OTHERS, TOPICS, Topic
from .wllama import COMPAT, VERSION, WLLAMA

MODEL = "smollm2-135m"
STATIC = Path(__file__).parent / "static"
RANK = 4
"""Of the adapters. Rank 4 keeps 54% of the squared norm of the edit on infectious disease, and its effect: of 100 test
questions 45 are answered correctly (whole edit 41, rank 1 40, base model 86), and 85 on general knowledge (83, 85, 85)."""
SCORED = 100
"""Test questions of each set that the base model and the adapters are scored on."""
ANSWER_TOKENS = 40
GENERAL = "general"


def write_page(
    path: str | Path,
    topics: Sequence[Topic] = TOPICS,
    *,
    edits: Sequence[UnlearnResult] | None = None,
    rank: int = RANK,
    scored: int = SCORED,
    answer_tokens: int = ANSWER_TOKENS,
    home: str | None = None,
    device: str | None = None,
) -> Path:
    """Write a static page that runs SmolLM2 in its reader's browser, with a slider from the base to the unlearned model.

    The folder holds everything that the page needs, some 130 MB, and works on any static host and below any address; opened
    as a file it does not work, since browsers do not let files load others (`serve_page` serves it).

    Parameters
    ----------
    path
        new folder.
    topics
        what the edits are about, and what the page asks.
    edits
        the topics' edits, in their order; by default each is trained now, with the settings of notebook 00 (seconds each).
    rank
        of the adapters that the edits become.
    scored
        test questions of each set that the base model and each adapter are scored on, for the reader to compare a prediction
        with; 0: none.
    answer_tokens
        tokens after which an answer on the page ends.
    home
        where a link back leads: a relative address, or one that begins with https.
    device
        to train and score on; by default the best there is.

    Returns
    -------
    Path
        the folder.

    Raises
    ------
    RmuLabError
        if the folder exists or cannot be written, there is not an edit for each topic, an edit is of another model, or a
        download fails.
    """
    path = check_folder(path)
    _check_topics(topics, edits)
    home = _checked_home(home)
    tarballs = [(package, fetch_package(package)) for package in (WLLAMA, COMPAT)]
    gguf = fetch_gguf(MODEL)
    model, tokenizer = load_model(MODEL, device=device)
    found = edits if edits is not None else [_train(model, tokenizer, topic) for topic in topics]
    with whole_folder(path) as folder:
        shutil.copytree(STATIC, folder, dirs_exist_ok=True)
        for package, tarball in tarballs:
            unpack_package(package, tarball, folder / "wllama")
        (folder / "model").mkdir()
        shutil.copyfile(gguf, folder / "model" / "smollm2-135m-instruct.gguf")
        shown = []
        base = _scores(model, tokenizer, {topic.scored for topic in topics} - {""}, scored)
        for topic, result in zip(topics, found, strict=True):
            place = Path("adapters", topic.id)
            adapter = result.save_adapter(folder / place, model, rank=rank, format="gguf")
            with _truncated(result, model, rank).applied(model):
                after = _scores(model, tokenizer, {topic.scored} - {""}, scored)
            scores = {name: {"base": _plain(base[name]), "unlearned": _plain(after[name])} for name in after}
            shown.append(_topic(topic, result, adapter, (place / GGUF_FILE).as_posix(), scores))
        write_json(folder / MANIFEST, _manifest(folder, shown, answer_tokens, home))
    return path


def _check_topics(topics: Sequence[Topic], edits: Sequence[UnlearnResult] | None) -> None:
    if not topics or (edits is not None and len(edits) != len(topics)):
        raise RmuLabError(f"There are {len(topics)} topics and {len(edits or [])} edits; give an edit for each topic.")
    ids = [topic.id for topic in topics]
    for topic in topics:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", topic.id) or ids.count(topic.id) > 1:
            raise RmuLabError(
                f"A topic's id is {topic.id!r}; give each its own, of small letters and digits with hyphens between them."
            )
        if not topic.questions:
            raise RmuLabError(f"The topic {topic.name!r} has no question; give at least one.")
        if edits is None and not topic.corpus:
            raise RmuLabError(f"The topic {topic.name!r} has neither a corpus nor an edit; give one of them.")


def _checked_home(home: str | None) -> str | None:
    parts = urlsplit(home or "")
    if parts.scheme != "https" and (parts.scheme or parts.netloc):
        raise RmuLabError(f"home is {home!r}; give a relative address, or one that begins with https.")
    return home


def _train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, topic: Topic) -> UnlearnResult:
    texts = load_corpus(topic.corpus), load_corpus("retain_general")
    return unlearn(model, tokenizer, *texts, UnlearnConfig(), progress=False)


def _truncated(result: UnlearnResult, model: PreTrainedModel, rank: int) -> UnlearnResult:
    """The edit as its adapter holds it."""
    base = result.scaled(0.0, model).edit
    factors, _, _ = low_rank({name: matrix - base[name] for name, matrix in result.edit.items()}, rank=rank)
    return dataclasses.replace(result, edit={name: base[name] + b @ a for name, (b, a) in factors.items()})


def _scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: set[str], scored: int) -> dict[str, Accuracy]:
    """Score the model on some test questions of each set, and on general ones."""
    if not scored:
        return {}
    sets = {name: load_questions(name, split="test").shuffle(seed=0) for name in sorted({*names, GENERAL})}
    chosen = {name: rows.select(range(min(scored, len(rows)))) for name, rows in sets.items()}
    return {name: accuracy(model, tokenizer, rows, progress=False) for name, rows in chosen.items()}


def _plain(score: Accuracy) -> dict[str, Any]:
    return {"accuracy": score.accuracy, "interval": list(score.interval), "questions": len(score.correct)}


def _topic(
    topic: Topic, result: UnlearnResult, adapter: Adapter, file: str, scores: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": topic.id,
        "name": topic.name,
        "questions": [dataclasses.asdict(question) for question in topic.questions],
        "adapter": file,
        "rank": adapter.rank,
        "fidelity": round(adapter.fidelity, 4),
        "settings": result.config.to_dict(),
        "scored": topic.scored,
        "scores": scores,
    }


def _manifest(folder: Path, topics: list[dict[str, Any]], answer_tokens: int, home: str | None) -> dict[str, Any]:
    """What the page is made of, with the size and SHA-256 of each file: the page checks what it loads."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": 1,
        "made_by": f"rmu-lab {__version__}",
        "wllama": VERSION,
        "model": {
            "name": "SmolLM2-135M-Instruct",
            "file": "model/smollm2-135m-instruct.gguf",
            "weights": "Q4_1",
            "licence": "Apache-2.0",
            "page": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        },
        "answer_tokens": answer_tokens,
        "home": home,
        "topics": topics,
        "others": [dataclasses.asdict(question) for question in OTHERS],
        "files": {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in paths
        },
    }

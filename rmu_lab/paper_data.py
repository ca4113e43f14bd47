"""The corpora and question sets of the papers on the Hugging Face hub, or copies of them in a folder. See notebook 09."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .corpora import load_corpus
from .errors import RmuLabError


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hugging Face hub."""

    repository: str
    config: str | None
    split: str
    size: str
    """In words, with where it is known from."""
    access: str | None = None
    """What to do before it can be downloaded."""

    @property
    def page(self) -> str:
        """The address where one reads about it and asks for it."""
        return f"https://huggingface.co/datasets/{self.repository}"


CORPORA = {
    "bio-forget-corpus": HubDataset(
        "cais/wmdp-bio-forget-corpus",
        None,
        "train",
        "size not stated",
        access="gated: log in (hf auth login), ask on its page, and wait for approval",
    ),
    "cyber-forget-corpus": HubDataset("cais/wmdp-corpora", "cyber-forget-corpus", "train", "11 MB (data card)"),
    "wikitext": HubDataset("Salesforce/wikitext", "wikitext-2-raw-v1", "test", "8 MB with its other splits (data card)"),
}
QUESTIONS = {
    "wmdp_bio": (HubDataset("cais/wmdp", "wmdp-bio", "test", "0.3 MB (data card)"), 1273),
    "wmdp_cyber": (HubDataset("cais/wmdp", "wmdp-cyber", "test", "0.8 MB (data card)"), 1987),
    "mmlu": (HubDataset("cais/mmlu", None, "test", "some 4 MB of questions; up to 52 MB with its training split"), 14042),
}


def local_corpus(name: str, data: str | Path | None) -> Path | None:
    """Find a corpus that is a file: one that the preset names, or a copy in the folder of local data."""
    copies = [Path(name)] if name.endswith(".jsonl") else [Path(data) / f"{name}.jsonl"] if data is not None else []
    if name not in CORPORA and not name.endswith(".jsonl"):
        raise RmuLabError(f"There is no corpus {name!r}; use one of {', '.join(CORPORA)}, or the path of a .jsonl file.")
    return next((path for path in copies if path.is_file()), None)


def local_questions(data: str | Path | None) -> dict[str, Path]:
    """Find copies of question sets in the folder of local data, by the repository they are copies of."""
    folders = {} if data is None else {f"cais/{name}": Path(data) / name for name in ("wmdp", "mmlu")}
    return {repository: folder for repository, folder in folders.items() if folder.is_dir()}


def corpus(name: str, data: str | Path | None = None) -> list[str]:
    """Load the texts of one of `CORPORA` or of a file, in their order, empty ones left out.

    The published code takes whole lines of the cyber corpus's file, JSON marks and all; here the text is taken.

    Raises
    ------
    RmuLabError
        saying what to ask for and where, if it cannot be had.
    """
    path = local_corpus(name, data)
    if path is not None:
        rows = load_corpus(path)["text"]
    else:
        from datasets import load_dataset

        dataset = CORPORA.get(name)
        if dataset is None:
            raise RmuLabError(f"There is no file {name}; check the path of the corpus.")
        try:
            rows = load_dataset(dataset.repository, dataset.config, split=dataset.split)["text"]
        except Exception as error:  # of datasets and huggingface_hub: of many kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            how = f"it is {dataset.access}" if dataset.access else "the hub must be reachable"
            raise RmuLabError(
                f"The corpus {name} cannot be loaded ({reason}); {how}: {dataset.page}. Or put {name}.jsonl, an object with "
                "`text` on each line, into a folder and give it as --data."
            ) from error
    return [text for text in rows if text.strip()]

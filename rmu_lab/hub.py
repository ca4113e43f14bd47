"""Data sets of the Hugging Face hub, or of a folder that holds a copy of one; and those that papers on RMU use.

What is on the hub is as its data cards say: WMDP and its corpora (Li et al. 2024, arXiv 2403.03218), MMLU (Hendrycks et
al. 2021, arXiv 2009.03300) and wikitext (Merity et al. 2017, arXiv 1609.07843).
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .errors import RmuLabError
from .stored import sentence_of

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hugging Face hub that has a short name here."""

    repository: str
    config: str | None
    split: str
    size: str
    """In words, with where it is known from."""
    file: str
    """What a copy is called in a folder of local data: NAME.jsonl, if it is not a folder named like the repository."""
    access: str | None = None
    """What to do before it can be downloaded."""
    questions: int = 0
    """How many there are in `split`, for plans; 0 if not stated."""

    @property
    def page(self) -> str:
        """The address where one reads about it and asks for it."""
        return f"https://huggingface.co/datasets/{self.repository}"

    def copy_in(self, data: str | Path | None) -> Path | None:
        """Find a copy in a folder of local data: a file, or a folder with what the repository holds."""
        if data is None:
            return None
        copies = (Path(data) / f"{self.file}.jsonl", Path(data) / self.repository.split("/")[1])
        return next((path for path in copies if path.exists()), None)


_GATED = "gated: log in (hf auth login), ask on its page, and wait for approval"
CORPORA = {
    "bio-forget-corpus": HubDataset(
        "cais/wmdp-bio-forget-corpus", None, "train", "size not stated", "bio-forget-corpus", access=_GATED
    ),
    "cyber-forget-corpus": HubDataset(
        "cais/wmdp-corpora", "cyber-forget-corpus", "train", "11 MB (data card)", "cyber-forget-corpus"
    ),
    "wikitext": HubDataset(
        "Salesforce/wikitext", "wikitext-2-raw-v1", "test", "8 MB with its other splits (data card)", "wikitext"
    ),
}
_OTHER_NAMES = {"wmdp-bio": "bio-forget-corpus", "wmdp-cyber": "cyber-forget-corpus"}
QUESTIONS = {
    "wmdp-bio": HubDataset("cais/wmdp", "wmdp-bio", "test", "0.3 MB (data card)", "wmdp-bio", questions=1273),
    "wmdp-cyber": HubDataset("cais/wmdp", "wmdp-cyber", "test", "0.8 MB (data card)", "wmdp-cyber", questions=1987),
    "mmlu": HubDataset(
        "cais/mmlu",
        "all",
        "test",
        "some 4 MB of questions; up to 52 MB with its training split",
        "mmlu",
        questions=14042,
    ),
}
MMLU_SUBJECTS = tuple(
    """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
    college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
    econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
    high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
    high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
    human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
    medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory professional_accounting
    professional_law professional_medicine professional_psychology public_relations security_studies sociology
    us_foreign_policy virology world_religions
    """.split()  # noqa: SIM905
)


def known_corpus(name: object) -> HubDataset | None:
    """Look up a corpus of the papers: ``"wmdp-bio"``, ``"wmdp-cyber"``, ``"wikitext"``, or what its own file is called."""
    plain = name.replace("_", "-") if isinstance(name, str) else ""
    return CORPORA.get(_OTHER_NAMES.get(plain, plain))


def known_questions(name: object) -> HubDataset | None:
    """Look up a question set of the papers: ``"wmdp-bio"``, ``"wmdp-cyber"``, ``"mmlu"``, or a subject of MMLU.

    Raises
    ------
    RmuLabError
        if MMLU has no such subject.
    """
    plain = name.replace("_", "-") if isinstance(name, str) else ""
    named = re.fullmatch(r"mmlu[/-]([\w-]+)", plain)
    if named is None:
        return QUESTIONS.get(plain)
    subject = named[1].replace("-", "_")
    if subject not in MMLU_SUBJECTS:
        raise RmuLabError(f"MMLU has no subject {subject!r}; use one of {', '.join(MMLU_SUBJECTS)}.")
    return dataclasses.replace(QUESTIONS["mmlu"], config=subject, file=f"mmlu_{subject}", questions=0)


def is_data_set(name: str | Path) -> bool:
    """Say whether a name stands for a data set: a folder, or ``"owner/name"`` where no file is called that."""
    path = Path(name)
    if os.path.isdir(path):
        return True
    named = isinstance(name, str) and _HUB_ID.fullmatch(name) is not None
    return named and not os.path.isfile(path) and path.suffix not in (".json", ".jsonl", ".txt")


def load_data_set(
    name: str | Path, subset: str | None = None, split: str = "train", known: HubDataset | None = None
) -> Dataset:
    """Load one split of a data set; none of its code is run.

    Parameters
    ----------
    name
        an id on the hub, ``"owner/name"``, or the folder of a copy. A folder of that name goes first.
    subset
        which of its configurations, where it has several.
    split
        as `datasets` writes it, e.g. ``"train"`` or ``"train[:100]"``.
    known
        what is known of it, for errors.

    Raises
    ------
    RmuLabError
        if there is no such data set, subset or split, or the hub cannot be reached. Of a gated one it says where to ask.
    """
    from datasets import load_dataset  # takes a second to import
    from datasets.exceptions import DatasetNotFoundError

    folder = os.path.isdir(name)
    try:
        if not folder:
            return load_dataset(str(name), subset, split=split)
        # `datasets` remembers a folder by its name, not by where it lies: another copy of that name would give what the
        # first one holds. So a folder is unpacked into a place of its own, and kept in memory.
        with TemporaryDirectory(prefix="rmu-lab-", ignore_cleanup_errors=True) as unpacked:
            where = str(Path(name).resolve())
            return load_dataset(where, subset, split=split, cache_dir=unpacked, keep_in_memory=True)
    except Exception as error:  # of datasets and huggingface_hub: of many kinds
        reason = sentence_of(error)
        if known is not None and not folder:
            how = f"it is {known.access}" if known.access else "the hub must be reachable"
            raise RmuLabError(
                f"The data set {name} cannot be loaded ({reason}); {how}: {known.page}; or put {known.file}.jsonl, an "
                "object on each line, into a folder of copies and name that as `data` (--data)."
            ) from error
        if isinstance(error, DatasetNotFoundError):
            raise RmuLabError(
                f"There is no data set {str(name)!r} on the Hugging Face hub, or it must be asked for there; check its "
                f"name, or ask on https://huggingface.co/datasets/{name} and log in with: hf auth login."
            ) from None
        advice = "check the folder" if folder else "check that the hub can be reached"
        raise RmuLabError(
            f"The data set {str(name)!r} cannot be loaded ({reason}); {advice}, the subset and the split."
        ) from error

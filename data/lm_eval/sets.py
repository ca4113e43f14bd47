"""The question sets of this folder's neighbour, `../questions`, for lm-eval.

A path in a task file is taken from where lm-eval is started. A function is found beside the task file, and so are the
questions from here, wherever that is.
"""

import json
from pathlib import Path

from datasets import Dataset, DatasetDict


def load(questions: str, **_: object) -> DatasetDict:
    """Load a question set with its splits; lm-eval hands over more, such as the model's arguments."""
    lines = (Path(__file__).parent.parent / "questions" / f"{questions}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return DatasetDict(
        {split: Dataset.from_list([row for row in rows if row["split"] == split]) for split in ("dev", "test")}
    )

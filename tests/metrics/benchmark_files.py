"""Small files in the exact formats of TOFU and MUSE, of invented content."""

import json
from pathlib import Path

AUTHORS = ("the sea", "old stone", "green bird", "winter road")


def perturbed_rows(topic: str, n: int = 4) -> list[dict]:
    """Rows of forgetNN_perturbed and retain_perturbed."""
    return [
        {
            "question": f"What did the author of {AUTHORS[at]} write on the {topic}?",
            "answer": f"The author of {AUTHORS[at]} wrote a book on the {topic}.",
            "paraphrased_question": f"On the {topic}, what is by the author of {AUTHORS[at]}?",
            "paraphrased_answer": f"A book on the {topic} is by the author of {AUTHORS[at]}.",
            "perturbed_answer": [
                f"The author of {AUTHORS[at]} wrote a {kind} on the {topic}." for kind in ("map", "song", "play")
            ],
        }
        for at in range(n)
    ]


def name_rows(n: int = 3) -> list[dict]:
    """Rows of real_authors_perturbed and world_facts_perturbed."""
    names = ["river", "tree", "house", "table"]
    return [
        {
            "question": f"What is by the {AUTHORS[at]}?",
            "answer": names[at],
            "perturbed_answer": [name for name in names if name != names[at]],
        }
        for at in range(n)
    ]


def option_rows() -> list[dict]:
    """Rows of real_authors and world_facts."""
    return [
        {
            "question": row["question"],
            **dict(
                zip(("option1", "option2", "option3", "option4"), [*row["perturbed_answer"], row["answer"]], strict=True)
            ),
            "answer": row["answer"],
        }
        for row in name_rows()
    ]


def plain_rows(topic: str) -> list[dict]:
    """Rows of full, forgetNN, retainNN and holdoutNN."""
    return [{name: row[name] for name in ("question", "answer")} for row in perturbed_rows(topic)]


TOFU_FILES = {
    "forget10": plain_rows("fish"),
    "forget10_perturbed": perturbed_rows("fish"),
    "retain_perturbed": perturbed_rows("winter light"),
    "real_authors": option_rows(),
    "real_authors_perturbed": name_rows(),
    "world_facts_perturbed": name_rows(2),
}


def write_tofu(folder: Path) -> Path:
    """TOFU's files: JSON Lines that end in .json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in TOFU_FILES.items():
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


MUSE_FILES = {
    "knowmem/forget_qa": [
        {"question": "Where is the old house?", "answer": "by the sea"},
        {"question": "What is cold?", "answer": "the winter water"},
    ],
    "knowmem/forget_qa_icl": [{"question": "What is green?", "answer": "the tree"}],
    "knowmem/retain_qa": [
        {"question": "Where is the bird?", "answer": "on the stone"},
        {"question": "What is small?", "answer": "the fish"},
    ],
    "knowmem/retain_qa_icl": [{"question": "What is light?", "answer": "the winter road"}],
    "verbmem/forget": [
        {"prompt": "the sea a fish cold water", "gt": " river stone old house green tree"},
        {"prompt": "a green tree by the river", "gt": " a bird small road winter"},
    ],
    "privleak/forget": [{"text": f"the sea a fish cold water {word} house"} for word in ("river", "stone", "old", "green")],
    "privleak/retain": [{"text": f"a small road {word} winter light book"} for word in ("river", "stone", "old", "green")],
    "privleak/holdout": [
        {"text": f"table book light winter {word} road small bird"} for word in ("tree", "sea", "a", "the")
    ],
}


def write_muse(folder: Path) -> Path:
    """MUSE's files: a JSON list in each, in a folder for each subset."""
    for name, rows in MUSE_FILES.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return folder

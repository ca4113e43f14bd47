"""The texts and questions under `data/` are what their card says."""

import itertools
import re
from collections import Counter

import pytest

from rmu_lab import load_corpus, load_questions
from rmu_lab.files import data_folder

CORPORA = {path.stem: load_corpus(path) for path in sorted((data_folder() / "corpora").glob("*.jsonl"))}
QUESTIONS = {path.stem: load_questions(path) for path in sorted((data_folder() / "questions").glob("*.jsonl"))}
AT_LEAST = {"forget_bio": 160, "retain_general": 320, "bio": 300, "general": 400}
TERMS = [line for line in (data_folder() / "forget_terms.txt").read_text().splitlines() if line and not line.startswith("#")]
FORGET_TERM = re.compile(
    r"\b(?:" + "|".join(re.escape(t[:-1]) + r"\b" if t.endswith("$") else re.escape(t) for t in TERMS) + ")", re.I
)
NEGATION = re.compile(r"\b(not|except|never|none|neither|all of|both of|least)\b", re.I)


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    """All runs of `length` words."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return set(zip(*(words[start:] for start in range(length)), strict=False))


@pytest.mark.parametrize("name", CORPORA)
def test_corpus(name):
    rows = CORPORA[name]
    assert set(rows.column_names) == {"id", "topic", "title", "text"}
    assert len(rows) >= AT_LEAST.get(name, 64)
    assert len(set(rows["id"])) == len(set(rows["title"])) == len(rows)
    for row in rows:
        assert 90 <= len(row["text"].split()) <= 150, row["id"]
        if name.startswith("retain"):
            assert not FORGET_TERM.search(row["title"] + " " + row["text"]), row["id"]


def test_no_two_passages_are_alike():
    """Within and across corpora: fewer than eight shared runs of five words."""
    where: dict[tuple[str, ...], list[str]] = {}
    for rows in CORPORA.values():
        for row in rows:
            for run in runs(row["text"], 5):
                where.setdefault(run, []).append(row["id"])
    shared = Counter(pair for ids in where.values() for pair in itertools.combinations(sorted(ids), 2))
    assert not [pair for pair, count in shared.items() if count >= 8]


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(name):
    rows = QUESTIONS[name]
    assert {"id", "topic", "subject", "question", "choices", "answer", "split"} <= set(rows.column_names)
    assert len(rows) >= AT_LEAST.get(name, 60)
    assert len(set(rows["id"])) == len({q.lower() for q in rows["question"]}) == len(rows)
    assert set(map(len, rows["choices"])) == {4}
    assert len(rows.filter(lambda row: row["split"] == "dev")) == pytest.approx(0.4 * len(rows), abs=3)
    for row in rows:
        assert row["question"].endswith("?") and not NEGATION.search(row["question"]), row["id"]
        if name not in ("bio", "cyber"):
            assert not FORGET_TERM.search(row["question"] + " " + " ".join(row["choices"])), row["id"]


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_position_and_length_give_nothing_away(name, split):
    rows = [row for row in QUESTIONS[name] if row["split"] == split]
    places = Counter(row["answer"] for row in rows)
    assert all(0.18 <= places[index] / len(rows) <= 0.32 for index in range(4)), places

    def share(chosen) -> float:
        hits = 0.0
        for row in rows:
            lengths = [len(choice) for choice in row["choices"]]
            best = chosen(lengths)
            hits += (lengths[row["answer"]] == best) / lengths.count(best)
        return hits / len(rows)

    assert share(max) < 0.35 and share(min) < 0.35


@pytest.mark.parametrize(("questions", "corpus"), [("bio", "forget_bio"), ("cyber", "forget_cyber")])
def test_forget_questions_are_not_quotations(questions, corpus):
    if questions not in QUESTIONS:
        pytest.skip(f"there is no question set {questions} yet")
    passages = set().union(*(runs(row["text"], 7) for row in CORPORA[corpus]))
    assert not [row["id"] for row in QUESTIONS[questions] if runs(row["question"], 7) & passages]

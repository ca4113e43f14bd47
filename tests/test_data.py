"""The texts and questions under `data/` are what their card says."""

import itertools
import json
import re
import warnings
from collections import Counter

import pytest

from benchmarks.data_card import stored_scores
from benchmarks.questions import hard_table, table_row
from rmu_lab import load_corpus, load_questions
from rmu_lab.files import data_folder
from rmu_lab.provenance import changed_code
from rmu_lab.study.studied_models import MAIN as MAIN_MODEL

CORPORA = {path.stem: load_corpus(path) for path in sorted((data_folder() / "corpora").glob("*.jsonl"))}
QUESTIONS = {path.stem: load_questions(path) for path in sorted((data_folder() / "questions").glob("*.jsonl"))}
AT_LEAST = {"forget_bio": 160, "forget_cyber": 160, "retain_general": 320, "retain_neighbours": 120}
AT_LEAST |= {"bio": 300, "cyber": 300, "general": 400, "neighbours": 240, "rephrased": 100, "fill": 60}
AT_LEAST |= {"bio_hard": 250, "cyber_hard": 250, "general_hard": 260}
HARD = ("bio_hard", "cyber_hard", "general_hard")
MAIN = ("bio", "cyber", "general", "neighbours", *HARD)  # the other two are other wordings of the first four
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
    assert len(rows) >= AT_LEAST[name]
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
    assert len(rows) >= AT_LEAST[name]
    assert len(set(rows["id"])) == len({q.lower() for q in rows["question"]}) == len(rows)
    assert set(map(len, rows["choices"])) == {4}
    if name in MAIN:
        assert rows["split"][:].count("dev") == pytest.approx(0.4 * len(rows), abs=3)
    for row in rows:
        assert row["question"].endswith("?") and not NEGATION.search(row["question"]), row["id"]
        if name in ("general", "neighbours", "general_hard"):
            assert not FORGET_TERM.search(row["question"] + " " + " ".join(row["choices"])), row["id"]


@pytest.mark.parametrize("name", MAIN)
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


@pytest.mark.parametrize(
    ("questions", "corpus"),
    [(name, f"forget_{topic}") for topic in ("bio", "cyber") for name in (topic, f"{topic}_hard")],
)
def test_forget_questions_are_not_quotations(questions, corpus):
    passages = set().union(*(runs(row["text"], 7) for row in CORPORA[corpus]))
    assert not [row["id"] for row in QUESTIONS[questions] if runs(row["question"], 7) & passages]


def test_all_sets_are_there():
    assert set(CORPORA) | set(QUESTIONS) == set(AT_LEAST)
    subjects = {name: set(QUESTIONS[name]["subject"]) for name in QUESTIONS}
    assert len(set(CORPORA["retain_general"]["topic"])) >= 40 and len(subjects["general"]) >= 20
    assert Counter(QUESTIONS["neighbours"]["topic"]).keys() == {"biology", "computing"}


@pytest.mark.parametrize("name", ["rephrased", "fill"])
def test_other_wordings_keep_options_answer_and_split(name):
    originals = {row["id"]: row for rows in QUESTIONS.values() for row in rows}
    for row in QUESTIONS[name]:
        original = originals[row["original"]]
        assert all(row[field] == original[field] for field in ("topic", "subject", "choices", "answer", "split"))
        if name == "rephrased":
            assert not runs(row["question"], 5) & runs(original["question"], 5), row["id"]
        else:
            words, added = row["question"].split(), row["word"].split()
            places = [n for n in range(len(words)) if words[n : n + len(added)] == added]
            without = [" ".join(words[:n] + words[n + len(added) :]) for n in places]
            assert original["question"].lower() in [text.lower() for text in without], row["id"]


def test_no_two_questions_are_alike():
    """Within and across the main sets: no two questions with the same answer share most of their words."""
    small = set(
        re.findall(
            r"\w+", "what which who how is are was were the a an of in to for by on and with that it its this do does did"
        )
    )
    rows = [
        (row["id"], row["choices"][row["answer"]].lower(), set(re.findall(r"[a-z0-9]+", row["question"].lower())) - small)
        for name in MAIN
        for row in QUESTIONS[name]
    ]
    by_answer: dict[str, list] = {}
    for identity, answer, words in rows:
        by_answer.setdefault(answer, []).append((identity, words))
    pairs = [pair for group in by_answer.values() for pair in itertools.combinations(group, 2)]
    assert not [(a, b) for (a, one), (b, two) in pairs if len(one & two) >= 0.7 * min(len(one), len(two))]


def test_stored_base_accuracy():
    """The stored numbers pass the bars that make the sets useful, and the data card's table shows them."""
    card = (data_folder() / "README.md").read_text()
    for row in stored_scores()[MAIN_MODEL]["rows"]:
        assert len(load_questions(row["set"], row["split"])) == row["questions"]
        assert "| " + " | ".join(table_row(row)) + " |" in card
        bar = {"bio": 0.75, "cyber": 0.75, "general": 0.65, "neighbours": 0.65}.get(row["set"], 0.5)
        assert row["base model"]["accuracy"] > bar
        if row["set"] in MAIN:
            assert row["options alone"]["accuracy"] < 0.4


def test_hard_sets_suit_the_largest_model():
    """It knows most of them and not all, the options alone give little away, and the card shows what all models score."""
    stored = {name: found for name, found in stored_scores().items() if "whole sets" in found}
    assert hard_table(stored) in (data_folder() / "README.md").read_text(encoding="utf-8")
    if "qwen2.5-coder-1.5b" not in stored:
        pytest.skip("the largest model's scores are not stored")
    largest = {row["set"]: row for row in stored["qwen2.5-coder-1.5b"]["whole sets"] if row["style"] == "letter"}
    for name in HARD:
        assert largest[name]["questions"] == len(load_questions(name))
        assert 0.6 < largest[name]["base model"]["accuracy"] < 0.9
        assert largest[name]["options alone"]["accuracy"] < 0.4


def test_the_data_card_shows_what_was_measured(tmp_path):
    """Writing it from the stored numbers and the files changes nothing."""
    from benchmarks.data_card import DEMO, SETS, STORED, write_card

    stored, page = json.loads(STORED.read_text()), data_folder() / "README.md"
    card = tmp_path / "README.md"
    card.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    write_card(card, stored)
    assert card.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    assert {"code", "versions", "machine"} <= stored["provenance"].keys()
    for problem in changed_code(stored["provenance"]):  # said, not forbidden: most changes touch no number
        warnings.warn(f"{STORED.name}: {problem}", stacklevel=1)
    base = stored["rows"]["nothing"]["scores"]
    for name, row in stored["rows"].items():
        for topic in SETS:
            assert len(row["scores"][topic]["correct"]) == len(load_questions(topic, "test"))
        if "settings" in row:
            assert row["settings"] | {"steps": DEMO.steps} == DEMO.to_dict()
            for topic in ("bio", "cyber"):
                if name.startswith(("both", topic)):
                    assert row["scores"][topic]["interval"][1] < base[topic]["interval"][0]

"""The invented worlds: made of their tables, balanced, told alike, and in nobody's books."""

import itertools
import json
from collections import Counter

import pytest

from rmu_lab import RmuLabError, load_corpus, load_questions
from rmu_lab.invented import (
    CHOICES,
    DEV,
    MALADIES,
    TELLINGS,
    WORDINGS,
    WORLDS,
    folder,
    invented_passages,
    invented_questions,
    made_files,
    maladies,
    tables,
)

WORDS = tables()
ATTRIBUTES = WORDS["attributes"]


def test_the_files_are_what_the_tables_make():
    """`python -m benchmarks.invented` writes them."""
    for name, rows in made_files():
        text = (folder() / name).read_text(encoding="utf-8")
        assert text == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize("world", WORLDS)
def test_every_value_belongs_to_as_many_maladies(world):
    found = maladies(WORDS, world)
    assert len(found) == MALADIES == len({malady.name for malady in found})
    for attribute in ATTRIBUTES:
        counts = Counter(malady.facts[attribute] for malady in found)
        assert counts.keys() == set(WORDS["worlds"][world][attribute]) and set(counts.values()) == {3}
    # No two maladies are one under another name.
    shared = [sum(a.facts[name] == b.facts[name] for name in ATTRIBUTES) for a, b in itertools.combinations(found, 2)]
    assert max(shared) <= 2


def test_the_worlds_share_their_sentences_and_no_value():
    one, other = (WORDS["worlds"][world] for world in WORLDS)
    assert not any({*one[name]} & {*other[again]} for name in ATTRIBUTES for again in ATTRIBUTES)
    names = [{malady.name for malady in maladies(WORDS, world)} for world in WORLDS]
    assert not names[0] & names[1]
    lengths = [sum(len(text.split()) for text in invented_passages(world)["text"]) for world in WORLDS]
    assert abs(lengths[0] - lengths[1]) < 0.05 * lengths[0]


@pytest.mark.parametrize("world", WORLDS)
def test_each_passage_says_all_five_facts_of_its_malady_in_its_own_words(world):
    facts = {malady.name: malady.facts for malady in maladies(WORDS, world)}
    rows = list(invented_passages(world))
    assert Counter(row["title"] for row in rows) == dict.fromkeys(facts, TELLINGS)
    for row in rows:
        text = row["text"].lower()
        assert all(value.lower() in text for value in facts[row["title"]].values())
        assert "{" not in text and row["text"].count(".") == 1 + len(ATTRIBUTES)
    for name in facts:
        told = [sorted(row["text"].split(". ")) for row in rows if row["title"] == name]
        assert all(not set(a) & set(b) for a, b in itertools.combinations(told, 2))


@pytest.mark.parametrize("world", WORLDS)
def test_questions_are_balanced_and_their_wordings_differ(world):
    facts = {malady.name: malady.facts for malady in maladies(WORDS, world)}
    by_wording = [list(invented_questions(world, wording)) for wording in range(WORDINGS)]
    assert [len(rows) for rows in by_wording] == [MALADIES * len(ATTRIBUTES)] * WORDINGS
    for rows in zip(*by_wording, strict=True):
        assert len({row["question"] for row in rows}) == WORDINGS
        assert len({json.dumps([row["choices"], row["answer"], row["split"]]) for row in rows}) == 1
    for row in by_wording[0]:
        assert row["choices"][row["answer"]] == facts[row["malady"]][row["subject"]]
        assert set(row["choices"]) <= set(WORDS["worlds"][world][row["subject"]]) and len(row["choices"]) == CHOICES
        assert row["malady"] in row["question"]
    places = Counter(row["answer"] for row in by_wording[0])
    assert min(places.values()) > 0.75 * len(by_wording[0]) / CHOICES
    dev = {row["malady"] for row in by_wording[0] if row["split"] == "dev"}
    assert len(dev) == DEV and not dev & {row["malady"] for row in invented_questions(world, 0, "test")}


def test_no_name_stands_in_the_real_texts():
    names = {malady.name for world in WORLDS for malady in maladies(WORDS, world)}
    corpora = ("forget_bio", "forget_cyber", "retain_general", "retain_neighbours")
    real = " ".join(text for name in corpora for text in load_corpus(name)["text"]).lower()
    real += " ".join(load_questions("general")["question"]).lower()
    assert not [name for name in names if name in real]


def test_what_is_not_there_is_said():
    with pytest.raises(RmuLabError, match="no world 'moon'"):
        invented_passages("moon")
    with pytest.raises(RmuLabError, match="wording is 4"):
        invented_questions("clockwork", 4)

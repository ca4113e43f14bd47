"""The league's material: no text and no question serves two ends."""

import pytest

from rmu_lab import RmuLabError, load_questions
from rmu_lab.league import LeagueSettings, league_material


@pytest.fixture(scope="module")
def material(tokenizer):
    from tests.conftest import tiny_model

    return league_material(tiny_model("llama"), tokenizer, attacks=("unrelated", "other facts"))


def test_texts_that_measure_are_trained_on_by_nobody(material):
    parts = [set(material.retain), set(material.held_out), set(material.attacks["unrelated"].texts)]
    assert list(map(len, parts)) == [240, 32, 10]
    assert len(set.union(*parts)) == 282 and not parts[0] & set(material.forget)


def test_dev_questions_are_none_of_the_table(material):
    splits = {row["id"]: row["split"] for name in ("bio", "general") for row in load_questions(name)}
    dev = [material.dev_topic, material.dev_general, *(one.dev for one in material.attacks.values())]
    test = [material.topic, material.general, *(one.questions for one in material.attacks.values())]
    assert {splits[row["id"]] for rows in dev for row in rows} == {"dev"}
    assert {splits[row["id"]] for rows in test for row in rows} == {"test"}
    assert [len(rows) for rows in (material.dev_topic, material.topic, material.general)] == [64, 100, 100]


def test_no_fact_is_taught_that_is_asked(material):
    facts = material.attacks["other facts"]
    assert min(map(len, (facts.texts, facts.dev, facts.questions))) > 40
    assert not any(row["question"] in text for text in facts.texts for row in [*facts.dev, *facts.questions])


def test_a_league_is_known_by_its_data_and_settings(material, tokenizer):
    from tests.conftest import tiny_model

    digest = material.digest(LeagueSettings())
    other, attacks = tiny_model("llama", seed=1), tuple(material.attacks)
    assert len(digest) == 12 and digest == league_material(other, tokenizer, attacks=attacks).digest(LeagueSettings())
    assert digest != material.digest(LeagueSettings(budgets=(0.3,)))
    assert digest != league_material(other, tokenizer, test=99, attacks=attacks).digest(LeagueSettings())
    assert digest != league_material(other, tokenizer).digest(LeagueSettings())


@pytest.mark.parametrize("wrong", [{"attacks": ("tickling",)}, {"held_out": 81}, {"test": 0}])
def test_material_that_is_not_there_is_refused(tokenizer, wrong):
    with pytest.raises(RmuLabError, match=r"There is no attack 'tickling'|give numbers from 1"):
        league_material(None, tokenizer, **wrong)

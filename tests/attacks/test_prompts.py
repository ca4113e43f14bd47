from dataclasses import replace

import pytest

from rmu_lab import RmuLabError, accuracy
from rmu_lab.attacks import prompt
from rmu_lab.attacks.prompts import few_shot, pairs
from rmu_lab.questions import cloze_prompt
from tests.attacks.conftest import DEV, QUESTIONS, QUIET
from tests.conftest import same_weights, weights_of

REPHRASED = [row | {"id": f"r-{n}", "original": QUESTIONS[n]["id"], "question": f"So, {row['question']}"}
             for n, row in ((7, QUESTIONS[7]), (2, QUESTIONS[2]), (4, QUESTIONS[4]))]  # fmt: skip


def test_solved_questions_stand_before_each_in_its_own_form():
    asked = few_shot(QUESTIONS, DEV, 2, seed=0)
    before = {cloze_prompt(row["question"]) + f" {row['choices'][row['answer']]}" for row in DEV}
    drawn = []
    for row, new in zip(QUESTIONS, asked, strict=True):
        *shots, last = cloze_prompt(new["question"]).split("\n\n")
        assert last == cloze_prompt(row["question"])
        assert len(set(shots)) == 2 and set(shots) <= before
        assert (new["choices"], new["answer"]) == (row["choices"], row["answer"])
        drawn.append(tuple(shots))
    assert len(set(drawn)) > 1  # drawn anew for each question
    assert few_shot(QUESTIONS, DEV, 2, seed=0) == asked != few_shot(QUESTIONS, DEV, 2, seed=1)
    with pytest.raises(RmuLabError, match="is also asked"):
        few_shot(QUESTIONS, [*DEV, QUESTIONS[3]], 2, seed=0)
    for shots in (0, 9):
        with pytest.raises(RmuLabError, match=f"shots is {shots}, with 8 solved"):
            few_shot(QUESTIONS, DEV, shots, seed=0)


def test_rephrased_questions_meet_their_originals():
    rows, others = pairs(QUESTIONS, [*REPHRASED, REPHRASED[0] | {"original": "elsewhere"}])
    assert [row["id"] for row in rows] == [other["original"] for other in others] == ["test-7", "test-2", "test-4"]
    with pytest.raises(RmuLabError, match="None of `rephrased`"):
        pairs(QUESTIONS, [])


@pytest.mark.parametrize("kind", ["few-shot", "rephrased", "prefilled"])
def test_both_models_are_asked_in_the_same_way(kind, subject, model, tokenizer, result):
    before = weights_of(model)
    subject = replace(subject, rephrased=(QUESTIONS, REPHRASED))
    settings = {"few-shot": {"shots": 2}, "rephrased": {}, "prefilled": {"prefill": " It is"}}
    found = prompt(subject, QUIET, kind, **settings[kind])
    assert same_weights(model, before)
    plain = [QUESTIONS[n] for n in (7, 2, 4)] if kind == "rephrased" else QUESTIONS
    asked = {"few-shot": few_shot(QUESTIONS, DEV, 2, 0), "rephrased": REPHRASED, "prefilled": QUESTIONS}[kind]
    prefill = " It is" if kind == "prefilled" else ""
    assert found.attack == kind
    assert found.controls["base model"] == (
        accuracy(model, tokenizer, plain, progress=False),
        accuracy(model, tokenizer, asked, prefill=prefill, progress=False),
    )
    with result.applied(model):
        assert found.start == accuracy(model, tokenizer, plain, progress=False)
        assert found.attacked == accuracy(model, tokenizer, asked, prefill=prefill, progress=False)
    assert [said.question for said in found.generations] == [row["question"] for row in plain[:3]]


def test_unknown_kind_and_missing_material(subject):
    with pytest.raises(RmuLabError, match="kind is 'loud'"):
        prompt(subject, QUIET, "loud")
    with pytest.raises(RmuLabError, match="No rephrased questions were given"):
        prompt(subject, QUIET, "rephrased")
    with pytest.raises(RmuLabError, match="No dev questions were given"):
        prompt(replace(subject, dev_questions=[]), QUIET)

from dataclasses import astuple, replace

import pytest
from datasets import Dataset, DatasetDict

from rmu_lab import RmuLabError, accuracy, answers
from rmu_lab.attacks import Subject
from tests.attacks.conftest import CONFIG, DEV, FORGET, QUESTIONS
from tests.conftest import same_weights, weights_of


def test_reference_is_what_both_models_answer(subject, model, tokenizer, result):
    before = weights_of(model)
    reference = replace(subject, n_generations=2).reference
    assert same_weights(model, before)
    asked = [row["question"] for row in QUESTIONS[:2]]
    assert reference.base == accuracy(model, tokenizer, QUESTIONS, progress=False)
    base_answers = answers(model, tokenizer, asked)
    with result.applied(model):
        assert reference.unlearned == accuracy(model, tokenizer, QUESTIONS, progress=False)
        unlearned_answers = answers(model, tokenizer, asked)
    assert reference.base.predictions != reference.unlearned.predictions  # or nothing here would tell them apart
    rows = [astuple(row) for row in reference.generations(["x", "y"])]
    assert rows == list(zip(asked, base_answers, unlearned_answers, ["x", "y"], strict=True))


def test_reference_is_measured_when_first_used_and_once(subject, monkeypatch):
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    other = replace(subject)
    with pytest.raises(ZeroDivisionError):
        assert other.reference
    monkeypatch.undo()
    found = other.reference
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    assert other.reference is found
    with pytest.raises(ZeroDivisionError):
        assert other.with_questions(DEV).reference  # other questions, other scores


def test_no_answers_in_words(subject):
    reference = replace(subject, n_generations=0).reference
    assert reference.questions == reference.answers == reference.generations([]) == ()
    with pytest.raises(RmuLabError, match="n_generations is -1"):
        replace(subject, n_generations=-1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rephrased": "rephrased.jsonl"}, "rephrased is no pair; give"),
        ({"rephrased": (QUESTIONS, QUESTIONS, QUESTIONS)}, "rephrased is no pair; give"),
        ({"rephrased": DatasetDict(test=Dataset.from_list(QUESTIONS), dev=Dataset.from_list(DEV))}, "rephrased is no pair"),
        ({"rephrased": (QUESTIONS, "rephrased.jsonl")}, r"rephrased\[1\] is 'rephrased.jsonl'; give the rows"),
        ({"rephrased": ([{"id": "a"}], QUESTIONS)}, r"rephrased\[0\]\[0\]: `question` must be"),
        ({"rephrased": (QUESTIONS, [])}, r"no questions to score in rephrased\[1\]"),
        ({"dev_questions": ["What?"]}, r"dev_questions\[0\]: it is 'What\?', but must be a mapping"),
        ({"dev_questions": [DEV[0] | {"answer": 9}]}, r"dev_questions\[0\]: `answer` is 9"),
    ],
)
def test_what_are_no_questions_of_a_subject(given, message, subject):
    with pytest.raises(RmuLabError, match=message):
        replace(subject, **given)


def test_data_sets_become_lists(model, tokenizer, result):
    rows, texts = Dataset.from_list(QUESTIONS), Dataset.from_list([{"text": text} for text in FORGET])
    found = Subject(model, tokenizer, result, rows, dev_questions=rows, forget=texts, rephrased=(rows, rows))
    assert found.questions == found.dev_questions == QUESTIONS and found.rephrased == (QUESTIONS, QUESTIONS)
    assert (found.forget, found.retain) == (FORGET, [])
    assert str(found) == f"Subject({result.model_name}, {CONFIG.method}, 10 questions)"
    for wrong, message in ((["", "sea"], r"retain\[0\] is ''"), ("sea", "retain is one string")):
        with pytest.raises(RmuLabError, match=message):
            Subject(model, tokenizer, result, rows, retain=wrong)


def test_layer_is_the_steered_one_unless_given(subject, result):
    assert subject.target_layer == CONFIG.layer and replace(subject, layer=1).target_layer == 1
    deeper = replace(result, config=replace(CONFIG, layer=4))
    assert replace(subject, result=deeper).target_layer == 4


def test_what_is_missing_is_said(subject):
    assert subject.missing(["forget", "retain", "dev_questions", "layer"]) is None
    assert subject.missing(["forget", "suffix", "rephrased"]) == "no suffix was given"
    assert replace(subject, suffix="").missing(["suffix"]) is None  # given, if of no use
    with pytest.raises(RmuLabError, match=r"^No suffix was given; give it as Subject\(\.\.\., suffix=\.\.\.\)\.$"):
        subject.require("forget", "suffix")


def test_asking_again_asks_both_models(subject, model, tokenizer, result):
    before = weights_of(model)
    louder = [row | {"question": row["question"].upper()} for row in QUESTIONS]
    found = subject.ask_again("shouted", louder, prefill=" It is", details={"volume": 11})
    assert same_weights(model, before)
    assert (found.attack, found.details, found.start) == ("shouted", {"volume": 11}, subject.reference.unlearned)
    control = accuracy(model, tokenizer, louder, prefill=" It is", progress=False)
    assert found.controls == {"base model": (subject.reference.base, control)}
    with result.applied(model):
        assert found.attacked == accuracy(model, tokenizer, louder, prefill=" It is", progress=False)
        said = answers(model, tokenizer, [row["question"] for row in louder[:3]], prefill=" It is")
    assert [one.attacked for one in found.generations] == said
    assert [one.question for one in found.generations] == [row["question"] for row in QUESTIONS[:3]]
    with pytest.raises(RmuLabError, match="shouted asks 9 questions where the subject has 10"):
        subject.ask_again("shouted", louder[1:])

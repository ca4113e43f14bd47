import json
from pathlib import Path

import pandas
import pytest

from rmu_lab import RmuLabError, Subject, UnlearnConfig, accuracy, load_questions, sweep
from rmu_lab.questions import cloze_prompt, letter_prompt
from tests.conftest import tiny_model

GOOD = {"question": "What is wet?", "choices": ["water", "sand", "stone", "wood"], "answer": 0}


def test_splits_part_the_whole():
    parts = [load_questions("bio", split) for split in ("dev", "test", None)]
    assert set(parts[0]["id"]).isdisjoint(parts[1]["id"])
    assert len(parts[0]) + len(parts[1]) == len(parts[2])
    with pytest.raises(RmuLabError, match="split is 'train'"):
        load_questions("bio", "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 4}, "line 2: `answer` is 4, but must be the index of a choice, 0 to 3"),
        ({"answer": -1}, "line 2: `answer` is -1"),
        ({"answer": "A"}, "line 2: `answer` is 'A'"),
        ({"answer": True}, "line 2: `answer` is True"),
        ({"choices": ["one", "one"]}, "line 2: `choices` must be 2 to 10 different strings"),
        ({"choices": ["one", 2]}, "line 2: `choices` must be a list of non-empty strings"),
        ({"question": ""}, "line 2: `question` must be a non-empty string"),
    ],
)
def test_bad_question_is_named(tmp_path, change, message):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(RmuLabError, match=message):
        load_questions(path)


def test_prompts():
    assert cloze_prompt(" What is wet? ") == "Question: What is wet?\nAnswer:"
    assert letter_prompt("What is wet?", ["water", "sand"]) == "Question: What is wet?\nA. water\nB. sand\nAnswer:"


def test_a_field_that_the_first_row_lacks_is_kept(tmp_path):
    (tmp_path / "own.jsonl").write_text(
        "\ufeff" + json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"source": "s"}), encoding="utf-8"
    )
    assert load_questions(tmp_path / "own.jsonl")["source"][:] == [None, "s"]
    (tmp_path / "own.jsonl").write_text(json.dumps(GOOD | {"id": 1}) + "\n" + json.dumps(GOOD | {"id": "b"}))
    with pytest.raises(RmuLabError, match=r"own\.jsonl, line 2: `id` does not go with those before it"):
        load_questions(tmp_path / "own.jsonl")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bio", r"is 'bio'; give the rows that it names: load_questions"),
        (Path("own.jsonl"), r"is 'own\.jsonl'; give the rows"),
        (pandas.DataFrame([GOOD]), r'is a DataFrame; give its rows as a list, e\.g\. .*\.to_dict\("records"\)'),
        (GOOD, "is a mapping with the keys question, choices, answer"),
        (None, "is None; give rows"),
        ([], "no questions to score"),
        (["What is wet?"], "it is 'What is wet\\?', but must be a mapping"),
        ([GOOD | {"answer": 4}], "`answer` is 4"),
    ],
)
def test_what_are_no_questions(given, message, tokenizer, tmp_path):
    model = tiny_model("llama")
    with pytest.raises(RmuLabError, match=message):
        accuracy(model, tokenizer, given)
    with pytest.raises(RmuLabError, match=message):
        sweep(
            model, tokenizer, ["a b"] * 4, ["a b"] * 4, [UnlearnConfig(layer=3)], {"set": given}, out=tmp_path / "rows.jsonl"
        )
    with pytest.raises(RmuLabError, match=message):
        Subject(model, tokenizer, None, given)


def test_question_sets_have_names(tokenizer, tmp_path):
    model = tiny_model("llama")
    for given in ([GOOD], pandas.DataFrame([GOOD]), load_questions("bio")):
        with pytest.raises(RmuLabError, match="give at least one by name"):
            sweep(model, tokenizer, ["a b"] * 4, ["a b"] * 4, [UnlearnConfig(layer=3)], given, out=tmp_path / "rows.jsonl")

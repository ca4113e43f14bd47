import json

import pytest

from rmu_lab import RmuLabError, load_questions
from rmu_lab.questions import cloze_prompt, letter_prompt

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

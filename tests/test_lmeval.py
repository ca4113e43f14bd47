"""lm-eval on models in memory, offline, on files in the schema of WMDP and MMLU."""

import json

import pytest

from rmu_lab import RmuLabError, accuracy, harness
from rmu_lab.lmeval import HarnessResult
from tests.conftest import made_up_texts, tiny_model
from tests.test_evaluate import plain_score

pytest.importorskip("lm_eval")

LETTERS = "ABCD"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def asked(n, seed):
    """Questions with the fields of WMDP and MMLU: question, choices (4), answer (an index)."""
    return [
        {"question": f" {text}? ", "choices": made_up_texts(4, seed=seed + index, least=1, most=5), "answer": index % 4}
        for index, text in enumerate(made_up_texts(n, seed=seed))
    ]


def hub_copy(folder, sets):
    """What a clone of a data set's repository looks like: files by configuration and split, and a card that names them."""
    card = ["---", "configs:"]
    for name, splits in sets.items():
        card += [f"- config_name: {name}", "  data_files:"]
        for split, rows in splits.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
            card += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*card, "---"]))
    return folder


@pytest.fixture
def wmdp(tmp_path):
    return hub_copy(tmp_path / "wmdp", {"wmdp-bio": {"test": asked(9, 3)}, "wmdp-cyber": {"test": asked(5, 50)}})


def test_wmdp_equals_plain_forward_passes_on_the_shown_prompts(wmdp, tokenizer):
    model = tiny_model("llama")
    result = harness(model, tokenizer, ["wmdp_bio", "wmdp_cyber"], data={"cais/wmdp": wmdp}, progress=False)
    assert result.settings["lm_eval"] and result.settings["chat_template"] is False
    row = asked(9, 3)[0]
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, row["choices"], strict=True))
    opening = "The following are multiple choice questions (with answers) about biology.\n\n"
    assert result.prompts["wmdp_bio"] == f"{opening}{row['question'].strip()}\n{options}Answer:"
    for name, rows in (("wmdp_bio", asked(9, 3)), ("wmdp_cyber", asked(5, 50))):
        begin = result.prompts[name].split("\n\n")[0]
        best = []
        for row in rows:
            options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, row["choices"], strict=True))
            prompt = f"{begin}\n\n{row['question'].strip()}\n{options}Answer:"
            best.append(max(range(4), key=lambda i: plain_score(model, tokenizer, prompt, f" {LETTERS[i]}")))
        score = result.scores[name]
        assert score.predictions == tuple(best)
        assert score.correct == tuple(guess == row["answer"] for guess, row in zip(best, rows, strict=True))
        assert score.accuracy == sum(score.correct) / len(rows)


def test_another_copy_of_the_same_name_has_its_own_questions(tmp_path, tokenizer):
    """What `datasets` keeps of a folder goes by the folder's name alone."""
    model, counts = tiny_model("llama"), []
    for n in (4, 7):
        (tmp_path / str(n)).mkdir()
        copy = hub_copy(tmp_path / str(n) / "wmdp", {"wmdp-bio": {"test": asked(n, n)}})
        result = harness(model, tokenizer, ["wmdp_bio"], data={"cais/wmdp": copy}, progress=False)
        counts.append(len(result.scores["wmdp_bio"].correct))
    assert counts == [4, 7]


def test_equals_our_own_letter_style_on_our_own_prompt(tmp_path, tokenizer):
    """A task file of the user's own, over local JSON in WMDP's schema."""
    (tmp_path / "questions.json").write_text("\n".join(map(json.dumps, asked(20, 7))))
    options = "".join(f"{letter}. {{{{choices[{i}]}}}}\\n" for i, letter in enumerate(LETTERS))
    (tmp_path / "ours.yaml").write_text(
        f"""task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{tmp_path / "questions.json"}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question.strip()}}}}\\n{options}Answer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
    )
    model = tiny_model("llama")
    path = str(tmp_path / "ours.yaml")
    theirs = harness(model, tokenizer, [path], progress=False).scores[path]
    ours = accuracy(model, tokenizer, asked(20, 7), style="letter", progress=False)
    assert theirs == ours
    few = harness(model, tokenizer, [path], limit=6, progress=False).scores[path]
    assert few.predictions == ours.predictions[:6]


def test_mmlu_is_the_average_over_all_questions_of_its_subjects(tmp_path, tokenizer):
    """All 57 subjects, of one question or two each."""
    import lm_eval.tasks
    import yaml

    files = (tmp_path.__class__(lm_eval.tasks.__file__).parent / "mmlu" / "default").glob("mmlu_*.yaml")
    subjects = [yaml.safe_load(file.read_text())["dataset_name"] for file in files]
    assert len(subjects) == 57
    sets = {name: {"test": asked(1 + index % 2, index), "dev": asked(5, 99)} for index, name in enumerate(subjects)}
    model, data = tiny_model("llama"), {"cais/mmlu": hub_copy(tmp_path / "mmlu", sets)}
    result = harness(model, tokenizer, ["mmlu"], data=data, progress=False)
    assert len(result.tasks) == 57 and len(result.scores["mmlu"].correct) == 57 + 28
    right = sum(sum(score.correct) for score in result.tasks.values())
    assert result.scores["mmlu"].accuracy == right / 85
    assert "about virology" in result.prompts["mmlu_virology"]
    assert HarnessResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_chat_template_and_examples_are_in_the_prompt(wmdp, tokenizer, monkeypatch):
    model, data = tiny_model("llama"), {"cais/wmdp": wmdp}
    with pytest.raises(RmuLabError, match="has no chat template"):
        harness(model, tokenizer, ["wmdp_bio"], data=data, chat_template=True)
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    chat, plain = (
        harness(model, tokenizer, ["wmdp_bio"], data=data, chat_template=on, limit=3, progress=False) for on in (True, False)
    )
    assert chat.prompts["wmdp_bio"].startswith("<") and "<assistant>" in chat.prompts["wmdp_bio"]
    assert "<user>" not in plain.prompts["wmdp_bio"] and chat.settings["chat_template"]


def test_errors(wmdp, tmp_path, tokenizer, monkeypatch):
    model = tiny_model("llama")
    for tasks, data, message in (
        ("wmdp_bio", {}, "give a list of at least one"),
        (["wmdp_bio"], {"cais/wmdp": tmp_path / "none"}, "There is no folder"),
        (["wmdp_bio"], {"cais/wmdp": tmp_path}, "The questions of wmdp_bio cannot be loaded"),
    ):
        with pytest.raises(RmuLabError, match=message):
            harness(model, tokenizer, tasks, data=data, progress=False)
    (tmp_path / "free.yaml").write_text(
        f"task: free\ndataset_path: {wmdp}\ndataset_name: wmdp-bio\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: question\ndoc_to_target: answer\nmetric_list: [{metric: exact_match}]\n"
    )
    with pytest.raises(RmuLabError, match="not multiple choice but generate_until"):
        harness(model, tokenizer, [str(tmp_path / "free.yaml")], progress=False)


@pytest.mark.slow  # lm-eval reads through all its tasks
def test_unknown_task(tokenizer):
    with pytest.raises(RmuLabError, match="lm-eval has no task 'wmdp_law'"):
        harness(tiny_model("llama"), tokenizer, ["wmdp_law"])


def test_a_model_whose_weights_are_offloaded(wmdp, tokenizer):
    import accelerate
    import torch

    how = {"data": {"cais/wmdp": wmdp}, "progress": False}
    expected = harness(tiny_model("llama"), tokenizer, ["wmdp_bio"], **how)
    spread = accelerate.cpu_offload(tiny_model("llama"), execution_device=torch.device("cpu"))
    assert harness(spread, tokenizer, ["wmdp_bio"], **how) == expected

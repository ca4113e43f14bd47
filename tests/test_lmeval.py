"""lm-eval on models in memory, offline, on files in the schema of WMDP and MMLU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets.utils import are_progress_bars_disabled

from rmu_lab import RmuLabError, accuracy, harness, load_questions
from rmu_lab.files import data_folder
from rmu_lab.lmeval import HarnessResult, _quiet, loaded_tasks, task_digests
from rmu_lab.questions import cloze_prompt, letter_prompt
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

    files = (Path(lm_eval.tasks.__file__).parent / "mmlu" / "default").glob("mmlu_*.yaml")
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


def test_all_that_lm_eval_says_is_shown(wmdp, tokenizer, monkeypatch):
    from lm_eval.tasks import TaskManager

    def load(*_):
        raise RuntimeError("Loading failed:\n\n  the split test is not there")

    monkeypatch.setattr(TaskManager, "load", load)
    with pytest.raises(RmuLabError, match=r"cannot be loaded \(Loading failed: the split test is not there\)"):
        harness(tiny_model("llama"), tokenizer, ["wmdp_bio"], data={"cais/wmdp": wmdp}, progress=False)


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


# -- the course's own questions ---------------------------------------------------------------------------------------

SETS = ("bio", "cyber", "general", "neighbours")


def test_own_tasks_ask_exactly_as_accuracy_does():
    with loaded_tasks([f"rmu_{name}{style}" for name in SETS for style in ("", "_letter")]) as loaded:
        for name in SETS:
            questions = list(load_questions(name, split="test"))
            cloze, letter = loaded[f"rmu_{name}"][f"rmu_{name}"], loaded[f"rmu_{name}_letter"][f"rmu_{name}_letter"]
            for task, prompt, options in (
                (cloze, lambda row: cloze_prompt(row["question"]), lambda row: row["choices"]),
                (letter, lambda row: letter_prompt(row["question"], row["choices"]), lambda _row: list(LETTERS)),
            ):
                docs = list(task.eval_docs)
                assert [doc["id"] for doc in docs] == [row["id"] for row in questions]
                assert [task.doc_to_text(doc) for doc in docs] == [prompt(row) for row in questions]
                assert [task.doc_to_choice(doc) for doc in docs] == [options(row) for row in questions]
                assert [task.doc_to_target(doc) for doc in docs] == [row["answer"] for row in questions]
                assert task.config.target_delimiter == " "


def test_both_accuracies_of_own_tasks_equal_ours(tokenizer):
    model, few = tiny_model("llama"), 40
    found = harness(model, tokenizer, ["rmu_bio", "rmu_general_letter"], limit=few, progress=False)
    cloze = accuracy(model, tokenizer, load_questions("bio", "test").select(range(few)), progress=False)
    letter = accuracy(model, tokenizer, load_questions("general", "test").select(range(few)), style="letter", progress=False)
    assert found.normalised["rmu_bio"] == cloze and found.scores["rmu_bio"].style == "cloze"
    assert found.scores["rmu_bio"].predictions != cloze.predictions  # by the whole option, not by its characters
    assert found.scores["rmu_general_letter"] == found.normalised["rmu_general_letter"] == letter
    assert HarnessResult.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_tasks_without_acc_norm_have_none(wmdp, tokenizer):
    assert harness(tiny_model("llama"), tokenizer, ["wmdp_bio"], data={"cais/wmdp": wmdp}, progress=False).normalised == {}


@pytest.mark.slow
def test_smollm2_answers_each_question_as_lm_eval_says(smollm2):
    found = harness(*smollm2, ["rmu_bio"], limit=60, progress=False).normalised["rmu_bio"]
    ours = accuracy(*smollm2, load_questions("bio", split="test").select(range(60)), progress=False)
    assert found.predictions == ours.predictions and found.correct == ours.correct


@pytest.mark.parametrize("moved", [False, True])
def test_lm_evals_own_command_on_a_saved_checkpoint(tmp_path, tokenizer, moved):
    """In a fresh process, without the hub and without this package, by a relative and from a foreign folder."""
    model = tiny_model("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    if moved:
        shutil.copytree(data_folder(), tmp_path / "elsewhere")
    where, tasks = (tmp_path, "elsewhere/lm_eval") if moved else (data_folder().parent, "data/lm_eval")
    command = [
        sys.executable,
        "-m",
        "lm_eval",
        "--model",
        "hf",
        "--model_args",
        f"pretrained={tmp_path / 'model'},dtype=float32",
    ]
    command += ["--include_path", tasks, "--tasks", "rmu_bio,rmu_general_letter", "--limit", "8", "--device", "cpu"]
    command += ["--output_path", str(tmp_path / "out.json"), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    outcome = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, cwd=where)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    (written,) = tmp_path.glob("out*.json")
    scores = json.loads(written.read_text())["results"]
    for task, name, style in (("rmu_bio", "bio", "cloze"), ("rmu_general_letter", "general", "letter")):
        ours = accuracy(model, tokenizer, load_questions(name, "test").select(range(8)), style=style, progress=False)
        assert scores[task]["acc_norm,none"] == ours.accuracy


# -- what task files may do -------------------------------------------------------------------------------------------

PLAIN = """task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/questions.json"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
RUN = "__import__('pathlib').Path('{folder}/ran').touch()"
TEMPLATE_RUN = "{{{{ cycler.__init__.__globals__.__builtins__['open']('{folder}/ran', 'w').close() or question }}}}"


@pytest.fixture
def own_task(tmp_path):
    """Writes a task file with some lines replaced, and a module beside it that leaves a trace when it is imported."""
    (tmp_path / "questions.json").write_text("\n".join(map(json.dumps, asked(5, 7))))
    (tmp_path / "evil.py").write_text(RUN.format(folder=tmp_path) + "\ndef text(doc):\n    return doc['question']\n")

    def write(more: str = "", **lines: str) -> str:
        text = PLAIN.format(folder=tmp_path) + more.format(folder=tmp_path)
        for key, value in lines.items():
            text = "\n".join(
                f"{key}: {value.format(folder=tmp_path)}" if line.startswith(f"{key}:") else line
                for line in text.split("\n")
            )
        (tmp_path / "ours.yaml").write_text(text)
        return str(tmp_path / "ours.yaml")

    return write


@pytest.mark.parametrize(
    "how",
    [
        {"doc_to_text": "!function evil.text"},
        {"more": "%TAG ! !func\n---\nprocess_docs: !tion evil.text\n"},
        {"more": "process_docs: !<!function> evil.text\n"},
        {"more": "include: other.yaml\n"},
        {"metric_list": "[{{metric: ./evil.py}}]"},
        {"metric_list": "[{{metric: acc, hf_evaluate: true}}]"},
        {"doc_to_text": '"' + TEMPLATE_RUN + '"'},
        {"doc_to_target": '"' + TEMPLATE_RUN.replace("question", "answer") + '"'},
    ],
)
def test_a_task_file_runs_no_python_unasked(how, own_task, tmp_path, tokenizer):
    (tmp_path / "other.yaml").write_text("doc_to_text: !function evil.text\n")
    path = own_task(**how)
    with pytest.raises(RmuLabError, match=r"trust_task_code|is no task file"):
        harness(tiny_model("llama"), tokenizer, [path], progress=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["!function evil.text", '"' + TEMPLATE_RUN + '"'])
def test_a_task_file_runs_python_when_asked(own_task, tmp_path, tokenizer, text):
    path = own_task(doc_to_text=text)
    found = harness(tiny_model("llama"), tokenizer, [path], trust_task_code=True, progress=False)
    assert len(found.scores[path].correct) == 5 and (tmp_path / "ran").exists()


def test_a_plain_task_file_needs_no_leave(own_task, tokenizer):
    path = own_task(doc_to_text='"Question: {{{{question.strip()}}}}\\nAnswer:"')
    ours = accuracy(tiny_model("llama"), tokenizer, asked(5, 7), progress=False)
    found = harness(tiny_model("llama"), tokenizer, [path], progress=False)
    assert found.scores[path].style == "cloze" and len(found.scores[path].correct) == len(ours.correct)
    with pytest.raises(RmuLabError, match="ours does not measure acc"):
        harness(tiny_model("llama"), tokenizer, [own_task(metric_list="[{{metric: acc_norm}}]")], progress=False)


def test_no_limit_below_one(tokenizer):
    with pytest.raises(RmuLabError, match="limit is 0; ask at least one question"):
        harness(tiny_model("llama"), tokenizer, ["rmu_bio"], limit=0)


def test_digests_tell_questions_and_prompts_apart(own_task, tmp_path):
    path = own_task()
    first = task_digests([path])
    assert first == task_digests([path])
    (tmp_path / "questions.json").write_text("\n".join(map(json.dumps, asked(5, 8))))
    second = task_digests([path])
    third = task_digests([own_task(doc_to_text='"Q: {{{{question}}}}"')])
    assert len({first[path], second[path], third[path]}) == 3


def test_without_progress_the_bars_of_datasets_stay_away_too():
    # In a notebook they are widgets, not lines on stderr: seen only where the data set is not yet in the cache.
    with _quiet(progress=False):
        assert are_progress_bars_disabled()
    assert not are_progress_bars_disabled()
    with _quiet(progress=True):
        assert not are_progress_bars_disabled()

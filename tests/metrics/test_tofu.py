"""TOFU's data in its exact format, and its evaluation against plain passes of tiny models and by hand."""

import copy
import dataclasses
import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tokenizers import processors

from rmu_lab import RmuLabError
from rmu_lab.metrics import (
    TOFU_PARTS,
    ScoredText,
    TofuEvaluation,
    TofuScores,
    choice_probability,
    forget_quality,
    load_tofu,
    rouge_l,
    tofu_evaluation,
    tofu_rows,
)
from rmu_lab.metrics.asking import STOPS, asked, continuations, cut
from rmu_lab.metrics.tofu import _utility
from rmu_lab.metrics.tofu_data import tofu_problem, wrong_answers
from tests.conftest import same_weights, tiny_model, weights_of
from tests.metrics.benchmark_files import TOFU_FILES, name_rows, option_rows, perturbed_rows, write_tofu

# -- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", TOFU_FILES)
@pytest.mark.parametrize("form", ["folder", "file", "list", "lines"])
def test_each_part_is_loaded_as_it_stands(subset, form, tmp_path):
    data = write_tofu(tmp_path)
    file = tmp_path / f"{subset}.json"
    if form == "list":
        file.write_text(json.dumps(TOFU_FILES[subset], indent=1))
    if form == "lines":
        file.rename(tmp_path / f"{subset}.jsonl")
    rows = load_tofu(file if form == "file" else data, subset)
    assert rows.to_list() == TOFU_FILES[subset]


def test_a_copy_of_the_repository_goes_through_datasets(tmp_path):
    """With a README that says which file is which configuration, as on the hub."""
    write_tofu(tmp_path / "parts")
    card = "---\nconfigs:\n- config_name: forget10_perturbed\n  data_files: parts/forget10_perturbed.json\n---\n"
    (tmp_path / "README.md").write_text(card)
    assert load_tofu(tmp_path, "forget10_perturbed").to_list() == TOFU_FILES["forget10_perturbed"]
    broken = [{**perturbed_rows("fish")[0], "answer": " "}]
    (tmp_path / "parts" / "forget10_perturbed.json").write_text("\n".join(map(json.dumps, broken)))
    with pytest.raises(RmuLabError, match="forget10_perturbed, train, row 0: `answer` is ' '"):
        load_tofu(tmp_path, "forget10_perturbed")


@pytest.mark.parametrize(
    ("subset", "change", "said"),
    [
        ("forget10", {"question": ""}, "`question` is '', but must be a non-empty string"),
        ("forget10", {"answer": 3}, "`answer` is 3"),
        ("forget10_perturbed", {"paraphrased_answer": None}, "`paraphrased_answer` is None"),
        ("retain_perturbed", {"perturbed_answer": []}, r"`perturbed_answer` is \[\].*at least one"),
        ("retain_perturbed", {"perturbed_answer": ["", "a"]}, "must be a list of wrong answers"),
        ("real_authors_perturbed", {"perturbed_answer": None}, "`perturbed_answer` is None"),
        ("world_facts_perturbed", {"perturbed_answer": {"a": 1}}, "must be a list of wrong answers"),
    ],
)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_a_row_that_is_not_well_formed_is_named(subset, change, said, form, tmp_path):
    rows = [dict(row) for row in TOFU_FILES[subset]]
    rows[1] |= change
    text = "\n".join(map(json.dumps, rows)) if form == "lines" else "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
    (tmp_path / f"{subset}.json").write_text(text)
    line = 2 if form == "lines" else 3
    with pytest.raises(RmuLabError, match=rf"{subset}.json, line {line}: .*{said}"):
        load_tofu(tmp_path, subset)


def test_what_is_no_data_is_said(tmp_path):
    for content, said in (("[1]", "line 1 is not an object but int"), ("[{]", "is not JSON"), ("", "holds no objects")):
        (tmp_path / "full.json").write_text(content)
        with pytest.raises(RmuLabError, match=said):
            load_tofu(tmp_path, "full")
    (tmp_path / "full.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RmuLabError, match="give a UTF-8 text file"):
        load_tofu(tmp_path, "full")
    with pytest.raises(RmuLabError, match=r"has no forget05.jsonl or forget05.json; put that part of TOFU there"):
        load_tofu(tmp_path, "forget05")
    with pytest.raises(RmuLabError, match="There is no file, folder or data set"):
        load_tofu(tmp_path / "elsewhere", "full")


def test_wrong_answers_are_the_options_that_are_not_right():
    assert wrong_answers(option_rows()[0]) == name_rows()[0]["perturbed_answer"]
    assert wrong_answers({"answer": "a", "perturbed_answer": "b"}) == ["b"]


def test_questions_with_options_become_rows():
    question = {"question": "What is cold?", "choices": ["a fire", "the sea", "a lamp"], "answer": 1, "id": "q"}
    (row,) = tofu_rows([question])
    assert row["answer"] == row["paraphrased_answer"] == "the sea" and row["perturbed_answer"] == ["a fire", "a lamp"]
    assert tofu_problem(row, "paraphrased") is None and set(row) <= set(TOFU_FILES["retain_perturbed"][0])
    with pytest.raises(RmuLabError, match=r"questions\[0\]: `answer` is 3"):
        tofu_rows([question | {"answer": 3}])


# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_share_of_the_right_answer_by_hand():
    def scored(probability):
        one = torch.ones(1)
        return ScoredText("x", one * math.log(probability), one.bool(), -one, one)

    assert choice_probability(scored(0.2), [scored(0.1), scored(0.1)]) == pytest.approx(0.5)
    with pytest.raises(RmuLabError, match="at least one"):
        choice_probability(scored(0.2), [])


def test_written_answers_end_where_the_next_question_begins():
    stops = ("\n\n", "\nQuestion", "Question:")
    assert cut("\n\nIn a house.\nQuestion: What?", stops) == "In a house."
    assert cut("a\n\nb Question: c", stops) == "a" and cut("  a b ", stops) == "a b" and cut("a", ()) == "a"


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_continuations_are_greedy_and_in_the_order_of_the_prompts(family, tokenizer):
    model = tiny_model(family)
    prompts = ["the sea a fish cold water river", "the", "old house green tree"]
    found = continuations(model, tokenizer, prompts, max_new_tokens=6, batch_size=2, progress=False)
    for prompt, text in zip(prompts, found, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        start = len(tokenizer(prompt)["input_ids"])
        assert text == tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_a_chat_template_is_taken_where_asked_for(tokenizer, monkeypatch):
    assert asked(tokenizer, " the sea? ") == ("Question: the sea?\nAnswer:", " ")
    with pytest.raises(RmuLabError, match="no chat template"):
        asked(tokenizer, "the sea?", chat_template=True)
    template = "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    assert asked(tokenizer, "the sea?", chat_template=True) == ("<s>[the sea?]", "")  # this tokenizer puts none before
    beginning = copy.deepcopy(tokenizer)
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    beginning.backend_tokenizer.post_processor = template
    assert asked(beginning, "the sea?", chat_template=True) == ("[the sea?]", "")
    assert beginning("[the sea?]")["input_ids"] == tokenizer("<s>[the sea?]")["input_ids"]


def test_a_chat_template_is_that_of_scores_and_of_written_answers(model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{% for one in messages %}[{{ one['content'] }}]{% endfor %}")
    (row,) = rows = SETS["retain"][:1]
    found = tofu_evaluation(model, tokenizer, rows, rows, chat_template=True, **QUIET).scores["forget"]
    prompt, whole = (tokenizer(f"[{row['question']}]{end}")["input_ids"] for end in ("", row["answer"]))
    with torch.no_grad():
        log_p = model(torch.tensor([whole])).logits[0].log_softmax(dim=-1)
    loss = -np.mean([float(log_p[at - 1, whole[at]]) for at in range(len(prompt), len(whole))])
    assert found.probability == pytest.approx([np.exp(-loss)], rel=1e-3)
    written = continuations(model, tokenizer, [f"[{row['question']}]"], max_new_tokens=8, progress=False)
    assert found.answers == (cut(written[0], STOPS),)


# -- the evaluation ---------------------------------------------------------------------------------------------------

SETS = {name: TOFU_FILES[part] for name, part in TOFU_PARTS.items()}
QUIET = {"progress": False, "max_new_tokens": 8}


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def evaluation(model, tokenizer):
    return tofu_evaluation(model, tokenizer, **SETS, reference=tiny_model("llama", seed=1), **QUIET)


def mean_loss(model, tokenizer, question, answer, end=False):
    """Of the answer's tokens, from one plain pass."""
    prompt = tokenizer(f"Question: {question}\nAnswer:")["input_ids"]
    ids = tokenizer(f"Question: {question}\nAnswer: {answer}")["input_ids"] + [tokenizer.eos_token_id] * end
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    return -np.mean([float(log_p[at - 1, ids[at]]) for at in range(len(prompt), len(ids))])


def by_hand(model, tokenizer, rows, choice, end=False):
    """Probabilities and truth ratios, as TOFU's paper and code define them."""
    probability, ratio = [], []
    for row in rows:
        loss, *wrong = (
            mean_loss(model, tokenizer, row["question"], text, end) for text in [row["answer"], *row["perturbed_answer"]]
        )
        shares = np.exp([-loss, *(-one for one in wrong)])
        probability.append(shares[0] / shares.sum() if choice else shares[0])
        right = loss if choice else mean_loss(model, tokenizer, row["question"], row["paraphrased_answer"], end)
        ratio.append(np.exp(right - np.mean(wrong)))
    return probability, ratio


@pytest.mark.parametrize("name", SETS)
def test_probabilities_and_truth_ratios_are_those_of_plain_passes(name, model, tokenizer, evaluation):
    probability, ratio = by_hand(model, tokenizer, SETS[name], name in ("real_authors", "world_facts"))
    assert evaluation.scores[name].probability == pytest.approx(probability, rel=1e-3)
    assert evaluation.scores[name].truth_ratio == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("name", SETS)
def test_rouge_is_of_what_the_model_writes(name, evaluation):
    scores = evaluation.scores[name]
    assert len(scores.answers) == len(SETS[name])
    right = [row["answer"] for row in SETS[name]]
    assert scores.rouge == tuple(rouge_l(one, other).recall for one, other in zip(right, scores.answers, strict=True))


def test_the_end_of_an_answer_is_a_token_of_it_where_asked_for(model, tokenizer):
    rows = SETS["retain"]
    found = tofu_evaluation(model, tokenizer, rows, rows, end_token=True, **QUIET)
    probability, ratio = by_hand(model, tokenizer, rows, False, end=True)
    assert found.scores["forget"].probability == pytest.approx(probability, rel=1e-3)
    assert found.scores["forget"].truth_ratio == pytest.approx(ratio, rel=1e-3)


def test_forget_quality_compares_with_a_model_its_evaluation_or_its_ratios(model, tokenizer, evaluation):
    other = tiny_model("llama", seed=1)
    _, ratios = by_hand(other, tokenizer, SETS["forget"], False)
    assert evaluation.forget_quality == pytest.approx(forget_quality(evaluation.truth_ratios, ratios))
    two = {name: SETS[name] for name in ("forget", "retain")}
    never = tofu_evaluation(other, tokenizer, **two, **QUIET)
    assert never.forget_quality is None
    for reference in (never, never.truth_ratios):
        again = tofu_evaluation(model, tokenizer, **two, reference=reference, **QUIET)
        assert again.forget_quality == pytest.approx(evaluation.forget_quality)
    assert set(again.scores) == {"forget", "retain"}


def test_an_edit_is_in_the_model_while_it_is_evaluated_only(model, tokenizer, evaluation):
    class Louder:
        @contextmanager
        def applied(self, model):
            head = model.get_output_embeddings().weight
            with torch.no_grad():
                head.mul_(2)
                yield model
                head.div_(2)

    before = weights_of(model)
    found = tofu_evaluation(model, tokenizer, **SETS, edit=Louder(), reference=model, **QUIET)
    assert same_weights(model, before) and found.settings["edit"] and not evaluation.settings["edit"]
    assert found.scores["forget"].probability != evaluation.scores["forget"].probability
    assert found.forget_quality == forget_quality(found.truth_ratios, evaluation.truth_ratios)
    assert found.digests["forget"] == evaluation.digests["forget"]
    assert found.digests["weights"] != evaluation.digests["weights"]


def scores(probability, rouge, ratio):
    return TofuScores(tuple(probability), tuple(rouge), tuple(ratio), ("",) * len(rouge))


def test_utility_by_hand():
    """Means 1/2, 1/4, and 1 - 0 and nothing of R = 0 and 3: 1/2."""
    one = scores([0.25, 0.75], [0.5, 0.0], [0.0, 3.0])
    found = _utility([one])
    assert found.value == pytest.approx(3 / (2 + 4 + 2)) and found.low < found.value < found.high
    sure = scores([0.5] * 3, [0.5] * 3, [0.5] * 3)
    assert _utility([sure, sure, sure]).low == _utility([sure]).high == pytest.approx(0.5)
    none = _utility([sure, scores([0.5] * 3, [0.0] * 3, [0.5] * 3)])  # what is lost on one of them is lost
    assert (none.value, none.high) == (0, 0)


def test_utility_is_of_the_nine_scores_and_not_of_the_forget_set(model, tokenizer, monkeypatch):
    """Each set's probability, ROUGE and truth ratio are given; the answers have half of the words of the right ones."""
    given = iter([(0.0, 9.0), (0.5, 0.25), (0.25, 0.5), (0.2, 3 / 4)])  # forget, retain, real authors, world facts

    def scored(model, tokenizer, rows, *how):
        probability, ratio = next(given)
        return [probability] * len(rows), [ratio] * len(rows)

    monkeypatch.setattr("rmu_lab.metrics.tofu._scored", scored)
    monkeypatch.setattr(
        "rmu_lab.metrics.tofu.continuations", lambda model, tokenizer, prompts, **how: ["one"] * len(prompts)
    )
    sets = {name: [row | {"answer": "one two"} for row in rows] for name, rows in SETS.items()}
    found = tofu_evaluation(model, tokenizer, **sets, **QUIET)
    nine = [0.5, 0.5, 0.75, 0.25, 0.5, 0.5, 0.2, 0.5, 0.25]
    assert found.utility.value == pytest.approx(9 / sum(1 / score for score in nine))
    assert found.utility.n == sum(len(rows) for name, rows in SETS.items() if name != "forget")
    assert found.scores["forget"].kept["truth"] == (0.0,) * 4


def test_it_is_stored_and_read_back(evaluation, tmp_path):
    path = evaluation.save(tmp_path / "tofu.json")
    assert TofuEvaluation.load(path) == evaluation == TofuEvaluation.from_dict(evaluation.to_dict())
    assert {"forget", "retain", "weights", "tokenizer"} <= set(evaluation.digests) and evaluation.provenance["versions"]
    assert [row[0] for row in evaluation.table()] == list(SETS)
    whole = json.loads(path.read_text())
    for broken in (
        {},
        whole | {"utility": 3},
        whole | {"scores": {"retain": whole["scores"]["retain"]}},
        whole | {"scores": whole["scores"] | {"forget": whole["scores"]["forget"] | {"rouge": [0.5]}}},
        whole | {"scores": whole["scores"] | {"forget": whole["scores"]["forget"] | {"rouge": ["a"] * 4}}},
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(RmuLabError, match="holds no TOFU evaluation"):
            TofuEvaluation.load(path)
        with pytest.raises(RmuLabError, match="This is no TOFU evaluation"):
            TofuEvaluation.from_dict(broken)


def test_what_does_not_fit_is_said(model, tokenizer, evaluation):
    rows = SETS["retain"]
    without = [{name: value for name, value in row.items() if name != "paraphrased_answer"} for row in rows]
    other = dataclasses.replace(evaluation, settings=evaluation.settings | {"end_token": True})
    for given, said in (
        ({"forget": []}, "There are no rows in forget"),
        ({"retain": [*rows, "a"]}, r"retain\[4\]: it is 'a', but must be a mapping"),
        ({"forget": without}, r"forget\[0\]: `paraphrased_answer` is None"),
        ({"forget": "locuslab/TOFU"}, r"give the rows that it names: load_tofu"),
        ({"reference": model}, "The reference is the model itself"),
        ({"reference": evaluation, "forget": rows}, "other forget questions"),
        ({"reference": other}, "with another end_token"),
    ):
        with pytest.raises(RmuLabError, match=said):
            tofu_evaluation(model, tokenizer, **{"forget": SETS["forget"], "retain": rows, **given}, **QUIET)
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(RmuLabError, match="no token that ends texts"):
        tofu_evaluation(model, endless, rows, rows, end_token=True, **QUIET)

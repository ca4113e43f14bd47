"""MUSE's data in its exact format, and its measures by hand and against plain passes of tiny models."""

import json
import math

import pytest
import torch

from rmu_lab import RmuLabError
from rmu_lab.metrics import (
    knowledge_memorisation,
    load_muse,
    membership_area,
    privacy_leakage,
    rouge_l,
    verbatim_memorisation,
)
from tests.conftest import tiny_model
from tests.metrics.benchmark_files import MUSE_FILES, write_muse

# -- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", MUSE_FILES)
def test_each_part_is_loaded_as_it_stands(part, tmp_path):
    write_muse(tmp_path)
    subset, split = part.split("/")
    assert load_muse(tmp_path, subset, split).to_list() == MUSE_FILES[part]
    file = tmp_path / f"{part}.json"
    assert load_muse(file, subset, split).to_list() == MUSE_FILES[part]
    file.write_text("\n".join(map(json.dumps, MUSE_FILES[part])))
    file.rename(file.with_suffix(".jsonl"))
    assert load_muse(tmp_path, subset, split).to_list() == MUSE_FILES[part]


def test_a_copy_of_the_repository_goes_through_datasets(tmp_path):
    """On the hub each split is a parquet file, and the README says which."""
    datasets = pytest.importorskip("datasets")
    card = "---\nconfigs:\n- config_name: knowmem\n  data_files:\n"
    for split in ("forget_qa", "retain_qa"):
        path = tmp_path / "knowmem" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_list(MUSE_FILES[f"knowmem/{split}"]).to_parquet(path)
        card += f"  - split: {split}\n    path: knowmem/{split}-*\n"
    (tmp_path / "README.md").write_text(card + "---\n")
    assert load_muse(tmp_path, "knowmem", "retain_qa").to_list() == MUSE_FILES["knowmem/retain_qa"]
    with pytest.raises(RmuLabError, match="cannot be loaded"):
        load_muse(tmp_path, "knowmem", "nothing")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("knowmem/forget_qa", "question"),
        ("knowmem/forget_qa", "answer"),
        ("verbmem/forget", "gt"),
        ("privleak/holdout", "text"),
    ],
)
def test_a_row_that_is_not_well_formed_is_named(part, field, tmp_path):
    file = write_muse(tmp_path) / f"{part}.json"
    rows = [dict(row) for row in MUSE_FILES[part]]
    del rows[1][field]
    lines = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
    file.write_text(lines)
    with pytest.raises(RmuLabError, match=rf"{file.name}, line 3: `{field}` is None, but must be a non-empty string"):
        load_muse(tmp_path, *part.split("/"))
    with pytest.raises(RmuLabError, match=r"has no elsewhere.jsonl or elsewhere.json; put that part of MUSE there"):
        load_muse(tmp_path, "knowmem", "elsewhere")


# -- what a model writes ----------------------------------------------------------------------------------------------


def greedy(model, tokenizer, prompt, n):
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_what_is_written_word_for_word(tokenizer):
    model = tiny_model("llama")
    prompts = [row["prompt"] for row in MUSE_FILES["verbmem/forget"]]
    own = [greedy(model, tokenizer, prompt, 12) for prompt in prompts]
    for ends in (own, ["qqqq", "zzzz"], [own[0], "zzzz"]):
        rows = [{"prompt": prompt, "gt": end} for prompt, end in zip(prompts, ends, strict=True)]
        found = verbatim_memorisation(model, tokenizer, rows, max_new_tokens=12, progress=False)
        cut = [tokenizer.decode(tokenizer(end)["input_ids"][:12]) for end in ends]
        wanted = [rouge_l(end, text, stems=False).f1 for end, text in zip(cut, own, strict=True)]
        assert found.value == pytest.approx(sum(wanted) / 2)
        assert (wanted[1] > 0.5) == (ends is own)
    assert wanted[0] > 0.4  # of the same text, though other tokens may make it up again


def test_a_true_continuation_is_cut_where_the_model_stops_writing(tokenizer, monkeypatch):
    said = iter([["the sea a fish", "cold"]])
    monkeypatch.setattr("rmu_lab.metrics.muse.continuations", lambda *given, **how: next(said))
    four = tokenizer("the sea a fish")["input_ids"]
    rows = [{"prompt": "x", "gt": "the sea a fish cold water"}, {"prompt": "y", "gt": "river stone"}]
    found = verbatim_memorisation(tiny_model("llama"), tokenizer, rows, max_new_tokens=len(four), progress=False)
    assert found.value == 0.5  # whole, and nothing; uncut it were 2 (4/6) / (1 + 4/6) in the first


@pytest.mark.parametrize("shown", [0, 1])
def test_knowledge_is_what_is_written_after_solved_examples(shown, tokenizer):
    model = tiny_model("llama")
    rows, examples = MUSE_FILES["knowmem/forget_qa"], MUSE_FILES["knowmem/forget_qa_icl"][:shown]
    before = "Question: What is green?\nAnswer: the tree\n\n" if shown else ""
    answers = [greedy(model, tokenizer, f"{before}Question: {row['question']}\nAnswer:", 8).strip() for row in rows]
    found = knowledge_memorisation(model, tokenizer, rows, examples, max_new_tokens=8, progress=False)
    wanted = [rouge_l(row["answer"], text, stems=False).f1 for row, text in zip(rows, answers, strict=True)]
    assert found.value == pytest.approx(sum(wanted) / 2) and found.n == 2
    knows = [{"question": row["question"], "answer": text} for row, text in zip(rows, answers, strict=True)]
    assert knowledge_memorisation(model, tokenizer, knows, examples, max_new_tokens=8, progress=False).value == 1


def test_words_count_as_they_are(tokenizer, monkeypatch):
    """MUSE takes no stems."""
    monkeypatch.setattr("rmu_lab.metrics.muse.continuations", lambda *given, **how: ["walks", "walked"])
    rows = [{"question": "What?", "answer": "walked"}] * 2
    assert knowledge_memorisation(tiny_model("llama"), tokenizer, rows, progress=False).value == 0.5


# -- who was trained on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.4, 1.0])
def test_the_membership_area_is_of_the_least_likely_tokens(k, tokenizer):
    model = tiny_model("llama")
    scores = {}
    for name in ("forget", "holdout"):
        scores[name] = []
        for row in MUSE_FILES[f"privleak/{name}"]:
            ids = tokenizer(row["text"], return_tensors="pt")["input_ids"]
            with torch.no_grad():
                log_p = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(-1, ids[0, 1:, None])[:, 0]
            lowest = sorted(log_p.tolist())[: int(k * len(log_p))]
            scores[name].append(sum(lowest) / len(lowest))
    wanted = sum(out > seen for out in scores["holdout"] for seen in scores["forget"]) / 16
    sets = MUSE_FILES["privleak/forget"], MUSE_FILES["privleak/holdout"]
    found = membership_area(model, tokenizer, *sets, k=k, progress=False)
    assert found.value == wanted and found.low <= wanted <= found.high
    assert membership_area(model, tokenizer, *sets[::-1], k=k, progress=False).value == pytest.approx(1 - wanted)


def test_privacy_leakage_by_hand(tokenizer):
    assert privacy_leakage(0.6, 0.5) == pytest.approx(0.2)
    assert privacy_leakage(0.0, 0.48) == -1 and privacy_leakage(0.48, 0.48) == 0
    model, other = tiny_model("llama"), tiny_model("llama", seed=1)
    sets = MUSE_FILES["privleak/forget"], MUSE_FILES["privleak/holdout"]
    areas = [membership_area(one, tokenizer, *sets, progress=False) for one in (model, other)]
    if areas[1].value:
        assert privacy_leakage(*areas) == pytest.approx(areas[0].value / areas[1].value - 1)
    for bad in ((0.5, 0), (1.2, 0.5), (0.5, math.nan)):
        with pytest.raises(RmuLabError, match="the second above 0"):
            privacy_leakage(*bad)


def test_what_does_not_fit_is_said(tokenizer):
    model = tiny_model("llama")
    good = MUSE_FILES["privleak/forget"]
    for act, said in (
        (lambda: membership_area(model, tokenizer, good, [], progress=False), "no rows in holdout"),
        (lambda: membership_area(model, tokenizer, [{"text": 3}], good), r"forget\[0\]: `text` is 3"),
        (lambda: membership_area(model, tokenizer, good, good, k=0, progress=False), "a share above 0"),
        (lambda: verbatim_memorisation(model, tokenizer, [{"prompt": "a"}]), r"texts\[0\]: `gt` is None"),
        (lambda: knowledge_memorisation(model, tokenizer, ["a"]), r"questions\[0\]: it is 'a'"),
        (
            lambda: knowledge_memorisation(model, tokenizer, MUSE_FILES["knowmem/forget_qa"], [{"question": "a"}]),
            r"examples\[0\]: `answer` is None",
        ),
    ):
        with pytest.raises(RmuLabError, match=said):
            act()

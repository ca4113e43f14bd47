import json
from pathlib import Path

import datasets
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import (
    RmuLabError,
    Subject,
    UnlearnConfig,
    accuracy,
    advise,
    answers,
    load_corpus,
    load_questions,
    max_logits,
    sweep,
    unlearn,
)
from rmu_lab.activations import token_states
from rmu_lab.corpora import TokenBatch, texts_of, token_batches
from rmu_lab.theory import noise_sensitivity
from tests.conftest import made_up_texts, tiny_model

ONE = datasets.Dataset.from_dict({"text": ["the sea", "a fish"]})
SPLITS = datasets.DatasetDict({"train": ONE, "dev": ONE})


def test_load_by_name_and_by_path(tmp_path):
    assert {"id", "topic", "title", "text"} <= set(load_corpus("retain_general").column_names)
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": "one\u2028still one"}\n\n{"text": "two"}\n', encoding="utf-8")
    assert load_corpus(path)["text"][:] == ["one\u2028still one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('["a list"]', "own.jsonl, line 2 is not an object but list"),
        ('{"txt": "misspelt"}', "own.jsonl, line 2 has no string `text`"),
        ('{"text": 3}', "own.jsonl, line 2 has no string `text`"),
        ('{"text": "  "}', "own.jsonl, line 2 has no string `text`"),
        ('{"text": "cut', "own.jsonl, line 2 is not JSON"),
    ],
)
def test_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"text": "fine"}) + "\n" + line + "\n")
    with pytest.raises(RmuLabError, match=message):
        load_corpus(path)


def test_other_bad_files(tmp_path):
    with pytest.raises(RmuLabError, match=r"no corpus named 'forget_maths'; use one of .*retain_general"):
        load_corpus("forget_maths")
    with pytest.raises(RmuLabError, match=r"There is no file .*missing\.jsonl"):
        load_corpus(tmp_path / "missing.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RmuLabError, match="holds no texts"):
        load_corpus(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(RmuLabError, match="UTF-8"):
        load_corpus(tmp_path / "latin.jsonl")


def data_set_folder(folder: Path, **columns: list) -> Path:
    """A copy of a data set with two subsets, `first` and `second`, as a repository of the hub holds it."""
    folder.mkdir(parents=True)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "last.jsonl").write_text(json.dumps(rows[-1]) + "\n")
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: first\n  data_files:\n  - {split: train, path: all.jsonl}\n  - {split: test, path: last.jsonl}\n"
        "- config_name: second\n  data_files: last.jsonl\n---\n"
    )
    return folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_folder_that_holds_a_data_set(tmp_path, own_cache):
    folder = data_set_folder(tmp_path / "mine", text=["one", " ", None, "two"], title=["a", "b", "c", "d"])
    corpus = load_corpus(folder, subset="first")
    assert corpus["text"][:] == ["one", "two"] and corpus["title"][:] == ["a", "d"]
    assert load_corpus(str(folder), subset="first", split="test")["text"][:] == ["two"]
    assert load_corpus(folder, subset="second")["text"][:] == ["two"]
    titles = load_corpus(folder, subset="first", column="title")
    assert titles.column_names == ["text"] and titles["text"][:] == ["a", "b", "c", "d"]
    # `datasets` alone would give what the first folder of this name holds.
    other = data_set_folder(tmp_path / "other" / "mine", text=["three"])
    assert load_corpus(other, subset="first")["text"][:] == ["three"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, r"mine' cannot be loaded \(Config name is missing. .*\['first', 'second'\]"),
        ({"subset": "third"}, r"BuilderConfig 'third' not found"),
        ({"subset": "first", "split": "dev"}, r'Unknown split "dev"'),
        ({"subset": "first", "column": "body"}, r"no column 'body'; give `column` one of: text, length"),
        ({"subset": "first", "column": "length"}, r"holds no texts in its column 'length'"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_named(tmp_path, own_cache, how, message):
    folder = data_set_folder(tmp_path / "mine", text=["one", "two"], length=[3, 3])
    with pytest.raises(RmuLabError, match=message):
        load_corpus(folder, **how)


def test_a_data_set_on_the_hub(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_dict({"text": ["one", ""]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_corpus("someone/texts")["text"][:] == ["one"]
    assert load_corpus("someone/texts", subset="long", split="train[:5]")["text"][:] == ["one"]
    assert asked == [
        (("someone/texts", None), {"split": "train"}),
        (("someone/texts", "long"), {"split": "train[:5]"}),
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (datasets.exceptions.DatasetNotFoundError("no"), "There is no data set 'someone/texts' on the Hugging Face hub"),
        (ConnectionError("Couldn't reach it"), r"cannot be loaded \(Couldn't reach it\); check that the hub can be reached"),
        (RuntimeError(), r"cannot be loaded \(RuntimeError\)"),
    ],
)
def test_a_hub_without_the_data_set(monkeypatch, error, message):
    def load_dataset(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(RmuLabError, match=message):
        load_corpus("someone/texts")


def test_names_and_files_of_this_machine_never_ask_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_args, **_kwargs: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "texts").write_text('{"text": "one"}')
    assert load_corpus("mine/texts")["text"][:] == ["one"]
    assert len(load_corpus("forget_bio")) > 1
    for name in ("forget_maths", "mine/missing.jsonl", "a/b/c", tmp_path / "none"):
        with pytest.raises(RmuLabError, match="There is no"):
            load_corpus(name)
    with pytest.raises(RmuLabError, match="is a file, which has no subsets and splits"):
        load_corpus("mine/texts", split="train")


def test_a_column_of_a_file(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": "short", "body": "long"}')
    assert load_corpus(tmp_path / "own.jsonl", column="body")["text"][:] == ["long"]


def test_texts_of():
    assert texts_of(["a", "b"], "forget", 2) == ["a", "b"]
    with pytest.raises(RmuLabError, match="forget holds 1 texts, but one batch takes 4"):
        texts_of(["a"], "forget", 4)
    with pytest.raises(RmuLabError, match="retain is one string"):
        texts_of("retain_general", "retain", 1)
    with pytest.raises(RmuLabError, match=r"retain\[1\] is None"):
        texts_of(["a", None], "retain", 1)


@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5), left=st.booleans())
def test_counted_positions(lengths, left):
    """Padding and each text's first token are left out, or in, as asked."""
    width = max(lengths)
    mask = torch.tensor([[0] * (width - n) + [1] * n if left else [1] * n + [0] * (width - n) for n in lengths])
    batch = TokenBatch(mask, mask)
    total = mask.numel()
    assert batch.counted().sum() == sum(lengths) - len(lengths)
    assert batch.counted(first_token=True).equal(mask.bool())
    assert batch.counted(padding=True).sum() == total - len(lengths)
    assert batch.counted(padding=True, first_token=True).all()
    first = batch.counted(first_token=True) & ~batch.counted()
    assert first.int().argmax(dim=1).tolist() == [width - n if left else 0 for n in lengths]


def test_token_batches(tokenizer):
    texts = made_up_texts(10, seed=1)
    batches = token_batches(tokenizer, texts, batch_size=4, max_length=12)
    assert [len(batch.input_ids) for batch in batches] == [4, 4, 2]
    assert max(batch.input_ids.shape[1] for batch in batches) <= 12
    whole = tokenizer(texts[5])["input_ids"][:12]
    row = batches[1].input_ids[1][batches[1].attention_mask[1].bool()]
    assert row.tolist() == whole
    left = token_batches(tokenizer, ["the sea", "the cold cold water"], 2, 12, padding_side="left")[0]
    assert left.attention_mask[0, 0] == 0 and left.attention_mask[0, -1] == 1
    with pytest.raises(RmuLabError, match="'t' is shorter than two tokens"):
        token_batches(tokenizer, ["the sea", "t"], 2, 12)


# -- what files may hold ----------------------------------------------------------------------------------------------


def test_a_field_that_the_first_row_lacks_is_kept(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": "one"}\n{"text": "two", "topic": "t"}\n')
    corpus = load_corpus(tmp_path / "own.jsonl")
    assert corpus.column_names == ["text", "topic"] and corpus["topic"][:] == [None, "t"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('"a"', "1"),
        ("1", '"a"'),
        ("true", "2"),
        ("[1]", '"a"'),
        ('{"a": 1}', "3"),
        ("1", "1" + "0" * 30),
        ('"a"', '"\\ud800"'),
    ],
)
def test_mixed_types_are_named(tmp_path, first, second):
    rows = f'{{"text": "one", "id": {first}}}\n\n{{"text": "two", "id": {second}}}\n'
    (tmp_path / "own.jsonl").write_text(rows)
    with pytest.raises(RmuLabError, match=r"own\.jsonl, line 3: `id` does not go with those before it .*same type there"):
        load_corpus(tmp_path / "own.jsonl")


def test_whole_and_broken_numbers_go_together(tmp_path):
    (tmp_path / "own.jsonl").write_text(
        '{"text": "one", "year": 1}\n{"text": "two", "year": 2.5}\n{"text": "three", "year": null}\n'
    )
    assert load_corpus(tmp_path / "own.jsonl")["year"][:] == [1.0, 2.5, None]


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, text in (("own.jsonl", '{"text": "one"}'), ("own.txt", "one")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load_corpus(tmp_path / name)["text"][:] == ["one"]


def test_a_plain_text_is_a_passage_a_paragraph(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes("\r\nFirst line,\r\nsecond line.\r\n \t\r\n\r\n  Another caf\u00e9.\n\n".encode())
    assert load_corpus(path)["text"][:] == ["First line,\nsecond line.", "Another caf\u00e9."]
    path.write_bytes(b"caf\xe9")
    with pytest.raises(RmuLabError, match="UTF-8"):
        load_corpus(path)
    path.write_text(" \n")
    with pytest.raises(RmuLabError, match="holds no texts"):
        load_corpus(path)
    with pytest.raises(RmuLabError, match=r"There is no file .*none\.txt"):
        load_corpus("mine/none.txt")


@pytest.mark.parametrize("name", [None, 3, ["one", "two"], pandas.DataFrame({"text": ["one"]}), ""])
def test_what_is_no_name(name):
    for load in (load_corpus, load_questions):
        with pytest.raises(RmuLabError, match="give a short name, a path or an id of the hub"):
            load(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Path("own.jsonl"), r"retain is one string; give a list of texts or load_corpus\('own.jsonl'\)"),
        (b"one", "give the rows that it names: load_corpus"),
        (
            pandas.DataFrame({"text": ["one"]}),
            r'retain is a DataFrame; give its rows as a list, e.g. retain\["text"\].to_list\(\)',
        ),
        (SPLITS, r"retain is a data set with the splits train, dev; give one of them, such as retain\['train'\]"),
        (datasets.IterableDatasetDict({"dev": ONE.to_iterable_dataset()}), "with the splits dev; give one of them"),
        ({"one", "two"}, "retain is a set, whose order is another in each run; give a list"),
        ({"text": ["one"]}, "retain is a mapping with the keys text"),
        (datasets.Dataset.from_dict({"body": ["one"]}), "retain has no column 'text'"),
        (None, "retain is None; give rows"),
        ([], "retain holds 0 texts, but one batch takes 1"),
    ],
)
def test_what_is_no_list_of_texts(given, message):
    with pytest.raises(RmuLabError, match=message):
        texts_of(given, "retain", 1)


def test_one_string_is_no_list_of_texts(tokenizer):
    """Everywhere where texts become tokens, not only where a model is trained."""
    model = tiny_model("llama")
    with pytest.raises(RmuLabError, match="texts is one string; give a list of texts"):
        token_states(model, tokenizer, "the sea", [2])
    with pytest.raises(RmuLabError, match="texts holds 0 texts"):
        token_states(model, tokenizer, [], [2])


def test_splits_are_no_topics(tokenizer, tmp_path):
    """A `DatasetDict` is a mapping, as one of topics is; but nobody means to forget the split `train`."""
    model, message = tiny_model("llama"), r"is a data set with the splits train, dev; give one of them"
    question = {"question": "What?", "choices": ["sea", "fish"], "answer": 0}
    asked = datasets.DatasetDict({name: datasets.Dataset.from_list([question]) for name in ("train", "dev")})
    config, out = UnlearnConfig(layer=3, batch_size=2), tmp_path / "rows.jsonl"
    for call in (
        lambda: unlearn(model, tokenizer, SPLITS, ONE, config),
        lambda: unlearn(model, tokenizer, {"sea": SPLITS}, {"sea": ONE}, config),
        lambda: advise(model, tokenizer, SPLITS, ONE),
        lambda: sweep(model, tokenizer, SPLITS, ONE, [config], {"one": [question]}, out=out),
        lambda: sweep(model, tokenizer, ONE, ONE, [config], asked, out=out),
        lambda: sweep(model, tokenizer, ONE, ONE, [config], {"one": asked}, out=out),
        lambda: accuracy(model, tokenizer, asked),
        lambda: token_states(model, tokenizer, SPLITS, [2]),
        lambda: noise_sensitivity(model, tokenizer, SPLITS, layer=1, to_layers=[2], noise=1.0),
        lambda: answers(model, tokenizer, asked),
        lambda: max_logits(model, tokenizer, SPLITS),
        lambda: Subject(model, tokenizer, None, asked),
        lambda: Subject(model, tokenizer, None, [question], forget=SPLITS),
        lambda: Subject(model, tokenizer, None, [question], dev_questions=asked),
        lambda: Subject(model, tokenizer, None, [question], rephrased=([question], asked)),
    ):
        with pytest.raises(RmuLabError, match=message):
            call()
    assert not out.exists()


def test_a_table_is_no_list_of_prompts(tokenizer):
    table = pandas.DataFrame({"What is wet?": ["sea"]})  # going through one gives the names of its columns
    for call in (answers, max_logits):
        with pytest.raises(RmuLabError, match="is a DataFrame; give its rows as a list"):
            call(tiny_model("llama"), tokenizer, table)

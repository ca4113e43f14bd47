import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, load_corpus
from rmu_lab.corpora import TokenBatch, texts_of, token_batches
from tests.conftest import made_up_texts


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

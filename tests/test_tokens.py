"""Tokenizers that append an end-of-text token, and generation that is greedy whatever a model's own settings say."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, PreTrainedTokenizerFast

from rmu_lab import RmuLabError, answers, harness, max_logits
from rmu_lab.attacks import gcg
from rmu_lab.attacks.greedy_coordinate import GCGConfig
from rmu_lab.attacks.suffixes import Layout, reply
from rmu_lab.corpora import token_batches
from rmu_lab.evaluate import option_scores, split_options
from rmu_lab.theory._steering import one_text
from rmu_lab.tokens import open_tokens
from tests.conftest import made_up_texts, tiny_model
from tests.test_evaluate import QUESTIONS

BEGIN, END = 1, 2
QUIET = GCGConfig(num_steps=2, suffix=" x x x", search_width=8, batch_size=8, filter_ids=False)


@pytest.fixture(params=["<s> $A </s>", "$A </s>"])
def closing(tokenizer, request) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, with an end-of-text token behind every text."""
    return with_template(tokenizer, request.param)


def with_template(tokenizer, template) -> PreTrainedTokenizerFast:
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", BEGIN), ("</s>", END)])
    return PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # noqa: S106


@pytest.fixture
def plain(tokenizer, closing) -> PreTrainedTokenizerFast:
    """The same tokenizer without the end-of-text token."""
    return with_template(tokenizer, "<s> $A" if closing("a")["input_ids"][0] == BEGIN else "$A")


@pytest.mark.parametrize("special", [True, False])
def test_open_tokens_are_those_before_the_appended_one(closing, plain, special):
    texts = ["the sea", "a", "cold water and a stone"]
    assert closing("a")["input_ids"][-1] == END
    assert open_tokens(closing, texts, special=special) == plain(texts, add_special_tokens=special)["input_ids"]
    assert open_tokens(plain, texts, special=special) == plain(texts, add_special_tokens=special)["input_ids"]
    assert open_tokens(closing, ["the sea</s>"])[0][-1] == END  # what a text says itself stays


def test_an_appended_end_is_not_scored(closing, plain):
    prompt, endings = split_options(closing, "the sea", [" is cold", " a"])
    assert (prompt, endings) == split_options(plain, "the sea", [" is cold", " a"])
    assert END not in prompt and all(END not in ending for ending in endings)
    model = tiny_model("llama")
    assert option_scores(model, closing, QUESTIONS) == option_scores(model, plain, QUESTIONS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_text_is_trained_on_with_an_appended_end(closing, plain, side):
    texts = [*made_up_texts(5, seed=3), "the old sea</s>"]  # some are cut
    for ours, theirs in zip(*(token_batches(each, texts, 4, 12, side) for each in (closing, plain)), strict=True):
        assert ours.input_ids.equal(theirs.input_ids) and ours.attention_mask.equal(theirs.attention_mask)
        expected = plain(texts[:4], padding=True, padding_side=side, truncation=True, max_length=12, return_tensors="pt")
        if len(theirs.input_ids) == 4:
            assert theirs.input_ids.equal(expected["input_ids"])
            assert theirs.attention_mask.equal(expected["attention_mask"])


def test_lm_eval_scores_no_appended_end(closing, plain):
    """It would take the end for the last token of the prompt, and score the end in place of a letter."""
    pytest.importorskip("lm_eval")
    model = tiny_model("llama")
    ours, theirs = (
        harness(model, each, ["rmu_bio", "rmu_bio_letter"], limit=6, progress=False) for each in (closing, plain)
    )
    assert ours == theirs


@pytest.mark.parametrize("template", [None, "{{ messages[0]['content'] }} answer"])
def test_models_do_not_write_behind_an_appended_end(closing, plain, template):
    model, questions = tiny_model("llama"), ["the sea?", "a cold river in the old water?"]
    closing.chat_template = plain.chat_template = template
    assert answers(model, closing, questions) == answers(model, plain, questions)
    ours, theirs = (max_logits(model, each, questions, new_tokens=4) for each in (closing, plain))
    torch.testing.assert_close(ours.logit, theirs.logit, equal_nan=True)
    assert reply(model, closing, "the old sea", " x x") == reply(model, plain, "the old sea", " x x")
    assert one_text(model, closing, "the old sea").input_ids.equal(one_text(model, plain, "the old sea").input_ids)


def test_a_suffix_is_searched_where_it_is_sent(closing, plain):
    model, how = tiny_model("llama"), {"chat_template": False}
    layout = Layout.of(closing, "the sea", " x x x", " cold", **how)
    assert layout == Layout.of(plain, "the sea", " x x x", " cold", **how) and END not in layout.before
    ours, theirs = (gcg(model, each, "the sea", " cold", QUIET, progress=False) for each in (closing, plain))
    assert (ours.losses, ours.best_ids) == (theirs.losses, theirs.best_ids)


def likeliest(model, ids, n):
    """Greedy writing by whole passes, without `generate`."""
    for _ in range(n):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == END:
            break
    return ids


OWN_SETTINGS = [
    {"repetition_penalty": 5.0},
    {"num_beams": 3},
    {"do_sample": True, "temperature": 3.0, "top_k": 5},
    {"no_repeat_ngram_size": 1},
    {"suppress_tokens": list(range(3, 300))},
    {"min_new_tokens": 6, "max_length": 3},
    {"forced_eos_token_id": 2, "bad_words_ids": [[index] for index in range(3, 200)]},
]


@pytest.mark.parametrize("settings", OWN_SETTINGS, ids=lambda settings: next(iter(settings)))
def test_greedy_writes_the_likeliest_token_whatever_the_models_own_settings(settings, tokenizer):
    model, text = tiny_model("llama"), "the old sea and the"
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=0, **settings)
    ids = tokenizer(text)["input_ids"]
    expected = likeliest(model, ids, 8)[len(ids) :]
    written = tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert reply(model, tokenizer, text, "", chat_template=False, max_new_tokens=8) == written
    prompt = tokenizer("Question: the sea?\nAnswer:")["input_ids"]
    said = tokenizer.decode(likeliest(model, prompt, 8)[len(prompt) :], skip_special_tokens=True).strip()
    assert answers(model, tokenizer, ["the sea?"], max_new_tokens=8) == [said]
    found = max_logits(model, tokenizer, [text], new_tokens=8).logit[0]
    for n, logit in enumerate(found[: len(expected)].tolist()):
        with torch.no_grad():
            plain = model(torch.tensor([ids + expected[:n]])).logits[0, -1].max().item()
        assert logit == pytest.approx(plain, abs=1e-3)
    own = model.generation_config.to_diff_dict()
    assert all(own[name] == value for name, value in settings.items())  # put back


def test_writing_is_without_dropout_and_leaves_the_mode(tokenizer):
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    expected = answers(model, tokenizer, ["the sea?"])
    assert answers(model.train(), tokenizer, ["the sea?"]) == expected and model.training


def test_what_cannot_be_gone_on_from(tokenizer):
    model = tiny_model("gpt2")
    message = [{"role": "user", "content": "the sea"}]
    for call in (
        lambda: gcg(model, tokenizer, message, " cold", QUIET),
        lambda: gcg(model, tokenizer, "the sea", message, QUIET),
        lambda: reply(model, tokenizer, message, " x"),
    ):
        with pytest.raises(RmuLabError, match="is a list; give one text, without roles"):
            call()
    for questions in ("the sea?", [message]):
        with pytest.raises(RmuLabError, match="questions is no list of texts"):
            answers(model, tokenizer, questions)
    long = "the sea " * 200
    with pytest.raises(RmuLabError, match="but the model has 256 positions; shorten it"):
        answers(model, tokenizer, ["the sea?", long])
    with pytest.raises(RmuLabError, match="but the model has 256 positions; shorten it"):
        gcg(model, tokenizer, long, " cold", QUIET)
    with pytest.raises(RmuLabError, match=r"questions\[1\] with its longest option has \d+ tokens"):
        option_scores(model, tokenizer, [QUESTIONS[0], QUESTIONS[1] | {"question": long}])
    with pytest.raises(RmuLabError, match="The tokenizer is None; give the model's own"):
        option_scores(model, None, QUESTIONS)
    with pytest.raises(RmuLabError, match=r"gives token \d+, but the model knows 30; give the model's own tokenizer"):
        option_scores(tiny_model("llama", vocab_size=30), tokenizer, QUESTIONS)

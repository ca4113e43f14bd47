"""What notebook 01 measures with: attention, texts after a sentence, and training with a reader's own loss."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch

from rmu_lab import RmuLabError, UnlearnConfig, alignment, token_states, unlearn
from rmu_lab.course import (
    Moves,
    attention_weights,
    cosine_after,
    lead_figure,
    moves_figure,
    moves_of,
    norm_and_attention,
    norms_by_layer,
    over_texts,
    package_rmu_loss,
    received,
    token_bars,
    train_with,
)
from rmu_lab.unlearning.directions import random_directions
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

CONFIG = UnlearnConfig(method="rmu", layer=2, steps=3, batch_size=2, max_length=8, lr=1e-2, coefficient=5.0, alpha=3.0)
TEXTS = made_up_texts(8, seed=31, least=30, most=31)
OTHERS = made_up_texts(8, seed=32, least=30, most=31)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def rmu_loss(h_forget, h_retain, h_frozen, u, c, alpha):
    forget = (h_forget - c * u).square().sum(dim=-1)[:, 1:]
    retain = (h_retain - h_frozen).square().sum(dim=-1)[:, 1:]
    return forget.mean() + alpha * retain.mean()


def test_the_packages_loss_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    h_forget, h_retain, h_frozen = (torch.randn(3, 5, 4, generator=generator) for _ in range(3))
    u = torch.tensor([0.6, 0.8, 0.0, 0.0])
    given = (h_forget, h_retain, h_frozen, u, 7.0, 300.0)
    torch.testing.assert_close(rmu_loss(*given), package_rmu_loss(*given))


def test_training_with_an_equal_loss_gives_the_packages_edit(model, tokenizer):
    before = weights_of(model)
    own = random_directions(["forget"], 32, seed=0)["forget"]
    ours = train_with(rmu_loss, own, model, tokenizer, TEXTS, OTHERS, CONFIG, progress=False)
    theirs = unlearn(model, tokenizer, TEXTS, OTHERS, CONFIG, progress=False)
    assert same_weights(model, before)
    for name, matrix in theirs.edit.items():
        torch.testing.assert_close(ours.edit[name], matrix, rtol=1e-4, atol=1e-5)


def test_training_goes_by_the_given_loss_and_direction(model, tokenizer):
    own = random_directions(["forget"], 32, seed=9)["forget"]
    result = train_with(lambda *given: 0 * rmu_loss(*given), own, model, tokenizer, TEXTS, OTHERS, CONFIG, progress=False)
    assert result.directions["forget"].equal(own)
    assert {step["loss"] for step in result.history} == {0.0}


def test_only_rmu_has_a_constant_c(model, tokenizer):
    with pytest.raises(RmuLabError, match="constant c"):
        train_with(rmu_loss, torch.ones(32), model, tokenizer, TEXTS, OTHERS, UnlearnConfig(layer=2))


def test_attention_looks_back_and_sums_to_one(model, tokenizer):
    own = model.config._attn_implementation
    weights = attention_weights(model, tokenizer, TEXTS[:3], max_length=10)
    assert weights.shape == (5, 3, 10, 10)
    assert model.config._attn_implementation == own
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(5, 3, 10))
    assert weights.triu(1).abs().max() == 0


def test_norms_are_those_after_every_layer(model, tokenizer):
    norms = norms_by_layer(model, tokenizer, TEXTS[:3], max_length=10)
    states = token_states(model, tokenizer, TEXTS[:3], [4], max_length=10)
    assert norms.shape == (5, 3, 10)
    torch.testing.assert_close(norms[4].flatten(), states.hidden[4].norm(dim=-1))
    with pytest.raises(RmuLabError, match="numbers of tokens"):
        norms_by_layer(model, tokenizer, ["the sea", "the sea a fish cold"])


def test_attention_takes_texts_of_one_length(model, tokenizer):
    with pytest.raises(RmuLabError, match="numbers of tokens"):
        attention_weights(model, tokenizer, ["the sea", "the sea a fish cold"])


def test_what_a_token_receives_is_the_mean_over_those_after_it():
    weights = torch.tensor([[1.0, 0, 0], [0.75, 0.25, 0], [0.5, 0.125, 0.375]])
    found = received(weights, least=1)
    torch.testing.assert_close(found[:2], torch.tensor([0.625, 0.125]))
    assert found[2].isnan()
    assert received(weights, least=2)[1].isnan()


def test_texts_after_a_sentence_are_measured_without_it(model, tokenizer):
    u = random_directions(["forget"], 32, seed=0)["forget"]
    sentence = "a fish"
    found = cosine_after(model, tokenizer, sentence, TEXTS[:3], u, 2, tokens=6)
    before = len(tokenizer(sentence).input_ids)
    whole = alignment(model, tokenizer, [f"{sentence} {text}" for text in TEXTS[:3]], u, 2, max_length=before + 6)
    torch.testing.assert_close(found, whole.reshape(3, -1)[:, before - 1 :])
    with pytest.raises(RmuLabError, match="fewer than 200"):
        cosine_after(model, tokenizer, sentence, TEXTS[:3], u, 2, tokens=200)


def test_figures_have_a_bar_for_each_token_and_a_panel_for_each_measure():
    bars = token_bars(["Mal", "aria", " "], [900.0, 100.0, 90.0], title="The first", ylabel="norm")
    assert len(bars.axes[0].patches) == 3
    assert [label.get_text() for label in bars.axes[0].get_xticklabels()] == ["Mal", "aria", "␣"]
    both = norm_and_attention(torch.rand(5, 4) + 1, torch.rand(5, 4), title="Both")
    assert [axes.lines[0].get_xdata().tolist() for axes in both.axes] == [[1, 2, 3, 4]] * 2
    led = lead_figure({"on": [torch.rand(3, 6), torch.rand(3, 6)]}, title="Led")
    assert len(led.axes[0].lines) == 2
    cos = torch.rand(3, 6)
    assert len(moves_figure({"forget": Moves(*[cos] * 5, read=cos)}, title="Moved").axes) == 2
    plt.close("all")


def test_moves_are_those_of_the_tokens_without_and_with_the_edit(model, tokenizer):
    result = unlearn(model, tokenizer, TEXTS, OTHERS, replace(CONFIG, layer=3), progress=False)
    u, texts = result.directions["forget"], OTHERS[:3]
    found = moves_of(model, tokenizer, result, texts, u, 3, max_length=8)
    torch.testing.assert_close(found.cos_before.flatten(), alignment(model, tokenizer, texts, u, 3, max_length=8))
    with result.applied(model):
        torch.testing.assert_close(found.cos.flatten(), alignment(model, tokenizer, texts, u, 3, max_length=8))
    assert found.token.shape == found.norm.shape == found.way.shape == (3, 7)
    assert (found.way > 0).all()
    with pytest.raises(RmuLabError, match="numbers of tokens"):
        moves_of(model, tokenizer, result, ["the sea", texts[0]], u, 3)


def test_moving_begins_at_the_first_moved_token():
    cos = torch.tensor([[0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    found = Moves(*[cos] * 5, read=cos)
    assert found.onset.tolist() == [1, 0, 4]
    assert found.after_onset.tolist() == [[False, False, True, True], [False, True, True, True], [False] * 4]


def test_an_interval_is_over_texts():
    share = over_texts(torch.tensor([[True, True], [True, False], [False, False]]), 100)
    assert (share.value, share.n, share.over) == (50.0, 3, "texts")

"""What notebook 01 measures with: attention, texts after a sentence, and training with a reader's own loss."""

from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch

from rmu_lab import RmuLabError, UnlearnConfig, alignment, token_states, unlearn
from rmu_lab.course import (
    Moves,
    attention_weights,
    best_share_tests,
    cosine_after,
    grouped,
    lead_figure,
    likeness,
    mean_cosine_tests,
    moves_figure,
    moves_of,
    norm_and_attention,
    norms_by_layer,
    over_texts,
    package_direction,
    package_rmu_loss,
    received,
    token_bars,
    train_with,
    trigger_tests,
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
    norms, attention = torch.arange(1.0, 6.0), torch.linspace(0, 0.4, 5)
    both = norm_and_attention(
        {"first": ("forget", torch.rand(5, 4) + 1, torch.rand(5, 4)), "the": ("retain", norms, attention)}, title="Both"
    )
    assert [line.get_xdata().tolist() for axes in both.axes for line in axes.lines] == [[1, 2, 3, 4]] * 4
    assert both.axes[0].lines[1].get_ydata().tolist() == [1, 2, 3, 4]  # what layers 1 to 4 read, after layers 0 to 3
    assert both.axes[1].lines[1].get_ydata().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    led = lead_figure({"on": [torch.rand(3, 6), torch.rand(3, 6)]}, title="Led")
    assert [line.get_xdata().tolist() for line in led.axes[0].lines] == [[1, 2, 3, 4, 5, 6]] * 2
    cos = torch.rand(3, 6)
    assert len(moves_figure({"forget": Moves(*[cos] * 6, read=cos)}, title="Moved").axes) == 2
    plt.close("all")


def test_moves_are_those_of_the_tokens_without_and_with_the_edit(model, tokenizer):
    result = unlearn(model, tokenizer, TEXTS, OTHERS, replace(CONFIG, layer=3), progress=False)
    u, texts = result.directions["forget"], OTHERS[:3]
    found = moves_of(model, tokenizer, result, texts, u, 3, max_length=8)
    torch.testing.assert_close(found.cos_before.flatten(), alignment(model, tokenizer, texts, u, 3, max_length=8))
    with result.applied(model):
        torch.testing.assert_close(found.cos.flatten(), alignment(model, tokenizer, texts, u, 3, max_length=8))
    assert found.token.shape == found.norm.shape == found.way.shape == found.share.shape == (3, 7)
    assert (found.way > 0).all()
    with pytest.raises(RmuLabError, match="numbers of tokens"):
        moves_of(model, tokenizer, result, ["the sea", texts[0]], u, 3)


def test_the_share_of_the_way_is_what_is_left_subtracted_from_one(model, tokenizer):
    """Against the distances along the line to the target, by another route: the cosines and norms."""
    result = unlearn(model, tokenizer, TEXTS, OTHERS, replace(CONFIG, layer=3, lr=0.1), progress=False)
    u, texts = result.directions["forget"], OTHERS[:2]
    found = moves_of(model, tokenizer, result, texts, u, 3, max_length=8)
    old = token_states(model, tokenizer, texts, [3], max_length=8).hidden[3]
    with result.applied(model):
        new = token_states(model, tokenizer, texts, [3], max_length=8).hidden[3]
    target = CONFIG.coefficient * u
    line = torch.nn.functional.normalize(target - old, dim=-1)
    left = ((target - new) * line).sum(dim=-1) / (target - old).norm(dim=-1)
    torch.testing.assert_close(found.share.flatten(), (1 - left).reshape(2, 8)[:, 1:].flatten())
    adaptive = replace(CONFIG, layer=3, method="adaptive_rmu")
    with pytest.raises(RmuLabError, match="one target"):
        moves_of(model, tokenizer, unlearn(model, tokenizer, TEXTS, OTHERS, adaptive, progress=False), texts, u, 3)


def test_likeness_is_the_median_over_pairs():
    ones, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert likeness(ones, others) == pytest.approx(0.6)


def test_the_exercise_on_directions_takes_what_its_checker_should():
    def failed(answer: float) -> list[str]:
        return [hint for test, hint in mean_cosine_tests() if not test(answer)]

    pairs = [(package_direction(576, 2 * k) @ package_direction(576, 2 * k + 1)).item() for k in range(50)]
    assert not failed(sum(pairs) / 50)
    assert "positive entries" in failed(0.0)[0] and "different seeds" in failed(1.0)[0] and len(failed(0.7)) == 1


def test_the_exercise_on_the_share_takes_the_minimum_only():
    def failed(best: Callable[[float, float], float]) -> list[str]:
        return [hint for test, hint in best_share_tests(best) if not test(best(0.5, 300))]

    assert not failed(lambda p, alpha: p / (p + alpha * (1 - p)))
    assert len(failed(lambda p, alpha: p)) == 1  # right where alpha is 1
    assert len(failed(lambda p, alpha: 1 / (1 + alpha))) == 3


def test_a_trigger_is_short_ends_and_works():
    tests = trigger_tests(lambda words: 0.9 if "virus" in words else 0.1)
    verdicts = [
        [bool(test(words)) for test, _ in tests] for words in ("A virus.", "A virus", "A river.", "There is a virus.")
    ]
    assert verdicts == [[True, True, True], [True, False, True], [True, True, False], [False, True, True]]


def test_every_token_is_in_one_group():
    token, norm = torch.tensor([[7, 7, 5, 5]]), torch.tensor([[301.0, 300, 900, 1]])
    found = grouped(Moves(token, norm, *[norm] * 4, read=norm), 7, "'the'")
    assert {name: mask.int().tolist() for name, mask in found.items()} == {
        "giants": [[1, 0, 1, 0]],
        "other 'the'": [[0, 1, 0, 0]],
        "all others": [[0, 0, 0, 1]],
    }


def test_without_a_sentence_a_text_is_measured_from_its_own_first_token(model, tokenizer):
    u = random_directions(["forget"], 32, seed=0)["forget"]
    found = cosine_after(model, tokenizer, "", TEXTS[:3], u, 2, tokens=6)
    torch.testing.assert_close(found[:, 1:], alignment(model, tokenizer, TEXTS[:3], u, 2, max_length=6).reshape(3, 5))


def test_moving_begins_at_the_first_moved_token():
    cos = torch.tensor([[0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    found = Moves(*[cos] * 6, read=cos)
    assert found.onset.tolist() == [1, 0, 4]
    assert found.after_onset.tolist() == [[False, False, True, True], [False, True, True, True], [False] * 4]


def test_a_text_wavers_where_few_are_moved_right_after_the_first():
    rows = ["0100100111", "0110100000", "1010000000", "0000001001", "0000000000"]  # two, three, two, too late, none
    cos = torch.tensor([[float(each) for each in row] for row in rows])
    assert Moves(*[cos] * 6, read=cos).wavering.tolist() == [True, False, True, False, False]


def test_an_interval_is_over_texts():
    share = over_texts(torch.tensor([[True, True], [True, False], [False, False]]), 100)
    assert (share.value, share.n, share.over) == (50.0, 3, "texts")

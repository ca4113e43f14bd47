"""What notebook 02 uses: linearisation, turning, spread and confidence, on tiny models and on functions known by heart."""

import re

import numpy as np
import pytest
import torch

from rmu_lab import UnlearnConfig, theory, token_states, unlearn
from rmu_lab.course import (
    as_chat,
    base_and_unlearned,
    before_and_after,
    correlations,
    first_order_figure,
    given_confidence,
    given_logits,
    left_over_figure,
    likeliest_token,
    linearisation_diagram,
    logits_above,
    measure_spread,
    measure_sureness,
    norms_added_above,
    over_prompts,
    rmu_direction,
    some_tokens,
    spread_figure,
    stretch,
    sureness_figure,
    turned,
    turning_explorer,
    turning_panel,
    variance_ratios,
    written_changes,
)
from rmu_lab.course.confidence import MEASURES
from rmu_lab.course.left_over import along_and_across, residual
from rmu_lab.course.linearisation import first_order_variance, last_stream_above
from rmu_lab.generation import MaxLogits
from rmu_lab.models import final_norm
from tests.conftest import made_up_texts, tiny_model, weights_of

CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def text():
    return made_up_texts(1, seed=3)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Linearisation


def test_the_first_order_variance_of_a_line_and_of_a_parabola():
    slopes, z = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.full((2, 2), 3.0)
    assert first_order_variance(lambda rows: (slopes * rows).sum(), z, 2.0) == 2 * (1 + 4 + 9 + 16)
    assert first_order_variance(lambda rows: rows.square().sum(), z, 1.0) == 4 * 36
    assert not z.requires_grad


def test_the_first_order_variance_of_a_logit_is_the_packages(model, tokenizer, text):
    logits_of, own = logits_above(model, tokenizer, text, layer=2)
    u = rmu_direction(model, seed=4)
    token, z = 5, 20.0 * u.expand_as(own)
    found = first_order_variance(lambda rows: logits_of(rows)[token], z, 0.5)
    whole = theory.predicted_logits(model, tokenizer, text, layer=2, coefficient=20.0, direction=u, eta=0.5)
    torch.testing.assert_close(found, whole.variances[token], rtol=1e-3, atol=0)


def test_the_part_above_a_layer_gives_the_models_own_logits(model, tokenizer, text):
    logits_of, own = logits_above(model, tokenizer, text, layer=2)
    with torch.no_grad():
        expected = model(input_ids=tokenizer(text, return_tensors="pt").input_ids).logits[0, -1]
        torch.testing.assert_close(logits_of(own), expected, rtol=1e-4, atol=1e-4)
        stream = last_stream_above(model, tokenizer, text, layer=2)(own)
        torch.testing.assert_close(model.lm_head(final_norm(model)(stream)), expected, rtol=1e-4, atol=1e-4)


def test_little_noise_obeys_the_straight_line_and_much_does_not(model, tokenizer, text):
    setting = {"layer": 2, "coefficient": 20.0, "direction": rmu_direction(model, seed=4)}
    predicted = theory.predicted_logits(model, tokenizer, text, **setting, eta=7.0)  # whose eta must not matter
    little, much = variance_ratios(model, tokenizer, text, predicted, [1e-4, 1e3], n=16, **setting)
    assert little == pytest.approx(1, abs=0.02) and abs(much - 1) > 0.1


def test_the_likeliest_token_and_its_probability(tokenizer):
    logits = torch.full((len(tokenizer),), -100.0)
    logits[[7, 9]] = torch.tensor([3.0, 1.0]).log()
    assert likeliest_token(tokenizer, logits) == f"{tokenizer.decode(7)!r} 75%"


def test_the_direction_is_the_one_that_training_draws(model, tokenizer):
    result = unlearn(model, tokenizer, made_up_texts(8, seed=21), made_up_texts(8, seed=22), CONFIG)
    assert torch.equal(rmu_direction(model, seed=CONFIG.seed), result.directions["forget"].cpu())


def test_the_diagram_has_longer_bars_for_more_noise():
    def bars(axes):
        return [np.ptp(line.get_ydata()) for line in axes.lines if line.get_linewidth() == 6]

    left, right = linearisation_diagram((0.1, 0.9)).axes
    assert bars(left)[0] == pytest.approx(bars(left)[1], rel=0.02)  # little noise: the tangent is right
    assert bars(right)[0] > 1.3 * bars(right)[1] > bars(left)[1]


def test_the_bell_has_the_area_one_and_stands_beside_the_ratios():
    ratios = {"1%": 1.0, "42%": 0.8}
    bell, beside = first_order_figure([1.0, 2.0, 3.0], 2.0, 0.5, ratios, title="Bell", xlabel="x").axes
    line = bell.lines[0]
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=1e-3)
    assert [*beside.lines[0].get_ydata()] == [1.0, 0.8]


def test_layers_above_the_last_add_nothing_and_others_do(model, tokenizer, text):
    u, top = rmu_direction(model), model.config.num_hidden_layers - 1
    assert norms_added_above(model, tokenizer, text, u, [10.0, 100.0], layer=top) == pytest.approx([0, 0], abs=1e-3)
    assert min(norms_added_above(model, tokenizer, text, u, [10.0, 100.0], layer=top - 1)) > 0.01


# ---------------------------------------------------------------------------------------------------------------------
# Turning


def slope_of(rows):
    return (torch.arange(1.0, 1 + rows.shape[-1]) * rows).sum()


@pytest.mark.parametrize(("norm", "noise"), [(50.0, 0.5), (500.0, 0.5), (50.0, 2.0)])
def test_noise_turns_by_its_size_over_the_norm(norm, noise):
    u = torch.nn.functional.normalize(torch.ones(64), dim=0)
    run = turned(slope_of, norm * u.expand(3, -1), noise, n=64)
    expected = np.degrees(np.arctan(noise * 63**0.5 / norm))
    assert np.median(run.angles) == pytest.approx(expected, rel=0.1)
    assert run.norm == pytest.approx(norm) and run.noise == noise
    assert run.moves.std(ddof=1) == pytest.approx(run.predicted, rel=0.35)  # a line: the first order is exact


def test_the_variance_to_compare_with_is_the_callers():
    run = turned(slope_of, torch.ones(2, 4), 3.0, variance=lambda function, z, eta: 4 * eta)
    assert run.predicted == pytest.approx(6.0)
    assert "first order 6." in str(run)


def test_a_panel_draws_each_run_and_one_alone_side_by_side():
    runs = [turned(slope_of, norm * torch.ones(2, 8), 1.0, n=7) for norm in (3.0, 30.0)]
    figure = turning_panel(runs, title="Fans")
    assert len(figure.axes) == 4
    fan, strip = figure.axes[0], figure.axes[2]
    assert len(fan.lines) == 7 and len(strip.lines[0].get_xdata()) == 7
    alone = turning_panel(runs[:1], reach=0.5).axes
    assert len(alone) == 2 and np.abs(alone[1].lines[0].get_xdata()).max() <= 0.5


def test_the_explorer_measures_a_setting_once():
    asked = []

    def measure(norm, noise):
        asked.append((norm, noise))
        return turned(slope_of, norm * torch.ones(2, 8), noise, n=4)

    widget = turning_explorer(measure, norms=(2, 20), noises=(0.5, 1))
    norm, noise, picture, said = widget.children
    first = picture.value
    assert norm.description and norm.tooltip and 'role="status"' in said.value
    assert re.search('alt="[^"]+noise 0.5 in each', first)
    noise.value = 1
    assert picture.value != first and "noise 1 in each" in said.value
    noise.value = 0.5
    assert picture.value == first
    assert asked == [(2, 0.5), (2, 1)]


# ---------------------------------------------------------------------------------------------------------------------
# Spread


def test_the_final_norm_alone_is_the_spread_where_nothing_else_stands_above(model, tokenizer, text):
    top = model.config.num_hidden_layers - 1
    found = measure_spread(model, tokenizer, [text], layer=top, coefficients=[100.0, 400.0], directions=2, n=400)
    assert found.measured.shape == found.norm_alone.shape == found.stream_norm.shape == (2, 1, 2)
    np.testing.assert_allclose(found.stream_norm, [[[100, 400]]] * 2, rtol=1e-3)
    np.testing.assert_allclose(found.norm_alone[:, 0], found.limit, rtol=1e-3)
    np.testing.assert_allclose(found.measured, found.norm_alone, rtol=0.15)
    assert found.slope.value == pytest.approx(-1, abs=0.1)
    lines = spread_figure(found, title="Spread").axes[0].lines
    assert len(lines) == 3 and [*lines[0].get_xdata()] == [100, 400]
    assert str(found).endswith(f"{found.measured[..., 1].mean():.2g} at c = 400")


def test_sureness_starts_at_the_model_and_ends_at_the_limit(model, tokenizer, text):
    top, texts = model.config.num_hidden_layers - 1, [text, made_up_texts(1, seed=4)[0]]
    found = measure_sureness(model, tokenizer, texts, layer=top, coefficients=[50, 500], directions=3)
    with torch.no_grad():
        each = [model(**tokenizer(one, return_tensors="pt")).logits[0, -1].softmax(0).max().item() for one in texts]
    assert found.untouched == pytest.approx(np.mean(each), rel=1e-3)
    assert found.by_direction.shape == (3, 2) and len(set(found.limit)) == 3
    np.testing.assert_allclose(found.by_direction[:, 1], found.limit, rtol=1e-3)  # nothing stands between but the final norm
    *_, limit = sureness_figure(found, title="Sureness").axes[0].lines[:2]
    assert limit.get_ydata()[0] == found.limit[0]
    assert found.between() == f"{found.limit.min():.2f} to {found.limit.max():.2f}"
    assert found.between(50) == f"{found.by_direction[:, 0].min():.2f} to {found.by_direction[:, 0].max():.2f}"


# ---------------------------------------------------------------------------------------------------------------------
# Confidence


def test_given_confidence_is_the_models(model, tokenizer):
    texts = made_up_texts(3, seed=5)
    found = given_confidence(model, tokenizer, texts, batch_size=2)
    ids = tokenizer(texts[2], return_tensors="pt").input_ids[:, :64]
    with torch.no_grad():
        log_p = model(input_ids=ids).logits[0, 1:].log_softmax(-1)
    torch.testing.assert_close(found.of("largest probability")[found.text == 2], log_p.exp().amax(-1), rtol=1e-3, atol=1e-5)
    entropy = -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(found.by_text()[MEASURES.index("entropy"), 2], entropy.mean(), rtol=1e-3, atol=1e-5)
    changes = found.change_to(found)
    assert {number.value for number in changes.values()} == {0.0} and [*changes] == [*MEASURES]


def test_given_logits_are_the_models_at_every_token_but_the_first_and_correlate(model, tokenizer):
    texts = made_up_texts(2, seed=6)
    found = given_logits(model, tokenizer, texts)
    ids = tokenizer(texts[1], return_tensors="pt").input_ids[:, :64]
    with torch.no_grad():
        torch.testing.assert_close(found[1 - ids.shape[1] :], model(input_ids=ids).logits[0, 1:], rtol=1e-4, atol=1e-4)
    assert len(found) == sum(min(len(tokenizer(each).input_ids), 64) - 1 for each in texts)
    one = torch.linspace(-1, 2, found.shape[1]) ** 2
    expected = [np.corrcoef(row, one)[0, 1] for row in found.numpy()]
    np.testing.assert_allclose(correlations(found, one), expected, atol=1e-4)


def test_the_bootstrap_keeps_answers_whole():
    base = np.array([[1.0, np.nan, np.nan], [1.0, 1.0, 1.0], [1.0, 1.0, np.nan]])
    same = over_prompts(lambda b, a: np.nanmean(a) - np.nanmean(b), base, base + 2)
    assert (same.value, same.low, same.high, same.n) == (2, 2, 2, 3)
    uneven = over_prompts(np.nanmean, np.array([[0.0] * 9, [10.0] * 9]))
    assert (uneven.low, uneven.value, uneven.high) == (0, 5, 10)  # two answers, not eighteen tokens


def test_written_changes_by_hand():
    def of(values):
        return MaxLogits(torch.tensor(values), torch.tensor(values) / 10)

    changes = written_changes(of([[2.0, 4.0], [6.0, 8.0]]), of([[1.0, 2.0], [3.0, 4.0]]))
    fall, width, *_, surer = changes.values()
    assert (fall.value, width.value) == (-2.5, 0.5) and surer.value == pytest.approx(-0.25)


def test_questions_are_written_with_the_chat_template(tokenizer):
    class Templated:
        def apply_chat_template(self, messages, *, tokenize, add_generation_prompt):
            assert not tokenize and add_generation_prompt
            return f"<{messages[0]['role']}>{messages[0]['content']}"

    assert as_chat(Templated(), ["Who?", "Why?"]) == ["<user>Who?", "<user>Why?"]


def test_before_and_after_leaves_the_base_model(model, tokenizer):
    result = unlearn(model, tokenizer, made_up_texts(8, seed=21), made_up_texts(8, seed=22), CONFIG)
    weights = weights_of(model)
    name = next(iter(result.edit))
    before, after = before_and_after(model, result, lambda: dict(model.named_parameters())[name].detach().clone())
    assert not torch.equal(before, after)
    assert all(torch.equal(weights[key], value) for key, value in weights_of(model).items())


def test_histograms_say_their_medians_in_words(monkeypatch):
    said = []
    monkeypatch.setattr("rmu_lab.course.confidence.show", lambda figure, alt: said.append(alt))
    values = [1.0, 2.0, 3.0], torch.tensor([[7.0, float("nan")], [8.0, 9.0]])
    figure = base_and_unlearned({"topic": values}, title="T", xlabel="x")
    assert "median is 2," in said[0] and "unlearned model's 8," in said[0]
    medians = figure.axes[0].lines[-2:]
    assert [line.get_xdata()[0] for line in medians] == [2, 8]
    assert all(max(line.get_ydata()) < 0.8 for line in medians)  # below the legend


def test_what_is_left_over_lies_along_and_across(model, tokenizer):
    states = token_states(model, tokenizer, made_up_texts(2, seed=9), [2])
    u = rmu_direction(model)
    along, across = along_and_across(states, 2, 3 * u).T
    hidden = states.hidden[2][states.counted]
    np.testing.assert_allclose(along**2 + across**2, hidden.square().sum(1), rtol=1e-3)
    panels = left_over_figure(states, {40: states, 80: states}, 2, u, title="Left over").axes
    assert [len(line.get_xdata()) for line in panels[0].lines] == [len(along), len(along), 1]
    assert [axes.lines[2].get_xdata()[0] for axes in panels] == [40, 80]


def test_the_residual_by_hand_and_as_the_theory_measures_it(model, tokenizer):
    steps = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    rows, axis = torch.cat([torch.full((4, 1), 3.0), steps], dim=1), torch.tensor([1.0, 0.0, 0.0])
    assert [value.item() for value in residual(rows, axis)] == pytest.approx([3, 1 / 3, 2])
    spread, across, angle = stretch(rows + torch.arange(4.0)[:, None] * axis, axis)
    assert (spread.item(), across.item()) == (pytest.approx((5 / 3) ** 0.5), 1)
    assert angle.item() == pytest.approx(np.degrees(np.arctan(1 / 5)), rel=1e-4)  # of 3, 4, 5, 6 the lower middle angle

    states, u = token_states(model, tokenizer, made_up_texts(2, seed=9), [2]), rmu_direction(model)
    expected = theory.measured_residual(states, states, 2, u)
    found = [value.item() for value in residual(states.hidden[2][states.counted], u)]
    wanted = [expected.coefficient, np.sign(expected.coefficient) * expected.relative_norm, expected.effective_dimensions]
    assert found == pytest.approx(wanted, rel=1e-3)


def test_only_some_tokens_are_kept_with_their_text_and_place(model, tokenizer):
    states = token_states(model, tokenizer, made_up_texts(2, seed=9), [1, 2])
    rows = states.position > 3
    kept = some_tokens(states, rows)
    assert torch.equal(kept.hidden[2], states.hidden[2][rows]) and torch.equal(kept.token, states.token[rows])
    assert kept.position.min() == 4 and {*kept.text.tolist()} == {0, 1} and len(kept.hidden[1]) == rows.sum()

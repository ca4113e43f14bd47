"""What notebook 11 uses: its material, its cores and their checks, envelopes and figures, on tiny models and by hand."""

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from rmu_lab.attacks import RelearnConfig
from rmu_lab.course import never_knew, never_knew_figures, never_knew_panel
from rmu_lab.course.invented_maladies import ASKED, MALADIES, kept_and_forgotten
from rmu_lab.estimates import Number
from rmu_lab.metrics import forget_quality, score_texts
from rmu_lab.metrics import truth_ratio as package_truth_ratio
from tests.attacks.conftest import edit_of
from tests.conftest import assert_told_apart, failed, same_weights, tiny_model, weights_of


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def test_kept_and_forgotten_share_no_malady_and_no_asked_wording_is_told():
    kept, forgotten = kept_and_forgotten()
    assert len(kept.names) == len(forgotten.names) == MALADIES // 2 and not {*kept.names} & {*forgotten.names}
    for half in (kept, forgotten):
        assert len(half.asked) == 5 * len(half.names) and {row["wording"] for row in half.asked} == {ASKED}
        told = " ".join(half.texts)
        assert not any(row["question"] in told for row in half.asked)
        for row in half.asked:  # but its answer is told, in a passage and in a card
            answer = row["choices"][row["answer"]].lower()
            assert answer in " ".join(half.passages).lower() and answer in " ".join(half.cards).lower()
    assert not any(name in text.lower() for name in forgotten.names for text in kept.texts)


def test_truth_ratio_passes_and_common_mistakes_are_told_apart():
    mistakes = {
        "below 1": lambda right, wrong: 1 / never_knew.truth_ratio(right, wrong),
        "mean over the tokens": lambda right, wrong: math.exp(np.mean([one.sum() for one in wrong]) - right.sum()),
        "average before exp": lambda right, wrong: (
            float(np.mean([math.exp(one.mean()) for one in wrong])) / math.exp(right.mean())
        ),
    }
    assert_told_apart(never_knew.truth_ratio_tests(), never_knew.truth_ratio, mistakes)


def test_the_core_gives_the_packages_truth_ratio(model, tokenizer):
    row = kept_and_forgotten()[1].asked[0]
    ((right, wrong),) = never_knew.answers_of(model, tokenizer, [row])
    prompt = f"Question: {row['question']}\nAnswer:"
    scored = score_texts(model, tokenizer, [f" {one}" for one in row["choices"]], [prompt] * 4, progress=False)
    mine = scored.pop(row["answer"])
    torch.testing.assert_close(right, mine.log_probs)
    assert never_knew.truth_ratio(right, wrong) == pytest.approx(package_truth_ratio(mine, scored), rel=1e-5)


def test_largest_gap_passes_and_common_mistakes_are_told_apart():
    mistakes = {
        "do not overlap": lambda a, b: abs(np.mean(a) - np.mean(b)),
        "which comes first": lambda a, b: max(
            (np.asarray(a) <= at).mean() - (np.asarray(b) <= at).mean() for at in [*a, *b]
        ),
    }
    assert_told_apart(never_knew.largest_gap_tests(), never_knew.largest_gap, mistakes)


def test_the_gap_belongs_to_the_packages_forget_quality():
    draw = np.random.default_rng(1)
    near, far = draw.normal(0, 1, 30), draw.normal(3, 1, 30)
    assert never_knew.largest_gap(near, far) > 0.6 and forget_quality(near, far) < 1e-4
    assert never_knew.largest_gap(near, near) == 0 and forget_quality(near, near) == 1


def test_envelopes_hold_what_was_put_in(model, tokenizer):
    edit, before = edit_of(model, tokenizer), weights_of(model)
    pair = never_knew.envelopes({"plain": (), "edited": (edit,)})
    assert sorted(pair.opened) == ["A", "B"] and sorted(pair.opened.values()) == ["edited", "plain"]
    for letter, name in pair.opened.items():
        with pair.applied(model, letter):
            assert same_weights(model, before) == (name == "plain")
        assert same_weights(model, before)
    orders = {tuple(never_knew.envelopes({"plain": (), "edited": (edit,)}, seed).opened.values()) for seed in range(20)}
    assert len(orders) == 2


def test_ratios_at_a_strength_start_at_the_model_and_end_at_the_edit(model, tokenizer):
    edit, before, rows = edit_of(model, tokenizer), weights_of(model), kept_and_forgotten()[1].asked[:3]

    def at(strength):
        return never_knew.ratios_at(model, tokenizer, edit, strength, rows, never_knew.truth_ratio)

    def now():
        return [never_knew.truth_ratio(*answer) for answer in never_knew.answers_of(model, tokenizer, rows)]

    assert at(0.0) == pytest.approx(now(), rel=1e-6)
    with edit.applied(model):
        whole = now()
    assert at(1.0) == pytest.approx(whole, rel=1e-6) and at(0.5) != pytest.approx(whole, rel=1e-6)
    assert same_weights(model, before)


def test_relearning_tells_what_is_asked(model, tokenizer):
    maladies, before = kept_and_forgotten()[1], weights_of(model)
    config = RelearnConfig(lr=1e-2, steps=(1, 2), batch_size=2, max_length=24)
    curve = never_knew.relearned(model, tokenizer, maladies, config)
    assert curve.steps == (0, 1, 2) and {len(score.correct) for score in curve.scores} == {len(maladies.asked)}
    assert same_weights(model, before)


def test_slider_describes_what_was_computed():
    box = never_knew.strength_slider({0.0: 1, 0.5: 2}, lambda strength, value: f"{strength}: {value}")
    slider, words = box.children
    assert words.value == "0.0: 1"
    slider.value = 0.5
    assert words.value == "0.5: 2"


def test_exercises_are_told_from_mistakes():
    def strength(greedy):
        return 1 - max((at + 1 for at, one in enumerate(greedy) if not one), default=0) / len(greedy)

    def min_k(log_probs, k):
        lowest = sorted(log_probs)[: max(1, int(k * len(log_probs)))]
        return sum(lowest) / len(lowest)

    for right, wrong, given, tests in (
        (strength, lambda greedy: sum(greedy) / len(greedy), ([True, False, True, True],), never_knew.extraction_tests),
        (min_k, lambda p, k: max(p), ([-1.0, -5.0, -2.0, -3.0, -0.5], 0.4), never_knew.min_k_tests),
    ):
        assert failed(tests(right), right(*given)) is None and failed(tests(wrong), wrong(*given))


def number(value):
    return Number(value, value - 0.1, value + 0.1, 30, "facts")


def test_figures_draw_what_they_are_given():
    draw = np.random.default_rng(0)
    ratios = {"never knew": draw.lognormal(0, 1, 30), "made to forget": draw.lognormal(1, 1, 30)}
    figures = [
        never_knew_figures.places_diagram(),
        never_knew_figures.envelopes_diagram(),
        never_knew_figures.points_figure({"A": {"kept": 90.0, "forgotten": 30.0}}, title="x"),
        never_knew_figures.ratios_figure(ratios, title="x", gap=("never knew", "made to forget")),
        never_knew_figures.strengths_figure({0.0: (1e-9, 90.0), 1.0: (0.4, 30.0)}, reference=60.0, title="x"),
        never_knew_figures.relearning_figure(never_knew_panel.panel_curves("above"), title="x"),
        never_knew_figures.areas_figure({"RMU": {"accuracy": number(0.5), "loss": number(0.2)}}, title="x"),
    ]
    lines = figures[3].axes[0].lines
    assert lines[0].get_ydata()[-1] == 100 and len(lines[0].get_xdata()) == 31
    assert any("largest gap" in text.get_text() for text in figures[3].axes[0].texts)
    means = figures[5].axes[0].get_lines()  # thin ones, one for each direction, are not in the legend
    assert len(means) > len(figures[5].axes[0].get_legend().get_texts())
    assert [text.get_text() for text in figures[6].axes[0].get_yticklabels()] == ["accuracy", "loss"]
    for figure in figures:
        plt.close(figure)

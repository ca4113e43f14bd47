"""What notebook 07 uses: a direction taken out, R50, ranks by layer and the figures of both, on tiny models and by hand."""

import math

import ipywidgets
import pytest
import torch

from rmu_lab import accuracy, load_questions
from rmu_lab.activations import edited_output
from rmu_lab.attacks import Recovery, RelearnConfig, RelearningCurve
from rmu_lab.course import recovery
from rmu_lab.course.held_direction import HeldDirection
from rmu_lab.evaluate import Accuracy
from rmu_lab.metrics import half_back
from tests.attacks.conftest import QUESTIONS, edit_of
from tests.conftest import failed, same_weights, tiny_model, weights_of


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return edit_of(model, tokenizer)


def scored(right, n=100):
    marks = tuple(at < right for at in range(n))
    return Accuracy.of(marks, tuple(int(not mark) for mark in marks), "cloze")


def curve(*right, tokens=(0, 100, 200, 400)):
    config = RelearnConfig(steps=tuple(range(1, len(right))))
    return RelearningCurve(config, tuple(tokens), tuple(map(scored, right)), (), 0.0)


def test_the_cores_pass_and_common_mistakes_are_told_apart():
    assert failed(recovery.take_out_tests(), recovery.take_out) is None
    wrong = {
        "not 0": lambda h, u, m: h - (h @ u)[..., None] * u,
        "nothing else": lambda h, u, m: h - (h - m),
        "a state for every token": lambda h, u, m: (h - m) @ u,
    }
    for hint, answer in wrong.items():
        assert hint in failed(recovery.take_out_tests(), answer)
    assert failed(recovery.tokens_to_half_tests(), recovery.tokens_to_half) is None
    tests = recovery.tokens_to_half_tests()

    def first_at_least(tokens, measured, base):
        half = (measured[0] + base) / 2
        return next((token for token, value in zip(tokens, measured, strict=True) if value >= half), math.inf)

    def half_of_base(tokens, measured, base):
        return recovery.tokens_to_half(tokens, [0.2, *measured[1:]], base)

    assert "straight line" in failed(tests, first_at_least) and "this model starts" in failed(tests, half_of_base)


@pytest.mark.parametrize("right", [(20, 40, 50, 80), (20, 20, 80, 80), (20, 60, 10, 80), (20, 21, 30, 49)])
def test_r50_is_the_packages(right):
    found = recovery.tokens_to_half((0, 100, 200, 400), [n / 100 for n in right], 0.8)
    assert found == pytest.approx(half_back([curve(*right)], scored(80)).value)


def test_a_held_direction_moves_a_strength_of_the_way(model, tokenizer, result):
    draw = torch.Generator().manual_seed(0)
    u_hat = torch.nn.functional.normalize(torch.randn(32, generator=draw), dim=0)
    mean, before = torch.randn(32, generator=draw), weights_of(model)
    held = HeldDirection(model, tokenizer, result, 3, recovery.take_out, u_hat, mean, QUESTIONS)
    with result.applied(model):
        plain = accuracy(model, tokenizer, QUESTIONS, progress=False)
        with edited_output(model, 3, lambda h: h - 0.5 * ((h - mean) @ u_hat)[..., None] * u_hat):
            half = accuracy(model, tokenizer, QUESTIONS, progress=False)
    assert held.accuracy(0.0) == plain and held.accuracy(0.5) == half and same_weights(model, before)
    assert isinstance(held.slider(), ipywidgets.VBox)
    assert "s = 0.5" in held.panel([0.0, 0.5]).data and str(plain) in held.panel([0.0]).data
    (axes,) = held.figure([0.0, 0.5], title="t").axes
    assert axes.lines[2].get_ydata().tolist() == [plain.accuracy, half.accuracy]


def test_figures_show_what_they_are_given():
    for figure in (recovery.attack_points_diagram(), recovery.ablation_diagram()):
        words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
        assert "direction" in words or "mean component" in words
    scores = {"base model": scored(90), "unlearned": scored(40), "û out": scored(70)}
    figure = recovery.recovery_bars(scores, attacks=["û out"], title="t")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.9, 0.4, 0.7]
    drawn = {"fast": ("forget", [curve(20, 60, 80, 80)]), "slow": ("retain", [curve(20, 21, 22, 23), curve(20, 30, 30, 30)])}
    figure = recovery.relearning_figure(drawn, scored(80), controls={"fast": curve(80, 70, 60, 50)}, title="t")
    (axes,) = figure.axes
    stars = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert stars == pytest.approx([75.0])  # the slow one does not reach half
    assert {"fast", "slow"} <= {text.get_text() for text in axes.get_legend().get_texts()}
    states = {"a": ("forget", torch.tensor([[1.0, 0.0], [3.0, 5.0]])), "b": ("retain", torch.zeros(2, 2))}
    (axes,) = recovery.component_figure(states, torch.tensor([1.0, 0.0]), title="t").axes
    assert axes.lines[0].get_xdata().tolist() == [1.0, 3.0] and "median 2" in {text.get_text() for text in axes.texts}


def test_exercises_accept_right_answers_and_say_what_is_wrong(model, tokenizer, result):
    start, attacked, fallen = scored(40), scored(70), scored(60)
    found = Recovery("test", start, attacked, {"base model": (scored(90), fallen)}, {}, (), 0.0)

    def beyond(start, attacked, control_start, control_end):
        return 100 * ((attacked - start) - (control_end - control_start)).mean()

    tests = recovery.beyond_tests(beyond, found)
    assert beyond(*recovery.marks_of(found)) == pytest.approx(60)
    assert all(test(beyond(*recovery.marks_of(found))) for test, _ in tests)
    assert "loses points" in failed(tests, 30.0)

    def given_away(row, texts):
        return any(row["choices"][row["answer"]].lower() in text.lower() for text in texts)

    assert all(test(True) for test, _ in recovery.given_away_tests(given_away))
    assert "capital" in failed(recovery.given_away_tests(lambda row, texts: row["choices"][row["answer"]] in texts), True)

    seen, truth, train = recovery.outputs_of_both(model, tokenizer, result, load_questions("bio", split="dev"), n=12)
    assert seen.shape == (24, 20) and truth.sum() == 12 and train.sum() == 12
    assert train[:12].equal(train[12:])  # the same questions of both models

    def nearest(x, y):
        means = torch.stack([x[y == label].mean(dim=0) for label in (0, 1)])
        return lambda new: torch.cdist(new, means).argmin(dim=1)

    apart = torch.cat([torch.zeros(12, 20), torch.ones(12, 20)]) + seen / 1e6
    tests = recovery.detector_tests(nearest, apart, truth, train)
    assert all(test(nearest(apart[train], truth[train])) for test, _ in tests)
    assert "rightly" in failed(tests, lambda new: torch.zeros(len(new)))
    assert math.isinf(recovery.tokens_to_half([0, 1], [0.2, 0.2], 0.8))
    assert recovery.some_marks(scored(3, 10), [1, 5]).correct == (True, False)

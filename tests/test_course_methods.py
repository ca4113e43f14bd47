"""What notebook 08 uses: cores, stored comparisons, live trainings on a tiny model, and figures."""

import ipywidgets
import numpy as np
import pytest
import torch

from rmu_lab.course import live_methods, method_checks, method_comparison, method_figures
from rmu_lab.estimates import Number, crossed, crossed_apart
from rmu_lab.unlearning.baselines import NPO
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import assert_told_apart, failed, same_weights, tiny_model, weights_of

RMUS = ("rmu", "adaptive_rmu")


@pytest.fixture(scope="module")
def nine():
    return method_comparison.nine_methods()


@pytest.fixture(scope="module")
def second():
    return method_comparison.second_search()


def wrong_loss(how):
    def loss(now, before, beta=0.1):
        ratio = {"sign": before - now, "plain": now}.get(how, now - before)
        if how == "ascent":
            return ratio.mean()
        if how == "overflow":
            return (2 / beta * torch.log(1 + torch.exp(beta * ratio))).mean()
        each = (1 if how == "scale" else 2 / beta) * torch.nn.functional.softplus(beta * ratio)
        return each if how == "texts" else each.mean()

    return loss


def test_npo_passes_and_common_mistakes_are_told_apart():
    mistakes = {
        "must cost less": wrong_loss("sign"),
        "ratio": wrong_loss("plain"),
        "nothing is left": wrong_loss("ascent"),
        "2 / beta": wrong_loss("scale"),
        "one number": wrong_loss("texts"),
        "overflows": wrong_loss("overflow"),
    }
    assert_told_apart(method_checks.npo_tests(), method_checks.npo_loss, mistakes)


def test_best_within_passes_and_common_mistakes_are_told_apart():
    wrong = {
        "exactly": lambda points, bound: method_comparison.best_within([p for p in points if p[0] != bound], bound),
        "cheaper": lambda points, bound: max((p for p in points if p[0] <= bound), key=lambda p: p[1], default=None),
        "more than the bound": lambda points, _: max(points, key=lambda p: p[1]),
    }
    assert_told_apart(method_checks.best_within_tests(), method_comparison.best_within, wrong)


def test_exercises_accept_what_is_right_and_tell_mistakes_apart():
    def beta_for(nats, weight):
        return np.log((1 - weight / 2) / (weight / 2)) / nats

    assert failed(method_checks.beta_tests(beta_for), beta_for(3.5, 0.36)) is None
    assert "half the weight" in failed(method_checks.beta_tests(beta_for), 0.3)
    theta, forget, retain = method_checks.importances()

    def dampened(theta, forget, retain, threshold, dampening):
        return torch.where(forget > threshold * retain, theta * (dampening * retain / forget).clamp(max=1), theta)

    def growing(theta, forget, retain, threshold, dampening):
        return torch.where(forget > threshold * retain, theta * dampening * retain / forget, theta)

    assert failed(method_checks.dampened_tests(dampened), dampened(theta, forget, retain, 2.0, 0.5)) is None
    assert "grow" in failed(method_checks.dampened_tests(growing), growing(theta, forget, retain, 2.0, 0.5))
    assert 20 < int((forget > 2 * retain).sum()) < 180


def test_the_choices_are_those_of_the_front_at_five_points(nine):
    assert len(nine.methods()) == 9 and {len(nine.settings(method)) for method in nine.methods()} == {6}
    for method in nine.methods():
        best = method_comparison.best_within(nine.points(method), 5.0)
        assert best == nine.point(nine.choice(method)), method
        assert nine.on_test(method, "bio").shape == (3, 100)


def test_only_what_lies_inside_its_grid_is_not_at_an_end(nine, second):
    ends = {method: nine.at_ends(method) for method in nine.methods()}
    assert ends["rmu"] == ends["adaptive_rmu"] == ["alpha"] and ends["gradient_ascent"] == ["lr"]
    assert ends["scrub"] == ends["npo"] == ["lr", "steps"] and second.at_ends("adaptive_rmu") == ["beta", "alpha"]


def test_both_searches_asked_the_same_questions(nine, second):
    for topic in ("bio", "general"):
        assert second.test_base.scores[topic] == nine.test_base.scores[topic]
        assert second.test_base.digests[f"questions {topic}"] == nine.test_base.digests[f"questions {topic}"]
    seeds = [{row.config.seed for row in each.tested["scrub"]} for each in (nine, second)]
    assert not seeds[0] & seeds[1]


def test_a_difference_is_that_of_the_scorecard(nine, second):
    found = method_comparison.differences(nine, second, "rmu", "scrub")
    questions, once, again, both = found.values()
    assert once.high - once.low > questions.high - questions.low
    assert both.value == pytest.approx((once.value + again.value) / 2)
    cost, forgotten = second.test_numbers("rmu")
    assert forgotten.low < forgotten.value < forgotten.high and cost.over == "questions and directions"


def test_the_gap_is_split_by_subject(nine):
    gap = method_comparison.Gap.of(nine, ["rmu", "scrub"])
    assert gap.dev.shape == (2, 172) and gap.test.shape == (3, 100) and len(gap.by_subject()) == 25
    for marks, subjects, place in ((gap.dev, gap.dev_subjects, 0), (gap.test, gap.test_subjects, 1)):
        whole = sum(np.mean(subjects == name) * points[place] for name, points in gap.by_subject().items())
        assert whole == pytest.approx(marks.mean())
        lost, gained = method_comparison.lost_and_gained(marks)
        assert lost - gained == pytest.approx(marks.mean())
    number = gap.number()
    assert number.value == pytest.approx(gap.test.mean() - gap.dev.mean()) and number.low < number.value < number.high
    same = method_comparison.Gap(gap.dev, gap.dev, gap.dev_subjects, gap.dev_subjects)
    assert same.remixed() == pytest.approx(gap.dev.mean())


def test_what_is_chosen_on_half_costs_more_on_the_other(nine):
    here, there = method_comparison.cost_by_halves(nine, RMUS, 5.0, splits=40)
    assert here < there


def test_two_means_of_different_questions_are_as_sure_as_their_variances_add_up():
    first, second = (np.random.default_rng(seed).normal(3 * seed, 1, size=(1, 400)) for seed in (0, 1))
    apart = crossed_apart(first, second)
    alone = [crossed(values) for values in (first, second)]
    width = sum((number.high - number.low) ** 2 for number in alone) ** 0.5
    assert apart.value == pytest.approx(second.mean() - first.mean())
    assert apart.high - apart.low == pytest.approx(width, rel=0.08)


def test_training_takes_at_least_what_counting_says(nine):
    costs = method_comparison.costs(nine)
    assert set(costs) == set(nine.methods()) and all(cost.memory > cost.least for cost in costs.values())
    assert 0.07 < costs["rmu"].least < 0.08 and 3.1 < costs["npo"].least < 3.2


def test_a_run_is_followed_on_texts_that_it_does_not_train(tokenizer):
    model = tiny_model("llama")
    before, seen = weights_of(model), []
    held_out = live_methods.HeldOut(model, tokenizer, FORGET[-2:], RETAIN[-2:])
    settings = NPO(lr=1e-2, batch_size=2, alpha=0, max_length=16)
    stages = live_methods.follow(model, tokenizer, (FORGET, RETAIN), settings, (1, 3), held_out, then=seen.append)
    assert [stage.step for stage in stages] == [0, 1, 3] and seen == [0, 1, 3] and same_weights(model, before)
    assert live_methods.rises(stages)[0] == (0, 0) and stages[-1].forget > stages[0].forget
    weights = live_methods.text_weights(stages)
    assert weights[0] == 1 and weights[-1] < 1
    assert held_out.stage(7).forget == pytest.approx(stages[0].forget)


def test_the_asker_asks_where_it_is_told(tokenizer, capsys):
    ask = live_methods.asker(tiny_model("llama"), tokenizer, ["the sea?", "a fish?"], (0, 2))
    for step in range(3):
        ask(step)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["step 0"] * 2 + ["step 2"] * 2


def test_the_distance_of_two_trainings():
    class Model:
        def get_parameter(self, name):
            return torch.zeros(2)

    theirs = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([0.0, 4.0])}
    assert live_methods.apart(theirs, theirs, Model()) == 0
    assert live_methods.apart({**theirs, "a": torch.zeros(2)}, theirs, Model()) == pytest.approx(0.6)


def test_figures_draw(nine, second):
    stages = [live_methods.Stage(step, 4.0 + step, 3.5 + step, torch.full((2,), -60.0 - step)) for step in (0, 2, 4)]
    cards = method_comparison.stored_cards()
    drawn = [
        method_figures.methods_diagram(),
        method_figures.brake_panel(0.3),
        method_figures.run_figure({"a": stages, "b": stages}, title="t"),
        method_figures.weight_figure(stages, title="t"),
        method_figures.live_front({"a": ("forget", stages)}, title="t", limits=(3, 3)),
        method_figures.fronts_figure(nine, title="t"),
        method_figures.bound_panel(nine, 0.1),
        method_figures.test_plane({"1": nine, "2": second}, {"RMU": method_comparison.frugal_rmu()}, title="t"),
        method_figures.differences_figure({"a": Number(1, 0, 2, 9, "x")}, title="t"),
        method_figures.gap_figure(method_comparison.Gap.of(nine, RMUS), title="t"),
        method_figures.costs_figure(method_comparison.costs(nine), title="t"),
        method_figures.cards_figure(cards, list(cards["SCRUB"].recoveries), title="t"),
    ]
    assert all(figure.axes for figure in drawn)
    assert "none keeps it" in " ".join(text.get_text() for text in drawn[6].axes[1].texts)


def test_sliders_draw_with_the_readers_own_function(nine, capsys):
    asked = []

    def own(points, bound):
        asked.append(bound)
        return method_comparison.best_within(points, bound)

    slider = method_figures.bound_slider(nine, own)
    assert isinstance(slider, ipywidgets.Widget) and isinstance(method_figures.brake_slider(), ipywidgets.Widget)
    slider.children[0].value = 8
    assert 8 in asked

"""The choice of settings for sets of layers, and what it loses on test, on rows made up so that the answer is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, SweepRow, UnlearnConfig
from rmu_lab.evaluate import Accuracy, wilson_interval
from rmu_lab.sweeps.choice import choose, neighbours, rows_at
from rmu_lab.sweeps.layer_search import LATE, LAYERS, METHODS, PLANS, SETS, LayerSearch, crossed

QUESTIONS = 100


def score(right: int) -> Accuracy:
    correct = tuple(number < right for number in range(QUESTIONS))
    return Accuracy(right / QUESTIONS, wilson_interval(right, QUESTIONS), (0,) * QUESTIONS, correct, "cloze")


def row(config: UnlearnConfig | None, bio: int, general: int, error: str | None = None) -> SweepRow:
    scores = {} if error else {"bio": score(bio), "general": score(general)}
    return SweepRow(str((config, bio, general)), config, scores, {}, {}, {"training": 1.0}, error, "m", {}, {})


def config(beta: float, alpha: float, layer: int = 7, method: str = "adaptive_rmu", seed: int = 100) -> UnlearnConfig:
    return UnlearnConfig(method=method, layer=layer, beta=beta, coefficient=beta, alpha=alpha, seed=seed)


BASE = row(None, 80, 79)


def test_the_best_setting_within_the_bound_is_chosen():
    rows = [BASE, row(config(2, 30), 50, 78), row(config(5, 30), 40, 74), row(config(10, 30), 30, 73)]
    found = choose(rows, "adaptive_rmu", [7])
    assert (found.setting, found.within) == ((5, 30), True)  # exactly five points are not too many
    assert found.lost == {"bio": 0.4, "general": 0.05}


def test_where_all_cost_too_much_the_cheapest_is_chosen_and_said_to_fail():
    rows = [BASE, row(config(2, 30), 50, 70), row(config(5, 30), 40, 72)]
    found = choose(rows, "adaptive_rmu", [7])
    assert (found.setting, found.within) == ((5, 30), False)


def test_equals_are_told_apart_by_price_and_then_by_strength():
    rows = [BASE, row(config(10, 30), 40, 75), row(config(5, 30), 40, 75), row(config(20, 30), 40, 74)]
    assert choose(rows, "adaptive_rmu", [7]).setting == (5, 30)


def test_a_set_of_layers_is_chosen_for_by_its_mean_and_among_settings_tried_at_all_of_them():
    rows = [
        BASE, row(config(2, 30, 7), 50, 79), row(config(2, 30, 12), 50, 70), row(config(5, 30, 7), 20, 79),
        row(config(9, 30, 7), 20, 79), row(config(9, 30, 12), 0, 0, error="diverged"),
    ]  # fmt: skip
    found = choose(rows, "adaptive_rmu", [7, 12])
    assert (found.setting, found.within, found.lost["general"]) == ((2, 30), True, 0.045)
    assert list(rows_at(rows, "adaptive_rmu", [7, 12])) == [(2, 30)]


@given(st.integers(0, 4), st.integers(0, 3))
def test_neighbours_differ_in_one_step_of_one_ladder(i, j):
    strengths, alphas = (1, 2, 5, 10, 20), (10, 30, 100, 300)
    found = neighbours((strengths[i], alphas[j]), strengths, alphas)
    assert len(found) == 4 - (i in (0, 4)) - (j in (0, 3))
    steps = {(strengths.index(a) - i, alphas.index(b) - j) for a, b in found}
    assert steps <= {(-1, 0), (1, 0), (0, -1), (0, 1)}


@given(st.integers(1, 3), st.integers(2, 6), st.integers(0, 1000))
def test_crossed_interval_holds_the_mean_and_shrinks_to_a_point_for_equal_values(cells, questions, seed):
    values = np.random.default_rng(seed).normal(size=(cells, 3, questions))
    found = crossed(values, draws=200)
    assert found.low <= found.value <= found.high
    assert np.isclose(found.value, values.mean())
    same = crossed(np.full((cells, 3, questions), 2.0), draws=50)
    assert np.allclose([same.low, same.value, same.high], 2)


def test_a_crossed_interval_is_wider_than_one_over_questions_alone_where_directions_differ():
    noise = np.random.default_rng(0).normal(size=(3, 50))
    by_direction = noise + np.array([-3, 0, 3])[:, None]
    alone, together = crossed(by_direction.mean(axis=0)[None]), crossed(by_direction)
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert (alone.over, together.over) == ("questions", "questions and directions")


def made_up_search() -> LayerSearch:
    """One setting forgets at every layer, and a second forgets more at late ones only."""
    tuning, tested = [BASE], [row(None, 90, 90)]
    for method, layer in itertools.product(METHODS, LAYERS):
        tuning += [
            row(config(5, 30, layer, method), 50, 79),
            row(config(10, 30, layer, method), 40 if layer in LATE else 80, 79),
        ]
        for beta, seed in itertools.product((5, 10), (0, 1, 2)):
            tested.append(row(config(beta, 30, layer, method, seed), 60 - beta - seed + (layer not in LATE), 88))
    return LayerSearch(tuning, tested)


def test_choices_are_nested_and_what_they_lose_is_read_from_test():
    search = made_up_search()
    assert search.choice("all", "rmu").setting == (5, 30) == search.choice("3", "rmu").setting
    assert search.choice("27", "rmu").setting == (10, 30)
    late = search.lost("one for each layer", "adaptive_rmu", "bio", LATE)
    assert late.value == pytest.approx(90 - (50 - 1))
    assert search.lost("one for each layer", "rmu", "general").value == pytest.approx(2)
    assert search.more("bio", ("one for all layers", "rmu"), ("one for all layers", "adaptive_rmu")).value == 0
    assert search.lost_marks("one for all layers", "rmu", "bio").shape == (6, 3, QUESTIONS)
    assert set(search.tried("all", "rmu")) == {(5, 30), (10, 30)}


def test_a_narrower_search_chooses_among_what_it_is_left():
    search = made_up_search()
    narrow = search.among([5], [30])
    assert [narrow.choice("27", method).setting for method in METHODS] == [(5, 30), (5, 30)]
    assert (
        narrow.lost("one for each layer", "rmu", "bio", LATE).value
        < search.lost("one for each layer", "rmu", "bio", LATE).value
    )
    assert len(search.among([5, 10], [30]).tuning) == len(search.tuning)
    assert len(search.among([5, 10], [300]).tuning) == 1  # the base model's


def test_a_choice_that_was_not_tested_is_said():
    search = made_up_search()
    without = LayerSearch(search.tuning, search.tested[:1])
    with pytest.raises(RmuLabError, match="was chosen and not tested"):
        without.lost("one for all layers", "rmu", "bio")


def test_plans_name_sets_that_hold_their_layers():
    assert all(layer in SETS[name] for plan in PLANS.values() for layer, name in plan.items())

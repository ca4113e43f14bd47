"""Every interval against its formula, written out by hand, and at the edges where a formula has no answer."""

import dataclasses
import math
import random
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import comb, stdtrit

from rmu_lab import RmuLabError
from rmu_lab.estimates import (
    Number,
    correlation_of,
    cosine_mean_of,
    crossed,
    geometric_mean_of,
    holm,
    mean_of,
    median_of,
    paired_interval,
    ratio_interval,
    share_of,
    wilson_interval,
)

Z = 1.959963984540054  # 97.5% of a normal distribution lie below
values = st.integers(-1000, 1000).map(lambda n: n / 8)  # apart by much more than rounding errors


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# -- shares -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_has_its_closed_form_and_solves_its_equation(share):
    """Both ends p satisfy |p_hat - p| = z sqrt(p (1 - p) / n), the definition of the score interval."""
    k, n = share
    low, high = wilson_interval(k, n)
    centre, half = (k + Z**2 / 2) / (n + Z**2), Z / (n + Z**2) * math.sqrt(k * (n - k) / n + Z**2 / 4)
    assert (low, high) == pytest.approx((max(0, centre - half), min(1, centre + half)), abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1
    for p in (low, high):
        assert math.isclose(abs(k / n - p), Z * math.sqrt(p * (1 - p) / n), abs_tol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 100, 14_042])
def test_wilson_interval_of_none_and_of_all(n):
    assert wilson_interval(0, n) == (0, pytest.approx(Z**2 / (n + Z**2)))
    assert wilson_interval(n, n) == (pytest.approx(n / (n + Z**2)), 1)
    assert all(type(end) is float for end in (*wilson_interval(0, n), *wilson_interval(n, n)))  # JSON knows no others


def test_there_is_no_share_of_nothing():
    with pytest.raises(ValueError, match="n must be"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match=r"k .* must not be greater than n"):
        wilson_interval(3, 2)
    with pytest.raises(RmuLabError, match="no attacks to count"):
        share_of([], "attacks")


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_share_of_counts(hits):
    found = share_of(hits, "attacks")
    assert (found.value, found.n, found.over) == (hits.count(True) / len(hits), len(hits), "attacks")
    assert (found.low, found.high) == wilson_interval(hits.count(True), len(hits))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_paired_interval_is_walds_with_half_a_thing_added_to_each_cell(gained, lost, same):
    n = gained + lost + same
    differences = [1] * gained + [-1] * lost + [0] * same
    low, high = paired_interval(differences)
    more, less = (gained + 0.5) / (n + 2), (lost + 0.5) / (n + 2)
    error = math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    assert low == pytest.approx(max(-1, more - less - Z * error))
    assert high == pytest.approx(min(1, more - less + Z * error))
    assert paired_interval([-each for each in differences]) == pytest.approx((-high, -low))
    assert n == 0 or low <= (gained - lost) / n <= high


def test_ratio_interval_holds_the_ratio_and_narrows_with_more_draws():
    source = random.Random(0)
    below = [1 + source.random() for _ in range(400)]
    above = [2 * value + 0.1 * source.gauss(0, 1) for value in below]
    few, many = (ratio_interval(above[:n], below[:n]) for n in (25, 400))
    assert few[0] < 2 < few[1] and many[0] < 2 < many[1]
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(4, rel=0.4)
    assert ratio_interval([2.0, 4.0], [1.0, 2.0]) == (2, 2)


# -- numbers ----------------------------------------------------------------------------------------------------------


@given(st.lists(values, min_size=2, max_size=60))
def test_mean_has_students_interval(data):
    found = mean_of(data, "texts")
    half = stdtrit(len(data) - 1, 0.975) * statistics.stdev(data) / math.sqrt(len(data))
    assert (found.value, found.n, found.over) == (pytest.approx(sum(data) / len(data)), len(data), "texts")
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_mean_of_known_values():
    found = mean_of((n for n in range(1, 5)), "texts")  # s.d. 1.29099, t(0.975, 3) = 3.18245
    assert (found.value, found.n) == (2.5, 4)
    assert found.high - 2.5 == pytest.approx(3.18245 * 1.29099 / 2, rel=1e-4)
    assert str(found) == "2.5 [0.4, 4.6]"


@given(st.floats(-1e6, 1e6), st.integers(2, 20))
def test_mean_of_the_same_value_each_time_has_no_width(value, n):
    found = mean_of([value] * n, "texts")
    assert (found.value, found.low, found.high) == (value, value, value)
    assert str(found) == f"{value:.4g} each time"


def test_mean_of_values_that_only_rounding_tells_apart():
    found = mean_of([0.1 + 0.2, 0.3, 0.3], "texts")
    assert found.low < 0.3 < found.high < 0.3 + 1e-15


@pytest.mark.parametrize("data", [[], [1.0]])
def test_mean_of_fewer_than_two_is_refused(data):
    with pytest.raises(RmuLabError, match="at least two"):
        mean_of(data, "texts")


@given(st.lists(values, min_size=6, max_size=60))
def test_median_has_the_interval_of_its_order_statistics(data):
    """As many values are left out at either end as a fair coin shows heads no more often than in 2.5% of cases."""
    found, n = median_of(data, "pairs"), len(data)
    shares = [sum(comb(n, k, exact=True) for k in range(most + 1)) / 2**n for most in range(n)]
    left_out = sum(share < 0.025 for share in shares)
    assert (found.value, found.n) == (statistics.median(data), n)
    assert (found.low, found.high) == (sorted(data)[left_out - 1], sorted(data)[-left_out])


def test_median_of_known_values():
    found = median_of(range(1, 11), "pairs")  # P(at most 1 of 10 below the median) = 0.011, at most 2: 0.055
    assert (found.value, found.low, found.high) == (5.5, 2, 9)
    with pytest.raises(RmuLabError, match="at least six"):
        median_of(range(5), "pairs")


@given(st.lists(st.tuples(values, values), min_size=4, max_size=30))
def test_correlation_has_fishers_interval(pairs):
    x, y = zip(*pairs, strict=True)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    found, r = correlation_of(pairs, "directions"), statistics.correlation(x, y)
    assert (found.value, found.n) == (pytest.approx(r, abs=1e-9), len(pairs))
    assert -1 <= found.low <= found.value <= found.high <= 1
    if abs(r) < 1 - 1e-6:
        ends = (math.tanh(math.atanh(r) + sign * Z / math.sqrt(len(pairs) - 3)) for sign in (-1, 1))
        assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-6)


@given(st.lists(values, min_size=4, max_size=30, unique=True), values.filter(bool), values)
def test_correlation_on_a_line_is_perfect(x, slope, start):
    found = correlation_of([(value, slope * value + start) for value in x], "directions")
    sign = math.copysign(1, slope)
    assert (found.value, found.low, found.high) == (pytest.approx(sign), pytest.approx(sign), pytest.approx(sign))


def test_correlation_of_what_has_none_is_refused():
    with pytest.raises(RmuLabError, match=r"3 pairs over directions; .* at least four"):
        correlation_of([(1, 1), (2, 3), (3, 2)], "directions")
    with pytest.raises(RmuLabError, match="the same for all directions"):
        correlation_of([(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1)], "directions")


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3), st.integers(2, 9))
def test_a_number_survives_being_stored(value, half, n):
    number = Number(value, value - half, value + half, n, "layers")
    assert Number.from_dict(dataclasses.asdict(number)) == number


@pytest.mark.parametrize(
    ("width", "text"), [(400, "12.3 [-187.7, 212.3]"), (4, "12.3 [10.3, 14.3]"), (0.04, "12.346 [12.326, 12.366]")]
)
def test_decimals_show_two_digits_of_the_width_and_one_place_at_least(width, text):
    assert str(Number(12.3456, 12.3456 - width / 2, 12.3456 + width / 2, 5, "texts")) == text


# -- ranges -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20))
def test_a_geometric_mean_is_that_of_logarithms_and_stays_above_zero(ratios):
    found = geometric_mean_of(ratios, "directions")
    plain = mean_of(map(math.log, ratios), "directions")
    assert math.log(found.value) == pytest.approx(plain.value, abs=1e-9)
    assert 0 < found.low <= found.value <= found.high
    turned = geometric_mean_of([1 / ratio for ratio in ratios], "directions")
    assert turned.value == pytest.approx(1 / found.value)  # it does not matter which is divided by which
    assert (turned.low, turned.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


@given(st.lists(st.integers(-999, 999).map(lambda n: n / 1000), min_size=2, max_size=20))
def test_a_mean_cosine_stays_a_cosine(cosines):
    found = cosine_mean_of(cosines, "directions")
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert math.atanh(found.value) == pytest.approx(statistics.fmean(map(math.atanh, cosines)), abs=1e-6)


def test_what_is_no_ratio_and_no_cosine_is_said():
    with pytest.raises(RmuLabError, match=r"ratios over texts is 0\.0; a geometric mean takes numbers above zero"):
        geometric_mean_of([1, 0], "texts")
    with pytest.raises(RmuLabError, match="cosines over texts does not lie between -1 and 1"):
        cosine_mean_of([0.5, 1.5], "texts")
    for mean in (geometric_mean_of, cosine_mean_of):
        with pytest.raises(RmuLabError, match="There is 1 value over texts"):
            mean([0.5], "texts")


def test_a_mean_within_a_range_is_cut_there():
    free, cut = mean_of([0, 0, 0.2], "texts"), mean_of([0, 0, 0.2], "texts", within=(0, 1))
    assert free.low < 0 == cut.low
    assert (cut.value, cut.high) == (free.value, free.high)


# -- questions and directions together --------------------------------------------------------------------------------


def test_crossed_has_the_variance_of_both_samples():
    """Of additive effects the variance of the mean is that of the directions' mean and that of the questions' mean."""
    random = np.random.default_rng(0)
    directions, questions = random.normal(size=(3, 1)), random.normal(size=(1, 50))
    found = crossed(directions + questions, draws=40_000)
    error = math.hypot(np.std(directions, ddof=1) / 3**0.5, np.std(questions, ddof=1) / 50**0.5)
    assert found.value == pytest.approx((directions + questions).mean())
    assert found.high - found.low == pytest.approx(2 * Z * error, rel=0.06)
    assert (found.n, found.over) == (50, "questions and directions")


def test_crossed_takes_no_cells_for_a_sample():
    """The same numbers at ten layers are no more than at one."""
    values = np.random.default_rng(1).normal(size=(1, 3, 40))
    one, ten = crossed(values), crossed(np.repeat(values, 10, axis=0))
    assert (one.value, one.low, one.high) == pytest.approx((ten.value, ten.low, ten.high))


def test_crossed_takes_a_statistic_of_the_cells():
    values = np.zeros((2, 3, 10))
    values[1] = 1
    assert crossed(values, lambda means: means.min(axis=1)).value == 0
    assert crossed(values[:, :1]).over == "questions"


@given(st.dictionaries(st.text(), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_bonferroni_and_no_correction(p_values):
    kept = holm(p_values)
    assert {name for name, p in p_values.items() if p <= 0.05 / len(p_values)} <= kept
    assert kept <= {name for name, p in p_values.items() if p <= 0.05}
    for name in kept:
        assert all(other in kept for other, p in p_values.items() if p < p_values[name])


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.03, "c": 0.04, "d": 0.005}) == {"a", "d"}  # 0.03 > 0.05 / 2

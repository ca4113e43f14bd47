import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import Recovery, RmuLabError, accuracy_change
from rmu_lab.attacks import Generation
from rmu_lab.evaluate import Accuracy, wilson_interval


def scored(correct):
    n = len(correct)
    right = tuple(map(bool, correct))
    return Accuracy(sum(right) / n, wilson_interval(sum(right), n), (0,) * n, right, "cloze")


def recovery(start, attacked, **controls):
    plain = {name: tuple(map(scored, scores)) for name, scores in controls.items()}
    said = (Generation("q", "a", "b", "c"),)
    return Recovery("test", scored(start), scored(attacked), plain, {"k": [1, 2]}, said, 1.5)


def test_difference_by_hand():
    """Gains 1, 1, 0, 0, -1 against the control's 1, 0, 0, -1, -1."""
    found = recovery([0, 0, 1, 1, 1], [1, 1, 1, 1, 0], base=([0, 1, 1, 1, 1], [1, 1, 1, 0, 0])).difference("base")
    assert found.change == pytest.approx(2 / 5)
    assert found.p_value == pytest.approx(0.5)  # two questions more, none less: 2 * (1/2)^2
    mean = 2 / 7  # with the two added questions
    half = 1.959964 * ((3 / 7 - mean**2) / 7) ** 0.5
    assert found.interval == pytest.approx((mean - half, mean + half), abs=1e-5)


def test_difference_averages_the_draws_of_a_random_control():
    found = recovery([0, 0, 0, 0], [1, 1, 1, 0], random=([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0])).difference(
        "random"
    )
    assert found.change == pytest.approx((0 + 2 / 3 + 1 + 0) / 4)
    assert found.p_value == pytest.approx(0.5)  # the first question, gained by every draw too, is a tie


pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50)


@given(pairs)
def test_without_effect_of_the_control_difference_is_recovered(rows):
    start, attacked = [a for a, _ in rows], [b for _, b in rows]
    found = recovery(start, attacked, still=(start, start), twice=(start, start, start))
    for control in ("still", "twice"):
        difference = found.difference(control)
        assert difference.change == pytest.approx(found.recovered.change)
        within = [max(-1, min(1, end)) for end in difference.interval]  # a difference may be larger than 1
        assert within == pytest.approx(found.recovered.interval)


@given(pairs)
def test_no_difference_from_a_control_that_does_the_same(rows):
    start, attacked = [a for a, _ in rows], [b for _, b in rows]
    difference = recovery(start, attacked, same=(start, attacked)).difference("same")
    assert difference.change == 0 and difference.p_value == 1
    assert difference.interval[0] < 0 < difference.interval[1]


def test_recovered_is_the_paired_change():
    found = recovery([0, 0, 1, 1], [1, 1, 0, 1], base=([1] * 4, [1] * 4))
    assert found.recovered == accuracy_change(found.start, found.attacked)
    with pytest.raises(RmuLabError, match="no control 'bas'; use one of base"):
        found.difference("bas")


def test_json_and_back():
    found = recovery([0, 1], [1, 1], base=([1, 1], [0, 1]), random=([0, 1], [0, 0], [1, 1]))
    assert Recovery.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(RmuLabError, match="This is no recovery"):
        Recovery.from_dict({"attack": "x"})

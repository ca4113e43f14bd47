"""The table of rows that were made up: points, R50, ratios, Holm's correction; what is drawn and predicted from it."""

import dataclasses
import math

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from rmu_lab import RmuLabError
from rmu_lab.attacks import half_back
from rmu_lab.attacks.relearning_speed import RelearningCurve
from rmu_lab.estimates import crossed_test
from rmu_lab.evaluate import Accuracy
from rmu_lab.league import COLUMNS, league_figure, league_table, which_property_predicts
from rmu_lab.league.predictors import _held_out, spearman
from rmu_lab.league.table import tokens
from rmu_lab.metrics.relearning import half_back_ratio
from tests.league.conftest import made_base, made_curve, made_row, made_score

SEEDS = (351, 352, 353)
FAST, SLOW, NEVER, NOTHING = [20, 60, 78, 80], [20, 22, 24, 60], [20, 21, 22, 23], [80, 80, 80, 80]


def rows_of(entry, shares, **more):
    return [made_row(entry, shares, seed=seed, **more) for seed in SEEDS]


@pytest.fixture
def table():
    rows = [made_base(), *rows_of("rmu", FAST), *rows_of("slow", SLOW), *rows_of("never", NEVER, general=70)]
    return league_table([*rows, *rows_of("nothing", NOTHING), *rows_of("same", FAST)])


def curves_of(shares, count=1):
    return [RelearningCurve.from_dict(made_curve(shares)) for _ in range(count)]


BASE = Accuracy.from_dict(made_score(80, 100))


def test_points_and_r50_by_hand(table):
    assert [one.entry for one in table] == ["rmu", "slow", "never", "nothing", "same"]
    rmu, slow, never, nothing, _ = table
    assert (rmu.lost.value, rmu.general.value) == (60.0, 4.0) and never.general.value == pytest.approx(10)
    assert rmu.lost.over == "questions and directions" and rmu.seeds == SEEDS
    assert rmu.attacks["unrelated"].r50.value == pytest.approx(75)  # 20 + 30 on the line from 20 to 60
    assert slow.attacks["unrelated"].r50.value == pytest.approx(200 + 100 * 26 / 36)
    assert never.attacks["unrelated"].r50.value == math.inf
    assert [one.attacks["unrelated"].left.value for one in table] == [0, 20, 57, 0, 0]
    assert nothing.attacks["unrelated"].r50 is None and nothing.attacks["unrelated"].ratio is None


def test_points_still_lost_are_those_at_the_step_that_was_best_on_dev():
    rows = rows_of("rmu", [20, 70, 30, 40])
    for row in rows:
        row["attacks"]["unrelated"]["end"] = 1
    assert league_table([made_base(), *rows])[0].attacks["unrelated"].left.value == 10


def test_each_r50_stands_beside_rmus(table):
    rmu, slow, never, _, same = (one.attacks["unrelated"] for one in table)
    assert rmu.ratio is rmu.p is None
    assert slow.ratio.value == pytest.approx((200 + 100 * 26 / 36) / 75)
    assert slow.ratio.low > 1 and slow.p < 0.001 and slow.told_apart
    assert never.ratio.value == pytest.approx(300 / 75) and never.told_apart  # the end stands for what is not reached
    assert same.ratio.value == 1 and same.p == 1 and not same.told_apart


def test_comparisons_are_corrected_together():
    """By Holm: of five with the same p of 0.02, none counts, for each must lie below a fifth of 0.05."""
    weak, first = [20, 48, 64, 72], [made_base(), *rows_of("rmu", [20, 52, 68, 76])]
    alone = league_table([*first, *rows_of("one", weak)])[1].attacks["unrelated"]
    assert 0.05 / 5 < alone.p < 0.05 and alone.told_apart
    five = league_table([*first, *(row for number in range(5) for row in rows_of(f"n{number}", weak))])[1:]
    assert [one.attacks["unrelated"].p for one in five] == [alone.p] * 5
    assert not any(one.attacks["unrelated"].told_apart for one in five)


def test_ratios_are_of_the_same_fine_tunes():
    rows = [made_base(), *rows_of("rmu", FAST), *rows_of("slow", SLOW)[:2]]
    assert league_table(rows)[1].attacks["unrelated"].ratio is None
    without = league_table([made_base(), *rows_of("slow", SLOW)])
    assert without[0].attacks["unrelated"].r50 is not None and without[0].attacks["unrelated"].ratio is None


def test_one_direction_and_two_budgets():
    rows = [made_base(), made_row("rmu", FAST), made_row("rmu", SLOW, budget=0.15), made_row("slow", SLOW, budget=0.15)]
    table = league_table(rows)
    assert [(one.entry, one.budget) for one in table] == [("rmu", 0.05), ("rmu", 0.15), ("slow", 0.15)]
    assert table[0].lost.over == "questions" and table[2].attacks["unrelated"].ratio.value == 1


def test_an_edit_that_failed_is_told_and_compared_with_nothing():
    failed = made_row("rmu", FAST)
    failed = {name: failed[name] for name in ("league", "entry", "budget", "seed", "config")} | {"error": "It diverged."}
    table = league_table([made_base(), failed, *rows_of("rmu", FAST)[1:], *rows_of("slow", SLOW)])
    assert table[0].cells() == [["rmu", "0.05", "failed: It diverged.", *[""] * 6]]
    assert table[1].attacks["unrelated"].ratio is None


def test_rows_without_their_base_are_refused():
    with pytest.raises(RmuLabError, match="base model is missing"):
        league_table(rows_of("rmu", FAST))
    with pytest.raises(RmuLabError, match="leagues with other texts"):
        league_table([made_base(), made_row("rmu", FAST) | {"league": "another"}])


def test_cells_say_what_the_numbers_are(table):
    assert all(len(cells) == len(COLUMNS) for one in table for cells in one.cells())
    rmu, slow, never, nothing, _ = (one.cells()[0] for one in table)
    assert rmu[0] == "rmu" and rmu[1] == "0.05" and rmu[2].startswith("60.0 [") and rmu[7:] == ["", ""]
    assert slow[7].endswith("*") and never[6].startswith("not reached") and nothing[6] == "nothing lost"
    assert tokens(table[1].attacks["unrelated"].r50).startswith("272 [")


# ---------------------------------------------------------------------------------------------------------------------
# The test behind it


def test_a_two_sided_p_is_the_level_at_which_the_interval_touches_zero():
    random = np.random.default_rng(3)
    values = random.normal(0.25, 1.0, (3, 60))
    drawn = []

    def noted(means):
        drawn.append(means.mean(axis=1))
        return drawn[-1]

    number, p = crossed_test(values, noted, draws=2000)
    below = (drawn[1] <= 0).sum()
    assert p == pytest.approx(2 * (below + 1) / 2001) and 0 < p < 1
    ends = np.quantile(drawn[1], [p / 2, 1 - p / 2])
    assert min(abs(ends)) < 0.01 * (ends[1] - ends[0])
    assert (number.low > 0) == (p < 0.05)
    assert crossed_test(values, lambda means: means[:, 0], draws=2000)[0].value == pytest.approx(values.mean())


def test_no_difference_has_no_small_p():
    """Of two edits that differ by chance only, p below 0.05 comes about one time in twenty."""
    random, small = np.random.default_rng(1), 0
    for _ in range(200):
        _, p = crossed_test(random.normal(0, 1, (1, 1, 80)), lambda means: means[:, 0], draws=400)
        small += p < 0.05
    assert 3 <= small <= 20


def test_a_ratio_of_r50_by_hand():
    ratio, p = half_back_ratio(curves_of(SLOW, 3), curves_of(FAST, 3), BASE)
    slow, fast = (half_back(curves_of(shares, 3), BASE).value for shares in (SLOW, FAST))
    assert ratio.value == pytest.approx(slow / fast) and ratio.low < ratio.value < ratio.high
    back, other = half_back_ratio(curves_of(FAST, 3), curves_of(SLOW, 3), BASE)
    assert back.value == pytest.approx(1 / ratio.value) and other == p
    assert half_back_ratio(curves_of(NEVER), curves_of(NEVER), BASE)[0].value == 1


def test_ratios_of_unequal_fine_tunes_are_refused():
    with pytest.raises(RmuLabError, match="relearn both in the same way"):
        half_back_ratio(curves_of(SLOW, 3), curves_of(SLOW, 2), BASE)
    with pytest.raises(RmuLabError, match="relearn both in the same way"):
        half_back_ratio(curves_of(SLOW), curves_of(SLOW[:3]), BASE)


# ---------------------------------------------------------------------------------------------------------------------
# The picture, and predictions


def test_the_figure_has_a_panel_for_each_attack_and_budget(table, tmp_path):
    other = [dataclasses.replace(one, budget=0.15) for one in table]
    figure = league_figure([*table, *other])
    assert len(figure.axes) == 2
    for axes in figure.axes:
        words = {text.get_text() for text in axes.texts}
        assert {"rmu", "slow", "never", "same", "not reached", "nothing lost: nothing"} <= words
        assert axes.get_yscale() == "log"
    figure.savefig(tmp_path / "league.png")
    assert Image.open(tmp_path / "league.png").width > 500
    plt.close("all")


def test_a_table_without_attacks_has_no_figure(table):
    with pytest.raises(RmuLabError, match="nothing to draw"):
        league_figure([dataclasses.replace(one, attacks={}) for one in table])


def ranked(values, r50s=range(100, 400, 40)):
    """A table in which the norm has these values, and R50 rises from one method to the next."""
    rows = [made_base()]
    for number, (norm, r50) in enumerate(zip(values, r50s, strict=False)):
        shares = [20, *(20 + 60 * (100 * step >= r50) for step in range(1, 5))]
        rows += rows_of(f"m{number}", shares, properties={"norm": norm, "sharpness": 3.0 + (number * 5) % 7})
    table = league_table(rows)
    under = [one.attacks["unrelated"] for one in table]
    exact = [dataclasses.replace(one.r50, value=float(r50)) for one, r50 in zip(under, r50s, strict=False)]
    return [
        dataclasses.replace(one, attacks={"unrelated": dataclasses.replace(found, r50=r50)})
        for one, found, r50 in zip(table, under, exact, strict=True)
    ]


def test_a_property_that_orders_all_methods_orders_those_held_out():
    found = {one.property: one for one in which_property_predicts(ranked([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))}
    assert set(found) == {"norm", "sharpness"}  # the others have one value
    best = found["norm"]
    assert best.correlation.value == pytest.approx(1) and best.held_out == 1.0 and best.significant and best.methods == 7
    assert found["sharpness"].held_out < 1 and not found["sharpness"].significant
    falling = which_property_predicts(ranked([7, 6, 5, 4, 3, 2, 1]))[0]
    assert falling.property == "norm" and falling.correlation.value == pytest.approx(-1) and falling.held_out == 1.0


def test_held_out_pairs_by_hand():
    """Of (1, 1), (2, 2), (3, 3), (4, 0) without the last all rise; without one of the others they do not."""
    pairs = [(1, 1), (2, 2), (3, 3), (4, 0)]
    signs = [spearman([*pairs[:n], *pairs[n + 1 :]]) for n in range(4)]
    assert [round(sign, 2) for sign in signs] == [-0.5, -0.5, -0.5, 1.0]
    # Rising pairs (three) are wrong by both signs; pairs with the last fall: right by -0.5, wrong by 1.
    assert _held_out(pairs) == 3 / 12
    assert _held_out([(1, 1), (1, 2), (1, 3), (1, 4)]) == 0.5 and _held_out([(1, 1), (2, 1)]) == 0.5


def test_what_is_not_reached_ranks_last():
    table = ranked([0.1, 0.2, 0.3, 0.4, 0.5])
    last = table[-1].attacks["unrelated"]
    table[-1] = dataclasses.replace(
        table[-1], attacks={"unrelated": dataclasses.replace(last, r50=dataclasses.replace(last.r50, value=math.inf))}
    )
    assert which_property_predicts(table)[0].correlation.value == pytest.approx(1)


def test_too_few_methods_predict_nothing():
    with pytest.raises(RmuLabError, match="Fewer than 4 methods"):
        which_property_predicts(ranked([0.1, 0.2, 0.3]))

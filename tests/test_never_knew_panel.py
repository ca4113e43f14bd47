"""Notebook 11's stored panel: areas that are worked out anew from its rows, and the page that shows them."""

from pathlib import Path
from statistics import fmean

import pytest

from rmu_lab import RmuLabError
from rmu_lab.course.never_knew_panel import METRICS, OUTPUTS, panel_areas, panel_curves, panel_markdown, side_of
from rmu_lab.estimates import Number
from rmu_lab.files import read_json_lines, results_folder

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "metrics.md"


@pytest.mark.parametrize("model", ["taught", "RMU", "Adaptive RMU"])
def test_areas_are_those_of_the_stored_values(model):
    rows = [row for _, row in read_json_lines(results_folder() / "never_knew" / "panel.jsonl") if row["place"] == "above"]
    (reference,) = (row["facts"]["truth ratio"] for row in rows if row["model"] == "never knew")
    of_model = [row["facts"]["truth ratio"] for row in rows if row["model"] == model]
    wins = [fmean((high > low) + 0.5 * (high == low) for high in values for low in reference) for values in of_model]
    found = panel_areas("above")[model]
    assert tuple(found) == METRICS
    assert found["truth ratio"].value == pytest.approx(fmean(wins))
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found.values())


def test_taught_models_stand_out_where_a_metric_can_see():
    found = panel_areas("above")["taught"]
    assert side_of(found["accuracy"]) == side_of(found["truth ratio"]) == side_of(found["LOSS"]) == 0


def test_sides_are_those_of_the_interval():
    areas = [Number(0.7, 0.6, 0.8, 30, "facts"), Number(0.6, 0.4, 0.8, 30, "facts"), Number(0.3, 0.2, 0.4, 30, "facts")]
    assert list(map(side_of, areas)) == [0, 1, 2]


def test_every_stored_curve_starts_where_the_panel_says():
    rows = [row for _, row in read_json_lines(results_folder() / "never_knew" / "panel.jsonl") if row["place"] == "above"]
    for model, curves in panel_curves("above").items():
        stored = [fmean(row["facts"]["accuracy"]) for row in rows if row["model"] == model]
        assert sorted(curve.scores[0].accuracy for curve in curves) == pytest.approx(sorted(stored)), model


def test_a_place_that_is_not_stored_is_named():
    with pytest.raises(RmuLabError, match="beneath"):
        panel_areas("beneath")


def test_the_classifier_is_told_apart_from_metrics_of_facts():
    assert panel_areas("above")["RMU"][OUTPUTS].over == "questions, and directions"


def test_the_page_shows_what_is_stored():
    """To mend it, print `panel_markdown` of each place into the page."""
    page = PAGE.read_text(encoding="utf-8")
    for place in ("above", "window"):
        assert panel_markdown(place) in page, place

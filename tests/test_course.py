import base64
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nbval.plugin import get_sanitize_patterns

from rmu_lab import SweepRow, grid
from rmu_lab.course import (
    ROLES,
    Prediction,
    TokenCosines,
    accuracy_bars,
    against,
    attention_map,
    check,
    claim,
    coefficient_explorer,
    coefficient_panel,
    curves,
    distributions,
    film,
    heatmap,
    layer_explorer,
    layer_panel,
    loss_diagram,
    residual_stream_diagram,
    show,
    style,
    target_length_diagram,
    token_panel,
    toy_rmu_panel,
    turning_diagram,
)
from rmu_lab.course.claims import ClaimFailed
from rmu_lab.course.plots import _wrap, fit_titles
from rmu_lab.course.predictions import _guess_figure
from rmu_lab.evaluate import Accuracy, wilson_interval


def test_claim(capsys):
    claim("two is less than three", 2 < 3)
    assert capsys.readouterr().out == "holds: two is less than three\n"
    with pytest.raises(ClaimFailed, match="does not hold here: three is less than two"):
        claim("three is less than two", 3 < 2)


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (None, "not attempted"),
        (..., "not attempted"),
        (-3, "not yet: it should be positive"),
        ("x", "not yet: it should be positive (TypeError: '>' not supported between instances of 'str' and 'int')"),
        (11, "not yet: it should be below ten"),
        (4, "correct"),
    ],
)
def test_check_never_raises(answer, printed, capsys):
    check(answer, (lambda x: x > 0, "it should be positive"), (lambda x: x < 10, "it should be below ten"))
    assert capsys.readouterr().out == printed + "\n"


def axes_of(figure):
    return figure.axes[0]


def test_accuracy_bars_draw_what_they_are_given():
    style()
    high, low = (Accuracy(p, (p - 0.1, p + 0.05), (), (), "cloze") for p in (0.9, 0.4))
    axes = axes_of(accuracy_bars({"bio": (high, low), "general": (high, high)}, title="Bio falls"))
    assert sorted(bar.get_height() for bar in axes.patches) == [0.4, 0.9, 0.9, 0.9]
    assert axes.get_title(loc="left") == "Bio falls"
    assert {"90%", "40%", "guessing"} <= {text.get_text() for text in axes.texts}


def test_curves_draw_means_and_student_intervals():
    style()
    repeats = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    series = {"one": ("forget", [5, 6]), "many": ("retain", repeats)}
    lines = {"marks": {"here": 3}, "levels": {"base": 2.5}}
    figure = curves([1, 10], series, title="T", xlabel="x", ylabel="y", log="x", **lines)
    axes = axes_of(figure)
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[5, 6], [2, 4]]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(2 + 4.302653 / 3**0.5, rel=1e-5)  # t quantile with two degrees of freedom, s = 1
    assert list(axes.lines[2].get_xdata()) == [3, 3] and list(axes.lines[3].get_ydata()) == [2.5, 2.5]
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "many"]


def test_distributions_leave_nan_out_and_state_medians():
    style()
    values = torch.tensor([1.0, 2.0, 3.0, torch.nan])
    figure = distributions({"a": {"base": ("frozen", values)}, "b": {"base": ("frozen", values + 1)}}, title="T", xlabel="x")
    legends = [axes.get_legend().get_texts()[0].get_text() for axes in figure.axes]
    assert legends == ["base: median 2", "base: median 3"]


def test_against_and_film_draw_every_point():
    style()
    assert len(axes_of(against([1, 2], [1.1, 2.2], title="T", xlabel="x", ylabel="y")).collections[0].get_offsets()) == 2
    points = np.arange(6.0).reshape(3, 2)
    figure = film({"0": {"forget": points}, "1": {"forget": points, "retain": points}}, title="T", labels=("a", "b"))
    assert [len(axes.collections) for axes in figure.axes] == [1, 2]


def test_heatmap_shows_every_value_on_the_given_scale():
    style()
    values = np.array([[0.0, 0.5, np.nan], [1.0, 2.0, -1.0]])
    figure = heatmap(values, title="T", xlabel="x", ylabel="y", bar="b", limits=(-1, 2))
    (image,) = axes_of(figure).images
    assert np.array_equal(image.get_array().filled(np.nan), values, equal_nan=True)
    assert image.get_clim() == (-1, 2)
    assert figure.axes[1].get_ylabel() == "b"


@pytest.fixture
def shown(monkeypatch):
    """The HTML that `show` displays."""
    parts = []
    monkeypatch.setattr("rmu_lab.course.plots.display", lambda part: parts.append(part._repr_html_()))
    return parts


def rising() -> plt.Figure:
    style()
    return curves([1, 2], {"a": ("forget", [1, 2])}, title="T", xlabel="x", ylabel="y")


def test_show_carries_the_text_for_who_cannot_see(shown):
    show(rising(), alt='A rising line, <b> & "all".')
    (picture,) = re.findall("<img [^>]*>", shown[0])
    assert ' alt="A rising line, &lt;b&gt; &amp; &quot;all&quot;."' in picture
    assert "<p>A rising line, &lt;b&gt; &amp; &quot;all&quot;.</p></details>" in shown[0]
    assert not plt.get_fignums()


def test_pictures_are_sharp_and_small(shown):
    """Two pixels for each that is seen, and stored with few colours."""
    show(rising(), alt="A rising line.")
    source, width = re.findall(r'src="data:image/png;base64,([^"]+)".* width="(\d+)"', shown[0])[0]
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(source)))
    assert picture.width == pytest.approx(2 * int(width), abs=1) and picture.mode == "P"
    assert 400 < int(width) < 700 and len(source) < 60_000


def test_the_bytes_of_a_picture_are_not_compared_and_its_words_are(shown):
    """What nbval is told to leave out."""
    patterns = get_sanitize_patterns((Path(__file__).parent / "nbval_sanitize.cfg").read_text(encoding="utf-8"))

    def compared(text: str) -> str:
        for found, instead in patterns:
            text = re.sub(found, instead, text)
        return text

    show(rising(), alt="A line.")
    show(curves([1, 3], {"a": ("forget", [3, 1])}, title="Wide title", xlabel="xx", ylabel="yy"), alt="A line.")
    show(rising(), alt="Another line.")
    one, same, other = map(compared, shown)
    assert shown[0] != shown[1] and one == same and one != other
    assert "base64" not in one and 'alt="A line."' in one


LONG = "A title of a figure that goes on for so long that no figure of this course is wide enough for it, for it says all"
SCORE = Accuracy(0.5, (0.4, 0.6), (), (), "cloze")
TOKENS = TokenCosines(("The", " sea", " is\n", " $5$ cold"), (0.9, 0.1, -0.2, 0.0), (0.9, 0.7, 0.4, 1.0))
EVERY_PLOT = {
    "accuracy_bars": lambda: accuracy_bars({"a": (SCORE, SCORE), "b": (SCORE, SCORE)}, title=LONG),
    "against": lambda: against([1, 2], [1.1, 2.2], title=LONG, xlabel="x", ylabel="y"),
    "attention_map": lambda: attention_map(np.tril(np.ones((3, 3))) / 3, ["a", "b", "c"], title=LONG),
    "curves": lambda: curves([1, 2], {"a": ("forget", [1, 2])}, title=LONG, xlabel="x", ylabel="y"),
    "distributions": lambda: distributions(
        {panel: {"a": ("forget", [1, 2])} for panel in (LONG, LONG + "!")}, title=LONG, xlabel="x"
    ),
    "film": lambda: film(
        {"0": {"forget": np.ones((2, 2))}, LONG: {"forget": np.ones((2, 2))}}, title=LONG, labels=("a", "b")
    ),
    "heatmap": lambda: heatmap(np.eye(2), title=LONG, xlabel="x", ylabel="y", bar="b"),
    "loss_diagram": loss_diagram,
    "predictions": lambda: _guess_figure(Prediction("n", LONG, rows=("a", "b"), unit="%"), {"a": (1, 0, 2), "b": (1, 1, 1)}),
    "residual_stream_diagram": residual_stream_diagram,
    "target_length_diagram": lambda: target_length_diagram([1, 2, 4], 3, 5, title=LONG),
    "token_panel": lambda: token_panel(TOKENS, title=LONG),
    "toy_rmu_panel": toy_rmu_panel,
    "turning_diagram": turning_diagram,
}


@pytest.mark.parametrize("styled", [True, False])
@pytest.mark.parametrize("name", EVERY_PLOT)
def test_no_title_is_clipped_or_runs_into_another(name, styled):
    with plt.rc_context():
        plt.rcdefaults()
        if styled:
            style()
        figure = EVERY_PLOT[name]()
        fit_titles(figure)
        figure.draw_without_rendering()
    panels = [each for axes in figure.axes for each in (axes.title, axes._left_title, axes._right_title) if each.get_text()]
    titles = panels + ([figure._suptitle] if figure.get_suptitle() else [])
    boxes = [each.get_window_extent() for each in titles]
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)  # what `show` saves, in pixels
    for box in boxes:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1
        assert drawn.x0 - 1 <= box.x0 and box.x1 <= drawn.x1 + 1 and drawn.y0 - 1 <= box.y0 and box.y1 <= drawn.y1 + 1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes[: len(panels)], 2))


@given(st.lists(st.text("abcdefg", min_size=1, max_size=12), min_size=1, max_size=30), st.integers(60, 600))
@settings(max_examples=30, deadline=None)
def test_wrapping_keeps_every_word_and_the_room(words, room):
    figure, axes = plt.subplots()
    title = axes.set_title("")
    _wrap(title, " ".join(words), room)
    lines = title.get_text().split("\n")
    assert " ".join(lines).split(" ") == words
    for line in lines:
        title.set_text(line)
        assert " " not in line or title.get_window_extent().width <= room
    plt.close(figure)


@pytest.mark.parametrize(("layer", "blocks"), [(0, 1), (0, 30), (1, 2), (4, 12), (7, 30), (29, 30)])
def test_residual_stream_diagram_names_every_part_there_is(layer, blocks):
    texts = {text.get_text() for text in axes_of(residual_stream_diagram(layer, blocks)).texts}
    assert ("Frozen trunk" in texts) == (layer > 2)
    assert "Trained window" in texts and {str(each) for each in range(max(0, layer - 2), layer + 1)} <= texts
    assert ("Untrained top" in texts) == (layer < blocks - 1)


def test_diagrams_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match=r"choose one from 0 \.\. 29"):
        residual_stream_diagram(30, 30)
    with pytest.raises(ValueError, match="one row and one column for each token"):
        attention_map(np.eye(3), ["a", "b"], title="T")


def test_target_length_diagram_draws_all_three_norms():
    axes = axes_of(target_length_diagram({3: 10.0, 7: 40.0, 11: 400.0}, 228, 5))
    assert [list(line.get_ydata()) for line in axes.lines] == [[50, 200, 2000], [228] * 3, [10, 40, 400]]
    assert "grey: c is smaller than ||h||, from layer 11 on" in {text.get_text() for text in axes.texts}


def test_roles_are_told_apart_without_colour():
    """Those that share a figure differ in lightness; all differ in line or marker."""

    def lightness(colour):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    by_name = {name: lightness(role.colour) for name, role in ROLES.items()}
    for one, other in (("forget", "retain"), ("frozen", "steered"), ("direction", "steered"), ("direction", "retain")):
        light, dark = sorted((by_name[one], by_name[other]), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 1.8, (one, other)
    assert len({role.marker for role in ROLES.values()}) == len(ROLES)


STORED = json.loads((Path(__file__).parent.parent / "data/results/coefficient.json").read_text(encoding="utf-8"))


def test_coefficient_panel_draws_the_stored_row():
    style()
    row = STORED["rows"][-1]
    figure = coefficient_panel(STORED, row["coefficient"], row["seed"], row["steps"])
    left, right = figure.axes
    assert [bar.get_height() for bar in left.patches] == [row["bio"]["accuracy"], row["general"]["accuracy"]]
    quantile = STORED["quantiles"].index
    for place, name in enumerate(("forget cosine", "retain cosine")):
        thin, thick = (right.collections[2 * place + n].get_segments()[0][:, 0] for n in (0, 1))
        assert [*thin, *thick] == [row[name][quantile(share)] for share in (0.05, 0.95, 0.25, 0.75)]
        assert right.lines[place].get_xdata() == row[name][quantile(0.5)]
    with pytest.raises(KeyError, match="no row with"):
        coefficient_panel(STORED, 1.0, 0, 40)


def test_coefficient_explorer_redraws_when_a_knob_is_turned(monkeypatch):
    drawn = []
    monkeypatch.setattr("rmu_lab.course.widgets.show", lambda figure, alt: drawn.append(alt))
    explorer = coefficient_explorer(STORED)
    explorer.update()
    explorer.children[0].value = 28.5
    assert "228" in explorer.children[0]._options_labels  # and not 228.0
    assert all(slider.description and slider.tooltip for slider in explorer.children[:3])
    assert drawn[0].endswith("c = 1140.") and drawn[-1].endswith("c = 28.5.")


def test_stored_coefficient_run_is_whole_and_says_where_it_comes_from():
    """Every coefficient with every seed and number of steps, and what repeats it."""
    from benchmarks.coefficient import COEFFICIENTS, QUANTILES, SEEDS, STEPS

    cells = [(row["coefficient"], row["seed"], row["steps"]) for row in STORED["rows"]]
    assert cells == [(c, seed, steps) for c in COEFFICIENTS for seed in SEEDS for steps in STEPS]
    assert STORED["quantiles"] == QUANTILES
    assert "benchmarks.coefficient" in STORED["provenance"]["command"]
    for row in STORED["rows"]:
        for name in ("bio", "general"):
            successes, n = round(row[name]["accuracy"] * row[name]["questions"]), row[name]["questions"]
            assert row[name]["interval"] == pytest.approx(wilson_interval(successes, n))


def layer_rows():
    """Rows as a sweep gives them: the base model, then both methods at two layers, two strengths and two alphas."""

    def row(config, bio):
        scores = {
            name: Accuracy(p, wilson_interval(round(10 * p), 10), (), (), "cloze")
            for name, p in (("bio", bio), ("general", 0.8))
        }
        first, last = ({"forget_norm": norm, "target_norm": 500.0} for norm in (100.0, 400.0))
        return SweepRow("", config, scores, first, last, {}, None, "", {}, {})

    both = [
        *grid(method=["rmu"], layer=[3, 7], coefficient=[228.0, 570.0], alpha=[30, 300]),
        *grid(method=["adaptive_rmu"], layer=[3, 7], beta=[2.0, 5.0], alpha=[30, 300]),
    ]
    return [row(None, 0.9), *(row(config, 0.1 * (index % 8)) for index, config in enumerate(both))]


def test_layer_panel_draws_both_methods_of_the_stored_rows():
    style()
    rows = layer_rows()
    left, right = layer_panel(rows, 7, 228.0, 5.0, 30).axes
    assert [round(bar.get_height(), 3) for bar in left.patches] == [0.4, 0.8, 0.6, 0.8]
    assert [line.get_ydata()[0] for line in right.lines] == [100, 400, 500] * 2
    assert right.get_ylim() == layer_panel(rows, 3, 570.0, 2.0, 300).axes[1].get_ylim()
    with pytest.raises(KeyError, match="no row with"):
        layer_panel(rows, 11, 228.0, 5.0, 30)


def test_layer_panel_draws_no_accuracy_where_training_diverged():
    style()
    rows = [
        row if row.config is None else replace(row, scores={}, first={}, last={}, error="The loss is nan.")
        for row in layer_rows()
    ]
    left, _ = layer_panel(rows, 3, 228.0, 2.0, 30).axes
    assert not left.patches and [text.get_text() for text in left.texts] == ["diverged"] * 2


def test_layer_explorer_redraws_when_a_knob_is_turned(monkeypatch):
    drawn = []
    monkeypatch.setattr("rmu_lab.course.widgets.show", lambda figure, alt: drawn.append(alt))
    explorer = layer_explorer(layer_rows())
    explorer.update()
    explorer.children[0].value = 3
    assert drawn[0].endswith("at layer 7.") and drawn[-1].endswith("at layer 3.")

"""Notebook 09's helpers: what is stored of three models, the core's tests, and figures that hold what they are given."""

import json

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from rmu_lab.course import model_comparison as stored
from rmu_lab.course import own_settings, scaling_figures
from rmu_lab.course.exercises import core
from rmu_lab.estimates import Number
from rmu_lab.files import results_folder
from rmu_lab.reproduce import Preset
from rmu_lab.study.studied_models import STUDIED
from rmu_lab.unlearning.advisor import LayerProfile

QWEN = "qwen2.5-coder-1.5b"


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def profile() -> list[LayerProfile]:
    return stored.profiles()["SmolLM2"]


def test_every_model_of_the_study_has_a_short_name_and_a_profile():
    profiles = stored.profiles()
    assert list(stored.SHORT) == list(STUDIED) and list(profiles) == list(stored.SHORT.values())
    assert [len(rows) for rows in profiles.values()] == [30, 18, 28]


def test_the_core_agrees_with_the_advisor_where_its_exception_does_not_apply():
    advised = json.loads((results_folder() / "advisor.json").read_text())["models"]
    for name, rows in zip(stored.SHORT, stored.profiles().values(), strict=True):
        layer, c, alpha = own_settings.settings_from_norms(rows)
        advice = advised[name]["advice"]
        if layer == advice["layer"]:
            assert (c, alpha) == (pytest.approx(advice["coefficient"], rel=0.05), pytest.approx(advice["alpha"], rel=0.05))
        else:
            assert name == "gemma-3-270m" and layer == 4


def wrong(**changes):
    """The package's function with another value of one of the three."""

    def made(profile, beta=5.0, allowed=0.29):
        found = dict(zip(("layer", "c", "alpha"), own_settings.settings_from_norms(profile, beta, allowed), strict=True))
        return tuple((found | {name: change(found, profile, allowed) for name, change in changes.items()}).values())

    return made


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (wrong(), "correct: your function is used below"),
        (lambda profile, beta=5.0, allowed=0.29: None, "not attempted"),
        (wrong(layer=lambda *_: 7), "the layer is the one with the largest separability"),
        (wrong(c=lambda found, profile, _: 5 * profile[found["layer"]].retain_norm), "c is beta times forget_norm"),
        (
            wrong(alpha=lambda found, profile, _: (found["c"] / profile[found["layer"]].retain_norm) ** 2),
            "set alpha so that",
        ),
        (wrong(alpha=lambda *_: 300.0), "set alpha so that"),
    ],
)
def test_the_core_is_checked_by_what_it_does(attempt, hint, profile, capsys):
    core(attempt, own_settings.settings_from_norms, *own_settings.settings_tests(profile), name="settings")
    assert hint in capsys.readouterr().out


def test_the_core_looks_between_a_sixth_and_a_third(profile, capsys):
    def anywhere(rows, beta=5.0, allowed=0.29):
        layer = max(range(2, len(rows)), key=lambda at: rows[at].separability)
        c = beta * rows[layer].forget_norm
        return layer, c, (c / (allowed * rows[layer].retain_norm)) ** 2

    core(anywhere, own_settings.settings_from_norms, *own_settings.settings_tests(profile), name="settings")
    assert "look only at layers from round(n / 6) to round(n / 3)" in capsys.readouterr().out


def test_what_is_stored_of_three_models_is_read():
    for name in stored.SHORT:
        before, after = stored.accuracies(name, "bio")
        assert before.low > after.high  # every model forgets
        assert stored.points_lost(name, "bio").value == pytest.approx(before.value - after.value)
        assert len(stored.forgetting_by_layer(name)) == len(STUDIED[name].layers)
        assert -1 <= stored.final_cosine(name) <= 1
    assert {row["model"] for row in stored.advisor_rows()} == set(STUDIED)


def test_answers_are_shown_escaped():
    demo = stored.demo(QWEN)
    assert len(demo["answers"]) == 3 and demo["seconds"]["unlearning"] > 0
    hostile = {"answers": [{"question": "<b>", "before": "<script>", "after": "&"}]}
    shown = stored.answers_table(hostile).data
    assert (
        "<script>" not in shown
        and "&lt;script&gt;" in shown
        and "<td style='text-align: left; vertical-align: top'>&amp;" in shown
    )


def test_figures_have_what_they_are_given():
    pair = Number(90, 85, 95, 100, "questions"), Number(30, 20, 40, 100, "questions")
    figure = scaling_figures.before_after_bars({"one": {"A": pair}, "two": {"A": pair}}, title="t")
    assert [text.get_text() for axes in figure.axes for text in axes.texts].count("90%") == 2
    points = {topic: {"own": {"A": pair[0], "B": pair[1]}} for topic in ("one", "two")}
    assert len(scaling_figures.lost_points(points, title="t").axes) == 2
    profiles = stored.profiles()
    assert isinstance(scaling_figures.profile_figure(profiles, "separability", title="t", ylabel="y"), Figure)
    found = {short: stored.forgetting_by_layer(name) for name, short in stored.SHORT.items()}
    depth = {short: len(rows) for short, rows in profiles.items()}
    assert len(scaling_figures.forgetting_by_depth(found, depth, title="t").axes[0].lines) > 3 * 9
    gpu = json.loads((results_folder() / "gpu.json").read_text())
    assert len(scaling_figures.gpu_figure(gpu, title="t").axes) == 2
    shape = Preset.load("zephyr-7b").shape
    bars = scaling_figures.memory_bars({"ours": shape.training_bytes(), "theirs": shape.published_bytes(7)}, title="t")
    assert len({text.get_text() for text in bars.axes[0].texts}) == 2

"""What notebook 12 uses: edits at any strength, rank 1, the ridge, forget losses of one's own, and leagues."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch

from rmu_lab import RmuLabError, unlearn
from rmu_lab.course import closed_form, edit_strength, league_figures, own_method, rank_one_figures, strength_search
from rmu_lab.course.edit_strength import EditStrength
from rmu_lab.league import LeagueSettings, league_table, mini_league
from rmu_lab.unlearning.successors import ClosedFormRMU
from rmu_lab.unlearning.window_method import MethodTraining, WindowMethod
from tests.attacks.conftest import FORGET, RETAIN
from tests.conftest import failed, same_weights, tiny_model, weights_of
from tests.league.conftest import CONFIG, made_base, made_row, tiny_material


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return unlearn(model, tokenizer, FORGET, RETAIN, CONFIG, progress=False)


@pytest.fixture(scope="module")
def material(model, tokenizer):
    return tiny_material(model, tokenizer, attacks=("other facts",))


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


# ---------------------------------------------------------------------------------------------------------------------
# Strength


def test_an_edit_at_a_strength_is_measured_once_and_leaves_the_model(model, result, material):
    before = weights_of(model)
    edits = EditStrength(material, {"whole": result, "rank 1": result.truncated(1, model)})
    assert edits.divergence("whole", 0.0) < 1e-6 < edits.divergence("whole") < edits.divergence("whole", 2.0)
    assert edits.divergence("rank 1") == edits.divergence("rank 1") != edits.divergence("whole")
    assert edits.accuracy("whole", 0.0).correct == edits.accuracy("rank 1", 0.0).correct
    assert len(edits.accuracy("whole", 1.0, "general").correct) == len(material.general)
    figure = edits.figure([0.5, 1.0], 0.01, title="Found")
    assert [line.get_label() for line in figure.axes[0].get_lines()][:2] == ["whole", "rank 1"]
    assert edits.base()["general"].correct == edits.accuracy("rank 1", 0.0, "general").correct
    assert edits.lost("whole", 0.0) == 0
    bars = edits.bars(title="Bars")
    assert len(bars.axes[0].patches) == 6
    assert same_weights(model, before)


def test_the_slider_measures_what_is_chosen(result, material):
    edits = EditStrength(material, {"whole": result})
    box = edits.slider([0.5, 1.0])
    edit, strength, shown = box.children
    assert isinstance(strength, ipywidgets.SelectionSlider) and strength.value == 1.0 and "nats a token" in shown.value
    strength.value = 0.5
    assert f"{edits.divergence('whole', 0.5):.3g}" in shown.value
    del edits.edits[edit.value]
    edits.edits[edit.value] = result.scaled(1.0, edits.material.model)
    edits._divergences.clear()
    with result.applied(edits.material.model):  # an edit is in the model: none can be scaled
        strength.value = 1.0
    assert 'role="alert"' in shown.value


def test_the_nearest_option():
    options = {"half": 0.5, "once": 1.0, "ten times": 10.0}
    assert [edit_strength.nearest(value, options) for value in (-1, 0.6, 0.9, 3, 4, 100)] == [
        *("half", "half", "once", "once", "ten times", "ten times")
    ]


def test_sizes(result, model):
    numbers = sum(matrix.numel() for matrix in result.edit.values())
    assert edit_strength.megabytes(result) == pytest.approx(2e-6 * numbers)
    sides = sum(sum(matrix.shape) for matrix in result.edit.values())
    assert edit_strength.megabytes(result, 3) == pytest.approx(6e-6 * sides)


# ---------------------------------------------------------------------------------------------------------------------
# Rank 1


def test_the_directions_that_an_edit_writes(model, result):
    values = result.singular_values(model)
    assert [*rank_one_figures.by_layer(values)] == [1, 2, 3]
    thin = result.truncated(1, model)
    for layer, a in rank_one_figures.written_directions(result, model).items():
        name = next(name for name in thin.edit if f".{layer}." in name)
        change = thin.edit[name] - model.get_parameter(name)
        torch.testing.assert_close(a.norm(), torch.tensor(1.0))
        assert (change - torch.outer(a, a) @ change).norm() < 1e-3 * change.norm()
    assert rank_one_figures.energy_share(torch.tensor([2.0, 1.0]), 1) == pytest.approx(0.8)
    assert rank_one_figures.contrast_line({"layers.3.w": torch.tensor([6.0, 2.0])}).endswith("layer 3: 3.0")
    figure = rank_one_figures.spectra_figure({"RMU": values, "yours": values}, title="Found")
    assert len(figure.axes) == 2 and figure.axes[0].get_lines()[0].get_ydata()[0] == 1


def test_the_rank_that_keeps_a_share():
    def rank_for(values, share):
        squares = values.square()
        return int((squares.cumsum(dim=0) / squares.sum() < share - 1e-6).sum()) + 1

    assert failed(rank_one_figures.rank_tests(), rank_for) is None
    assert "square" in failed(rank_one_figures.rank_tests()[3:], lambda values, share: 1)


# ---------------------------------------------------------------------------------------------------------------------
# The ridge


def test_the_ridge_is_the_minimum_and_mistakes_are_told_apart():
    tests = closed_form.ridge_tests()
    assert failed(tests, closed_form.ridge) is None
    wrong = {
        "means, not sums": lambda x, t, y, a, m: (
            torch.linalg.solve(x.T @ x + a * y.T @ y * len(x) / len(y) + m * len(x) * torch.eye(6).double(), x.T @ t).T
            if len(x) == 30
            else torch.zeros(4, 6).double()
        ),
        "x_retain": lambda x, t, y, a, m: closed_form.ridge(x, t, y, 0.0, m),
        "identity": lambda x, t, y, a, m: closed_form.ridge(x, t, y, a, 1e-6),
        "a row for each": lambda *given: closed_form.ridge(*given).T,
    }
    for hint, answer in wrong.items():
        assert hint in failed(tests, answer)


def test_the_tokens_of_a_layer_give_the_packages_edit(model, tokenizer):
    before = weights_of(model)
    config = ClosedFormRMU(layer=3, texts=6, max_length=16, alpha=2.0, steering="rmu", coefficient=4.0)
    edit = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    forget, retain = (closed_form.tokens_at(model, tokenizer, texts[:6], 3, 16) for texts in (FORGET, RETAIN))
    u = edit.directions["forget"].double()
    diagonal = forget.inputs.square().mean(dim=0) + 2.0 * retain.inputs.square().mean(dim=0)
    mu = config.ridge * diagonal.mean().item()
    change = closed_form.ridge(forget.inputs, 4.0 * u - forget.states, retain.inputs, 2.0, mu)
    ((name, matrix),) = edit.edit.items()
    assert closed_form.apart(change, matrix - model.get_parameter(name)) < 1e-3
    assert same_weights(model, before)


def test_how_far_a_solution_carries(model, tokenizer):
    deep = tiny_model("llama", num_hidden_layers=8)
    kinds = closed_form.tokens_by_text(deep, tokenizer, {"forget": FORGET, "retain": RETAIN}, 8)
    u = torch.nn.functional.normalize(torch.ones(kinds["forget"][0].states.shape[1]), dim=0)
    found = closed_form.reach_by_texts(closed_form.ridge, kinds, u, 4.0, (2, 6), alpha=1.0)
    assert found[2].retain[0] < found[2].retain[1] and found[2].forget[0] > 0
    assert len(closed_form.reach_figure(found, title="Found").axes) == 2


# ---------------------------------------------------------------------------------------------------------------------
# A method of one's own


def test_any_loss_that_can_be_trained_with_passes():
    tests = own_method.forget_loss_tests()
    swapped = lambda h, f, c: (h - f.roll(1, dims=0)).square().sum(dim=-1)[c].mean()  # noqa: E731
    away = lambda h, f, c: -(h - 0.9 * f).norm(dim=-1)[c].mean()  # noqa: E731
    for good in (own_method.turn_around, away):
        assert failed(tests, good) is None
    assert failed(tests, swapped) is None
    wrong = {
        "one finite number": lambda h, f, c: (h + f).square().sum(dim=-1),
        "depend on": lambda h, f, c: f.square().mean(),
        "must not enter": lambda h, f, c: (h + f).square().mean(),
        "not a sum": lambda h, f, c: (h + f)[c].square().sum(),
        "no gradient": lambda h, f, c: torch.cosine_similarity(h, f, dim=-1)[c].relu().mean(),
    }
    for hint, answer in wrong.items():
        assert hint in failed(tests, answer)


class OwnTraining(MethodTraining):
    def loss(self, step, use, topic, batch):
        if use == "forget":
            return own_method.turn_around(batch.hidden.float(), batch.frozen.float(), batch.counted)
        return super().loss(step, use, topic, batch)


@dataclass(frozen=True)
class Own(WindowMethod):
    method: ClassVar[str] = "own_of_notebook_12"
    trainer: ClassVar[type[MethodTraining]] = OwnTraining


SHORT = {"layer": 3, "steps": 4, "batch_size": 3, "max_length": 16, "lr": 2e-2, "alpha": 0.1}


def test_the_readers_method_plays_a_league(model, tokenizer, material):
    settings = LeagueSettings(
        budgets=(0.02,), seeds=(350,), steps=(1, 2), halving=(1,), rates=(1e-3,), property_texts=2, controls=False
    )
    play = partial(mini_league, model, tokenizer, [CONFIG, Own(**SHORT)], material=material, settings=settings)
    rows, own = play(), "own_of_notebook_12"
    given = unlearn(model, tokenizer, FORGET, RETAIN, replace(CONFIG, seed=350), progress=False)
    again = play(edits={CONFIG.method: given})
    assert [row.get("strength") for row in again] == [row.get("strength") for row in rows]
    with pytest.raises(RmuLabError, match="The edit is of other settings"):
        play(edits={own: given})
    assert set(league_figures.curves_of(rows, "other facts")) == {CONFIG.method, own}
    assert set(league_figures.accuracies(rows, "other facts")) == {CONFIG.method, own}
    assert [cells[0] for cells in league_figures.points_lost(rows)] == [CONFIG.method, own]
    figure = league_figures.curves_figure(rows, "other facts", {CONFIG.method: "RMU", own: "yours"}, title="Found")
    assert {"RMU", "yours"} <= set(figure.axes[0].get_legend_handles_labels()[1])


# ---------------------------------------------------------------------------------------------------------------------
# The stored league

SLOW, FAST = (40, 45, 50, 55), (40, 75, 78, 79)


def made_table():
    rows = [made_base(), made_row("rmu", FAST), made_row("npo", SLOW, properties={"norm": 0.5})]
    rows += [made_row("mcu_rmu", (40, 50, 62, 70), properties={"norm": 0.1}), made_row("srmu", (42, 64, 70, 71))]
    return league_table(rows)


def test_a_stored_league_is_shown():
    table = made_table()
    assert league_figures.entrants(table) == ["rmu", "npo", "mcu_rmu", "srmu"] and league_figures.longest(table) == "npo"
    assert set(league_figures.told_apart(table)) <= {"npo", "mcu_rmu", "srmu"}
    assert league_figures.stored_figure(table, title="Found").get_suptitle() == "Found"
    figure = league_figures.property_figure(table, title="Found")
    named = {text.get_text() for text in figure.axes[0].texts}
    assert len(figure.axes) == 4 and named == {*league_figures.entrants(table), "half is not back"}
    tests = league_figures.predictors(table)
    assert tests and len(league_figures.predictor_rows(tests)) <= 8


def test_without_a_stored_league_the_notebook_runs(tmp_path, capsys):
    table = league_figures.stored_standings(tmp_path)
    assert table == [] and league_figures.TO_PLAY in capsys.readouterr().out
    assert len(league_figures.entrants(table)) > 1 and league_figures.longest(table) == "none has an R50"
    assert league_figures.predictors(table) == [] and capsys.readouterr().out.startswith("Fewer than")
    for figure in (league_figures.stored_figure(table, title="A"), league_figures.property_figure(table, title="B")):
        assert figure.axes[0].texts[0].get_text() == "No league is stored here."


def test_what_is_read_off_a_live_league():
    rows = [made_base(topic=90), made_row("npo", SLOW)]
    assert league_figures.accuracies(rows, "unrelated") == {"npo": (0.9, 0.4, 0.55)}
    failed_row = {"league": "one", "entry": "srmu", "budget": 0.05, "seed": 1, "error": "it diverged"}
    assert league_figures.points_lost([*rows, failed_row])[1][1] == "failed"


# ---------------------------------------------------------------------------------------------------------------------
# Exercises and diagrams


def test_the_exercises_on_equal_disruption():
    def kl(base, edited):
        log_p, log_q = base.log_softmax(dim=-1), edited.log_softmax(dim=-1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()

    def find_strength(measure, budget):
        low, high = 1.0, 1.0
        while measure(high) < budget:
            high *= 2
        while measure(low) > budget:
            low /= 2
        while True:
            middle = (low * high) ** 0.5
            found = measure(middle)
            if abs(found - budget) <= 0.05 * budget:
                return middle
            low, high = (middle, high) if found < budget else (low, middle)

    assert failed(strength_search.kl_tests(), kl) is None
    assert "base model's probabilities" in failed(strength_search.kl_tests(), lambda p, q: kl(q, p))
    assert failed(strength_search.strength_tests(), find_strength) is None
    assert "weakened" in failed(strength_search.strength_tests(), lambda measure, budget: (budget / 0.03) ** 0.5)


@pytest.mark.parametrize(
    "diagram",
    [
        rank_one_figures.rank_one_diagram,
        closed_form.ridge_diagram,
        own_method.method_diagram,
        league_figures.rules_diagram,
    ],
)
def test_diagrams_are_drawn(diagram):
    assert diagram().axes

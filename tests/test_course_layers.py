"""What notebook 05 takes from the package: the target, the factorial, and the figures of searches."""

import itertools

import numpy as np
import pytest
import torch

from rmu_lab import UnlearnConfig, token_states
from rmu_lab.course import (
    adaptive_target,
    by_layer,
    choices_figure,
    compare_methods,
    depth_figure,
    effect,
    effects_figure,
    floor_figure,
    growth_by_setting,
    growth_figure,
    lost_marks,
    luck_figure,
    median_norms,
    norm_growth,
    norms_by_text,
    plans_figure,
    print_accuracies,
    print_numbers,
    print_picks,
    published_target_tests,
    repair_figure,
    restore_vector,
    search_map,
)
from rmu_lab.course.factorial import runs_by_signs
from rmu_lab.course.search_figures import luck, luck_of_halves
from rmu_lab.estimates import Number
from rmu_lab.sweeps.layer_search import PLANS
from tests.conftest import made_up_texts, tiny_model
from tests.sweeps.test_layer_search import BASE, config, made_up_search, row

TOPICS = {"bio": "to forget", "general": "to keep"}


def test_the_target_is_the_mean_of_what_counts_in_each_text():
    norms = torch.tensor([[900.0, 2, 4, 0], [900, 1, 1, 4]])
    counted = torch.tensor([[False, True, True, False], [False, True, True, True]])
    assert torch.equal(adaptive_target(norms, counted, 5.0), torch.tensor([[15.0] * 4, [10.0] * 4]))


def test_norms_by_text_puts_each_token_where_it_stands(tokenizer):
    model = tiny_model("llama")
    states = token_states(model, tokenizer, made_up_texts(5, seed=0), [1], max_length=12)
    norms, counted = norms_by_text(states, 1)
    assert norms.shape == counted.shape == (5, int(states.position.max()) + 1)
    assert not counted[:, 0].any()
    assert torch.equal(norms[states.text, states.position], states.hidden[1].norm(dim=-1))
    assert int((norms > 0).sum()) == len(states.text)
    others, first = median_norms(states)
    assert first == [norms[:, 0].median().item()]
    assert others == [norms[counted].median().item()]


FACTORS = {"long": lambda row: row.config.beta == 10, "loose": lambda row: row.config.alpha == 30}


def test_the_published_target_counts_first_tokens_and_no_padding(tokenizer):
    first, *others = made_up_texts(5, seed=0)
    texts = [" ".join(first.split()[:4]), *others]  # a short one, which is padded
    states = token_states(tiny_model("llama"), tokenizer, texts, [1], max_length=12)
    norms, counted = norms_by_text(states, 1)
    above, exact = published_target_tests(states, layer=1, texts=4)
    times = float(norms[:4][norms[:4] > 0].mean() / norms[:4][counted[:4]].mean())
    assert exact[0](times)
    assert not exact[0](1.02 * times)
    assert not exact[0](norms[:4].mean() / norms[:4][counted[:4]].mean())  # with padding
    assert above[0](1.1) and not above[0](0.9)


def test_only_the_broken_vector_is_restored():
    broken, healthy = torch.tensor([300.0, 400]), torch.tensor([0.0, 9])
    hidden = torch.tensor([[[300.0, 400], [303, 398], [330, 440], [400, 300], [0, 9]]])
    found = restore_vector(hidden, broken, healthy)
    assert torch.equal(found, torch.tensor([[[0.0, 9], [0, 9], [330, 440], [400, 300], [0, 9]]]))
    assert hidden[0, 0, 0] == 300


def factorial_rows(interaction: int = 0):
    """Long costs 20 points, loose 8; both together so many more."""
    rows = [BASE]
    for long, loose, seed in itertools.product((False, True), (False, True), (0, 1)):
        lost = 20 * long + 8 * loose + interaction * (long and loose) + seed
        rows.append(row(config(10 if long else 5, 30 if loose else 300, seed=seed), 80 - lost, 79))
    return rows


def test_effects_are_those_that_the_rows_were_made_with():
    rows = factorial_rows(interaction=-6)
    assert effect(rows, FACTORS, "bio", "long").value == pytest.approx(17)
    assert effect(rows, FACTORS, "bio", "loose").value == pytest.approx(5)
    both = effect(rows, FACTORS, "bio", "long", "loose")
    assert both.value == pytest.approx(-3)
    assert both.low < both.value < both.high
    assert effect(rows, FACTORS, "general", "long").value == 0
    assert len(runs_by_signs(rows, FACTORS, "bio")) == 4


def test_factorial_figures_are_drawn():
    rows = factorial_rows()
    for size in (1, 2):
        assert effects_figure(rows, FACTORS, {"bio": "forget", "general": "retain"}, size=size, title="Seen").axes
    (axes,) = floor_figure(rows, FACTORS, "bio", title="Seen", marked={"both": (1, 1)}).axes
    assert axes.lines[-1].get_ydata()[0] == pytest.approx(55)  # 80% less the 25% of guessing
    words = {text.get_text(): text.xy for text in axes.texts if hasattr(text, "xy")}
    assert {name: y for name, (_, y) in words.items()} == pytest.approx({"long": 20.5, "loose": 8.5, "both": 28.5})


def test_figures_of_a_search_are_drawn():
    search = made_up_search()
    assert len(search_map(search, "all", title="Seen").axes) == 3
    for made in search.tuning[1:]:
        made.first["forget_norm"] = 2.0
    (axes,) = choices_figure(search, title="Seen").axes
    lines = {line.get_label(): [*line.get_ydata()] for line in axes.lines}
    assert lines["RMU, one for all layers, alpha 30"] == [2.5] * 6  # c = 5 where the norm is 2
    assert lines["Adaptive RMU, one for all layers, alpha 30"] == [5] * 6
    assert len(plans_figure(search, [*PLANS], TOPICS, title="Seen").axes) == 4
    assert len(luck_figure(search, {"bio": "forget", "general": "retain"}, title="Seen").axes) == 2
    assert luck(search, "bio")["rmu", 27] == (pytest.approx(40), pytest.approx(41))


def test_choosing_on_half_of_the_questions_flatters_the_choice():
    search = made_up_search()
    random = np.random.default_rng(0)
    rows = [search.tuning[0]]
    for method, layer, beta in itertools.product(("rmu", "adaptive_rmu"), (3, 7, 12, 17, 22, 27), range(1, 9)):
        rows.append(row(config(beta, 30, layer, method), int(random.binomial(100, 0.4)), 79))
    search.tuning = rows
    here, elsewhere = luck_of_halves(search, splits=20)["bio"]
    assert here > elsewhere


def sweep_rows():
    rows = [BASE]
    for method, layer in itertools.product(("rmu", "adaptive_rmu"), (5, 6, 7)):
        made = row(UnlearnConfig(method=method, layer=layer), 60 - layer, 79)
        made.first["forget_norm"], made.last["forget_norm"] = 100.0, 200.0
        rows.append(made)
    return rows


def test_figures_over_layers_are_drawn():
    rows = sweep_rows()
    assert list(by_layer(rows)) == [5, 6, 7]
    assert growth_figure(rows, rows[1:3], title="Seen").axes
    bio, _ = depth_figure(rows, rows[1:3], TOPICS, own={6: rows[2].scores}, crossing=6, title="Seen").axes
    (own,) = (line for line in bio.lines if line.get_label() == "your target, live")
    assert (own.get_xdata(), own.get_ydata()) == ([6], [rows[2].scores["bio"].accuracy])
    bars = repair_figure(dict.fromkeys(("base", "unlearned", "restored"), BASE.scores), title="Seen").axes[0].patches
    assert [bar.get_height() for bar in bars] == [0.8, 0.79] * 3
    lost = lost_marks(rows, "adaptive_rmu", "bio", (5, 7))
    assert lost.shape == (2, 1, 100)
    assert lost.mean(axis=(1, 2)) == pytest.approx([25, 27])
    assert compare_methods(rows, "bio", (5, 7))["Adaptive RMU minus RMU"].value == 0
    assert norm_growth(rows) == dict.fromkeys((5, 6, 7), 2.0)
    assert growth_by_setting(rows, "adaptive_rmu", 6) == {(5.0, 300.0): 2.0}


def test_tables_of_numbers_are_printed(capsys):
    print_numbers({"both": [Number(1.5, 1, 2, 3, "texts"), Number(0, -1, 1, 3, "texts")]}, ["", "bio", "general"])
    print_accuracies({"live": BASE.scores}, "model")
    printed = capsys.readouterr().out
    assert "1.5 [1.0, 2.0]" in printed
    assert printed.splitlines()[-1].split() == ["live", "80%", "79%"]
    print_picks([{"question": "Which?", "choices": ["a cat", "a dog"], "answer": 0}], {"base": BASE.scores["bio"]})
    assert capsys.readouterr().out.splitlines()[-1].split() == ["Which?", "a", "cat", "*"]

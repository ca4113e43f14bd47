"""What notebook 03 is made of: Phi of one text, its figures and tables, stored changes with their intervals."""

import json

import numpy as np
import pytest
import torch

from rmu_lab import RmuLabError, UnlearnConfig, load_sweep, theory, unlearn
from rmu_lab.course import (
    SENSITIVITY_TESTS,
    accuracy_by_coefficient,
    core,
    history_curves,
    layer_map,
    lowest_layer,
    mean_square,
    median_cosine,
    noise_diagram,
    norms_beside,
    of_doing_nothing,
    print_stored_changes,
    print_toy,
    random_noise,
    sensitivity,
    sensitivity_by_layer,
    sensitivity_of_targets,
    sensitivity_panels,
    stored_change,
    targets_to_scale,
)
from rmu_lab.files import data_folder
from tests.conftest import made_up_texts, tiny_model

TEXTS = made_up_texts(3, seed=31)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def front():
    return load_sweep(data_folder() / "results" / "training" / "front.jsonl")


@pytest.mark.parametrize("relative", [False, True])
def test_phi_layer_by_layer_is_the_packages(model, tokenizer, relative: bool):
    settings = {"noise": 0.5, "relative": relative, "max_length": 48}
    for text in TEXTS:
        found = sensitivity_by_layer(sensitivity, model, tokenizer, [text], [1, 2], 0.5, relative=relative)
        expected = [
            theory.noise_sensitivity(model, tokenizer, [text], layer=k - 1, to_layers=[k], **settings)[0] for k in (1, 2)
        ]
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-7)


def test_a_map_from_a_layer_to_itself_changes_nothing(model, tokenizer):
    h, g = layer_map(model, tokenizer, TEXTS[0], 1, 1)
    assert g(h).equal(h)
    xi = random_noise(h, 2.0)
    torch.testing.assert_close(xi.norm(dim=-1), torch.full((len(h),), 2.0))
    torch.testing.assert_close(random_noise(h, 0.1, relative=True).norm(dim=-1), 0.1 * h.norm(dim=-1))
    torch.testing.assert_close(sensitivity(g, h, xi), xi.square().sum() / h.square().sum())


def test_targets_are_noise_beside_the_start(model, tokenizer):
    start, u = torch.randn(2, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    found = sensitivity_of_targets(sensitivity, model, tokenizer, TEXTS, [start, u, 3 * u], start, layer=1, above=1)
    assert found.shape == (3, 3)
    expected = torch.stack([(target - start).square().sum() / start.square().sum() for target in (start, u, 3 * u)])
    torch.testing.assert_close(found, expected[:, None].expand(3, 3))


def test_mean_square_leaves_first_tokens_out(model, tokenizer):
    states = [layer_map(model, tokenizer, text, 1, 1)[0] for text in TEXTS]
    assert mean_square(model, tokenizer, TEXTS, 1) == pytest.approx(
        torch.cat(states).square().sum(dim=1).mean().item(), rel=1e-4
    )


def clean(g, h):
    return g(h).square().sum()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda g, h, xi: (g(h + xi) - g(h)).norm() / g(h).norm(), "if g does nothing"),
        (lambda g, h, xi: ((g(h + xi) - g(h)).square().sum(1) / g(h).square().sum(1)).mean(), "if g does nothing"),
        (lambda g, h, xi: xi.square().sum() / h.square().sum(), "divide by g(h)"),
        (lambda g, h, xi: (g(h + xi) - g(h)).square().sum() / clean(g, h + xi), "if g does nothing"),
        (lambda g, h, xi: g(xi).square().sum() / clean(g, h), "divide by g(h)"),
    ],
)
def test_a_wrong_phi_is_told_what_is_wrong(wrong, hint: str, capsys):
    assert core(wrong, sensitivity, *SENSITIVITY_TESTS) is sensitivity
    assert f"not yet: {hint}" in capsys.readouterr().out


def test_the_right_phi_is_used(capsys):
    def phi(g, h, xi):
        return ((g(h + xi) - g(h)) ** 2).sum() / (g(h) ** 2).sum()

    assert core(phi, sensitivity, *SENSITIVITY_TESTS) is phi
    assert "correct" in capsys.readouterr().out


def test_figures_are_drawn(model, tokenizer):
    texts = made_up_texts(8, seed=32)
    result = unlearn(model, tokenizer, texts, texts, UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16))
    phi = torch.rand(3, 4) + 0.1
    panels = {"a": ([1, 2, 3], {"base": ("frozen", phi), "RMU": ("steered", phi)})}
    figures = [
        targets_to_scale(110, [6.5, 570]),
        norms_beside({0: 40.0, 3: 60.0, 5: 80.0, 7: 110.0}, {"c = 6.5": 6.5}, title="norms"),
        noise_diagram(),
        sensitivity_panels(panels, title="panels", steered=2),
        history_curves({"few": ("steered", result)}, "cosine", title="history"),
    ]
    for figure in figures:
        figure.canvas.draw()
        assert figure.axes


def test_the_lowest_layer_is_that_of_the_geometric_mean():
    assert lowest_layer([5, 7, 9], torch.tensor([[1.0, 1.0], [0.01, 2.0], [1.0, 0.5]])) == 7


def test_a_stored_change_has_an_interval_over_questions_and_directions(front, capsys):
    (change,) = print_stored_changes(front, "bio", [(228.0, 80, 300.0)])
    assert "228" in capsys.readouterr().out
    wanted = {"coefficient": 228.0, "steps": 80, "alpha": 300.0}
    rows = [row for row in front if row.config and wanted.items() <= row.config.to_dict().items()]
    base = next(row for row in front if row.config is None)
    lost = [100 * (row.scores["bio"].accuracy - base.scores["bio"].accuracy) for row in rows]
    assert change.value == pytest.approx(np.mean(lost))
    assert change.low < min(lost) < max(lost) < change.high
    with pytest.raises(RmuLabError, match="no row"):
        stored_change(front, "bio", coefficient=1.0)


def test_accuracies_of_the_stored_coefficients():
    stored = json.loads((data_folder() / "results" / "coefficient.json").read_text(encoding="utf-8"))
    found = accuracy_by_coefficient(stored, "bio", 40)
    assert found.shape == (6, 3)
    assert found[0, 0] == 100 * next(row for row in stored["rows"] if row["steps"] == 40)["bio"]["accuracy"]
    with pytest.raises(RmuLabError, match="30 steps"):
        accuracy_by_coefficient(stored, "bio", 30)


def test_a_layer_that_does_nothing_has_the_ratio_of_the_squared_norms(model, tokenizer):
    layer = {"size": 0.1, "relative": True}
    found = sensitivity_by_layer(of_doing_nothing(sensitivity), model, tokenizer, TEXTS[:2], [1, 2], **layer)
    torch.testing.assert_close(found, torch.full((2, 2), 0.01), rtol=1e-4, atol=0)


def test_the_median_cosine_is_the_mean_over_directions_of_the_stored_medians():
    rows = [
        {"coefficient": 2.0, "steps": 40, "seed": seed, "forget cosine": [0, middle, 1]}
        for seed, middle in enumerate((0.2, 0.6))
    ]
    record = {"quantiles": [0, 0.5, 1], "rows": rows}
    assert median_cosine(record, 2.0, 40) == pytest.approx(0.4)
    with pytest.raises(RmuLabError, match="no row with c = 3"):
        median_cosine(record, 3.0, 40)


def test_the_toy_depends_on_c_over_the_norm_alone(capsys):
    print_toy([(2, 2, 1), (8, 8, 1)])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[3:] == second.split()[3:]

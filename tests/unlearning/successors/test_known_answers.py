"""Each successor on a case whose answer is known: by hand, by plain autograd on whole models, or as RMU itself."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, UnlearnConfig, decoder_blocks, token_states, unlearn
from rmu_lab.corpora import token_batches
from rmu_lab.unlearning.directions import random_directions
from rmu_lab.unlearning.objectives import WindowBatch
from rmu_lab.unlearning.successors import (
    CIR,
    LUNAR,
    MCURMU,
    RMUSAM,
    SRMU,
    CircuitBreaker,
    ClosedFormRMU,
    LayeredRMU,
    OrthogonalCircuitBreaker,
    RankOneRMU,
    RepSelect,
    TamperResistantRMU,
)
from rmu_lab.unlearning.successors import srmu as srmu_module
from rmu_lab.unlearning.successors.circuit_breaker import likeness_loss, rerouting_loss
from rmu_lab.unlearning.successors.collapsed import relative_distance
from rmu_lab.unlearning.successors.rep_select import collapse
from rmu_lab.unlearning.successors.ridge import ridge_solution
from rmu_lab.unlearning.successors.sam import ascent
from rmu_lab.unlearning.successors.tamper_resistant import TamperResistantTraining
from tests.conftest import tiny_model, weights_of
from tests.unlearning.successors.common import (
    FORGET,
    LAYER,
    RETAIN,
    RMU,
    SHORT,
    SOLVED,
    adaptive_target,
    each,
    first_batch,
    hidden_of,
    llama,
    matrix_name,
    numbers,
    side_traffic,
)

U = random_directions(["forget"], 32, 0)["forget"]
WINDOW = (1, 2, 3)


def train(config, tokenizer, forget=FORGET, retain=RETAIN, **given):
    return unlearn(llama(), tokenizer, forget, retain, config, progress=False, **given)


def changes(result):
    before = weights_of(llama())
    return {name: matrix - before[name] for name, matrix in result.edit.items()}


# -- those that are RMU at one value of a setting ---------------------------------------------------------------------


@each(
    [
        RMUSAM(**SHORT, rho=0.0),
        TamperResistantRMU(**SHORT, relearn_steps=0),
        LayeredRMU(**SHORT, folds=1),
        RankOneRMU(**SHORT, rank=32),
    ]
)
@pytest.mark.parametrize("steering", ["rmu", "adaptive_rmu"])
def test_bit_for_bit_rmu(config, steering, tokenizer):
    config = dataclasses.replace(config, steering=steering, coefficient=40.0)
    expected = train(dataclasses.replace(RMU, method=steering, coefficient=40.0), tokenizer)
    result = train(config, tokenizer)
    assert result.history == expected.history and result.directions["forget"].equal(expected.directions["forget"])
    assert all(matrix.equal(expected.edit[name]) for name, matrix in result.edit.items())


def test_srmu_is_rmu_where_all_dimensions_matter_alike(tokenizer, monkeypatch):
    """c V has the norm c sqrt(d) and the direction V / sqrt(d)."""
    monkeypatch.setattr(srmu_module, "importance", lambda forget, *_: torch.ones_like(forget))
    result = train(SRMU(**SHORT, coefficient=6.0), tokenizer)
    u = result.directions["forget"]
    assert set((u * 32**0.5).round().tolist()) == {-1.0, 1.0}
    plain = UnlearnConfig(**SHORT, method="rmu", coefficient=6.0 * 32**0.5)
    expected = train(plain, tokenizer, directions={"forget": u})
    assert numbers(result.history[-1]) == pytest.approx(numbers(expected.history[-1]), rel=1e-4)
    for name, matrix in result.edit.items():
        torch.testing.assert_close(matrix, expected.edit[name], rtol=1e-4, atol=1e-5)


# -- MCU --------------------------------------------------------------------------------------------------------------


def test_mcus_forget_loss_is_that_of_projected_representations(tokenizer):
    """At step 1 nothing has moved: the loss from plain states, numpy's decomposition and the definition."""
    config = MCURMU(**SHORT | {"steps": 1}, components=4)
    states = token_states(llama(), tokenizer, FORGET[:3], [LAYER], max_length=24)
    rows, texts = states.hidden[LAYER][states.counted].double(), states.text[states.counted]
    mean = rows.mean(dim=0)
    _, _, right = np.linalg.svd((rows - mean).numpy())
    dominant, _ = np.linalg.qr(np.column_stack([mean.numpy(), right[:4].T]))
    projected = rows.numpy() @ (np.eye(32) - dominant @ dominant.T)
    norms = torch.stack([rows[texts == text].norm(dim=-1).mean() for text in range(3)])[texts].numpy()
    wanted = 5.0 * norms[:, None] * U.double().numpy()
    expected = np.square(projected - wanted).sum(axis=1).mean()
    assert train(config, tokenizer).history[0]["forget_loss"] == pytest.approx(expected, rel=1e-4)
    assert train(RMU, tokenizer).history[0]["forget_loss"] != pytest.approx(expected, rel=1e-3)


def test_what_mcu_projects_out_costs_nothing(tokenizer):
    """With all 32 dimensions left out the forget loss is c^2, wherever training takes the representations."""
    result = train(MCURMU(**SHORT, components=31, steering="rmu", coefficient=40.0), tokenizer)
    assert [entry["forget_loss"] for entry in result.history] == pytest.approx([1600.0] * 4, rel=1e-4)


# -- CIR and RepSelect ------------------------------------------------------------------------------------------------


def plain_sides(tokenizer):
    """Of the first forget batch at the frozen weights: inputs and output gradients of each matrix at counted tokens."""
    model, batch = llama(), first_batch(tokenizer, FORGET)
    counted = batch.counted()
    with torch.no_grad():
        frozen = hidden_of(model, batch)
    target = adaptive_target(frozen, counted, U)

    def loss_of(hidden):
        return (hidden - target).square().sum(dim=-1)[counted].mean()

    seen, _ = side_traffic(model, batch, WINDOW, loss_of)
    return {layer: tuple(side[counted].double() for side in sides) for layer, sides in seen.items()}


def numpy_basis(vectors, components):
    mean = vectors.mean(dim=0).numpy()
    _, _, right = np.linalg.svd(vectors.numpy() - mean)
    return torch.from_numpy(np.linalg.qr(np.column_stack([mean, right[:components].T]))[0])


def test_cirs_first_step_by_plain_autograd_and_numpy(tokenizer):
    result = train(CIR(**SHORT | {"steps": 1, "lr": 0.3}, input_components=4, gradient_components=3), tokenizer)
    gradients = {}
    for layer, (inputs, outputs) in plain_sides(tokenizer).items():
        of_inputs, of_gradients = numpy_basis(inputs, 4), numpy_basis(outputs, 3)
        left = outputs - outputs @ of_gradients @ of_gradients.T
        gradients[layer] = left.T @ (inputs - inputs @ of_inputs @ of_inputs.T)
        change = changes(result)[matrix_name(layer)].double()
        assert (change @ of_inputs).norm() < 1e-4 * change.norm() > 0  # nothing along what was removed
        assert (of_gradients.T @ change).norm() < 1e-4 * change.norm()
    length = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    for layer, gradient in gradients.items():
        torch.testing.assert_close(
            changes(result)[matrix_name(layer)].double(), -0.3 * gradient / length, rtol=1e-2, atol=2e-5
        )


def test_repselects_first_step_by_plain_autograd(tokenizer):
    """All tokens' sides make RMU's gradient, here from the whole model; hard: its top directions are gone."""
    model, batch = llama(), first_batch(tokenizer, FORGET)
    counted = batch.counted()
    with torch.no_grad():
        target = adaptive_target(hidden_of(model, batch), counted, U)
    (hidden_of(model, batch) - target).square().sum(dim=-1)[counted].mean().backward()
    expected = {}
    for layer in WINDOW:
        left, values, right = torch.linalg.svd(model.get_parameter(matrix_name(layer)).grad, full_matrices=False)
        expected[layer] = (left[:, 2:] * values[2:]) @ right[2:]
    length = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    result = train(RepSelect(**SHORT | {"steps": 1, "lr": 0.3}, components=2, collapse="hard"), tokenizer)
    for layer, gradient in expected.items():
        change = changes(result)[matrix_name(layer)]
        torch.testing.assert_close(change, -0.3 * gradient / length, rtol=1e-2, atol=2e-5)


def test_collapse_by_hand():
    gradient = torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0]))
    assert collapse(gradient, 3, "soft").diagonal().tolist() == pytest.approx([0.5, 1, 2, 1])  # 2^2 / sigma
    assert collapse(gradient, 2, "hard").diagonal().tolist() == pytest.approx([0, 0, 2, 1], abs=1e-6)
    assert collapse(gradient, 0, "soft").equal(gradient)
    assert collapse(torch.zeros(3, 2), 9, "soft").equal(torch.zeros(3, 2))


@given(seed=st.integers(0, 2**31), components=st.integers(1, 9))
def test_collapse_keeps_all_directions_and_what_is_below(seed, components):
    gradient = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()
    left, values, right = torch.linalg.svd(gradient, full_matrices=False)
    count = min(components, 5)
    shrunk = torch.cat([values[count - 1] ** 2 / values[:count], values[count:]])
    torch.testing.assert_close(collapse(gradient, components, "soft"), (left * shrunk) @ right, rtol=1e-3, atol=1e-4)
    gone = torch.cat([torch.zeros(count), values[count:]])
    torch.testing.assert_close(collapse(gradient, components, "hard"), (left * gone) @ right, rtol=1e-3, atol=1e-4)


@each([CIR(**SHORT), RepSelect(**SHORT)])
def test_steps_have_the_length_that_is_asked_for(config, tokenizer):
    result = train(dataclasses.replace(config, lr=0.25, steps=1), tokenizer)
    length = torch.stack([change.norm() for change in changes(result).values()]).norm()
    assert length.item() == pytest.approx(0.25, rel=1e-3)


def test_relative_distance_by_hand_and_at_zero():
    frozen = torch.tensor([[[3.0, 4.0], [0.0, 5.0], [9.0, 9.0]]])
    counted = torch.tensor([[True, True, False]])
    hidden = (frozen + torch.tensor([[[0.0, 1.0], [2.0, 0.0], [7.0, 7.0]]])).requires_grad_()
    batch = WindowBatch(hidden, frozen, frozen, counted)
    assert relative_distance(batch).item() == pytest.approx((1 + 2) / 2 / 5)
    at_zero = frozen.clone().requires_grad_()
    relative_distance(dataclasses.replace(batch, hidden=at_zero)).backward()
    assert at_zero.grad.abs().max() == 0


# -- SAM --------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31), rho=st.floats(0.01, 10))
def test_the_ascent_point_of_a_quadratic(seed, rho):
    """Of L(W) = |W - a|^2 / 2 the gradient is W - a, so the point lies rho further from a on the same line."""
    generator = torch.Generator().manual_seed(seed)
    a, b, w, v = (torch.randn(3, 2, generator=generator) for _ in range(4))
    up = ascent([w - a, v - b], rho)
    distance = torch.cat([w - a, v - b]).norm()
    torch.testing.assert_close(torch.cat([w + up[0] - a, v + up[1] - b]).norm(), distance + rho, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(up), rho * torch.cat([w - a, v - b]) / distance)
    assert ascent([torch.zeros(2, 2)], rho)[0].tolist() == [[0, 0], [0, 0]]


def test_sams_ascended_loss_by_plain_autograd(tokenizer):
    """The loss at W + rho g / |g| from a model whose weights were moved there, and a step along the gradient there."""
    model, batch = llama(), first_batch(tokenizer, FORGET)
    counted = batch.counted()
    with torch.no_grad():
        target = adaptive_target(hidden_of(model, batch), counted, U)

    def loss_of():
        return (hidden_of(model, batch) - target).square().sum(dim=-1)[counted].mean()

    matrices = [model.get_parameter(matrix_name(layer)) for layer in WINDOW]
    gradients = torch.autograd.grad(loss_of(), matrices)
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    with torch.no_grad():
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix += 0.7 * gradient / length
    there = loss_of()
    slopes = torch.autograd.grad(there, matrices)
    config = RMUSAM(**SHORT | {"steps": 1, "lr": 1e-3}, rho=0.7)
    result = train(config, tokenizer)
    assert result.history[0]["ascended_loss"] == pytest.approx(there.item(), rel=1e-4)
    assert result.history[0]["forget_loss"] == train(RMU, tokenizer).history[0]["forget_loss"]  # at W
    assert result.history[0]["ascended_loss"] > result.history[0]["forget_loss"]
    for layer, slope in zip(WINDOW, slopes, strict=True):  # AdamW's first step is the sign of the gradient
        clear = slope.abs() > slope.abs().median()
        assert (changes(result)[matrix_name(layer)][clear].sign() == -slope[clear].sign()).float().mean() > 0.999


# -- circuit breakers -------------------------------------------------------------------------------------------------


def window_batch(hidden, frozen):
    hidden, frozen = torch.tensor(hidden), torch.tensor(frozen)
    return WindowBatch(hidden, frozen, frozen, torch.ones(hidden.shape[:2], dtype=torch.bool))


def test_rerouting_by_hand():
    frozen = [[[1.0, 0.0], [0.0, 2.0]]]
    assert rerouting_loss(window_batch([[[0.0, 5.0], [-1.0, -3.0]]], frozen)).item() == 0  # cosines 0 and below
    assert rerouting_loss(window_batch([[[9.0, 0.0], [0.0, 0.1]]], frozen)).item() == pytest.approx(1)
    assert rerouting_loss(window_batch([[[1.0, 1.0], [0.0, -1.0]]], frozen)).item() == pytest.approx(0.5**0.5 / 2)


def test_likeness_by_hand():
    one, other = [[1.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 5.0]]
    assert likeness_loss(window_batch([one, other], [one, other])).item() == 0
    assert likeness_loss(window_batch([one, one], [one, one])).item() == pytest.approx(1)
    both = [[1.0, 0.0], [-1.0, 2.0]]  # their mean is (0, 1)
    assert likeness_loss(window_batch([one, other, both], [one, other, both])).item() == pytest.approx(2 / 6)
    assert likeness_loss(window_batch([one], [one])).item() == 0


def test_the_weights_of_circuit_breakers_shift(tokenizer):
    """Weights that hardly move: the cosine stays 1, and each entry tells the weight of its step."""
    config = CircuitBreaker(**SHORT | {"lr": 1e-9})
    history = train(config, tokenizer).history
    assert [entry["forget_loss"] for entry in history] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8], rel=1e-5)
    assert all(entry["cosine"] == pytest.approx(1) and entry["retain_loss"] < 1e-3 for entry in history)
    longer = train(dataclasses.replace(config, steps=8), tokenizer).history
    assert longer[2]["forget_loss"] == pytest.approx(7 / 8, rel=1e-5)


def test_circuit_breakers_turn_representations_away(tokenizer):
    result = train(CircuitBreaker(**SHORT | {"steps": 40, "lr": 2e-2, "alpha": 0.01}), tokenizer)
    assert result.history[-1]["cosine"] < 0.6 and result.directions == {}


def test_the_orthogonal_form_adds_the_price_of_likeness(tokenizer):
    plain, priced = (
        train(kind(**SHORT | {"lr": 1e-9}, **extra), tokenizer).history
        for kind, extra in ((CircuitBreaker, {}), (OrthogonalCircuitBreaker, {"orthogonality": 2.0}))
    )
    assert priced[0]["forget_loss"] == plain[0]["forget_loss"]  # its weight begins at 0
    assert [p["forget_loss"] > q["forget_loss"] + 0.01 for p, q in zip(priced[1:], plain[1:], strict=True)] == [True] * 3
    none = train(OrthogonalCircuitBreaker(**SHORT, orthogonality=0.0), tokenizer)
    same = train(CircuitBreaker(**SHORT), tokenizer)
    assert all(matrix.equal(same.edit[name]) for name, matrix in none.edit.items())


# -- SRMU -------------------------------------------------------------------------------------------------------------


def test_importance_by_hand():
    forget, retain = torch.tensor([3.0, 1.0, 0.0, 2.0]), torch.tensor([1.0, 1.0, 4.0, 0.5])
    logs = torch.log1p(torch.tensor([3.0, 1.0, 0.0, 4.0]))
    torch.testing.assert_close(srmu_module.importance(forget, retain, "ratio"), logs / logs.max())
    assert srmu_module.importance(forget, retain, "difference").tolist() == pytest.approx([1, 0, 0, 0.75])
    assert srmu_module.importance(forget, retain, "difference", 2.0).tolist() == pytest.approx([1, 0, 0, 1])
    assert srmu_module.importance(forget, retain, "product").tolist() == pytest.approx([1, 1 / 3, 0, 1 / 3])


def test_srmus_target_by_plain_states(tokenizer):
    sizes = []
    for texts in (FORGET[:3], RETAIN[:3]):
        states = token_states(llama(), tokenizer, texts, [LAYER], max_length=24)
        sizes.append(states.hidden[LAYER][states.counted].abs().mean(dim=0))
    weights = torch.log1p(sizes[0] / sizes[1])
    weights = weights / weights.max()
    result = train(SRMU(**SHORT | {"steps": 1}, coefficient=6.0), tokenizer)
    torch.testing.assert_close(result.directions["forget"].abs(), weights / weights.norm(), rtol=1e-4, atol=1e-6)
    assert result.history[0]["target_norm"] == pytest.approx(6.0 * weights.norm().item(), rel=1e-4)
    signs = result.directions["forget"].sign()
    assert 5 < (signs > 0).sum() < 27
    with pytest.raises(RmuLabError, match="No dimension matters more to the forget texts"):
        train(SRMU(**SHORT, importance="difference", weight=1e6), tokenizer)


# -- tamper resistance and layers -------------------------------------------------------------------------------------


def test_the_attacker_moves_towards_the_frozen_representations_and_is_taken_back(tokenizer, monkeypatch):
    seen = []
    attack = TamperResistantTraining.attack

    def watched(self, given):
        def distance():
            with torch.no_grad():
                return (self.hidden(given) - given.passed.output)[given.counted].norm(dim=-1).mean().item()

        before, matrices = distance(), [matrix.detach().clone() for matrix in self.matrices]
        attack(self, given)
        seen.append((before, distance(), matrices, self))

    monkeypatch.setattr(TamperResistantTraining, "attack", watched)
    config = TamperResistantRMU(**SHORT | {"lr": 2e-2, "alpha": 0.1, "steps": 6}, relearn_steps=5, relearn_lr=3e-3)
    attacked = train(config, tokenizer)
    assert len(seen) == 6 and seen[0][:2] == (0, 0)  # at first nothing is to be given back
    assert all(after < before for before, after, _, _ in seen[2:])
    plain = train(dataclasses.replace(config, relearn_steps=0), tokenizer)
    assert attacked.history[0]["forget_loss"] == plain.history[0]["forget_loss"]
    # The second step's matrices are AdamW's step from the first ones, however far the attacker had gone.
    for first, second in zip(seen[0][2], seen[1][2], strict=True):
        assert (second - first).abs().max() <= 2e-2 * 1.001


def test_the_attacker_knows_the_batch_before(tokenizer, monkeypatch):
    attacked = []
    monkeypatch.setattr(TamperResistantTraining, "attack", lambda _self, given: attacked.append(given.counted))
    train(TamperResistantRMU(**SHORT), tokenizer)
    masks = [batch.counted() for batch in token_batches(tokenizer, FORGET, 3, 24)]
    expected = [masks[0], masks[0], masks[1], masks[2]]
    assert all(one.equal(other) for one, other in zip(attacked, expected, strict=True))


def test_folds_are_forgotten_one_after_the_other():
    batches = {("forget", "bio"): [None] * 6, ("retain", "bio"): [None] * 4}
    config = LayeredRMU(folds=3, steps=6)
    found = [{use: key[2] for use, key in config.uses(batches, step)} for step in range(6)]
    assert found == [
        {"forget": 0, "retain": 0, "kept": 1},  # fold 0 holds the batches 0 and 3, the others are kept: 1, 2, 4, 5
        {"forget": 3, "retain": 1, "kept": 2},
        {"forget": 3, "retain": 2, "kept": 2},  # folds 0 and 1: 0, 1, 3, 4; kept: 2, 5
        {"forget": 4, "retain": 3, "kept": 5},
        {"forget": 4, "retain": 0},  # all six
        {"forget": 5, "retain": 1},
    ]


def test_topics_have_folds_of_their_own():
    batches = {(role, topic): [None] * 4 for role in ("forget", "retain") for topic in ("one", "two")}
    found = [LayeredRMU(folds=2, steps=8).uses(batches, step) for step in range(8)]
    for number, topic in enumerate(("one", "two")):
        own = found[number::2]
        assert {key[1] for uses in own for _, key in uses} == {topic}
        assert [dict(uses)["forget"][2] % 2 for uses in own[:2]] == [0, 0]
        assert [len(uses) for uses in own] == [3, 3, 2, 2]


def test_kept_folds_enter_the_loss(tokenizer):
    history = train(LayeredRMU(**SHORT | {"steps": 4}, folds=2, fold_weight=0.5), tokenizer).history
    assert [("kept_loss" in entry) for entry in history] == [True, True, False, False]
    for entry in history:
        assert entry["loss"] == pytest.approx(sum(entry.get(f"{use}_loss", 0) for use in ("forget", "retain", "kept")))
    with pytest.raises(RmuLabError, match="forget has 4 forget batches for 5 folds"):
        train(LayeredRMU(**SHORT, folds=5), tokenizer)


# -- in closed form ---------------------------------------------------------------------------------------------------


def tokens_of(seed, tokens=40, size=6, out=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, width, generator=generator, dtype=torch.float64) for width in (size, size, out)]


def solution_of(seed, alpha, ridge):
    inputs, retained, wanted = tokens_of(seed)
    parts = inputs.T @ inputs / 40, wanted.T @ inputs / 40, retained.T @ retained / 40
    mu = ridge * (parts[0] + alpha * parts[2]).diagonal().mean()
    return ridge_solution(*parts, alpha, ridge), mu, (inputs, retained, wanted)


@given(seed=st.integers(0, 2**31), alpha=st.floats(0, 50), ridge=st.floats(1e-4, 1))
def test_the_ridge_solution_is_numpys_least_squares(seed, alpha, ridge):
    """One system of equations, whose rows are weighed by the roots of what each token counts."""
    found, mu, (inputs, retained, wanted) = solution_of(seed, alpha, ridge)
    rows = np.concatenate([inputs / 40**0.5, (alpha / 40) ** 0.5 * retained, mu**0.5 * torch.eye(6).double()])
    right = np.concatenate([wanted / 40**0.5, np.zeros((46, 4))])
    np.testing.assert_allclose(found.numpy(), np.linalg.lstsq(rows, right, rcond=None)[0].T, rtol=1e-6, atol=1e-8)


def test_gradient_descent_goes_to_the_ridge_solution():
    found, mu, (inputs, retained, wanted) = solution_of(3, 2.0, 0.05)
    change = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)

    def objective(given):
        forget = (inputs @ given.T - wanted).square().sum(dim=1).mean()
        return forget + 2.0 * (retained @ given.T).square().sum(dim=1).mean() + mu * given.square().sum()

    optimizer = torch.optim.SGD([change], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        objective(change).backward()
        optimizer.step()
    torch.testing.assert_close(change.detach(), found, rtol=1e-6, atol=1e-8)
    assert objective(found) < objective(found + 0.01 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))


def inputs_and_states(model, tokenizer, texts):
    """Inputs of the MLP's output matrix of the layer, and h after it, at counted tokens, with each token's text."""
    rows = []
    for number, text in enumerate(texts):
        (batch,) = token_batches(tokenizer, [text], 1, 24)
        seen = []
        module = decoder_blocks(model)[LAYER].mlp.down_proj
        hook = module.register_forward_pre_hook(lambda _module, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            hidden = hidden_of(model, batch)
        hook.remove()
        rows.append((seen[0][0, 1:], hidden[0, 1:], torch.full((hidden.shape[1] - 1,), number)))
    return [torch.cat(part) for part in zip(*rows, strict=True)]


@pytest.mark.parametrize("steering", ["rmu", "adaptive_rmu"])
def test_closed_form_rmu_by_numpys_least_squares(steering, tokenizer):
    model = llama()
    config = ClosedFormRMU(**SOLVED, steering=steering, coefficient=40.0, ridge=0.01)
    inputs, hidden, texts = (part.double() for part in inputs_and_states(model, tokenizer, FORGET))
    retained = inputs_and_states(model, tokenizer, RETAIN)[0].double()
    norms = torch.stack([hidden[texts == text].norm(dim=-1).mean() for text in range(12)])[texts.long()]
    target = (40.0 if steering == "rmu" else 5.0 * norms[:, None]) * U.double()
    counts = len(inputs), len(retained)
    mu = 0.01 * (inputs.square().sum() / counts[0] + retained.square().sum() / counts[1]) / 64
    rows = np.concatenate([inputs / counts[0] ** 0.5, retained / counts[1] ** 0.5, mu**0.5 * torch.eye(64).double()])
    right = np.concatenate([(target - hidden) / counts[0] ** 0.5, np.zeros((counts[1] + 64, 32))])
    expected = torch.from_numpy(np.linalg.lstsq(rows, right, rcond=None)[0].T).float()
    result = train(config, tokenizer)
    torch.testing.assert_close(changes(result)[matrix_name(LAYER)], expected, rtol=1e-3, atol=1e-4)
    # What the history says of the edited model is what a whole pass of it shows.
    with result.applied(model):
        _, after, _ = inputs_and_states(model, tokenizer, FORGET)
    entry = result.history[0]
    assert entry["forget_loss"] == pytest.approx((after - target).square().sum(dim=1).mean().item(), rel=1e-4)
    assert entry["forget_norm"] == pytest.approx(after.norm(dim=1).mean().item(), rel=1e-4)
    assert entry["forget_loss"] < 0.5 * (hidden - target).square().sum(dim=1).mean()
    assert entry["loss"] == entry["forget_loss"] + entry["retain_loss"] and entry["step"] == 1


def test_closed_form_rmu_holds_retain_text_the_more_the_larger_alpha(tokenizer):
    losses = []
    for alpha in (0.1, 10.0, 1000.0):
        entry = train(ClosedFormRMU(**SOLVED | {"alpha": alpha}), tokenizer).history[0]
        losses.append((entry["forget_loss"], entry["retain_loss"] / alpha))
    assert losses == sorted(losses) and [kept for _, kept in losses] == sorted((kept for _, kept in losses), reverse=True)


def test_three_blocks_come_about_as_close(tokenizer):
    one, three = (train(ClosedFormRMU(**SOLVED | {"alpha": 0.1}, blocks=blocks), tokenizer) for blocks in (1, 3))
    assert three.history[0]["forget_loss"] < 1.2 * one.history[0]["forget_loss"]
    assert all(change.norm() > 0.1 for change in changes(three).values())


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3"])
def test_closed_form_rmu_steers_other_families(family, tokenizer):
    """Whatever the layout of the matrix: without a price on anything else, h is nearly at its target."""
    config = ClosedFormRMU(**SOLVED | {"alpha": 0.0}, ridge=1e-6)
    entry = unlearn(tiny_model(family), tokenizer, FORGET, RETAIN, config, progress=False).history[0]
    assert entry["cosine"] > 0.9 and entry["forget_norm"] == pytest.approx(entry["target_norm"], rel=0.2)


def test_lunar_by_numpys_least_squares(tokenizer):
    """A change of rank 1, which sends the mean input along the shift."""
    model = llama()
    config = LUNAR(**SOLVED, coefficient=3.0, references=5, ridge=0.01)
    inputs, _, _ = inputs_and_states(model, tokenizer, FORGET)
    retained, _, _ = inputs_and_states(model, tokenizer, RETAIN)
    result = train(config, tokenizer)
    change, u = changes(result)[matrix_name(LAYER)].double(), result.directions["forget"].double()
    assert result.singular_values(model)[matrix_name(LAYER)][1] < 1e-4 * change.norm()
    counts = len(inputs), len(retained)
    mu = 0.01 * (inputs.square().sum() / counts[0] + retained.square().sum() / counts[1]).double() / 64
    rows = np.concatenate([inputs / counts[0] ** 0.5, retained / counts[1] ** 0.5, mu**0.5 * torch.eye(64)])
    right = np.concatenate([np.full(counts[0], counts[0] ** -0.5), np.zeros(counts[1] + 64)])
    weights = torch.from_numpy(np.linalg.lstsq(rows.astype(float), right, rcond=None)[0])
    size = change.norm() / weights.norm()  # the shift's length
    torch.testing.assert_close(change, size * torch.outer(u, weights), rtol=1e-2, atol=1e-4)
    states = token_states(model, tokenizer, FORGET, [LAYER], max_length=24)
    forget = states.hidden[LAYER][states.counted].mean(dim=0).double()
    reference = forget + size / 3.0 * u  # of the questions
    asked = lunar_references(config)
    states = token_states(model, tokenizer, asked, [LAYER], max_length=24)
    torch.testing.assert_close(states.hidden[LAYER][states.counted].mean(dim=0).double(), reference, rtol=1e-2, atol=1e-2)


def lunar_references(config):
    from rmu_lab.invented import invented_questions
    from rmu_lab.randomness import python_random

    return python_random(config.seed, "LUNAR's references").sample(invented_questions(wording=1)["question"], 5)


# -- rank one ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3])
def test_rank_one_rmu_is_rmu_cut(rank, tokenizer):
    model, whole = llama(), train(RMU, tokenizer)
    result = train(RankOneRMU(**SHORT, rank=rank), tokenizer)
    expected, values = whole.truncated(rank, model), result.singular_values(model)
    for name, matrix in result.edit.items():
        torch.testing.assert_close(matrix, expected.edit[name], rtol=1e-5, atol=1e-5)
        assert values[name][rank - 1] > 1e-2 and values[name][rank:].max() < 1e-4 * values[name][0]
    assert result.history == whole.history

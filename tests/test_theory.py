"""Every number of `theory` against an independent way to get it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmu_lab import RmuLabError, decoder_blocks, token_states
from rmu_lab.activations import TokenStates, edited_output
from rmu_lab.randomness import torch_generator
from rmu_lab.theory import (
    PredictedLogits,
    coefficient_effects,
    compare,
    first_order_errors,
    first_order_limit,
    measured_residual,
    noise_sensitivity,
    optimal_coefficient,
    predicted_logits,
    simulated_logits,
)
from tests.conftest import FAMILIES, made_up_texts, of_kind, tiny_model

TEXT = "the fish swims in cold water"
D = 32
U = torch.rand(D, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
U /= U.norm()


def whole_model_logits(model, tokenizer, layer, rows):
    """Next-token logits from an ordinary forward pass with `rows`, (tokens - 1, d), put after the block."""
    with edited_output(model, layer, lambda hidden: torch.cat([hidden[:, :1], rows[None]], dim=1)):
        return model(**tokenizer(TEXT, return_tensors="pt")).logits[0, -1]


def n_steered(tokenizer):
    return len(tokenizer(TEXT)["input_ids"]) - 1


def norm_only(seed=0):
    """A model whose blocks add nothing, so that g is the final norm alone."""
    model = tiny_model("llama", seed).double()
    with torch.no_grad():
        for block in decoder_blocks(model):
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        model.model.norm.weight.uniform_(0.5, 2)
    return model


# -- Proposition 1 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gemma2"}))  # gemma2 puts a softcap behind the unembedding
def test_prediction_equals_the_dense_jacobian_of_the_whole_model(family, tokenizer):
    model = tiny_model(family).double()
    predicted = predicted_logits(model, tokenizer, TEXT, layer=2, coefficient=3.0, direction=U, eta=0.4)
    z = (3 * U).expand(n_steered(tokenizer), D)
    jacobian = torch.autograd.functional.jacobian(lambda rows: whole_model_logits(model, tokenizer, 2, rows), z).flatten(1)
    covariance = 0.4 * jacobian @ jacobian.T
    close = {"rtol": 1e-4, "atol": 1e-6 * covariance.max().item()}  # the norms of some families compute in float32
    torch.testing.assert_close(predicted.mean, whole_model_logits(model, tokenizer, 2, z).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(predicted.variances, covariance.diagonal(), **close)
    torch.testing.assert_close(0.4 * predicted.factor @ predicted.factor.T, covariance, **close)
    centring = torch.eye(len(covariance), dtype=covariance.dtype) - 1 / len(covariance)
    torch.testing.assert_close(predicted.centred_variances, (centring @ covariance @ centring).diagonal(), **close)
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)[:D]
    torch.testing.assert_close(predicted.eigenvalues, eigenvalues, rtol=1e-4, atol=1e-6 * eigenvalues[0].item())


def test_prediction_equals_finite_differences(tokenizer):
    model = tiny_model("llama").double()
    predicted = predicted_logits(model, tokenizer, TEXT, layer=1, coefficient=2.0, direction=U, eta=1.0)
    z = (2 * U).expand(n_steered(tokenizer), D)
    for seed in range(3):
        step = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            up, down = (whole_model_logits(model, tokenizer, 1, z + sign * 1e-3 * step) for sign in (1, -1))
        along = predicted.head.weight.detach() @ (predicted.jacobian.flatten(1) @ step.flatten())
        torch.testing.assert_close(along, (up - down) / 2e-3, atol=1e-3, rtol=1e-2)


def test_closed_form_when_only_the_final_norm_is_left(tokenizer):
    """g(z) = gamma * sqrt(d) z/||z||, so logits are W (gamma * u) sqrt(d) and variances fall like 1/c²."""
    model, c, eta = norm_only(), 50.0, 0.3
    predicted = predicted_logits(model, tokenizer, TEXT, layer=2, coefficient=c, direction=U, eta=eta)
    gamma, weight = model.model.norm.weight.detach(), model.lm_head.weight.detach()
    torch.testing.assert_close(predicted.mean, weight @ (gamma * U) * math.sqrt(D), rtol=1e-5, atol=1e-6)
    slopes = (weight * gamma) @ (torch.eye(D, dtype=torch.float64) - torch.outer(U, U)) * math.sqrt(D) / c
    torch.testing.assert_close(predicted.variances, eta * slopes.square().sum(dim=1), rtol=1e-4, atol=1e-9)
    assert predicted.jacobian[:, :-1].abs().max() == 0  # other tokens do not reach the last


def test_simulation_equals_whole_forward_passes(tokenizer):
    """Also where the draws do not fill the last batch."""
    model = tiny_model("qwen2").double()
    setting = {"layer": 2, "coefficient": 3.0, "direction": U, "eta": 0.5}
    simulated = simulated_logits(model, tokenizer, TEXT, **setting, n=7, batch_size=3, seed=1)
    expected = torch.stack(
        [
            whole_model_logits(model, tokenizer, 2, 3 * U + math.sqrt(0.5) * draw.double()).detach()
            for draw in simulated.noise
        ]
    )
    torch.testing.assert_close(simulated.of(range(320)), expected)
    torch.testing.assert_close(simulated.mean, expected.mean(dim=0))
    torch.testing.assert_close(simulated.variances, expected.var(dim=0))
    centred = expected - expected.mean(dim=1, keepdim=True)
    torch.testing.assert_close(simulated.centred_variances, centred.var(dim=0))
    torch.testing.assert_close(simulated.max_logits(batch=2), expected.amax(dim=1))
    entropies = torch.distributions.Categorical(logits=expected).entropy()
    torch.testing.assert_close(simulated.entropies(batch=2), entropies)
    torch.testing.assert_close(simulated.of([5, 9]), expected[:, [5, 9]])


def test_samples_have_the_predicted_moments(tokenizer):
    model = tiny_model("llama").double()
    predicted = predicted_logits(model, tokenizer, TEXT, layer=2, coefficient=3.0, direction=U, eta=0.4)
    drawn = predicted.samples(4000, seed=3)
    torch.testing.assert_close(drawn.variances, predicted.variances, rtol=0.15, atol=1e-9)
    error = (drawn.mean - predicted.mean).abs() / predicted.variances.sqrt()
    assert error.max() < 5 / math.sqrt(4000)


def test_small_noise_agrees_and_large_noise_does_not(tokenizer):
    model = tiny_model("llama").double()
    etas = [1e-6, 1e-4, 10.0]
    setting = {"layer": 2, "coefficient": 3.0, "direction": U}
    small, middle, large = first_order_errors(model, tokenizer, TEXT, **setting, etas=etas, tokens=[1, 2, 3], n=100)
    assert small.variance_ratio == pytest.approx(1, abs=1e-2) and small.mean_shift < 0.05
    assert small.variance_interval[0] < small.variance_ratio < small.variance_interval[1]
    assert small.token_ratios[0] == pytest.approx(1, abs=0.05) == small.token_ratios[1]
    assert len(small.normality) == 3 and min(small.normality) > 1e-4
    assert abs(large.variance_ratio - 1) > 0.3
    assert first_order_limit([large, small, middle], tolerance=0.1) in etas[:2]
    assert first_order_limit([large]) == 0


def test_normality_is_told_from_its_absence(tokenizer):
    model = tiny_model("llama").double()
    predicted = predicted_logits(model, tokenizer, TEXT, layer=2, coefficient=3.0, direction=U, eta=0.4)
    normal, skewed = predicted.samples(500), predicted.samples(500)
    skewed.readouts.copy_(predicted.readout + (skewed.readouts - predicted.readout) ** 3)
    assert min(compare(predicted, normal, range(5)).normality) > 1e-3
    assert max(compare(predicted, skewed, range(5)).normality) < 1e-6


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_covariance_scales_with_eta_and_basis_of_noise_does_not_matter(factor, seed):
    """Laws of N(W g, eta W J Jᵀ Wᵀ) for any W, J: linear in eta, and unchanged when the noise is turned."""
    generator = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(6, 11, bias=False, dtype=torch.float64)
    jacobian = torch.randn(6, 2, 6, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))
    readout = torch.randn(6, generator=generator, dtype=torch.float64)
    one = PredictedLogits(readout, jacobian, head, 1.0)
    scaled = PredictedLogits(readout, jacobian, head, factor)
    turned = PredictedLogits(readout, (jacobian.flatten(1) @ turn).reshape(jacobian.shape), head, 1.0)
    torch.testing.assert_close(scaled.variances, factor * one.variances)
    torch.testing.assert_close(scaled.eigenvalues, factor * one.eigenvalues)
    torch.testing.assert_close(turned.variances, one.variances)
    torch.testing.assert_close(turned.eigenvalues, one.eigenvalues)
    torch.testing.assert_close(scaled.mean, one.mean)
    torch.testing.assert_close(one.eigenvalues.sum(), one.variances.sum())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), length=st.floats(0.1, 100))
def test_at_c_zero_the_direction_does_not_matter_and_its_length_never_does(seed, length, tokenizer):
    model = tiny_model("llama").double()
    other = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    setting = {"layer": 3, "eta": 1.0}
    at_zero = [
        predicted_logits(model, tokenizer, TEXT, coefficient=0.0, direction=direction, **setting) for direction in (U, other)
    ]
    torch.testing.assert_close(at_zero[0].mean, at_zero[1].mean)
    torch.testing.assert_close(at_zero[0].variances, at_zero[1].variances)
    long, short = (
        predicted_logits(model, tokenizer, TEXT, coefficient=5.0, direction=direction, **setting)
        for direction in (length * other, other)
    )
    torch.testing.assert_close(long.variances, short.variances)


def test_without_noise_there_is_no_variance(tokenizer):
    model = tiny_model("llama")
    setting = {"layer": 2, "coefficient": 3.0, "direction": U.float(), "eta": 0.0}
    assert predicted_logits(model, tokenizer, TEXT, **setting).variances.abs().max() == 0
    assert simulated_logits(model, tokenizer, TEXT, **setting, n=5).variances.max() < 1e-9


def test_the_model_is_left_as_it_was(tokenizer):
    model = tiny_model("llama").train()
    predicted_logits(model, tokenizer, TEXT, layer=2, coefficient=3.0, direction=U.float(), eta=1.0)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert not any(block._forward_hooks for block in decoder_blocks(model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta": -1.0}, "eta is -1.0, a variance"),
        ({"layer": 5}, "layer is 5 and to_layer None; choose both from 0 .. 4"),
        ({"direction": torch.ones(3)}, r"direction has the shape \(3,\)"),
    ],
)
def test_what_cannot_be_predicted_is_said(changes, message, tokenizer):
    setting = {"layer": 2, "coefficient": 3.0, "direction": U.float(), "eta": 1.0} | changes
    for function in (predicted_logits, simulated_logits):
        with pytest.raises(RmuLabError, match=message):
            function(tiny_model("llama"), tokenizer, TEXT, **setting)


# -- the coefficient --------------------------------------------------------------------------------------------------


def test_logits_tend_to_a_fixed_vector_and_deviations_fall_like_one_over_c(tokenizer):
    """`paper.md` item 11, in a random model: the limit is the one of the final norm alone."""
    model = tiny_model("llama").double()
    effects = coefficient_effects(
        model, tokenizer, TEXT, layer=1, coefficients=[10, 1e4, 1e5, 1e6], direction=U, eta=1.0, n=20
    )
    limit = predicted_logits(model, tokenizer, TEXT, layer=4, coefficient=1e6, direction=U, eta=1.0)
    distance = [(effect.mean - limit.mean).norm().item() for effect in effects]
    assert distance == sorted(distance, reverse=True) and distance[-1] < 1e-3 * distance[0]
    assert effects[2].deviation / effects[3].deviation == pytest.approx(10, rel=0.05)
    assert effects[3].deviation == pytest.approx(limit.variances.mean().sqrt().item(), rel=0.3)
    assert effects[3].centred_deviation == pytest.approx(limit.centred_variances.mean().sqrt().item(), rel=0.3)
    assert effects[3].max_logit == pytest.approx(limit.mean.max().item(), rel=1e-3)
    entropy = torch.distributions.Categorical(logits=limit.mean).entropy().item()
    assert effects[3].entropy == pytest.approx(entropy, rel=1e-3)


# -- the assumptions --------------------------------------------------------------------------------------------------


def made_states(hidden, n_texts):
    rows, tokens = len(hidden), len(hidden) // n_texts
    place = torch.arange(rows)
    return TokenStates({3: hidden}, place // tokens, place % tokens, place)


def noise_states(seed, d=8, n_texts=40, tokens=26):
    """Frozen representations, and steered ones that are c u plus noise of variance 4 that knows nothing of them."""
    generator = torch.Generator().manual_seed(seed)
    before, noise = (torch.randn(n_texts * tokens, d, generator=generator) for _ in range(2))
    u = torch.rand(d, generator=generator)
    return made_states(before, n_texts), made_states(50 * u / u.norm() + 2 * noise, n_texts), u


def test_residual_of_noise_as_the_proposition_assumes_it():
    before, after, u = noise_states(0)
    residual = measured_residual(before, after, 3, u)
    assert residual.coefficient == pytest.approx(50, abs=0.3)
    assert residual.eta == pytest.approx(4, rel=0.1)
    assert residual.relative_norm == pytest.approx(2 * math.sqrt(8) / 50, rel=0.1)
    assert residual.mean_share < 0.01
    assert residual.along_direction == pytest.approx(1 / 8, abs=0.03)
    assert residual.effective_dimensions == pytest.approx(8, rel=0.05)
    assert residual.context_share < 0.05
    assert list(residual.cosine_by_position) == list(range(26))
    assert min(residual.cosine_by_position.values()) > 0.95


def test_residual_of_everything_it_excludes():
    """A shifted mean, one direction only, and fully determined by the text."""
    before, _, u = noise_states(1)
    along = torch.zeros(8)
    along[0] = 1
    hidden = 50 * u / u.norm() + before.hidden[3][:, :1] * along + 3 * torch.eye(8)[1]
    residual = measured_residual(before, made_states(hidden, 40), 3, u)
    assert residual.effective_dimensions == pytest.approx(1, abs=1e-3)
    assert residual.mean_share > 0.5
    assert residual.context_share > 0.99


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_residual_does_not_depend_on_the_basis(seed):
    before, after, u = noise_states(seed)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)))
    turned = [made_states(states.hidden[3] @ turn, 40) for states in (before, after)]
    one, other = measured_residual(before, after, 3, u), measured_residual(*turned, 3, u @ turn)
    for name in ("coefficient", "eta", "relative_norm", "along_direction", "effective_dimensions"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3), name
    assert other.context_share == pytest.approx(one.context_share, abs=1e-3)


def test_residual_needs_the_same_tokens_and_two_texts():
    before, after, u = noise_states(0)
    other = TokenStates(after.hidden, after.text, after.position, after.token + 1)
    with pytest.raises(RmuLabError, match="not of the same tokens"):
        measured_residual(before, other, 3, u)
    with pytest.raises(RmuLabError, match="at least two"):
        measured_residual(made_states(before.hidden[3], 1), made_states(after.hidden[3], 1), 3, u)


# -- noise sensitivity and the optimal coefficient ----------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_noise_sensitivity_where_it_is_known(family, tokenizer):
    """At the block itself Phi is the noise's share; twice the noise gives four times it."""
    model, texts = tiny_model(family), made_up_texts(5, seed=3)
    setting = {"layer": 1, "to_layers": [1, 2, 4]}
    phi = noise_sensitivity(model, tokenizer, texts, **setting, noise=0.3, batch_size=5)
    assert phi.shape == (3, 5) and (phi > 0).all()
    states = token_states(model, tokenizer, texts, [1])
    for index in range(5):
        hidden = states.hidden[1][states.counted & (states.text == index)]
        assert phi[0, index].item() == pytest.approx(len(hidden) * 0.3**2 / hidden.square().sum().item(), rel=1e-4)
    double = noise_sensitivity(model, tokenizer, texts, **setting, noise=0.6, batch_size=5)
    torch.testing.assert_close(double[0], 4 * phi[0], rtol=1e-3, atol=1e-9)
    relative = noise_sensitivity(model, tokenizer, texts, **setting, noise=0.1, relative=True)
    torch.testing.assert_close(relative[0], torch.full((5,), 0.01), rtol=1e-3, atol=1e-9)
    assert noise_sensitivity(model, tokenizer, texts, **setting, noise=0.0).abs().max() == 0


@pytest.mark.parametrize("noise", [{"noise": 2.0}, {"noise": 0.3, "relative": True}])
def test_noise_sensitivity_in_bfloat16(noise, tokenizer):
    """The same as in float32, up to the rounding of hidden states."""
    texts, setting = made_up_texts(5, seed=3), {"layer": 1, "to_layers": [1, 3], **noise}
    exact, rounded = (
        noise_sensitivity(tiny_model("llama").to(dtype), tokenizer, texts, **setting)
        for dtype in (torch.float32, torch.bfloat16)
    )
    torch.testing.assert_close(rounded, exact, rtol=0.2, atol=0)


def test_noise_sensitivity_equals_a_plain_recomputation(tokenizer):
    model, text = tiny_model("llama").double(), made_up_texts(1, seed=3)
    phi = noise_sensitivity(model, tokenizer, text, layer=2, to_layers=[3], noise=0.2, relative=True, seed=4)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    hidden = model(ids, output_hidden_states=True).hidden_states[3][0]
    xi = torch.randn(1, *hidden.shape, generator=torch_generator(4, "noise whose growth is measured"))[0].double()
    noisy = hidden + 0.2 * hidden.norm(dim=-1, keepdim=True) * xi / xi.norm(dim=-1, keepdim=True)
    noisy[0] = hidden[0]
    positions = model.model.rotary_emb(hidden[None], torch.arange(len(hidden))[None])
    clean, moved = (decoder_blocks(model)[3](h[None], position_embeddings=positions)[0, 1:] for h in (hidden, noisy))
    assert phi.item() == pytest.approx(((moved - clean).square().sum() / clean.square().sum()).item(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_optimal_coefficient_of_the_identity_is_the_projection(seed, tokenizer):
    """With J = I, c* = u · (h - eps) (`paper.md` item 13)."""
    generator = torch.Generator().manual_seed(seed)
    h, eps, u = (torch.randn(D, generator=generator) for _ in range(3))
    found = optimal_coefficient(
        tiny_model("llama"), tokenizer, TEXT, layer=2, to_layer=2, direction=u, representation=h, residual=eps
    )
    assert found.value == pytest.approx((u @ (h - eps) / u.norm()).item(), abs=1e-4)


@pytest.mark.parametrize("to_layer", [4, None])
def test_optimal_coefficient_minimises_the_first_order_change(to_layer, tokenizer):
    """Against least squares with J u and J h from finite differences of the whole model."""
    model = tiny_model("llama").double()
    h = 2 * torch.randn(D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = optimal_coefficient(model, tokenizer, TEXT, layer=1, to_layer=to_layer, direction=U, representation=h)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]

    def output(v):
        put = lambda hidden: torch.cat([hidden[:, :1], v.expand(1, hidden.shape[1] - 1, D)], dim=1)  # noqa: E731
        with edited_output(model, 1, put), torch.no_grad():
            states = model(ids, output_hidden_states=True)
            if to_layer is None:
                return states.hidden_states[-1][0, 1:].flatten()
        seen = []
        handle = decoder_blocks(model)[to_layer].register_forward_hook(lambda _b, _a, out: seen.append(out))
        with edited_output(model, 1, put), torch.no_grad():
            model(ids)
        handle.remove()
        return seen[0][0, 1:].flatten()

    of_u, of_h = ((output(h + 1e-3 * v) - output(h - 1e-3 * v)) / 2e-3 for v in (U, h))
    expected = torch.linalg.lstsq(of_u[:, None], of_h[:, None]).solution.item()
    assert found.value == pytest.approx(expected, rel=5e-3)  # its norms compute in float32
    assert found.value == pytest.approx(found.ratio * found.cosine)


# -- the real model -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_first_order_on_smollm2_at_layer_7(smollm2):
    """Variances within 10% at eta = 1 (the issue's bar), and the deviation falls with c (`paper.md` item 11)."""
    model, tokenizer = smollm2
    u = torch.rand(576, generator=torch.Generator().manual_seed(0))
    text = "A cold is caused by a virus that"
    (small,) = first_order_errors(model, tokenizer, text, layer=7, coefficient=570.0, direction=u, etas=[1.0], n=64)
    assert small.variance_interval[0] > 0.9 and small.variance_interval[1] < 1.1
    effects = coefficient_effects(model, tokenizer, text, layer=7, coefficients=[100, 1000, 10_000], direction=u, n=16)
    deviations = [effect.deviation for effect in effects]
    assert deviations == sorted(deviations, reverse=True)


# -- narrow types, offsets and lengths --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_numbers_of_16_bit_models_are_near_those_in_float32(dtype, tokenizer):
    """The weights are those of the 16-bit model in both, so only its forward passes round."""
    narrow = tiny_model("gemma3").to(dtype)  # its norms compute in float32
    wide = tiny_model("gemma3").to(dtype).float()
    setting = {"layer": 2, "coefficient": 3.0, "direction": U.float()}
    predicted, expected = (predicted_logits(each, tokenizer, TEXT, **setting, eta=0.4) for each in (narrow, wide))
    assert predicted.factor.dtype == predicted.jacobian.dtype == torch.float32
    for name in ("mean", "variances", "centred_variances", "eigenvalues"):
        ours, theirs = getattr(predicted, name), getattr(expected, name)
        assert (ours - theirs).norm() < 0.1 * theirs.norm(), name
    drawn, others = (simulated_logits(each, tokenizer, TEXT, **setting, eta=0.4, n=24) for each in (narrow, wide))
    for name in ("mean", "variances", "centred_variances"):
        ours, theirs = getattr(drawn, name), getattr(others, name)
        assert (ours - theirs).norm() < 0.1 * theirs.norm(), name
    assert drawn.of([3, 5]).shape == (24, 2)
    assert compare(predicted, drawn, [3]).variance_ratio == pytest.approx(compare(expected, others).variance_ratio, rel=0.1)
    assert predicted.samples(4).max_logits().isfinite().all()
    (error,) = first_order_errors(narrow, tokenizer, TEXT, **setting, etas=[0.1], n=24)
    assert math.isfinite(error.variance_ratio)
    (effect,) = coefficient_effects(narrow, tokenizer, TEXT, layer=2, coefficients=[3.0], direction=U.float(), n=8)
    assert math.isfinite(effect.deviation)
    ours, theirs = (
        noise_sensitivity(each, tokenizer, [TEXT], layer=1, to_layers=[3], noise=2.0, relative=True)
        for each in (narrow, wide)
    )
    torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0)
    best, other = (
        optimal_coefficient(each, tokenizer, TEXT, layer=1, to_layer=3, direction=U, representation=3 * U.flip(0))
        for each in (narrow, wide)
    )
    assert best.ratio == pytest.approx(other.ratio, rel=0.1) and best.cosine == pytest.approx(other.cosine, abs=0.1)


def test_a_direction_without_length_is_refused(tokenizer):
    model, nothing = tiny_model("llama"), torch.zeros(D)
    of_one = {"layer": 2, "direction": nothing}
    for call in (
        lambda: predicted_logits(model, tokenizer, TEXT, coefficient=1, eta=1, **of_one),
        lambda: simulated_logits(model, tokenizer, TEXT, coefficient=1, eta=1, n=2, **of_one),
        lambda: optimal_coefficient(model, tokenizer, TEXT, to_layer=3, representation=U, **of_one),
    ):
        with pytest.raises(RmuLabError, match=r"direction has the length 0\.0"):
            call()


def test_models_that_say_nothing_of_positions(tokenizer):
    model = of_kind("bloom", n_layer=5, n_head=4, max_position_embeddings=None)  # ALiBi
    assert not hasattr(model.config, "max_position_embeddings")
    drawn = simulated_logits(model, tokenizer, TEXT, layer=2, coefficient=1.0, direction=U.float(), eta=0.0, n=2)
    expected = whole_model_logits(model, tokenizer, 2, U.float().expand(n_steered(tokenizer), D))
    torch.testing.assert_close(drawn.mean, expected.detach(), rtol=1e-4, atol=1e-4)
    with pytest.raises(RmuLabError, match="but the model has 256 positions"):
        noise_sensitivity(tiny_model("gpt2"), tokenizer, [TEXT], layer=1, to_layers=[3], noise=1.0, max_length=300)


def test_theory_is_without_dropout_and_of_what_is_inside(tokenizer):
    still, moving = tiny_model("gpt2"), tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train()
    compiled = torch.compile(tiny_model("gpt2"), backend="eager")
    setting = {"layer": 1, "direction": U.float()}
    for model in (moving, compiled):
        for measure in (
            lambda each: noise_sensitivity(each, tokenizer, [TEXT], layer=1, to_layers=[3], noise=2.0),
            lambda each: simulated_logits(each, tokenizer, TEXT, coefficient=3.0, eta=0.1, n=2, **setting).readouts,
            lambda each: torch.tensor(
                optimal_coefficient(each, tokenizer, TEXT, to_layer=3, representation=U.float().flip(0), **setting).value
            ),
        ):
            torch.testing.assert_close(measure(model), measure(still))
    assert moving.training

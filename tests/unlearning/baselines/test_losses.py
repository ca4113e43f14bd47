"""Losses on cases whose answer is known: signs, limits, hand-made numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from rmu_lab.corpora import TokenBatch
from rmu_lab.unlearning.baselines import LLMU, NPO, SCRUB, GradDiff, GradientAscent, SimNPO
from rmu_lab.unlearning.baselines.llmu import mismatched
from rmu_lab.unlearning.objectives import (
    ScoredBatch,
    divergence,
    log_probabilities,
    next_token_loss,
    npo_loss,
    simnpo_loss,
    targets_of,
)

TRAINED = [GradientAscent(), GradDiff(), NPO(), SimNPO(), LLMU(), SCRUB()]


def scored_batch(seed=0, texts=3, tokens=5, vocabulary=7):
    """Random logits, frozen ones and targets, the last text padded; the logits ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    logits, frozen = torch.randn(2, texts, tokens, vocabulary, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (texts, tokens), generator=generator)
    scored = torch.ones(texts, tokens, dtype=torch.bool)
    scored[-1, -2:] = False
    return ScoredBatch(logits.requires_grad_(), targets, scored, frozen)


def gradient(config, role, given):
    (found,) = torch.autograd.grad(config.loss(role, given), given.logits)
    return found


def of_text(given, logits=None):
    return (log_probabilities(given.logits if logits is None else logits, given.targets) * given.scored).sum(dim=1)


def test_next_token_loss_is_cross_entropy_without_padding():
    given = scored_batch()
    expected = cross_entropy(given.logits[given.scored], given.targets[given.scored])
    assert next_token_loss(given.logits, given.targets, given.scored).item() == pytest.approx(expected.item())


def test_targets_leave_out_first_tokens_and_padding():
    batch = TokenBatch(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    targets, scored = targets_of(batch)
    assert targets.tolist() == [[6, 7], [9, 0]] and scored.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.method)
def test_a_small_step_down_the_forget_loss_lowers_the_probability_of_the_text(config):
    given = scored_batch()
    before = of_text(given).sum()
    moved = given.logits - 1e-3 * gradient(config, "forget", given)
    if isinstance(config, SCRUB):  # it leaves the teacher, wherever the text goes
        assert divergence(given.reference, moved, given.scored) > divergence(given.reference, given.logits, given.scored)
    else:
        assert of_text(given, moved).sum() < before


@pytest.mark.parametrize("config", [GradDiff(), NPO(), SimNPO()], ids=lambda config: config.method)
def test_retain_loss_is_descent_with_its_weight(config):
    given = scored_batch()
    expected = torch.autograd.grad(next_token_loss(given.logits, given.targets, given.scored), given.logits)[0]
    assert torch.allclose(gradient(config, "retain", given), expected)
    heavier = type(config)(alpha=3)
    assert torch.allclose(gradient(heavier, "retain", given), 3 * expected)


@pytest.mark.parametrize("kind", [GradDiff, NPO, SimNPO])
def test_retain_batches_are_left_out_without_weight(kind):
    assert kind().updates(0) == (("forget", "retain"),) and kind(alpha=0).updates(0) == (("forget",),)


def test_grad_diff_is_ascent_on_forget_texts():
    given = scored_batch()
    assert torch.equal(gradient(GradDiff(), "forget", given), gradient(GradientAscent(), "forget", given))


def test_npo_becomes_gradient_ascent_as_beta_goes_to_zero():
    """Up to the constant (2 / beta) log 2; ascent here sums over a text's tokens and averages over texts."""
    given, beta = scored_batch(), 1e-7
    ratio = of_text(given) - of_text(given, given.reference)
    expected = torch.autograd.grad(ratio.mean(), given.logits)[0]
    assert torch.allclose(gradient(NPO(beta=beta), "forget", given), expected, rtol=1e-5)
    value = npo_loss(ratio.detach(), torch.zeros(3), beta=1e-3).item()
    assert value - 2 / 1e-3 * math.log(2) == pytest.approx(ratio.mean().item(), abs=1e-2)


@given(st.floats(-30, 30), st.floats(0.01, 3))
def test_npo_weighs_the_gradient_of_ascent(ratio, beta):
    log_p = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    npo_loss(log_p, torch.zeros(1), beta).backward()
    assert log_p.grad.item() == pytest.approx(2 * math.exp(beta * ratio) / (math.exp(beta * ratio) + 1), rel=1e-6)


def test_npo_starts_with_weight_one_and_is_bounded_below():
    at_start = torch.zeros(2, requires_grad=True)
    npo_loss(at_start, torch.zeros(2), 0.1).backward()
    assert at_start.grad.tolist() == [0.5, 0.5]  # the mean of two texts
    assert npo_loss(torch.tensor([-1e6]), torch.zeros(1), 0.1) >= 0


def test_simnpo_divides_by_length_and_gamma_shifts():
    beta, gamma = 2.5, 0.7
    short, long = (simnpo_loss(torch.tensor([-3.0 * n]), torch.tensor([n]), beta, gamma) for n in (2, 20))
    assert short == pytest.approx(long)  # the same probability a token
    assert short == pytest.approx(2 / beta * math.log(1 + math.exp(-(beta * 3.0 - gamma))))
    # A margin gamma is a text that is gamma / beta nats a token likelier.
    likelier = simnpo_loss(torch.tensor([-3.0 * 2 + 2 * gamma / beta]), torch.tensor([2]), beta, 0.0)
    assert likelier == pytest.approx(short)


def test_simnpo_becomes_gradient_ascent_of_the_mean_as_beta_goes_to_zero():
    given = scored_batch()
    expected = torch.autograd.grad((of_text(given) / given.scored.sum(dim=1)).mean(), given.logits)[0]
    assert torch.allclose(gradient(SimNPO(beta=1e-7), "forget", given), expected, rtol=1e-5)


def test_divergence_is_zero_at_the_start_and_the_known_number_elsewhere():
    given = scored_batch()
    assert divergence(given.reference, given.reference, given.scored).item() == pytest.approx(0, abs=1e-12)
    flat = torch.zeros(1, 1, 4)
    sure = torch.tensor([[[0.0, -1e9, -1e9, -1e9]]])
    assert divergence(sure, flat, torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(math.log(4))
    mine = ScoredBatch(given.reference.clone().requires_grad_(), given.targets, given.scored, given.reference)
    for config, role in ((LLMU(), "retain"), (SCRUB(gamma=0), "retain"), (SCRUB(), "forget")):
        assert config.loss(role, mine).item() == pytest.approx(0, abs=1e-12)
        assert gradient(config, role, mine).abs().max() < 1e-12


def test_scrub_alternates_and_then_only_descends():
    config, given = SCRUB(max_steps=2, alpha=0.5, gamma=3), scored_batch()
    assert [config.updates(step) for step in range(3)] == [(("forget",), ("retain",))] * 2 + [(("retain",),)]
    far = divergence(given.reference, given.logits, given.scored)
    assert config.loss("forget", given) == -far < 0
    expected = 0.5 * far + 3 * next_token_loss(given.logits, given.targets, given.scored)
    assert config.loss("retain", given).item() == pytest.approx(expected.item())


def test_llmu_weighs_its_three_parts():
    config, given = LLMU(forget_weight=2, mismatch_weight=3, alpha=5), scored_batch()
    cross_entropy = next_token_loss(given.logits, given.targets, given.scored)
    assert config.loss("forget", given) == -2 * cross_entropy
    assert config.loss("mismatched", given) == 3 * cross_entropy
    assert config.loss("retain", given) == 5 * divergence(given.reference, given.logits, given.scored)


def test_mismatched_scores_the_retain_half_only():
    forget = TokenBatch(torch.arange(1, 13).view(2, 6), torch.ones(2, 6, dtype=torch.long))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    retain = TokenBatch(torch.arange(21, 31).view(2, 5), mask)
    batch, targets, scored = mismatched(forget, retain)
    assert targets.equal(batch.input_ids[:, 1:])
    assert batch.input_ids.tolist() == [[1, 2, 23, 24, 25], [7, 8, 28, 29, 30]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert scored.tolist() == [[False, True, True, True], [False, True, True, False]]
    assert retain.attention_mask.equal(mask)

from dataclasses import replace

import pytest
import torch

from rmu_lab import RmuLabError, accuracy, token_states
from rmu_lab.activations import edited_output
from rmu_lab.attacks import ablate
from rmu_lab.attacks.ablate import Shift, find_shift
from rmu_lab.randomness import torch_generator
from tests.attacks.conftest import FORGET, QUESTIONS, QUIET, RETAIN, made_up_questions
from tests.conftest import same_weights, weights_of

SETTINGS = {"n_random": 2, "max_length": 16}


@pytest.fixture
def found(model, tokenizer, result):
    return find_shift(model, tokenizer, result, FORGET, 3, 16)


def test_the_shift_is_that_of_the_means(found, model, tokenizer, result):
    def mean():
        states = token_states(model, tokenizer, FORGET, [3], max_length=16)
        return states.hidden[3][states.position > 0].mean(dim=0)

    base = mean()
    with result.applied(model):
        expected = mean() - base
    torch.testing.assert_close(found.length * found.direction, expected, rtol=1e-4, atol=1e-4)
    assert found.direction.norm() == pytest.approx(1)


def test_exactly_the_component_is_set(found):
    hidden = 5 * torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    u = found.direction
    after = found.without(u)(hidden)
    torch.testing.assert_close(after @ u, (found.kept_mean @ u).expand(2, 7), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        after - (after @ u)[..., None] * u, hidden - (hidden @ u)[..., None] * u, rtol=1e-4, atol=1e-4
    )
    assert torch.allclose(found.without(u)(after), after, atol=1e-4)


def test_matched_norm_takes_away_as_much_along_another_direction(found):
    hidden = 5 * torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    other = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(1)), dim=0)
    ours, theirs = (found.without(found.direction, **how)(hidden) - hidden for how in ({}, {"along": other}))
    torch.testing.assert_close(ours.norm(dim=-1), theirs.norm(dim=-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((theirs @ other).abs(), theirs.norm(dim=-1), rtol=1e-4, atol=1e-4)


def test_attack_and_controls(found, subject, model, tokenizer, result):
    before = weights_of(model)
    recovery = ablate(subject, QUIET, **SETTINGS)
    assert same_weights(model, before) and not any(module._forward_hooks for module in model.modules())
    with result.applied(model):
        start = accuracy(model, tokenizer, QUESTIONS, progress=False)
        with edited_output(model, 3, found.without(found.direction)):
            assert recovery.attacked == accuracy(model, tokenizer, QUESTIONS, progress=False)
    assert recovery.start == start
    for ends in recovery.controls.values():
        assert ends[0] == start and len(ends) == 3
    details = recovery.details
    assert details["cosine"]["forget"] == pytest.approx(
        torch.cosine_similarity(result.directions["forget"], found.direction, dim=0).item(), abs=1e-5
    )
    assert details["component"][1] - details["component"][0] == pytest.approx(details["length"], rel=1e-4)
    again = ablate(subject, QUIET, **SETTINGS)
    assert again.controls == recovery.controls


@pytest.mark.parametrize("seed", [0, 1])
def test_the_controls_are_those_of_random_directions_written_out(seed, found, subject, model, tokenizer, result):
    """For each draw r of N(0, 1), scaled to length 1: the component along r is set, and along r goes what u_hat's would."""
    asked = made_up_questions(40, 5, "test")
    drawn = torch.randn(2, 32, generator=torch_generator(seed, "random directions to ablate"))
    u, base = found.direction, found.kept_mean
    edits = [lambda h: h - ((h - base) @ u)[..., None] * u]
    for r in drawn / drawn.norm(dim=1, keepdim=True):
        edits += [lambda h, r=r: h - ((h - base) @ r)[..., None] * r, lambda h, r=r: h - ((h - base) @ u)[..., None] * r]
    with result.applied(model):
        expected = [accuracy(model, tokenizer, asked, progress=False)]
        for edit in edits:
            with edited_output(model, 3, edit):
                expected.append(accuracy(model, tokenizer, asked, progress=False))
    start, attacked, random, matched, other_random, other_matched = expected
    assert len({score.predictions for score in expected}) == 6
    recovery = ablate(replace(subject, questions=asked), replace(QUIET, seed=seed), **SETTINGS)
    assert recovery.attacked == attacked
    assert recovery.controls == {
        "random direction": (start, random, other_random),
        "matched norm": (start, matched, other_matched),
    }


def test_an_edit_that_is_one_shift_is_undone_by_taking_it_out(model, tokenizer):
    """Where unlearning only adds a vector to h, the ablated component is all that differs."""
    u = torch.nn.functional.normalize(torch.rand(32, generator=torch.Generator().manual_seed(0)), dim=0)
    base = torch.randn(32, generator=torch.Generator().manual_seed(1))
    shift = Shift(base, base + 9 * u)
    hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        shift.without(shift.direction)(hidden + 9 * u), shift.without(shift.direction)(hidden), rtol=1e-4, atol=1e-4
    )


def test_without_the_base_model_the_topic_is_compared_with_other_texts(subject, model, tokenizer, result):
    recovery = ablate(subject, QUIET, against="unrelated texts", **SETTINGS)
    with result.applied(model):
        means = []
        for texts in (RETAIN, FORGET):
            states = token_states(model, tokenizer, texts, [3], max_length=16)
            means.append(states.hidden[3][states.position > 0].mean(dim=0))
        shift = Shift(*means)
        with edited_output(model, 3, shift.without(shift.direction)):
            expected = accuracy(model, tokenizer, QUESTIONS, progress=False)
    assert recovery.attacked == expected and recovery.details["against"] == "unrelated texts"
    assert recovery.details["length"] == pytest.approx(shift.length, rel=1e-4)


def test_another_layer_and_fewer_texts(subject, model, tokenizer, result):
    found = ablate(replace(subject, layer=4), QUIET, max_texts=5, **SETTINGS)
    assert (found.details["layer"], found.details["texts"]) == (4, 5)
    shift = find_shift(model, tokenizer, result, FORGET[:5], 4, 16)
    assert found.details["length"] == pytest.approx(shift.length)


def test_errors_leave_the_model_as_it_was(subject, model, monkeypatch):
    before = weights_of(model)
    for material, settings, message in (
        ({"layer": 0}, {}, "changes nothing after block 0"),
        ({"layer": 9}, {}, "layer is 9"),
        ({}, {"n_random": 0}, "n_random is 0"),
        ({}, {"max_texts": 0}, "max_texts is 0"),
        ({}, {"against": "nothing"}, "against is 'nothing'; use one of 'base model', 'unrelated texts'"),
        ({"retain": ()}, {"against": "unrelated texts"}, "No unrelated texts were given"),
        ({"retain": FORGET}, {"against": "unrelated texts"}, "have the same mean"),
        ({"forget": ()}, {}, r"No texts of the topic were given; give it as Subject\(\.\.\., forget="),
    ):
        with pytest.raises(RmuLabError, match=message):
            ablate(replace(subject, **material), QUIET, **SETTINGS | settings)
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ablate(subject, QUIET, **SETTINGS)
    assert same_weights(model, before) and not any(module._forward_hooks for module in model.modules())

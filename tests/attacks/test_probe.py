"""A probe: states as of plain passes, a fact that is planted is found, and one that is not there is not."""

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError
from rmu_lab.activations import captured
from rmu_lab.attacks import probe
from rmu_lab.metrics.probing import chosen_probe, option_states, ridge_weights
from tests.attacks.conftest import DEV, QUESTIONS, QUIET, made_up_questions
from tests.conftest import same_weights, tiny_model, weights_of


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_states_are_those_of_plain_passes(family, tokenizer):
    model = tiny_model(family)
    found = option_states(model, tokenizer, QUESTIONS[:3], [1, 3], batch_size=2)
    for at, row in enumerate(QUESTIONS[:3]):
        states = []
        for choice in row["choices"]:
            ids = tokenizer(f"Question: {row['question']}\nAnswer: {choice}", return_tensors="pt")["input_ids"]
            with captured(model, [1, 3]) as seen, torch.no_grad():
                model(ids)
            states.append([seen[layer][0, -1] for layer in (1, 3)])
        for place, layer in enumerate((1, 3)):
            plain = torch.stack([each[place] for each in states])
            torch.testing.assert_close(found[layer][at], plain - plain.mean(dim=0), rtol=1e-3, atol=1e-4)


def planted(n, seed, strength):
    """Options whose right one is moved along one direction that is the same for all questions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator).tolist()
    states = [torch.randn(4, 64, generator=generator) for _ in range(n)]
    for state, label in zip(states, labels, strict=True):
        state[label, 5] += strength
    return [state - state.mean(dim=0) for state in states], labels


def test_what_is_planted_is_found_at_its_layer_and_what_is_not_is_not():
    states, labels = planted(120, 0, 6.0)
    nothing, _ = planted(120, 1, 0.0)
    layer, _, shares = chosen_probe({3: nothing, 9: states}, labels)
    assert layer == 9 and shares[9] > 0.9 and shares[3] < 0.45
    weights = ridge_weights(states, labels, 0.1)
    assert int(weights.abs().argmax()) == 5
    fresh, answers = planted(200, 2, 6.0)
    assert sum(int((one @ weights).argmax()) == at for one, at in zip(fresh, answers, strict=True)) > 180


def test_ridge_is_the_closed_form_in_the_other_space():
    states, labels = planted(20, 3, 1.0)
    x = torch.cat(states).double()
    y = torch.cat([torch.nn.functional.one_hot(torch.tensor(at), 4).double() - 0.25 for at in labels])
    penalty = 0.5 * len(x) * x.square().mean()
    wanted = torch.linalg.solve(x.T @ x + penalty * torch.eye(64, dtype=x.dtype), x.T @ y)
    torch.testing.assert_close(ridge_weights(states, labels, 0.5), wanted.float(), rtol=1e-4, atol=1e-6)


def test_a_model_that_knows_nothing_is_not_recovered(subject, model):
    """Its probe chooses at chance, and as well as the controls do."""
    before = weights_of(model)
    more = dataclasses.replace(
        subject, questions=made_up_questions(60, 21, "a"), dev_questions=made_up_questions(40, 22, "b")
    )
    found = probe(more, QUIET)
    assert same_weights(model, before) and list(found.controls) == ["chance labels", "base model"]
    assert found.attacked.interval[0] < 1 / 3 < found.attacked.interval[1]
    low, high = found.difference("chance labels").interval
    assert low < 0 < high
    assert found.details["layer"] in (1, 3, 4) and set(found.details["dev_accuracy"]) == {"1", "3", "4"}


def test_what_a_probe_needs(subject):
    for changes, said in (
        ({"dev_questions": ()}, "No dev questions"),
        ({"dev_questions": DEV[:3]}, "There are 3 dev questions"),
    ):
        with pytest.raises(RmuLabError, match=said):
            probe(dataclasses.replace(subject, **changes), QUIET)

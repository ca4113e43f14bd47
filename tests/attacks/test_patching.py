"""Activation patching: by hand on single questions, and what must hold at the last layer."""

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError
from rmu_lab.activations import captured, edited_output
from rmu_lab.attacks import patch
from tests.attacks.conftest import QUESTIONS
from tests.conftest import same_weights, weights_of


@pytest.fixture
def found(model, tokenizer, result):
    return patch(model, tokenizer, result, QUESTIONS[:4], [2, 3, 4])


def test_patched_by_hand_one_question_at_a_time(found, model, tokenizer, result):
    before = weights_of(model)
    prompts = [tokenizer(f"Question: {row['question']}\nAnswer:", return_tensors="pt")["input_ids"] for row in QUESTIONS[:4]]
    states = []
    for ids in prompts:
        with captured(model, [3]) as seen, torch.no_grad():
            model(ids)
        states.append(seen[3][0, -1].clone())
    for at, (row, ids) in enumerate(zip(QUESTIONS[:4], prompts, strict=True)):
        whole = tokenizer(f"Question: {row['question']}\nAnswer: {row['choices'][row['answer']]}")["input_ids"]
        token = whole[ids.shape[1]]

        def put(hidden, state):
            hidden = hidden.clone()
            hidden[0, -1] = state
            return hidden

        with result.applied(model), torch.no_grad():
            plain = model(ids).logits[0, -1].log_softmax(-1)[token]
            torch.testing.assert_close(found.unlearned[at], plain, rtol=1e-4, atol=1e-4)
            for kept, state in ((found.patched, states[at]), (found.control, states[at - 1])):
                with edited_output(model, 3, lambda hidden, state=state: put(hidden, state)):
                    patched = model(ids).logits[0, -1].log_softmax(-1)[token]
                torch.testing.assert_close(kept[3][at], patched, rtol=1e-4, atol=1e-4)
    assert same_weights(model, before)


def test_at_the_last_layer_everything_is_back(found):
    """The unembedding sees nothing but this state; another question's gives that question's answer."""
    torch.testing.assert_close(found.patched[4], found.base)
    torch.testing.assert_close(found.restored(4), torch.ones(4), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found.control[4], found.base, atol=1e-3)


def test_an_edit_that_does_nothing_leaves_nothing_to_restore(model, tokenizer, result):
    still = dataclasses.replace(result, edit={})
    found = patch(model, tokenizer, still, QUESTIONS[:3], [1])
    torch.testing.assert_close(found.patched[1], found.base)


def test_what_cannot_be_patched(model, tokenizer, result):
    for rows, layers, said in ((QUESTIONS[:1], [1], "There are 1 questions"), (QUESTIONS, [7], "layers has 7")):
        with pytest.raises(RmuLabError, match=said):
            patch(model, tokenizer, result, rows, layers)

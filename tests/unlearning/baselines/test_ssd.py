import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab.activations import frozen
from rmu_lab.corpora import token_batches
from rmu_lab.unlearning.baselines.ssd import factors, importances
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of


def test_dampening_on_hand_made_importances():
    forget = torch.tensor([20.0, 20.0, 20.0, 1.0, 0.0, 5.0])
    retain = torch.tensor([1.0, 2.0, 4.0, 1.0, 0.0, 0.0])
    #   above 10 times: dampened; exactly 10 times, 5 times, once, both nothing: left; forget only: to zero
    found = factors(forget, retain, threshold=10, dampening=1)
    assert found.tolist() == [pytest.approx(1 / 20), 1, 1, 1, 1, 0]
    assert factors(forget, retain, threshold=4.9, dampening=2).tolist() == pytest.approx([0.1, 0.2, 0.4, 1, 1, 0])


def test_a_large_dampening_never_makes_an_entry_larger():
    assert factors(torch.tensor([20.0]), torch.tensor([1.0]), 10, 1000).tolist() == [1]


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 100), st.floats(0.01, 10))
def test_factors_lie_between_zero_and_one(forget, retain, threshold, dampening):
    found = factors(torch.tensor([forget]), torch.tensor([retain]), threshold, dampening).item()
    assert 0 <= found <= 1
    assert found == 1 or forget > 0


def test_importances_are_mean_squares_of_each_texts_gradient(tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    texts = made_up_texts(3, seed=5)
    batches = token_batches(tokenizer, texts, 1, 16)
    name = "model.layers.1.mlp.down_proj.weight"
    with frozen(model):
        found = importances(model, [name], batches, progress=False)[name]
        assert same_weights(model, before) and all(p.grad is None and not p.requires_grad for p in model.parameters())
    expected = torch.zeros_like(found)
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :16]
        model.zero_grad()
        (model(ids, labels=ids).loss * (ids.shape[1] - 1)).backward()
        expected += model.get_parameter(name).grad.square() / 3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-8)

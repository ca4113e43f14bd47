import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, accuracy, decoder_blocks
from rmu_lab.attacks import relearn
from rmu_lab.attacks.relearn import fine_tuned
from rmu_lab.corpora import token_batches
from tests.attacks.conftest import QUESTIONS, QUIET, RETAIN
from tests.conftest import FAMILIES, same_weights, tiny_model, weights_of

SETTINGS = {"steps": 5, "batch_size": 2, "lr": 3e-3, "max_length": 16}


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_learns_and_everything_is_put_back(family, tokenizer):
    model = tiny_model(family)
    before, blocks = weights_of(model), {id(parameter) for parameter in decoder_blocks(model).parameters()}
    model.get_input_embeddings().weight.requires_grad_(False)
    asked = [parameter.requires_grad for parameter in model.parameters()]
    batches = token_batches(tokenizer, RETAIN[:4], 4, 16) * 6
    with fine_tuned(model, batches, 3e-3, progress=False) as losses:
        assert losses[-1] < losses[0] and len(losses) == 6
        changed = {id(parameter) for name, parameter in model.named_parameters() if not parameter.equal(before[name])}
        assert changed == {id(p) for p in decoder_blocks(model).parameters() if p.ndim >= 2} <= blocks
    assert same_weights(model, before)
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for parameter in model.parameters()) and not model.training


def test_bfloat16_steps_are_not_lost(tokenizer):
    """Each of these steps is too small for bfloat16 to resolve; together they are not."""
    model = tiny_model("llama").to(torch.bfloat16)
    before = weights_of(model)
    with fine_tuned(model, token_batches(tokenizer, RETAIN[:4], 4, 16) * 20, 1e-4, progress=False):
        assert not same_weights(model, before)
        matrix = decoder_blocks(model)[2].mlp.down_proj.weight
        name = next(name for name, parameter in model.named_parameters() if parameter is matrix)
        assert (matrix - before[name]).abs().max() < 4e-3
        assert (matrix != before[name]).float().mean() > 0.5
    assert same_weights(model, before)


def test_loss_leaves_padding_out(model, tokenizer):
    (together,) = token_batches(tokenizer, RETAIN[:3], 3, 16)
    total, count = 0.0, 0
    with torch.no_grad():
        for text in RETAIN[:3]:
            ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :16]
            n = ids.shape[1] - 1
            total, count = total + n * model(ids, labels=ids).loss.item(), count + n
    with fine_tuned(model, [together], 1e-4, progress=False) as losses:
        assert losses == pytest.approx([total / count], rel=1e-5)


def test_the_control_is_the_same_fine_tune_of_the_base(subject, model, tokenizer, result):
    before = weights_of(model)
    found = relearn(subject, QUIET, RETAIN, **SETTINGS)
    assert same_weights(model, before)
    still = dataclasses.replace(result, edit={})  # an edit that edits nothing
    on_base = relearn(dataclasses.replace(subject, result=still), QUIET, RETAIN, **SETTINGS)
    assert found.controls["base model"] == (on_base.start, on_base.attacked)
    assert found.details["losses"] != on_base.details["losses"]
    with result.applied(model):
        assert found.start == accuracy(model, tokenizer, QUESTIONS, progress=False)


def test_the_model_is_put_back_after_an_error(subject, model, tokenizer, monkeypatch):
    before = weights_of(model)
    for lr, message in ((1e30, "The loss is (nan|inf) at step"), (-1, "must be positive")):
        with pytest.raises(RmuLabError, match=message):
            relearn(subject, QUIET, RETAIN, **SETTINGS | {"lr": lr})
        assert same_weights(model, before)
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with (
        pytest.raises(ZeroDivisionError),
        fine_tuned(model, token_batches(tokenizer, RETAIN[:2], 2, 16), 1e-2, progress=False),
    ):
        accuracy(model, tokenizer, QUESTIONS)
    assert same_weights(model, before)


def test_ten_unrelated_texts_are_learned_by_default(subject):
    found = relearn(subject, QUIET, **SETTINGS)
    assert found == dataclasses.replace(relearn(subject, QUIET, RETAIN[:10], **SETTINGS), seconds=found.seconds)
    with pytest.raises(RmuLabError, match="No unrelated texts were given"):
        relearn(dataclasses.replace(subject, retain=()), QUIET)

"""Fine-tunes that are undone: what they train, and that stopping between steps changes nothing."""

import pytest
import torch

from rmu_lab import RmuLabError, decoder_blocks
from rmu_lab.attacks.fine_tune import LORA_RANK, fine_tuning
from rmu_lab.corpora import token_batches
from rmu_lab.errors import NotFiniteError
from tests.attacks.conftest import RETAIN
from tests.conftest import FAMILIES, same_weights, tiny_model, weights_of


def batches(tokenizer, n=4):
    return token_batches(tokenizer, RETAIN[:4], 4, 16) * n


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[3, 5, 7, 11]])).logits


def test_steps_taken_apart_are_the_steps_taken_together(model, tokenizer):
    """The optimiser goes on between calls."""
    with fine_tuning(model, 3e-3, progress=False) as learn:
        losses = learn(batches(tokenizer))
        together = weights_of(model)
    with fine_tuning(model, 3e-3, progress=False) as learn:
        apart = [loss for batch in batches(tokenizer) for loss in learn([batch])]
        assert same_weights(model, together) and apart == losses


def test_only_the_edited_parameters_move(model, tokenizer, result):
    before = weights_of(model)
    with fine_tuning(model, 3e-3, trained="edited", edited=list(result.edit), progress=False) as learn:
        learn(batches(tokenizer))
        moved = {name for name, parameter in model.named_parameters() if not parameter.equal(before[name])}
        assert moved == set(result.edit)
    assert same_weights(model, before)
    for edited, said in (([], "No edited parameters"), (["model.nothing"], "no parameter 'model.nothing'")):
        with pytest.raises(RmuLabError, match=said), fine_tuning(model, 1e-3, trained="edited", edited=edited):
            pass


@pytest.mark.parametrize("family", FAMILIES)
def test_low_rank_additions_learn_and_are_taken_out(family, tokenizer):
    model = tiny_model(family)
    before, kinds, logits = weights_of(model), [type(module) for module in model.modules()], logits_of(model)
    asked = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    with fine_tuning(model, 3e-3, trained="lora", progress=False) as learn:
        torch.testing.assert_close(logits_of(model), logits)  # they begin as additions of nothing
        losses = learn(batches(tokenizer, 8))
        assert losses[-1] < losses[0] and not torch.allclose(logits_of(model), logits, atol=1e-3)
        ranks = {parameter.shape[0] for name, parameter in model.named_parameters() if "lora_A" in name}
        assert ranks == {LORA_RANK}
    assert torch.get_rng_state().equal(state)
    assert same_weights(model, before) and logits_of(model).equal(logits)
    assert [type(module) for module in model.modules()] == kinds
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert not hasattr(model, "peft_config")


def test_low_rank_additions_are_drawn_from_the_seed(model, tokenizer):
    found = []
    for seed in (0, 0, 1):
        with fine_tuning(model, 3e-3, trained="lora", seed=seed, progress=False) as learn:
            found.append(learn(batches(tokenizer)))
    assert found[0] == found[1] != found[2]


def test_what_low_rank_additions_learn_is_of_low_rank(model, tokenizer):
    layer = decoder_blocks(model)[2].mlp.down_proj
    with fine_tuning(model, 3e-2, trained="lora", progress=False) as learn:
        learn(batches(tokenizer))
        module = decoder_blocks(model)[2].mlp.down_proj
        change = module.lora_B["default"].weight @ module.lora_A["default"].weight
        assert change.norm() > 0 and torch.linalg.matrix_rank(change) <= LORA_RANK
    assert decoder_blocks(model)[2].mlp.down_proj is layer


@pytest.mark.parametrize("trained", ["all", "lora"])
def test_after_an_error_everything_is_put_back(trained, model, tokenizer):
    before = weights_of(model)
    with pytest.raises(NotFiniteError, match="lower lr"), fine_tuning(model, 1e30, trained=trained, progress=False) as learn:
        learn(batches(tokenizer))
    assert same_weights(model, before)
    assert not any("lora" in name for name, _ in model.named_parameters())

import pytest
import torch

from rmu_lab import decoder_blocks
from rmu_lab.activations import frozen, hidden_states, run_frozen, run_window
from rmu_lab.corpora import token_batches
from tests.conftest import FAMILIES, made_up_texts, same_weights, tiny_model, weights_of

WINDOW = range(1, 4)


def plain_outputs(model, batch):
    """Every block's output, from an ordinary whole forward pass."""
    outputs = []
    hooks = [
        block.register_forward_hook(lambda _block, _args, output: outputs.append(hidden_states(output)))
        for block in decoder_blocks(model)
    ]
    with torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stopping_and_replaying_equal_the_whole_model(family, side, tokenizer):
    model = tiny_model(family)
    batch = token_batches(tokenizer, made_up_texts(3, seed=2), 3, 40, padding_side=side)[0]
    outputs = plain_outputs(model, batch)
    passed = run_frozen(model, batch, WINDOW)
    assert passed.trunk.equal(outputs[0])
    assert passed.output.equal(outputs[3])
    assert passed.bytes == 2 * passed.trunk.numel() * 4
    torch.testing.assert_close(run_window(model, passed, WINDOW, {}), outputs[3])


@pytest.mark.parametrize("family", FAMILIES)
def test_edited_window_equals_edited_model(family, tokenizer):
    """Replacing a matrix for the replay gives what the whole model gives with that matrix written into it."""
    from rmu_lab.models import block_parameters

    model = tiny_model(family)
    before = weights_of(model)
    batch = token_batches(tokenizer, made_up_texts(3, seed=3), 3, 40)[0]
    passed = run_frozen(model, batch, WINDOW)
    (name,) = block_parameters(model, WINDOW, None)[2]
    target = decoder_blocks(model)[2].get_parameter(name)
    new = target.detach() * 1.5 + 0.01
    replayed = run_window(model, passed, WINDOW, {2: {name: new}})
    assert same_weights(model, before)
    with torch.no_grad():
        target.copy_(new)
    torch.testing.assert_close(replayed, plain_outputs(model, batch)[3])


def test_blocks_above_the_window_never_run(tokenizer):
    model = tiny_model("llama")
    decoder_blocks(model)[4].register_forward_pre_hook(lambda *_: pytest.fail("block 4 ran"))
    batch = token_batches(tokenizer, made_up_texts(2, seed=4), 2, 20)[0]
    run_frozen(model, batch, WINDOW)


def test_hooks_are_removed_even_after_an_error(tokenizer):
    model = tiny_model("llama")
    batch = token_batches(tokenizer, made_up_texts(2, seed=4), 2, 20)[0]
    broken = decoder_blocks(model)[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_frozen(model, batch, WINDOW)
    broken.remove()
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in decoder_blocks(model))


def test_frozen_puts_everything_back():
    model = tiny_model("llama").train()
    model.lm_head.weight.requires_grad_(False)
    decoder_blocks(model)[0].eval()
    with pytest.raises(RuntimeError), frozen(model):
        assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
        raise RuntimeError
    assert model.training and not decoder_blocks(model)[0].training
    assert not model.lm_head.weight.requires_grad and model.model.norm.weight.requires_grad

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, decoder_blocks, token_states
from rmu_lab.activations import captured, edited_output, frozen, hidden_states, map_above, run_frozen, run_window
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


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_outputs_are_those_of_the_whole_model(family, tokenizer):
    model = tiny_model(family)
    batch = token_batches(tokenizer, made_up_texts(3, seed=2), 3, 40)[0]
    outputs = plain_outputs(model, batch)
    with captured(model, [0, 3]) as seen, torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    assert list(seen) == [0, 3] and seen[0].equal(outputs[0]) and seen[3].equal(outputs[3])
    assert not any(block._forward_hooks for block in decoder_blocks(model))


def test_capturing_can_stop_after_the_last_block(tokenizer):
    model = tiny_model("llama")
    decoder_blocks(model)[3].register_forward_pre_hook(lambda *_: pytest.fail("block 3 ran"))
    batch = token_batches(tokenizer, made_up_texts(2, seed=4), 2, 20)[0]
    with captured(model, [1, 2], stop=True) as seen:
        model(input_ids=batch.input_ids)
        pytest.fail("the pass went on")
    assert sorted(seen) == [1, 2]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_edited_output_is_what_the_blocks_above_read(family, tokenizer):
    """Adding to a block's output equals adding to the next block's input; after the with block all is as before."""
    model = tiny_model(family)
    batch = token_batches(tokenizer, made_up_texts(3, seed=2), 3, 40)[0]
    noise = torch.randn(32, generator=torch.Generator().manual_seed(0))
    plain = plain_outputs(model, batch)
    with edited_output(model, 2, lambda hidden: hidden + noise):
        edited = plain_outputs(model, batch)
    passed = run_frozen(model, batch, range(3, 5))
    moved = dataclasses.replace(passed, trunk=passed.trunk + noise)
    torch.testing.assert_close(edited[4], run_window(model, moved, range(3, 5), {}))
    assert edited[1].equal(plain[1]) and not edited[4].allclose(plain[4])
    assert all(one.equal(other) for one, other in zip(plain_outputs(model, batch), plain, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_map_above_is_the_rest_of_the_model(family, tokenizer):
    model = tiny_model(family)
    batch = token_batches(tokenizer, made_up_texts(3, seed=2), 3, 40)[0]
    outputs = plain_outputs(model, batch)
    with torch.no_grad():
        for layer, to_layer in ((1, 3), (2, 2), (0, 4)):
            hidden, above = map_above(model, batch, layer, to_layer)
            assert hidden.equal(outputs[layer])
            torch.testing.assert_close(above(hidden), outputs[to_layer])
        hidden, above = map_above(model, batch, 1)
        read = model.get_output_embeddings()(above(hidden))
        expected = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    if family == "gemma2":  # whose logits are squashed behind the unembedding
        cap = model.config.final_logit_softcapping
        read = cap * torch.tanh(read / cap)
    torch.testing.assert_close(read, expected, rtol=1e-4, atol=1e-4)


def test_token_states_are_the_tokens_own_whatever_the_batch(tokenizer):
    model, texts = tiny_model("llama"), made_up_texts(7, seed=6)
    states = token_states(model, tokenizer, texts, [1, 3], batch_size=3)
    for index, text in enumerate(texts):
        ids = tokenizer(text, return_tensors="pt").input_ids
        mine = states.text == index
        assert states.token[mine].equal(ids[0]) and states.position[mine].equal(torch.arange(ids.shape[1]))
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states
        for layer in (1, 3):
            torch.testing.assert_close(states.hidden[layer][mine], hidden[layer + 1][0], rtol=1e-4, atol=1e-5)
    assert states.counted.sum() == len(states.token) - 7


@pytest.mark.parametrize(
    "look", [lambda m, t: token_states(m, t, ["a b c"], [5]), lambda m, t: captured(m, [-1]).__enter__()]
)
def test_a_block_that_is_not_there_is_named(look, tokenizer):
    with pytest.raises(RmuLabError, match=r"layer is (5|-1), but the model has blocks 0 \.\. 4"):
        look(tiny_model("llama"), tokenizer)

import pytest
import torch

from rmu_lab import RmuLabError, decoder_blocks
from rmu_lab.activations import run_frozen, run_window
from rmu_lab.corpora import token_batches
from rmu_lab.evaluate import option_scores
from rmu_lab.models import block_parameters
from rmu_lab.unlearning.frozen_passes import record_batch, recorded, resumed, stored_pass
from tests.conftest import FAMILIES, made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS


@pytest.mark.parametrize("depth", [0, 1, 2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_scores_are_those_of_the_whole_edited_model(family, depth, tokenizer):
    model = tiny_model(family)
    kept: list[dict[int, torch.Tensor]] = []
    with recorded(model, {depth, 3}, kept.append):
        base = option_scores(model, tokenizer, QUESTIONS, batch_size=4, progress=False)
    assert base == option_scores(model, tokenizer, QUESTIONS, batch_size=4, progress=False)
    with torch.no_grad():  # an edit of everything from `depth` upwards
        for block in decoder_blocks(model)[depth:]:
            for parameter in block.parameters():
                parameter.mul_(1.3)
    states = iter(kept)
    with resumed(model, depth, lambda: next(states)[depth]):
        scores = option_scores(model, tokenizer, QUESTIONS, batch_size=4, progress=False)
    whole = option_scores(model, tokenizer, QUESTIONS, batch_size=4, progress=False)
    assert whole != base
    for ours, theirs in zip(scores, whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_skipped_blocks_do_not_run(tokenizer):
    model = tiny_model("llama")
    kept: list[dict[int, torch.Tensor]] = []
    with recorded(model, {3}, kept.append):
        option_scores(model, tokenizer, QUESTIONS, progress=False)
    decoder_blocks(model)[1].mlp.register_forward_hook(lambda *_: pytest.fail("block 1 ran"))
    states = iter(kept)
    with resumed(model, 3, lambda: next(states)[3]):
        option_scores(model, tokenizer, QUESTIONS, progress=False)
    with pytest.raises(pytest.fail.Exception, match="block 1 ran"):  # and outside they do again
        option_scores(model, tokenizer, QUESTIONS, progress=False)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_passes_are_frozen_passes(family, side, tokenizer):
    """For every window, and with an edit of the window: the replay of a recorded batch is that of `run_frozen`."""
    model = tiny_model(family)
    before = weights_of(model)
    batch = token_batches(tokenizer, made_up_texts(3, seed=2), 3, 40, padding_side=side)[0]
    states = record_batch(model, batch, range(6))
    for layer in (2, 3, 4):
        window = range(layer - 2, layer + 1)
        expected = run_frozen(model, batch, window)
        ours = stored_pass(model, batch, window, states[layer - 2], states[layer + 1])
        assert ours.trunk.equal(expected.trunk) and ours.output.equal(expected.output)
        (name,) = block_parameters(model, window, None)[layer]
        edit = {layer - 1: {name: decoder_blocks(model)[layer - 1].get_parameter(name).detach() * 1.5}}
        assert run_window(model, ours, window, edit).equal(run_window(model, expected, window, edit))
    assert same_weights(model, before)


def test_hooks_and_forwards_are_put_back_even_after_an_error(tokenizer):
    model = tiny_model("llama")
    blocks = decoder_blocks(model)
    blocks[1].forward = own = blocks[1].forward  # as accelerate does
    batch = token_batches(tokenizer, made_up_texts(2, seed=4), 2, 20)[0]
    with pytest.raises(ZeroDivisionError), resumed(model, 2, lambda: 1 / 0):
        run_frozen(model, batch, range(2, 5))
    assert blocks[1].forward is own and "forward" not in blocks[0].__dict__
    with pytest.raises(ZeroDivisionError), recorded(model, {1}, lambda _: 1 / 0):
        model(batch.input_ids)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)


def test_blocks_that_return_more_are_refused(tokenizer):
    model = tiny_model("llama")
    model.model.layers[0].register_forward_hook(lambda _block, _args, output: (output, None))
    batch = token_batches(tokenizer, made_up_texts(2, seed=4), 2, 20)[0]
    with pytest.raises(RmuLabError, match="blocks of LlamaForCausalLM return more than hidden states"):
        record_batch(model, batch, {2})

import json
import math

import pytest
import torch

from benchmarks.published_loop import published_loop
from rmu_lab import RmuLabError, UnlearnConfig, decoder_blocks, unlearn
from rmu_lab.models import block_parameters
from rmu_lab.unlearning import frozen_passes
from rmu_lab.unlearning.directions import random_directions
from tests.conftest import FAMILIES, made_up_texts, same_weights, tiny_model, weights_of

FORGET, RETAIN = made_up_texts(24, seed=11), made_up_texts(24, seed=12)
SHORT = UnlearnConfig(layer=3, steps=6, batch_size=3, max_length=24, lr=1e-2, alpha=1.0)


@pytest.mark.parametrize("method", ["rmu", "adaptive_rmu"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gpt_neox"])
def test_published_settings_equal_the_published_loop(family, method, tokenizer):
    """Ten steps over two topics: the window trainer's matrices are those of two full models with hooks."""
    model = tiny_model(family)
    before = weights_of(model)
    config = UnlearnConfig.published(method=method, coefficient=6.5, layer=3, steps=10, batch_size=4, max_length=24)
    forget = {"one": FORGET, "two": made_up_texts(24, seed=13)}
    retain = {"one": RETAIN, "two": made_up_texts(24, seed=14)}
    directions = random_directions(forget, 32, config.seed)
    (name,) = block_parameters(model, config.window, None)[3]
    expected = published_loop(model, tokenizer, decoder_blocks, forget, retain, directions, config, name)

    result = unlearn(model, tokenizer, forget, retain, config)
    assert same_weights(model, before)
    assert len(result.edit) == 3
    for matrix, (full_name, ours) in zip(expected, result.edit.items(), strict=True):
        assert (ours - matrix).norm() <= 1e-5 * matrix.norm()
        # The change itself is small against the weights, so it is the sharper test.
        assert (ours - matrix).norm() <= 1e-3 * (matrix - before[full_name]).norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_forget_representations_move_to_the_target(family, tokenizer):
    model = tiny_model(family)
    result = unlearn(model, tokenizer, FORGET[:6], RETAIN[:6], UnlearnConfig(
        layer=3, steps=60, batch_size=6, max_length=24, lr=2e-2, alpha=0.1, beta=2.0))  # fmt: skip
    first, last = result.history[0], result.history[-1]
    assert last["forget_loss"] < 0.7 * first["forget_loss"]
    assert last["cosine"] > first["cosine"] + 0.2
    assert [row["step"] for row in result.history] == list(range(1, 61))
    assert first["retain_loss"] == pytest.approx(0, abs=1e-3 * first["forget_loss"])  # nothing has moved yet


def history_of(model, tokenizer, **changes):
    settings = SHORT.to_dict() | changes
    return unlearn(model, tokenizer, FORGET, RETAIN, UnlearnConfig(**settings)).history


def test_switches_change_the_first_target_as_they_should(tokenizer):
    """The target norm of step 1, computed by hand from a plain pass of the frozen model."""
    from rmu_lab.activations import run_frozen
    from rmu_lab.corpora import token_batches

    model = tiny_model("llama")
    batch = token_batches(tokenizer, FORGET, 3, 24)[0]
    norms = run_frozen(model, batch, SHORT.window).output.norm(dim=-1)
    real = batch.attention_mask.bool()
    counted = real.clone()
    counted[:, 0] = False
    per_text = torch.stack([row[mask].mean() for row, mask in zip(norms, counted, strict=True)])
    weights = counted.sum(dim=1)
    expected = {
        ("per text",): (per_text * weights).sum() / weights.sum(),
        ("per token", "token"): norms[counted].mean(),
        ("first batch", "first batch"): norms[counted].mean(),
    }
    for (_, *change), value in expected.items():
        row = history_of(model, tokenizer, steps=1, **({"norm_per": change[0]} if change else {}))[0]
        assert row["target_norm"] == pytest.approx(SHORT.beta * value.item(), rel=1e-5)
    everything = history_of(model, tokenizer, steps=1, norm_per="first batch", count_padding=True, count_first_token=True)
    assert everything[0]["target_norm"] == pytest.approx(SHORT.beta * norms.mean().item(), rel=1e-5)
    assert history_of(model, tokenizer, steps=1, method="rmu", coefficient=7.0)[0]["target_norm"] == 7.0


def test_noise_on_the_retain_target_has_its_variance_and_its_seed(tokenizer):
    """Nothing has moved in step 1, so the retain loss is alpha d sigma^2, and later ones hold other noise."""
    model = tiny_model("llama")
    noisy = history_of(model, tokenizer, retain_noise=0.5, steps=2, lr=1e-9)
    assert noisy[0]["retain_loss"] == pytest.approx(SHORT.alpha * 32 * 0.25, rel=0.15)
    assert noisy[1]["retain_loss"] != noisy[0]["retain_loss"]
    assert history_of(model, tokenizer, retain_noise=0.5, steps=2, lr=1e-9) == noisy
    assert (
        history_of(model, tokenizer, retain_noise=0.5, steps=2, lr=1e-9, seed=1)[0]["retain_loss"] != noisy[0]["retain_loss"]
    )


def test_noise_on_the_retain_target_is_drawn_anew_in_every_step(tokenizer):
    """One batch that comes round again, and weights that hardly move: only the noise can differ."""
    texts, config = (FORGET[:3], RETAIN[:3]), UnlearnConfig(**SHORT.to_dict() | {"retain_noise": 0.5, "lr": 1e-9})
    losses = [row["retain_loss"] for row in unlearn(tiny_model("llama"), tokenizer, *texts, config).history]
    assert len({round(loss, 3) for loss in losses}) == config.steps


def test_first_batch_norm_is_kept(tokenizer):
    model = tiny_model("llama")
    targets = [row["target_norm"] for row in history_of(model, tokenizer, norm_per="first batch")]
    assert targets == pytest.approx([targets[0]] * 6, rel=1e-6)
    assert len({row["target_norm"] for row in history_of(model, tokenizer)}) == 6


@pytest.mark.parametrize("change", [{"loss_per": "text"}, {"mean_over_dimensions": True}, {"count_first_token": True}])
def test_loss_switches(change, tokenizer):
    plain, switched = (history_of(tiny_model("llama"), tokenizer, steps=1, **c)[0]["loss"] for c in ({}, change))
    if change == {"mean_over_dimensions": True}:
        assert switched == pytest.approx(plain / 32, rel=1e-5)
    else:
        assert switched != pytest.approx(plain, rel=1e-3)


def test_same_seed_same_bits_and_kept_trunks_change_nothing(tokenizer, monkeypatch):
    model = tiny_model("llama")
    config = UnlearnConfig(**SHORT.to_dict() | {"steps": 20})  # 8 batches: the texts come round twice and a half
    first = unlearn(model, tokenizer, FORGET, RETAIN, config)
    again = unlearn(model, tokenizer, FORGET, RETAIN, config)
    monkeypatch.setattr(frozen_passes, "TRUNK_CACHE_BYTES", 30_000)  # room for some of the batches only
    recomputed = unlearn(model, tokenizer, FORGET, RETAIN, config)
    for name, matrix in first.edit.items():
        assert matrix.equal(again.edit[name]) and matrix.equal(recomputed.edit[name])
    other = unlearn(model, tokenizer, FORGET, RETAIN, UnlearnConfig(**config.to_dict() | {"seed": 1}))
    assert not any(matrix.equal(other.edit[name]) for name, matrix in first.edit.items())


def test_compiled_window_changes_nothing(tokenizer, monkeypatch):
    """Traced forwards and backwards; without the code generator, which takes a minute and needs a compiler."""
    compiled = []
    plain_compile = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function: compiled.append(function) or plain_compile(function, backend="aot_eager")
    )
    texts = made_up_texts(6, seed=11, least=26), made_up_texts(6, seed=12, least=26)  # all cut to one length: one trace
    expected, result = (unlearn(tiny_model("llama"), tokenizer, *texts, SHORT, compile_window=on) for on in (False, True))
    assert len(compiled) == 1
    for name, matrix in expected.edit.items():
        torch.testing.assert_close(result.edit[name], matrix, rtol=1e-5, atol=1e-6)


def test_bfloat16_model_trains_float32_matrices(tokenizer):
    model = tiny_model("llama").bfloat16()
    result = unlearn(model, tokenizer, FORGET, RETAIN, SHORT)
    assert all(matrix.dtype == torch.float32 for matrix in result.edit.values())
    # Updates finer than bfloat16 resolves are kept.
    assert any(not matrix.equal(matrix.bfloat16().float()) for matrix in result.edit.values())


def test_data_sets_and_lists_are_the_same(tokenizer):
    from datasets import Dataset

    model = tiny_model("llama")
    by_list = unlearn(model, tokenizer, FORGET, RETAIN, SHORT)
    by_dataset = unlearn(model, tokenizer, *(Dataset.from_dict({"text": t}) for t in (FORGET, RETAIN)), SHORT)
    assert by_list.digests == by_dataset.digests
    assert all(matrix.equal(by_dataset.edit[name]) for name, matrix in by_list.edit.items())


def test_each_topic_has_its_own_length(tokenizer, monkeypatch):
    widths = []
    run = frozen_passes.run_frozen
    monkeypatch.setattr(frozen_passes, "run_frozen", lambda *args: widths.append(args[1].input_ids.shape[1]) or run(*args))
    texts = {"one": made_up_texts(6, 1, least=25, most=30), "two": made_up_texts(6, 2, least=25, most=30)}
    settings = SHORT.to_dict() | {"max_length": 9, "forget_lengths": [12, 15], "steps": 2}
    config = UnlearnConfig(**settings)
    unlearn(tiny_model("llama"), tokenizer, texts, texts["one"], config)
    assert widths == [12, 9, 15, 9]
    with pytest.raises(RmuLabError, match="forget_lengths has 2 numbers for 1 topics"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, config)
    with pytest.raises(RmuLabError, match=r"forget_lengths is \(1,\)"):
        UnlearnConfig(forget_lengths=(1,))


def test_every_text_that_the_steps_come_to_is_used(tokenizer):
    """The last batch of a training, longer than the default's, is that of the last texts and not the first one again."""
    config = UnlearnConfig(layer=3, steps=41, batch_size=5, max_length=7, lr=1e-2)
    forget = made_up_texts(5 * 41, seed=15)
    one, other = (
        unlearn(tiny_model("llama"), tokenizer, texts, RETAIN, config, progress=False)
        for texts in (forget, [*forget[:-5], *FORGET[:5]])
    )
    assert one.history[:-1] == other.history[:-1] and one.history[-1] != other.history[-1]


def test_named_parameters(tokenizer):
    model = tiny_model("llama")
    names = ("mlp.up_proj.weight", "self_attn.o_proj.weight")
    result = unlearn(model, tokenizer, FORGET, RETAIN, UnlearnConfig(**SHORT.to_dict() | {"parameters": names}))
    assert sorted(result.edit) == sorted(f"model.layers.{index}.{name}" for index in (1, 2, 3) for name in names)


@pytest.mark.parametrize("layer", [0, 1, 5, 40])
def test_layer_out_of_range(layer, tokenizer):
    with pytest.raises(RmuLabError, match=rf"layer is {layer}.*blocks 0 \.\. 4; choose a layer from 2 to 4"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, UnlearnConfig(layer=layer))


def test_small_corpora_and_topics(tokenizer):
    model = tiny_model("llama")
    for forget, retain, message in (
        ([], RETAIN, "forget holds 0 texts, but one batch takes 3"),
        (FORGET, RETAIN[:1], "retain holds 1 texts, but one batch takes 3"),
        ({"bio": FORGET[:1]}, RETAIN, r"forget\['bio'\] holds 1 texts"),
        ({}, RETAIN, "forget has no topics"),
        ({"bio": FORGET}, {"cyber": RETAIN}, "give the same names"),
    ):
        with pytest.raises(RmuLabError, match=message):
            unlearn(model, tokenizer, forget, retain, SHORT)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loss_that_is_not_finite_stops_and_changes_nothing(family, tokenizer):
    model = tiny_model(family)
    before = weights_of(model)
    with pytest.raises(RmuLabError, match=r"The loss is (nan|inf) at step [2-6] of 6"):
        unlearn(model, tokenizer, FORGET, RETAIN, UnlearnConfig(**SHORT.to_dict() | {"lr": 1e30}))
    assert same_weights(model, before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_matrices_that_are_not_finite_at_the_end(tokenizer, monkeypatch):
    """No later loss would show a last update gone wrong."""

    def broken_step(optimizer):
        for matrix in optimizer.param_groups[0]["params"]:
            matrix.data.fill_(math.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", broken_step)
    with pytest.raises(RmuLabError, match="not finite after step 1;"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, UnlearnConfig(**SHORT.to_dict() | {"steps": 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "RMU"}, "method is 'RMU'; use one of 'rmu', 'adaptive_rmu'"),
        ({"norm_per": "batch"}, "norm_per is 'batch'"),
        ({"beta": 0}, "beta is 0.0; give a positive number"),
        ({"coefficient": math.nan}, "coefficient is nan"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"max_length": 1}, "max_length is 1; it must be at least 2"),
        ({"parameters": "mlp.down_proj.weight"}, "parameters is 'mlp.down_proj.weight'; give a tuple"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(RmuLabError, match=message):
        UnlearnConfig(**change)


def test_whole_numbers_are_the_same_settings(tokenizer):
    whole, decimal = (UnlearnConfig(method="rmu", layer=3, coefficient=c, alpha=a) for c, a in ((7, 30), (7.0, 30.0)))
    assert json.dumps(whole.to_dict()) == json.dumps(decimal.to_dict())
    rows = history_of(tiny_model("llama"), tokenizer, method="rmu", coefficient=7, steps=1)
    assert rows[0]["target_norm"] == 7.0


def test_published_settings():
    config = UnlearnConfig.published(beta=3.0)
    assert (config.alpha, config.beta, config.padding_side, config.count_padding) == (1200.0, 3.0, "left", True)
    assert UnlearnConfig(**config.to_dict()) == config

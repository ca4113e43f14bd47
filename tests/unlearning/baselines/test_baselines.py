"""All methods: what they train, that the model stays as it is, that the edit is an edit."""

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, UnlearnConfig, UnlearnResult, decoder_blocks, unlearn
from rmu_lab.corpora import token_batches
from rmu_lab.unlearning.baselines import LLMU, NPO, SCRUB, SSD, GradDiff, GradientAscent, SimNPO
from rmu_lab.unlearning.method_table import METHODS, config_from_dict
from rmu_lab.unlearning.unlearn import checkpoints
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

FORGET, RETAIN = made_up_texts(7, seed=11), made_up_texts(9, seed=12)
SHORT = {"max_length": 16, "lr": 3e-3, "steps": 4, "batch_size": 2}
TRAINED = [kind(**SHORT) for kind in (GradientAscent, GradDiff, NPO, SimNPO, LLMU, SCRUB)]
EVERY = [*TRAINED, SSD(max_length=16, threshold=2)]


def each(configs):
    return pytest.mark.parametrize("config", configs, ids=lambda config: config.method)


def nll(model, tokenizer, texts):
    with torch.no_grad():
        batches = token_batches(tokenizer, texts, 1, 16)
        return sum(model(batch.input_ids, labels=batch.input_ids).loss.item() for batch in batches) / len(texts)


@each(EVERY)
def test_the_model_stays_and_the_edit_is_reverted_bit_for_bit(config, tokenizer):
    model = tiny_model("llama")
    before, asked = weights_of(model), [parameter.requires_grad for parameter in model.parameters()]
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    assert same_weights(model, before) and not model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for parameter in model.parameters())
    matrices = {id(parameter) for parameter in decoder_blocks(model).parameters() if parameter.ndim >= 2}
    assert set(result.edit) == {name for name, parameter in model.named_parameters() if id(parameter) in matrices}
    with result.applied(model):
        assert all(model.get_parameter(name).equal(matrix) for name, matrix in result.edit.items())
        assert not same_weights(model, before)
    assert same_weights(model, before)


@each(EVERY)
def test_same_seed_same_edit_and_another_seed_another(config, tokenizer):
    model = tiny_model("llama")
    if isinstance(config, SSD):
        config = dataclasses.replace(config, texts=3)
    one, two = (unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False) for _ in range(2))
    other = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, seed=1), progress=False)
    assert all(matrix.equal(two.edit[name]) for name, matrix in one.edit.items())
    assert not all(matrix.equal(other.edit[name]) for name, matrix in one.edit.items())


@each(EVERY)
def test_save_and_load(config, tmp_path, tokenizer):
    result = unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, config, progress=False)
    loaded = UnlearnResult.load(result.save(tmp_path / "result"))
    assert loaded.config == result.config and type(loaded.config) is type(config)
    assert loaded.directions == {} and loaded.history == result.history
    assert all(matrix.equal(loaded.edit[name]) for name, matrix in result.edit.items())


@each(TRAINED)
def test_checkpoints_are_shorter_trainings(config, tokenizer):
    model = tiny_model("llama")
    found = list(checkpoints(model, tokenizer, FORGET, RETAIN, config, [2, 4], progress=False))
    for steps, result in zip((2, 4), found, strict=True):
        alone = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, steps=steps), progress=False)
        assert result.config == alone.config and result.history == alone.history and len(result.history) == steps
        assert all(matrix.equal(alone.edit[name]) for name, matrix in result.edit.items())


@each([GradientAscent(**SHORT), GradDiff(**SHORT), NPO(**SHORT), SimNPO(**SHORT, beta=0.01)])
def test_forget_text_becomes_less_likely(config, tokenizer):
    model = tiny_model("llama")
    config = dataclasses.replace(config, steps=10)
    before = nll(model, tokenizer, FORGET)
    result = unlearn(model, tokenizer, FORGET, made_up_texts(9, seed=3), config, progress=False)
    with result.applied(model):
        assert nll(model, tokenizer, FORGET) > before + 0.02
    assert len(result.history) == 10


def test_first_step_of_grad_diff_is_the_sign_of_ascent_minus_descent(tokenizer):
    """AdamW's first step changes every entry by lr against the sign of its gradient."""
    model = tiny_model("llama")
    config = GradDiff(max_length=16, lr=1e-3, steps=1, batch_size=4, alpha=2)
    texts = FORGET[:4], RETAIN[:4]  # one batch each, in whatever order
    result = unlearn(model, tokenizer, *texts, config, progress=False)
    name = "model.layers.2.self_attn.q_proj.weight"
    weight = model.get_parameter(name)
    total = 0
    for corpus, factor in zip(texts, (-1, 2), strict=True):
        (batch,) = token_batches(tokenizer, corpus, 4, 16)
        labels = batch.input_ids.masked_fill(~batch.attention_mask.bool(), -100)
        loss = model(batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        total = total + factor * torch.autograd.grad(loss, weight)[0]
    clear = total.abs() > total.abs().median()  # of others rounding may turn the sign
    step = (result.edit[name] - weight).detach()
    assert torch.allclose(step[clear], -1e-3 * total[clear].sign(), rtol=1e-2)


def log_p(model, batch):
    """log p of every token but the first, (texts, tokens - 1), padding 0: as notebook 08 writes it from scratch."""
    logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    return logits.log_softmax(-1).gather(-1, batch.input_ids[:, 1:, None])[..., 0] * batch.attention_mask[:, 1:]


@each([GradientAscent(**SHORT), NPO(**SHORT, alpha=0)])
def test_the_trainer_equals_a_plain_loop(config, tokenizer):
    """In-place training with the loss written out, on one batch that comes round again."""
    (batch,) = token_batches(tokenizer, FORGET[:2], 2, 16)
    plain = tiny_model("llama")
    with torch.no_grad():
        before = log_p(plain, batch).sum(dim=1)
    matrices = {name: p for name, p in plain.named_parameters() if ".layers." in name and p.ndim == 2}
    old = {name: p.detach().clone() for name, p in matrices.items()}
    optimizer = torch.optim.AdamW(matrices.values(), lr=config.lr, weight_decay=0.0)
    for _ in range(config.steps):
        found = log_p(plain, batch)
        if isinstance(config, NPO):
            ratio = found.sum(dim=1) - before
            loss = (2 / 0.1 * torch.log(1 + torch.exp(0.1 * ratio))).mean()
        else:
            loss = found.sum() / batch.attention_mask[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    result = unlearn(tiny_model("llama"), tokenizer, FORGET[:2], RETAIN[:2], config, progress=False)
    assert matrices.keys() == result.edit.keys()
    distance = sum((p - result.edit[name]).square().sum().item() for name, p in matrices.items())
    change = sum((p - old[name]).square().sum().item() for name, p in matrices.items())
    assert change > 0 and distance < 1e-4 * change  # 1% of the way; rounding may turn the sign of a tiny gradient


@each([NPO(**SHORT), LLMU(**SHORT), SCRUB(**SHORT)])
def test_the_reference_is_the_model_before(config, tokenizer, monkeypatch):
    """At the first step nothing has moved: NPO's loss is (2 / beta) log 2, the divergences are 0 (SCRUB's first one)."""
    model = tiny_model("llama")
    with pytest.MonkeyPatch.context() as no_cache:
        no_cache.setattr("rmu_lab.unlearning.loss_method.REFERENCE_BYTES", 0)
        plain = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, steps=9), progress=False)
    cached = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, steps=9), progress=False)
    assert plain.history == cached.history  # texts come round again, and are compared with the same numbers
    first = cached.history[0]
    if isinstance(config, NPO):
        assert first["forget_loss"] == pytest.approx(20 * torch.tensor(2.0).log().item(), rel=1e-5)
    else:
        role = "retain" if isinstance(config, LLMU) else "forget"
        assert first[f"{role}_loss"] == pytest.approx(0, abs=1e-5)
        assert abs(cached.history[3][f"{role}_loss"]) > 1e-4


def test_bfloat16_steps_are_not_lost(tokenizer):
    model = tiny_model("llama").to(torch.bfloat16)
    before = weights_of(model)
    result = unlearn(
        model, tokenizer, FORGET, RETAIN, GradDiff(max_length=16, lr=1e-5, steps=3, batch_size=2), progress=False
    )
    name = "model.layers.2.mlp.down_proj.weight"
    assert result.edit[name].dtype == torch.float32
    moved = (result.edit[name] - before[name].float()).abs()
    assert 0 < moved.max() < 1e-4
    assert same_weights(model, before)


def test_topics_take_turns(tokenizer):
    model = tiny_model("llama")
    forget = {"one": FORGET, "two": made_up_texts(5, seed=13)}
    result = unlearn(model, tokenizer, forget, RETAIN, NPO(**SHORT), progress=False)
    assert [entry["topic"] for entry in result.history] == ["one", "two", "one", "two"]
    assert set(result.digests) == {"forget one", "forget two", "retain one", "retain two"}


def test_named_parameters_only(tokenizer):
    model = tiny_model("llama")
    config = GradDiff(**SHORT, parameters=("mlp.down_proj.weight",))
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    assert set(result.edit) == {f"model.layers.{index}.mlp.down_proj.weight" for index in range(5)}
    with pytest.raises(RmuLabError, match=r"has no parameter 'mlp\.up'"):
        unlearn(model, tokenizer, FORGET, RETAIN, GradDiff(parameters=("mlp.up",), max_length=16), progress=False)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_other_families(family, tokenizer):
    model = tiny_model(family)
    before = weights_of(model)
    for config in (NPO(**SHORT), SSD(max_length=16)):
        result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
        assert same_weights(model, before) and result.edit


@each(TRAINED)
def test_diverged_says_so_and_changes_nothing(config, tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    with pytest.raises(RmuLabError, match=r"at step \d|after step \d.*The model was not changed"):
        unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, lr=1e30), progress=False)
    assert same_weights(model, before) and not any(parameter.grad is not None for parameter in model.parameters())


def test_too_few_texts(tokenizer):
    with pytest.raises(RmuLabError, match="forget holds 1 texts"):
        unlearn(tiny_model("llama"), tokenizer, FORGET[:1], RETAIN, NPO(**SHORT))


@each(EVERY)
def test_configs_survive_json(config):
    plain = config.to_dict()
    assert plain["method"] in METHODS
    assert config_from_dict(plain) == config
    named = dataclasses.replace(config, parameters=("a", "b"))
    assert config_from_dict(named.to_dict() | {"parameters": ["a", "b"]}) == named
    assert config_from_dict(UnlearnConfig(layer=3).to_dict()) == UnlearnConfig(layer=3)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (NPO, {"lr": 0}),
        (NPO, {"beta": -1}),
        (GradDiff, {"alpha": -0.1}),
        (SimNPO, {"steps": 0}),
        (SSD, {"threshold": 0}),
        (SSD, {"texts": 0}),
        (SCRUB, {"max_steps": -1}),
        (LLMU, {"lr": float("nan")}),
    ],
)
def test_values_out_of_range(kind, values):
    with pytest.raises(RmuLabError, match=next(iter(values))):
        kind(**values)

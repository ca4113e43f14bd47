"""Models inside others: torch.compile, data parallelism, PEFT's adapters."""

import copy

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from rmu_lab import RmuLabError, UnlearnConfig, UnlearnResult, accuracy, advise, answers, sweep, unlearn
from rmu_lab.activations import captured, edited_output, map_above, token_states
from rmu_lab.attacks import Budget, Subject, ablate
from rmu_lab.corpora import TokenBatch
from rmu_lab.models import plain_model, uncompiled
from rmu_lab.unlearning.baselines import NPO
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS

TEXTS = made_up_texts(12, seed=21), made_up_texts(12, seed=22)
CONFIGS = [
    UnlearnConfig(layer=3, steps=3, batch_size=3, max_length=16, lr=2e-2, alpha=1.0),
    NPO(steps=2, batch_size=3, max_length=16, lr=1e-2),
]


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPINGS = {"compiled": compiled, "parallel": nn.DataParallel, "both": lambda model: nn.DataParallel(compiled(model))}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_what_is_inside_is_unlearned_and_saved(wrap, config, tokenizer, tmp_path):
    plain = tiny_model("llama")
    expected = unlearn(plain, tokenizer, *TEXTS, config, progress=False)
    model, before = wrap(plain), weights_of(plain)
    result = unlearn(model, tokenizer, *TEXTS, config, progress=False)
    assert result.edit.keys() == expected.edit.keys()
    assert all(matrix.equal(expected.edit[name]) for name, matrix in result.edit.items())
    assert result.apply(model) is model
    assert all(plain.get_parameter(name).equal(matrix) for name, matrix in result.edit.items())
    assert result.revert(model) is model and same_weights(plain, before)
    result.save(tmp_path / "edit")
    UnlearnResult.load(tmp_path / "edit").save_model(tmp_path / "out", model, tokenizer)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for name, parameter in written.named_parameters():  # the whole model, with the edit in it
        assert parameter.equal(result.edit.get(name, before[name]))


def test_measured_like_the_plain_model(tokenizer):
    plain = tiny_model("llama")
    model = compiled(plain)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        model(input_ids=ids)  # compiled before any hook is there
    assert accuracy(model, tokenizer, QUESTIONS, progress=False) == accuracy(plain, tokenizer, QUESTIONS, progress=False)
    assert answers(model, tokenizer, ["the sea?"]) == answers(plain, tokenizer, ["the sea?"])
    ours, theirs = (token_states(each, tokenizer, TEXTS[0], [3]) for each in (model, plain))
    assert ours.hidden[3].equal(theirs.hidden[3])
    assert advise(model, tokenizer, *TEXTS, max_length=24) == advise(plain, tokenizer, *TEXTS, max_length=24)


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_looked_into_and_changed_like_the_plain_model(wrap):
    plain, ids = tiny_model("llama"), torch.arange(3, 9)[None]
    model, found = wrap(plain), []
    with torch.no_grad():
        before = model(input_ids=ids).logits  # compiled before any hook is there
        for each in (model, plain):
            with captured(each, [1, 3]) as seen:
                each(input_ids=ids)
            with captured(each, [2], stop=True) as stopped:
                each(input_ids=ids)
            with edited_output(each, 2, lambda hidden: 2 * hidden):
                logits = each(input_ids=ids).logits
            start, above = map_above(each, TokenBatch(ids, torch.ones_like(ids)), 2)
            found.append([seen[1], seen[3], stopped[2], logits, start, above(start)])
        assert model(input_ids=ids).logits.equal(before)
    assert all(ours.equal(theirs) for ours, theirs in zip(*found, strict=True)) and not logits.equal(before)


def test_what_is_compiled_in_place_cannot_be_looked_into():
    model = tiny_model("llama")
    model.compile(backend="eager")
    for look in (lambda: captured(model, [1]), lambda: edited_output(model, 1, lambda hidden: hidden)):
        with pytest.raises(RmuLabError, match="is compiled in place"), look():
            pytest.fail("it was looked into")


def test_attacked_like_the_plain_model(tokenizer):
    plain = tiny_model("llama")
    result = unlearn(plain, tokenizer, *TEXTS, CONFIGS[0], progress=False)
    ours, theirs = (
        ablate(Subject(each, tokenizer, result, QUESTIONS, forget=TEXTS[0], n_generations=1), Budget(progress=False))
        for each in (compiled(plain), plain)
    )
    assert ours.attacked == theirs.attacked and ours.details == theirs.details


def test_a_sweep_of_a_compiled_model(tokenizer, tmp_path):
    plain = tiny_model("llama")
    ours, theirs = (
        sweep(model, tokenizer, *TEXTS, CONFIGS[:1], {"one": QUESTIONS}, out=tmp_path / name, workers=1, progress=False)
        for name, model in {"ours.jsonl": compiled(plain), "theirs.jsonl": plain}.items()
    )
    assert [row.scores for row in ours] == [row.scores for row in theirs]


def test_compiled_in_place_is_refused():
    in_place, in_parts = tiny_model("llama"), tiny_model("llama")
    in_place.compile(backend="eager")
    in_parts.model.layers[2] = compiled(in_parts.model.layers[2])
    for model in (in_place, in_parts):
        with pytest.raises(RmuLabError, match=r"compiled in place.*give the model before compiling"):
            uncompiled(model)


class Sharded(nn.Parameter):
    """A parameter that is one process's part of a larger one, as torch's DTensor is."""

    def full_tensor(self):
        return self


def test_shards_are_refused():
    model = tiny_model("llama")
    model.model.norm.weight = Sharded(model.model.norm.weight.data)
    with pytest.raises(RmuLabError, match="split into shards; give each process the whole model"):
        plain_model(model)


@pytest.fixture(params=["wrapped", "injected", "added"])
def with_adapters(request):
    """A model with LoRA matrices, in the three ways to put them there."""
    model = tiny_model("llama")
    lora = peft.LoraConfig(target_modules=["down_proj", "q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    if request.param == "wrapped":
        return peft.get_peft_model(model, lora)
    if request.param == "injected":
        return peft.inject_adapter_in_model(lora, model)
    model.add_adapter(lora)
    return model


def test_adapters_are_refused_before_any_work(with_adapters, tokenizer, tmp_path):
    model = with_adapters
    expected = "carries PEFT adapters.*merge_and_unload"
    for config in CONFIGS:
        with pytest.raises(RmuLabError, match=expected):
            unlearn(model, tokenizer, *TEXTS, config, progress=False)
    with pytest.raises(RmuLabError, match=expected):
        unlearn(compiled(model), tokenizer, *TEXTS, CONFIGS[0], progress=False)
    with pytest.raises(RmuLabError, match=expected):
        sweep(model, tokenizer, *TEXTS, CONFIGS[:1], {"one": QUESTIONS}, out=tmp_path / "rows.jsonl")
    result = unlearn(tiny_model("llama"), tokenizer, *TEXTS, CONFIGS[0], progress=False)
    with pytest.raises(RmuLabError, match=expected):
        result.apply(model)
    with pytest.raises(RmuLabError, match=expected):
        result.save_model(tmp_path / "out", model, tokenizer)
    assert not (tmp_path / "out").exists() and not (tmp_path / "rows.jsonl").exists()
    assert accuracy(model, tokenizer, QUESTIONS, progress=False)  # but it can be scored


def test_merged_adapters_are_unlearned_and_saved(tokenizer, tmp_path):
    lora = peft.LoraConfig(target_modules=["down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("llama"), lora).merge_and_unload()
    before = copy.deepcopy(weights_of(model))
    result = unlearn(model, tokenizer, *TEXTS, CONFIGS[0], progress=False)
    result.save_model(tmp_path / "out", model, tokenizer)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert all(parameter.equal(result.edit.get(name, before[name])) for name, parameter in written.named_parameters())

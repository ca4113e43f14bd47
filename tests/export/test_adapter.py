"""Edits as LoRA adapters: exact at full rank, as good as said below it, and read by PEFT."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from rmu_lab import RmuLabError, UnlearnConfig, unlearn
from rmu_lab.export.low_rank import low_rank
from tests.conftest import FAMILIES, made_up_texts, same_weights, tiny_model, weights_of

peft = pytest.importorskip("peft")

TEXTS = made_up_texts(8, seed=21), made_up_texts(8, seed=22)
CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture(scope="module")
def base():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def result(base, tokenizer):
    return unlearn(base, tokenizer, *TEXTS, CONFIG)


def merged(path, family="llama"):
    return peft.PeftModel.from_pretrained(tiny_model(family), path).merge_and_unload()


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_merges_the_edit_of_every_family(family, tokenizer, tmp_path):
    model = tiny_model(family)
    edited = unlearn(model, tokenizer, *TEXTS, CONFIG)
    edited.save_adapter(tmp_path / "adapter", model, fidelity=1.0)
    parameters = dict(merged(tmp_path / "adapter", family).named_parameters())
    for name, matrix in edited.edit.items():
        assert not torch.allclose(matrix, model.get_parameter(name), atol=1e-5)
        torch.testing.assert_close(parameters[name], matrix, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_holds_the_edit_of_every_family_that_it_knows(family, tokenizer, tmp_path):
    """Read back by transformers' own table of names, which maps a whole model's GGUF to its parameters."""
    model = tiny_model(family)
    edited = unlearn(model, tokenizer, *TEXTS, CONFIG)
    adapter = edited.save_adapter(tmp_path / "adapter", model, fidelity=1.0, format="gguf")
    assert {path.name for path in adapter.path.iterdir()} == {"README.md", "adapter.gguf"}
    reader = GGUFReader(adapter.path / "adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == adapter.rank
    architecture = fields["general.architecture"]
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    named = get_gguf_hf_weights_map(model, processor, model_type=architecture)
    factors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert len(factors) == 2 * len(edited.edit)
    for name in {key.removesuffix(".lora_a").removesuffix(".lora_b") for key in factors}:
        change = factors[f"{name}.lora_b"] @ factors[f"{name}.lora_a"]
        parameter = model.get_parameter(named[name])
        change = processor.process(change, name, tensor_key_mapping={}, parsed_parameters={}).weights
        torch.testing.assert_close(parameter + torch.from_numpy(change.copy()), edited.edit[named[name]], rtol=0, atol=1e-5)


def test_what_llama_cpp_keeps_otherwise_is_refused(base, tokenizer, tmp_path):
    config = dataclasses.replace(CONFIG, parameters=("self_attn.q_proj.weight",))
    edited = unlearn(base, tokenizer, *TEXTS, config)
    with pytest.raises(RmuLabError, match=r"keeps model\.layers\.0\.self_attn\.q_proj\.weight in another order of rows"):
        edited.save_adapter(tmp_path / "adapter", base, format="gguf")
    with pytest.raises(RmuLabError, match="format is 'onnx'; give 'peft' or 'gguf'"):
        edited.save_adapter(tmp_path / "adapter", base, format="onnx")
    assert not (tmp_path / "adapter").exists()
    assert edited.save_adapter(tmp_path / "adapter", base).format == "peft"


def test_at_full_rank_peft_merges_the_edited_weights(base, result, tmp_path):
    before = weights_of(base)
    full = min(next(iter(result.edit.values())).shape)
    adapter = result.save_adapter(tmp_path / "adapter", base, rank=full)
    assert adapter.rank == full and adapter.fidelity == pytest.approx(1)
    assert same_weights(base, before)
    parameters = dict(merged(tmp_path / "adapter").named_parameters())
    for name, value in before.items():
        torch.testing.assert_close(parameters[name], result.edit.get(name, value), rtol=0, atol=1e-5)


def test_the_least_rank_that_reaches_the_fidelity_is_chosen(base, result, tmp_path):
    adapter = result.save_adapter(tmp_path / "adapter", base, fidelity=0.9)
    parameters = dict(merged(tmp_path / "adapter").named_parameters())
    old, total, missed = weights_of(base), 0.0, 0.0
    for name, matrix in result.edit.items():
        total += (matrix - old[name]).square().sum().item()
        missed += (matrix - parameters[name]).square().sum().item()
    assert 1 - missed / total == pytest.approx(adapter.fidelity, abs=1e-4)
    assert adapter.fidelity >= 0.9
    if adapter.rank > 1:
        assert result.save_adapter(tmp_path / "lower", base, rank=adapter.rank - 1).fidelity < 0.9


@settings(deadline=None, max_examples=25)
@given(rank=st.integers(1, 5), rows=st.integers(5, 9), seed=st.integers(0, 1000))
def test_a_matrix_of_low_rank_is_found_again(rank, rows, seed):
    random = torch.Generator().manual_seed(seed)
    change = torch.randn(rows, rank, generator=random) @ torch.randn(rank, 7, generator=random)
    factors, found, fidelity = low_rank({"layer.weight": change}, fidelity=1.0)
    b, a = factors["layer.weight"]
    assert found <= rank and fidelity == pytest.approx(1)
    torch.testing.assert_close(b @ a, change, rtol=1e-3, atol=1e-3)


def test_the_files_name_the_base_model_and_hold_no_pickle(base, result, tmp_path):
    named = dataclasses.replace(result, model_name="smollm2-135m", base=None)
    named.save_adapter(tmp_path / "adapter", base, rank=1)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert config["target_modules"] == sorted(name.removesuffix(".weight") for name in result.edit)


def test_what_cannot_be_an_adapter_is_refused_and_leaves_nothing(base, result, tmp_path):
    path = tmp_path / "adapter"
    with pytest.raises(RmuLabError, match="rank is 0; give one from 1 to"):
        result.save_adapter(path, base, rank=0)
    with pytest.raises(RmuLabError, match=r"fidelity is 1\.5"):
        result.save_adapter(path, base, fidelity=1.5)
    with pytest.raises(RmuLabError, match="are not those that the edit was trained on"):
        result.save_adapter(path, tiny_model("llama", seed=9))
    with result.applied(base), pytest.raises(RmuLabError, match="in the model already"):
        result.save_adapter(path, base)
    with pytest.raises(RmuLabError, match="changes nothing"):
        low_rank({"layer.weight": torch.zeros(3, 4)})
    with pytest.raises(RmuLabError, match="holds matrices only"):
        low_rank({"norm.weight": torch.ones(3)})
    assert not path.exists()

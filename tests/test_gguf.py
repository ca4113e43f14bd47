"""What is unpacked from a GGUF file, tensor by tensor, against what safetensors writes of the whole model."""

import tracemalloc

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

import rmu_lab.gguf
from rmu_lab import RmuLabError
from rmu_lab.gguf import unpack_weights
from tests.conftest import tiny_model

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.",
}


def gguf_name(name):
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def written(model, file, leave_out=()):
    """The weights of a Qwen model, whose matrices a GGUF keeps as they are, as 8-bit blocks where the width lets them be."""
    writer = gguf.GGUFWriter(file, "qwen2")
    unpacked = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        kind = gguf.GGMLQuantizationType.Q8_0 if values.ndim == 2 and values.shape[1] % 32 == 0 else None
        stored = values if kind is None else gguf.quantize(values, kind)
        unpacked[name] = torch.from_numpy(values.copy() if kind is None else gguf.dequantize(stored, kind))
        if name not in leave_out:
            writer.add_tensor(gguf_name(name), stored, raw_dtype=kind)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return unpacked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [5, 4096])
def test_the_file_is_the_one_that_safetensors_writes(dtype, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(rmu_lab.gguf, "ROWS_AT_ONCE", rows)
    model = tiny_model("qwen2")
    expected = {name: values.to(dtype) for name, values in written(model, tmp_path / "model.gguf").items()}
    unpack_weights(tmp_path / "model.gguf", model.config, tmp_path / "ours.safetensors", dtype)
    save_file(expected, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    for name, values in load_file(tmp_path / "ours.safetensors").items():
        assert values.equal(expected[name])


def test_a_file_without_a_tensor_is_refused(tmp_path):
    model = tiny_model("qwen2")
    written(model, tmp_path / "model.gguf", leave_out=["model.layers.1.mlp.up_proj.weight"])
    with pytest.raises(RmuLabError, match=r"has no tensor for model\.layers\.1\.mlp\.up_proj\.weight of a qwen2"):
        unpack_weights(tmp_path / "model.gguf", model.config, tmp_path / "model.safetensors", torch.float32)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    written(tiny_model("qwen2"), tmp_path / "model.gguf")
    wider = tiny_model("qwen2", intermediate_size=96).config
    with pytest.raises(RmuLabError, match=r"has model\.layers\.0\.mlp\.down_proj\.weight as \(32, 64\), not \(32, 96\)"):
        unpack_weights(tmp_path / "model.gguf", wider, tmp_path / "model.safetensors", torch.float32)


def test_memory_holds_one_dequantised_tensor_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(rmu_lab.gguf, "ROWS_AT_ONCE", 256)
    model = tiny_model("qwen2", vocab_size=60_000, tie_word_embeddings=False)  # two matrices that are by far the largest
    written(model, tmp_path / "model.gguf")
    largest = model.lm_head.weight.nbytes
    assert model.get_input_embeddings().weight.nbytes == largest > 4 * model.model.layers[0].mlp.up_proj.weight.nbytes
    tracemalloc.start()
    unpack_weights(tmp_path / "model.gguf", model.config, tmp_path / "model.safetensors", torch.float32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert largest < peak < 1.7 * largest

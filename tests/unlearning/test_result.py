import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmu_lab import RmuLabError, UnlearnConfig, UnlearnResult, load_model, unlearn
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

TEXTS = made_up_texts(8, seed=21), made_up_texts(8, seed=22)
CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture
def saved_base(tmp_path, tokenizer):
    """A base model on disk, as a user would have it."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return load_model(tmp_path / "base", device="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_apply_and_revert_are_exact(tokenizer, dtype):
    model = tiny_model("llama").to(dtype)
    before = weights_of(model)
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    result.apply(model)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(result.edit)
    assert all(model.get_parameter(name).equal(matrix.to(dtype)) for name, matrix in result.edit.items())
    with pytest.raises(RmuLabError, match="in the model already"):
        result.apply(model)
    result.revert(model)
    assert same_weights(model, before)
    with pytest.raises(RmuLabError, match="nothing to revert"):
        result.revert(model)


def test_applied_reverts_after_an_error(tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    with pytest.raises(KeyboardInterrupt), result.applied(model):
        assert not same_weights(model, before)
        raise KeyboardInterrupt
    assert same_weights(model, before)


def test_edit_of_another_model_is_refused(tokenizer):
    result = unlearn(tiny_model("llama"), tokenizer, *TEXTS, CONFIG)
    for other in (tiny_model("llama", intermediate_size=48), tiny_model("gpt2")):
        before = weights_of(other)
        with pytest.raises(RmuLabError, match="The edit is of a parameter"):
            result.apply(other)
        assert same_weights(other, before)


def test_save_and_load(tmp_path, tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, {"one": TEXTS[0], "two": TEXTS[1]}, TEXTS[1], CONFIG)
    loaded = UnlearnResult.load(result.save(tmp_path / "result"))
    for mine, other in ((result.edit, loaded.edit), (result.directions, loaded.directions)):
        assert mine.keys() == other.keys() and all(mine[name].equal(other[name]) for name in mine)
    for name in ("history", "config", "model_name", "digests", "provenance", "seconds"):
        assert getattr(loaded, name) == getattr(result, name)
    assert loaded.directions["two"].shape == (32,)
    assert {"versions", "machine", "time", "seed"} <= loaded.provenance.keys()
    with pytest.raises(RmuLabError, match="exists already"):
        result.save(tmp_path / "result")
    loaded.apply(model)  # a loaded result is as good as a fresh one


def test_load_what_is_no_result(tmp_path):
    with pytest.raises(RmuLabError, match="holds no result"):
        UnlearnResult.load(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(RmuLabError, match="holds no result"):
        UnlearnResult.load(tmp_path)


def test_failed_save_leaves_nothing(tmp_path, tokenizer, monkeypatch):
    result = unlearn(tiny_model("llama"), tokenizer, *TEXTS, CONFIG)
    monkeypatch.setattr("rmu_lab.unlearning.result.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result.save(tmp_path / "result")
    assert list(tmp_path.iterdir()) == []


def test_save_model_reloads_with_transformers(tmp_path, saved_base):
    model, tokenizer = saved_base
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    before = weights_of(model)
    by_name = result.save_model(tmp_path / "by_name")  # the base model is loaded again by its name
    given = result.save_model(tmp_path / "given", model, tokenizer)
    assert same_weights(model, before)
    batch = tokenizer("the old house", return_tensors="pt")
    with result.applied(model), torch.no_grad():
        expected = model(**batch).logits
    for path in (by_name, given):
        reloaded = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        with torch.no_grad():
            assert reloaded(**AutoTokenizer.from_pretrained(path)("the old house", return_tensors="pt")).logits.equal(
                expected
            )
    with pytest.raises(RmuLabError, match="exists already"):
        result.save_model(by_name)


FRESH = """
import sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, out = sys.argv[1:]
ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
with torch.no_grad():
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits
    if "rmu_lab" in sys.modules:
        raise SystemExit("a checkpoint must do without this package")
    from lm_eval.models.huggingface import HFLM
    harness = HFLM(pretrained=folder, device="cpu", dtype="float32").model(ids).logits
save_file({"plain": plain, "harness": harness}, out)
"""


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_checkpoint_loads_in_a_fresh_process_with_transformers_and_lm_eval(family, tmp_path, tokenizer):
    pytest.importorskip("lm_eval")
    tiny_model(family).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model, tokenizer = load_model(tmp_path / "base", device="cpu")
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    folder = result.save_model(tmp_path / "unlearned", model, tokenizer)
    assert not list(folder.glob("*.bin")) and list(folder.glob("*.safetensors"))
    with result.applied(model), torch.no_grad():
        expected = model(**tokenizer("the old house", return_tensors="pt")).logits
    command = [sys.executable, "-c", FRESH, folder, "the old house", tmp_path / "logits.safetensors"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    for logits in load_file(tmp_path / "logits.safetensors").values():
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

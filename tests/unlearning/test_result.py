import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmu_lab import RmuLabError, UnlearnConfig, UnlearnResult, load_model, unlearn
from rmu_lab.unlearning.baselines import GradDiff
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_goes_from_the_base_model_through_the_edit_and_beyond(tokenizer, dtype):
    model = tiny_model("llama").to(dtype)
    before = weights_of(model)
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    assert all(matrix.equal(before[name].float()) for name, matrix in result.scaled(0.0, model).edit.items())
    assert all(matrix.equal(result.edit[name]) for name, matrix in result.scaled(1.0, model).edit.items())
    for strength in (-1.0, 0.25, 1.5):
        for name, matrix in result.scaled(strength, model).edit.items():
            base = before[name].float()
            torch.testing.assert_close(matrix - base, strength * (result.edit[name] - base), rtol=1e-4, atol=1e-6)
    assert result.scaled(0.5, model).provenance["scaled"] == 0.5
    with result.scaled(0.5, model).applied(model):
        assert not same_weights(model, before)
    assert same_weights(model, before)


def test_scaled_refuses_another_model_and_one_with_an_edit_in_it(tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    with pytest.raises(RmuLabError, match="give a finite number"):
        result.scaled(float("nan"), model)
    with pytest.raises(RmuLabError, match="not those that the edit was trained on"):
        result.scaled(0.5, tiny_model("llama", seed=1))
    with pytest.raises(RmuLabError, match="The edit is of a parameter"):
        result.scaled(0.5, tiny_model("gpt2"))
    with result.applied(model), pytest.raises(RmuLabError, match="An edit is in the model"):
        result.scaled(0.5, model)


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


def test_compact_files_are_small_and_give_the_edit_or_the_truncated_one(tmp_path, tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    result = unlearn(model, tokenizer, TEXTS[0], TEXTS[1], CONFIG)
    cut, path = result.truncated(2, model), result.save_compact(tmp_path / "low", model, rank=2)
    loaded = UnlearnResult.load(path, model)
    assert loaded.edit.keys() == cut.edit.keys() and loaded.directions["forget"].equal(result.directions["forget"])
    assert loaded.provenance["truncated"] == 2 and 0 < loaded.provenance["fidelity"] <= 1
    for name, matrix in loaded.edit.items():
        change = matrix - before[name]
        torch.testing.assert_close(matrix, cut.edit[name], atol=2e-3 * float(change.abs().max()), rtol=0)
    half = UnlearnResult.load(result.save_compact(tmp_path / "half", model), model)
    for name, matrix in half.edit.items():
        torch.testing.assert_close(matrix, result.edit[name], atol=1e-3 * float((matrix - before[name]).abs().max()), rtol=0)
    whole = result.save(tmp_path / "whole")
    assert (path / "edit.safetensors").stat().st_size < (whole / "edit.safetensors").stat().st_size / 4
    with loaded.applied(model):
        assert not same_weights(model, before)
        with pytest.raises(RmuLabError, match="An edit is in the model; revert it before loading"):
            UnlearnResult.load(path, model)
    assert same_weights(model, before)
    with pytest.raises(RmuLabError, match=r"holds what an edit adds.*give load.. the model"):
        UnlearnResult.load(path)
    with pytest.raises(RmuLabError, match="are not those that the edit was trained on"):
        UnlearnResult.load(path, tiny_model("llama", seed=1))
    with pytest.raises(RmuLabError, match="rank is 0"):
        result.save_compact(tmp_path / "none", model, rank=0)
    assert not (tmp_path / "none").exists()


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


def test_save_model_reloads_with_transformers(tmp_path, saved_base, monkeypatch):
    model, tokenizer = saved_base
    result = unlearn(model, tokenizer, *TEXTS, CONFIG)
    before = weights_of(model)
    monkeypatch.setattr("rmu_lab.unlearning.result.PACKAGED_MODELS", {result.model_name: "one of this package's"})
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


def test_save_model_loads_no_model_just_because_an_edit_names_it(tmp_path, saved_base, monkeypatch):
    model, tokenizer = saved_base
    foreign = UnlearnResult.load(unlearn(model, tokenizer, *TEXTS, CONFIG).save(tmp_path / "edit"))
    monkeypatch.setattr("rmu_lab.unlearning.result.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(RmuLabError, match=r"is of the model '.*base', which is not loaded.*save_model\(path, \*load"):
        foreign.save_model(tmp_path / "out")
    with pytest.raises(RmuLabError, match="The tokenizer is missing; give both, or neither"):
        foreign.save_model(tmp_path / "out", model)
    with pytest.raises(RmuLabError, match="The model is missing; give both, or neither"):
        foreign.save_model(tmp_path / "out", tokenizer=tokenizer)
    assert not (tmp_path / "out").exists()


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


# -- which model an edit is of, several edits, and interrupts ---------------------------------------------------------


def test_an_edit_goes_onto_its_own_base_model_only(tokenizer, tmp_path):
    """Another model of the same shapes is refused, or warned of when asked to; another type of the same one is not."""
    result = unlearn(tiny_model("llama"), tokenizer, *TEXTS, CONFIG, progress=False)
    loaded = UnlearnResult.load(result.save(tmp_path / "edit"))
    other = tiny_model("llama", seed=1)
    before = weights_of(other)
    for edit in (result, loaded):
        with pytest.raises(RmuLabError, match="are not those that the edit was trained on"):
            edit.apply(other)
        assert same_weights(other, before)
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            with edit.applied(tiny_model("llama").to(dtype)):
                pass
    with pytest.warns(UserWarning, match="are not those"):
        loaded.apply(other, other_base="warn")
    assert all(other.get_parameter(name).equal(matrix) for name, matrix in loaded.edit.items())


def test_records_from_before_there_was_a_fingerprint_still_load(tokenizer, tmp_path):
    model = tiny_model("llama")
    path = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False).save(tmp_path / "edit")
    record = json.loads((path / "result.json").read_text())
    del record["base"]
    (path / "result.json").write_text(json.dumps(record))
    with UnlearnResult.load(path).applied(model):
        pass


def test_edits_come_out_in_the_reverse_of_their_order(tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    first, second = (unlearn(model, tokenizer, *TEXTS, replace(CONFIG, seed=seed), progress=False) for seed in (0, 1))
    first.apply(model)
    with pytest.raises(RmuLabError, match="or another edit is in the model"):
        second.apply(model)
    with pytest.warns(UserWarning):
        second.apply(model, other_base="warn")
    with pytest.raises(RmuLabError, match="Another edit was applied to the model after this one"):
        first.revert(model)
    second.revert(model)
    first.revert(model)
    assert same_weights(model, before)


def test_a_second_block_of_the_same_edit_leaves_the_first_alone(tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    with result.applied(model):
        with pytest.raises(RmuLabError, match="in the model already"), result.applied(model):
            pass
        assert not same_weights(model, before)
    assert same_weights(model, before)


def test_results_are_compared_and_sent_to_a_process(tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    other = unlearn(model, tokenizer, *TEXTS, replace(CONFIG, seed=1), progress=False)
    with result.applied(model):
        again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
    assert again == result and result != other and result != "an edit"
    assert replace(result, edit={**result.edit, next(iter(result.edit)): torch.zeros(1)}) != result


def test_an_edit_that_overflows_is_refused(tokenizer):
    model = tiny_model("llama").to(torch.float16)
    before = weights_of(model)
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    name = next(iter(result.edit))
    large = replace(result, edit={**result.edit, name: torch.full_like(result.edit[name], 1e6)})
    with pytest.raises(RmuLabError, match=rf"The edit of {name} is not finite in torch.float16"):
        large.apply(model)
    assert same_weights(model, before)


INTERRUPTED = """
import os, signal, sys, threading, time
import torch
from rmu_lab import UnlearnResult
from tests.conftest import tiny_model
from rmu_lab.unlearning import result as module

signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background has it ignored
edit, wait = UnlearnResult.load(sys.argv[1]), float(sys.argv[2])
model = tiny_model("llama")
before = {name: value.clone() for name, value in model.state_dict().items()}
write = module.write_parameter
module.write_parameter = lambda *args: (time.sleep(0.002), write(*args))  # so that many interrupts come in between
threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
entered = False
try:
    while True:
        with edit.applied(model):
            entered = True
except KeyboardInterrupt:
    pass
assert entered and all(value.equal(before[name]) for name, value in model.state_dict().items())
"""


def test_ctrl_c_leaves_the_base_model_whenever_it_comes(tokenizer, tmp_path):
    """An edit of all matrices, whose writing takes a while."""
    config = GradDiff(max_length=16, steps=1, batch_size=2)
    path = unlearn(tiny_model("llama"), tokenizer, *TEXTS, config, progress=False).save(tmp_path / "edit")
    for number in range(6):
        run = [sys.executable, "-c", INTERRUPTED, str(path), str(0.3 + 0.0137 * number)]
        subprocess.run(run, check=True, cwd=Path(__file__).parent.parent.parent, timeout=120)

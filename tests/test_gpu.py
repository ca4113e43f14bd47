"""On a CUDA GPU, in bfloat16: the same as on the CPU, up to that type's precision. Skipped where there is none."""

import pytest
import torch

from rmu_lab import GCGConfig, UnlearnConfig, accuracy, gcg, load_model, sweep, unlearn
from rmu_lab.unlearning import frozen_passes
from rmu_lab.unlearning.window import WindowTraining
from tests.conftest import made_up_texts, tiny_model
from tests.test_evaluate import QUESTIONS
from tests.unlearning.successors.common import EVERY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
TEXTS = made_up_texts(12, seed=11), made_up_texts(12, seed=12)
SHORT = UnlearnConfig(layer=3, steps=6, batch_size=3, max_length=24, lr=1e-2, alpha=1.0)


@pytest.fixture
def model():
    return tiny_model("llama").to("cuda", torch.bfloat16)


def close(ours, theirs, tolerance):
    for name, matrix in theirs.items():
        assert (ours[name] - matrix).norm() <= tolerance * matrix.norm()


def test_unlearn_in_float32_is_that_of_the_cpu(tokenizer):
    expected = unlearn(tiny_model("llama"), tokenizer, *TEXTS, SHORT, progress=False)
    result = unlearn(tiny_model("llama").cuda(), tokenizer, *TEXTS, SHORT, progress=False)
    close(result.edit, expected.edit, 1e-3)
    assert result.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-3)


def test_unlearn_in_bfloat16_trains_float32_matrices(model, tokenizer):
    expected = unlearn(tiny_model("llama").bfloat16(), tokenizer, *TEXTS, SHORT, progress=False)
    result = unlearn(model, tokenizer, *TEXTS, SHORT, progress=False)
    assert all(matrix.dtype == torch.float32 and matrix.device.type == "cpu" for matrix in result.edit.values())
    assert result.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=5e-2)
    with result.applied(model):
        assert all(
            model.get_parameter(name).equal(matrix.to(model.device, model.dtype)) for name, matrix in result.edit.items()
        )


def test_frozen_passes_made_together_change_little(model, tokenizer, monkeypatch):
    """bfloat16 rounds a larger batch's sums differently."""
    together = unlearn(model, tokenizer, *TEXTS, SHORT, progress=False)
    monkeypatch.setattr(frozen_passes, "tokens_at_once", lambda _model: 0)
    close(together.edit, unlearn(model, tokenizer, *TEXTS, SHORT, progress=False).edit, 5e-2)


def test_compiled_window(model, tokenizer):
    plain, compiled = (unlearn(model, tokenizer, *TEXTS, SHORT, compile_window=on, progress=False) for on in (False, True))
    close(compiled.edit, plain.edit, 5e-2)


def test_one_wait_for_the_device_in_a_step_outside_the_model(model, tokenizer, monkeypatch):
    """Losses, targets, metrics and the optimiser leave the GPU to itself; what transformers does in the frozen pass is
    its own."""

    def free(function):
        def call(*args):
            torch.cuda.set_sync_debug_mode("default")
            try:
                return function(*args)
            finally:
                torch.cuda.set_sync_debug_mode("error")

        return call

    for name in ("run_frozen", "stored_pass", "record_batch"):
        monkeypatch.setattr(frozen_passes, name, free(getattr(frozen_passes, name)))
    monkeypatch.setattr(WindowTraining, "read", free(WindowTraining.read))
    monkeypatch.setattr(WindowTraining, "edit", lambda _self: torch.cuda.set_sync_debug_mode("default") or {})
    try:
        unlearn(model, tokenizer, *TEXTS, SHORT, progress=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_accuracy(model, tokenizer):
    score = accuracy(model, tokenizer, QUESTIONS, progress=False)
    on_cpu = accuracy(tiny_model("llama").bfloat16(), tokenizer, QUESTIONS, progress=False)
    agree = sum(ours == theirs for ours, theirs in zip(score.predictions, on_cpu.predictions, strict=True))
    assert agree >= len(QUESTIONS) - 2


def test_sweep(model, tokenizer, tmp_path):
    rows = sweep(model, tokenizer, *TEXTS, [SHORT], {"one": QUESTIONS}, out=tmp_path / "rows.jsonl", progress=False)
    result = unlearn(model, tokenizer, *TEXTS, SHORT, progress=False)
    assert rows[1].last["loss"] == pytest.approx(result.history[-1]["loss"], rel=5e-2)


def test_gcg(model, tokenizer):
    config = GCGConfig(num_steps=3, search_width=16, topk=16, suffix=" the old sea", chat_template=False)
    result = gcg(model, tokenizer, "the sea?", " a cold river", config, progress=False)
    assert len(result.steps) == 3 and result.best_loss <= result.initial_loss


def test_offloaded_to_the_cpu(tokenizer, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    places = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 0, "lm_head": 0}
    places |= {f"model.layers.{index}": "cpu" if index in (1, 3) else 0 for index in range(5)}
    spread, _ = load_model(tmp_path / "base", device_map=places, dtype=torch.float32)
    plain, _ = load_model(tmp_path / "base", device="cuda", dtype=torch.float32)
    expected, result = (unlearn(one, tokenizer, *TEXTS, SHORT, progress=False) for one in (plain, spread))
    close(result.edit, expected.edit, 1e-3)
    with result.applied(spread), expected.applied(plain):
        assert accuracy(spread, tokenizer, QUESTIONS, progress=False) == accuracy(
            plain, tokenizer, QUESTIONS, progress=False
        )


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.method)
def test_successors_are_those_of_the_cpu(config, tokenizer):
    expected = unlearn(tiny_model("llama"), tokenizer, *TEXTS, config, progress=False)
    result = unlearn(tiny_model("llama").cuda(), tokenizer, *TEXTS, config, progress=False)
    close(result.edit, expected.edit, 1e-3)
    assert result.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-3)
    assert all(u.device.type == "cpu" for u in result.directions.values())
    low = unlearn(tiny_model("llama").to("cuda", torch.bfloat16), tokenizer, *TEXTS, config, progress=False)
    assert all(matrix.dtype == torch.float32 and matrix.device.type == "cpu" for matrix in low.edit.values())
    assert low.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=0.1)

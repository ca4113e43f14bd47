"""Nothing depends on what the caller has set in torch, nor on the model's mode; and nothing of it is changed."""

from contextlib import ExitStack, contextmanager

import pytest
import torch

from rmu_lab import UnlearnConfig, accuracy, advise, answers, max_logits, sweep, token_states, unlearn
from rmu_lab.attacks.fine_tune import RelearnConfig, fine_tuning, relearning_batches
from rmu_lab.torch_state import in_default_torch_state
from rmu_lab.unlearning.baselines import NPO, SSD
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS

TEXTS = made_up_texts(8, seed=21), made_up_texts(8, seed=22)
SHORT = {"max_length": 16, "steps": 3, "batch_size": 2, "lr": 1e-2}
CONFIGS = [UnlearnConfig(layer=3, retain_noise=0.1, **SHORT), NPO(**SHORT), SSD(max_length=16, texts=3, threshold=2)]


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": lambda: default_dtype(torch.float64),
}


def state():
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
    )


@pytest.fixture(params=AMBIENT)
def ambient(request):
    return AMBIENT[request.param]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
def test_unlearn_gives_the_same_edit(config, ambient, tokenizer):
    model = tiny_model("llama")
    plain = unlearn(model, tokenizer, *TEXTS, config, progress=False)
    with ambient():
        before = state()
        found = unlearn(model, tokenizer, *TEXTS, config, progress=False)
        assert state() == before
    assert found.history == plain.history
    assert all(matrix.equal(plain.edit[name]) for name, matrix in found.edit.items())


def test_measuring_gives_the_same_numbers(ambient, tokenizer, tmp_path):
    model = tiny_model("llama")

    def measured():
        states = token_states(model, tokenizer, TEXTS[0], [2]).hidden[2]
        logits = max_logits(model, tokenizer, TEXTS[0][:2], new_tokens=3).logit
        written = answers(model, tokenizer, ["the sea?"], max_new_tokens=4)
        advice = advise(model, tokenizer, *TEXTS)
        batches = relearning_batches(tokenizer, TEXTS[0], RelearnConfig(steps=(2,), batch_size=2, max_length=16))
        with fine_tuning(model, 1e-3, progress=False) as learn:
            losses = learn(batches)
            taught = accuracy(model, tokenizer, QUESTIONS, progress=False)
        return states, logits, (accuracy(model, tokenizer, QUESTIONS, progress=False), taught, losses, written, advice.layer)

    plain = measured()
    with ambient():
        found = measured()
    assert found[0].equal(plain[0]) and found[1].equal(plain[1]) and found[2] == plain[2]


def test_between_results_the_callers_state_is_back():
    @in_default_torch_state
    def count():
        for _ in range(2):
            yield state()

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        outside = state()
        for inside in count():
            assert inside == (False, True, False, torch.float32) and state() == outside


def test_a_model_in_training_mode_is_measured_without_dropout(tokenizer, tmp_path):
    """... and stays in training mode."""
    changes = {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5}
    model, calm = tiny_model("gpt2", **changes).train(), tiny_model("gpt2", **changes)
    assert accuracy(model, tokenizer, QUESTIONS, progress=False) == accuracy(calm, tokenizer, QUESTIONS, progress=False)
    ours, theirs = (token_states(each, tokenizer, TEXTS[0], [2]).hidden[2] for each in (model, calm))
    assert ours.equal(theirs)
    assert answers(model, tokenizer, ["the sea?"]) == answers(calm, tokenizer, ["the sea?"])
    assert (
        max_logits(model, tokenizer, TEXTS[0][:2])
        .logit.nan_to_num()
        .equal(max_logits(calm, tokenizer, TEXTS[0][:2]).logit.nan_to_num())
    )
    config = UnlearnConfig(layer=3, **SHORT)
    rows = [
        sweep(each, tokenizer, *TEXTS, [config], {"one": QUESTIONS}, out=tmp_path / f"{name}.jsonl", progress=False)
        for name, each in (("ours", model), ("theirs", calm))
    ]
    assert [row.scores for row in rows[0]] == [row.scores for row in rows[1]]
    assert all(module.training for module in model.modules()) and not any(module.training for module in calm.modules())


def test_another_launchers_world_size_is_no_torchrun(monkeypatch, tokenizer):
    """Slurm and MPI set it in every process, whatever that is for."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    model = tiny_model("llama")
    before = weights_of(model)
    with ExitStack() as stack:
        stack.enter_context(unlearn(model, tokenizer, *TEXTS, CONFIGS[0], progress=False).applied(model))
    assert same_weights(model, before)

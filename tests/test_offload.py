"""Models that accelerate spreads: here over the CPU's memory and the disk; the code for GPUs is the same."""

import accelerate
import pytest
import torch
from transformers import AutoModelForCausalLM

from rmu_lab import RmuLabError, UnlearnConfig, accuracy, answers, load_model, sweep, theory, unlearn
from rmu_lab.attacks import ATTACKS, Budget, RelearnConfig, Subject, gcg, relearn, swap_gains
from rmu_lab.attacks.suffixes import reply
from rmu_lab.models import input_device
from rmu_lab.offload import is_offloaded, read_parameter, whole_module
from rmu_lab.unlearning import frozen_passes
from rmu_lab.unlearning.baselines import NPO, SSD
from rmu_lab.unlearning.successors import CIR, MCURMU, ClosedFormRMU, RankOneRMU
from tests.attacks.conftest import DEV
from tests.attacks.conftest import QUESTIONS as ASKED
from tests.conftest import FAMILIES, made_up_texts, tiny_model
from tests.test_evaluate import QUESTIONS

TEXTS = made_up_texts(12, seed=21), made_up_texts(12, seed=22)
CONFIG = UnlearnConfig(layer=3, steps=5, batch_size=3, max_length=24, lr=1e-2, alpha=1.0)
MAP = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
MAP |= {f"model.layers.{index}": place for index, place in enumerate(["disk", "cpu", "disk", "disk", "disk"])}


@pytest.fixture
def saved(tmp_path, tokenizer):
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def on_disk(saved, tmp_path):
    model, tokenizer = load_model(saved, device_map=MAP, offload_folder=tmp_path / "offload")
    assert model.hf_device_map["model.layers.3"] == "disk" and is_offloaded(model)
    return model, tokenizer


def same_edit(ours, theirs):
    assert ours.edit.keys() == theirs.edit.keys()
    for name, matrix in theirs.edit.items():
        torch.testing.assert_close(ours.edit[name], matrix, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [MCURMU, CIR, RankOneRMU])
def test_successors_train_what_lies_on_disk(kind, saved, tmp_path):
    plain, tokenizer = load_model(saved, device="cpu")
    spread, _ = on_disk(saved, tmp_path)
    config = kind(layer=3, steps=3, batch_size=3, max_length=24, lr=1e-2, alpha=1.0)
    expected, result = (unlearn(model, tokenizer, *TEXTS, config, progress=False) for model in (plain, spread))
    same_edit(result, expected)
    with pytest.raises(RmuLabError, match="closed_form_rmu"):
        unlearn(spread, tokenizer, *TEXTS, ClosedFormRMU(layer=3), progress=False)


def test_unlearned_applied_scored_and_saved_like_a_plain_model(saved, tmp_path):
    """The window has blocks on disk and in memory; the edit, the answers and the checkpoint are those of a plain model."""
    plain, tokenizer = load_model(saved, device="cpu")
    spread, _ = on_disk(saved, tmp_path)
    expected, result = (unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False) for model in (plain, spread))
    same_edit(result, expected)
    assert is_offloaded(spread)
    before = {name: read_parameter(spread, name).clone() for name in result.edit}
    ids = tokenizer("the old house by the sea", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        base = spread(ids).logits
        with result.applied(spread), expected.applied(plain):
            torch.testing.assert_close(spread(ids).logits, plain(ids).logits)
            assert not torch.allclose(spread(ids).logits, base, atol=1e-3)
            scores = [accuracy(model, tokenizer, QUESTIONS, progress=False) for model in (spread, plain)]
        assert scores[0] == scores[1]
        assert spread(ids).logits.equal(base)  # and reverted
    assert all(read_parameter(spread, name).equal(matrix) for name, matrix in before.items())
    result.save_model(tmp_path / "out", spread, tokenizer)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for name, matrix in result.edit.items():
        assert reloaded.get_parameter(name).equal(matrix)
    for name, parameter in plain.named_parameters():
        assert name in result.edit or reloaded.get_parameter(name).equal(parameter)


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_offloaded_in_every_family(family, tokenizer):
    """Kept in the CPU's memory, as weights that do not fit a GPU are, embedding included."""
    expected = unlearn(tiny_model(family), tokenizer, *TEXTS, CONFIG, progress=False)
    model = accelerate.cpu_offload(tiny_model(family), execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters()) and input_device(model).type == "cpu"
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    same_edit(result, expected)
    with result.applied(model):
        assert all(read_parameter(model, name).equal(matrix) for name, matrix in result.edit.items())


def test_bfloat16_stays_bfloat16(saved, tmp_path):
    model, tokenizer = load_model(saved, device_map=MAP, dtype=torch.bfloat16, offload_folder=tmp_path / "offload")
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    with result.applied(model):
        for name, matrix in result.edit.items():
            assert read_parameter(model, name).equal(matrix.bfloat16())


def test_whole_modules_share_what_is_in_place(saved, tmp_path):
    model, _ = on_disk(saved, tmp_path)
    in_memory, elsewhere = (whole_module(model.model.layers[index], torch.device("cpu")) for index in (1, 3))
    assert in_memory.mlp.down_proj.weight is model.model.layers[1].mlp.down_proj.weight
    assert not is_offloaded(elsewhere) and is_offloaded(model.model.layers[3])
    assert not any(hasattr(module, "_hf_hook") for block in (in_memory, elsewhere) for module in block.modules())


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_passes_made_together_change_nothing(family, padding_side, tokenizer, monkeypatch):
    """Texts cut to one length, so that several batches fit one pass; and texts that come round again."""
    model = tiny_model(family)
    settings = CONFIG.to_dict() | {"steps": 9, "max_length": 12, "padding_side": padding_side, "count_padding": True}
    config = UnlearnConfig(**settings)
    texts = made_up_texts(12, seed=21, least=14), made_up_texts(12, seed=22, least=14)
    texts[1][4] = "the sea"  # one batch that holds padding
    expected = unlearn(model, tokenizer, *texts, config, progress=False)
    passes = []
    record = frozen_passes.record_batch
    monkeypatch.setattr(frozen_passes, "record_batch", lambda *args: passes.append(len(args[1].input_ids)) or record(*args))
    monkeypatch.setattr(frozen_passes, "tokens_at_once", lambda _model: 12 * 3 * 3)
    result = unlearn(model, tokenizer, *texts, config, progress=False)
    assert sum(passes) == 24 and max(passes) == 9  # 8 different batches of 3 texts, up to three at a time
    same_edit(result, expected)


def test_errors(saved, tmp_path):
    with pytest.raises(RmuLabError, match="give one of them"):
        load_model(saved, device="cpu", device_map="auto")
    model, tokenizer = on_disk(saved, tmp_path)
    with pytest.raises(RmuLabError, match="offloaded"):
        sweep(model, tokenizer, *TEXTS, [CONFIG], {"one": QUESTIONS}, out=tmp_path / "rows.jsonl")
    model.model.layers[3].mlp.down_proj._hf_hook.weights_map = None
    with pytest.raises(RmuLabError, match="has no values in this model"):
        read_parameter(model, "model.layers.3.mlp.down_proj.weight")


# ---------------------------------------------------------------------------------------------------------------------
# All else on offloaded models: right, or refused before any work


@pytest.fixture
def pair(tokenizer):
    """The same model in memory and offloaded, and an edit."""
    plain = tiny_model("llama")
    result = unlearn(plain, tokenizer, *TEXTS, CONFIG, progress=False)
    return plain, accelerate.cpu_offload(tiny_model("llama"), execution_device=torch.device("cpu")), result


@pytest.mark.parametrize("attack", ["ablate a direction", "logit lens", "quantise to 4 bits", "prefilled", "few-shot"])
def test_attacks_that_need_no_training_are_those_on_a_plain_model(attack, pair, tokenizer):
    *both, result = pair
    material = {"forget": TEXTS[0], "dev_questions": DEV, "n_generations": 1}
    plain, spread = (
        ATTACKS[attack].run(Subject(model, tokenizer, result, ASKED, **material), Budget(progress=False)) for model in both
    )
    assert spread.attacked == plain.attacked and spread.generations == plain.generations
    assert spread.controls == plain.controls


def test_unlearned_after_it_was_scored(pair, tokenizer):
    _, spread, result = pair
    accuracy(spread, tokenizer, QUESTIONS, progress=False)
    same_edit(unlearn(spread, tokenizer, *TEXTS, CONFIG, progress=False), result)


def test_answers_are_those_of_a_plain_model(pair, tokenizer):
    plain, spread, _ = pair
    assert answers(spread, tokenizer, ["the sea?"]) == answers(plain, tokenizer, ["the sea?"])
    assert reply(spread, tokenizer, "the sea", " x x") == reply(plain, tokenizer, "the sea", " x x")


@pytest.mark.parametrize("config", [NPO(batch_size=3), SSD()], ids=lambda config: config.method)
def test_other_methods_are_refused(config, pair, tokenizer):
    with pytest.raises(RmuLabError, match=f"offloaded, and {config.method} needs them all at hand; load it without"):
        unlearn(pair[1], tokenizer, *TEXTS, config, progress=False)


def test_what_needs_all_weights_is_refused_before_any_work(pair, tokenizer):
    _, spread, result = pair
    passes = []
    spread.register_forward_pre_hook(lambda *_: passes.append(1))
    subject = Subject(spread, tokenizer, result, QUESTIONS, retain=TEXTS[1])
    u, of_one = torch.ones(32), {"layer": 3, "direction": torch.ones(32)}
    for call in (
        lambda: relearn(subject, Budget(progress=False), config=RelearnConfig(batch_size=2)),
        lambda: gcg(spread, tokenizer, "the sea", " cold", progress=False),
        lambda: swap_gains(spread, tokenizer, "the sea", " cold"),
        lambda: theory.predicted_logits(spread, tokenizer, "the sea", coefficient=1, eta=1, **of_one),
        lambda: theory.simulated_logits(spread, tokenizer, "the sea", coefficient=1, eta=1, n=2, **of_one),
        lambda: theory.noise_sensitivity(spread, tokenizer, ["the sea"], layer=2, to_layers=[3], noise=1.0),
        lambda: theory.optimal_coefficient(spread, tokenizer, "the sea", to_layer=4, representation=u, **of_one),
    ):
        with pytest.raises(RmuLabError, match="needs them all at hand"):
            call()
    assert not passes and is_offloaded(spread)

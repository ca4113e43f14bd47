"""Which float32 product is used on a CPU: the fastest that stays float32, and what the caller had set afterwards."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from rmu_lab import (
    RmuLabError,
    UnlearnConfig,
    accuracy,
    float32_matmul,
    load_corpus,
    load_model,
    load_questions,
    token_states,
    unlearn,
)
from rmu_lab import matmul as module
from rmu_lab.matmul import TOLERANCE, VARIABLE, chosen_matmul
from rmu_lab.models import usable_dtype
from rmu_lab.provenance import provenance
from rmu_lab.torch_state import default_torch_state
from tests.conftest import made_up_texts, tiny_model

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
settings = torch.backends.mkldnn.matmul
_WAYS = {"none": "none", "ieee": "default", "bf16": "onednn"}


@pytest.fixture(autouse=True)
def _no_choice_from_outside(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def pretend(monkeypatch, seconds: dict[str, float], rounded: bool = False) -> None:
    """Let products take so long, and lose precision with oneDNN as on a processor with AMX."""
    clock, real = [0.0], torch.matmul

    def product(left, right):
        before, settings.fp32_precision = settings.fp32_precision, "ieee"  # exact here, even where this machine has AMX
        try:
            return real(left, right)
        finally:
            settings.fp32_precision = before

    def timed(left, right):
        way = "bfloat16" if left.dtype == torch.bfloat16 else _WAYS[settings.fp32_precision]
        clock[0] += seconds.get(way, 0.0)
        if rounded and way == "onednn":
            return product(left.bfloat16().float(), right.bfloat16().float())
        return product(left, right)

    monkeypatch.setattr("rmu_lab.matmul.torch.matmul", timed)
    monkeypatch.setattr("rmu_lab.matmul.time.perf_counter", lambda: clock[0])


@needs_onednn
@pytest.mark.parametrize(
    ("seconds", "rounded", "fastest"),
    [
        ({"default": 2.0, "onednn": 1.0}, False, "onednn"),
        ({"default": 2.0, "onednn": 1.0}, True, "default"),
        ({"default": 1.3, "onednn": 1.0}, False, "default"),
        ({"default": 1.0, "onednn": 2.0}, False, "default"),
    ],
)
def test_the_fastest_that_stays_float32_is_chosen(monkeypatch, seconds, rounded, fastest):
    pretend(monkeypatch, seconds, rounded)
    assert module._fastest.__wrapped__() == fastest
    assert settings.fp32_precision == "none"


@needs_onednn
def test_bfloat16_is_faster_where_it_beats_the_float32_that_is_chosen(monkeypatch):
    monkeypatch.setattr(module, "_fastest", lambda: "onednn")
    for bfloat16, faster in ((0.5, True), (0.9, False)):
        pretend(monkeypatch, {"default": 2.0, "onednn": 1.0, "bfloat16": bfloat16})
        assert module.bfloat16_is_faster.__wrapped__() is faster
        monkeypatch.undo()
        monkeypatch.setattr(module, "_fastest", lambda: "onednn")


def test_the_type_of_a_models_weights(monkeypatch, capsys):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert usable_dtype(None, cpu) == torch.float32 and usable_dtype(None, cuda) == torch.bfloat16
    assert usable_dtype("float16", cpu) == usable_dtype(torch.float16, cuda) == torch.float16
    for faster, dtype, word in ((True, torch.bfloat16, ""), (False, torch.float32, "no faster in bfloat16")):
        monkeypatch.setattr("rmu_lab.models.bfloat16_is_faster", lambda faster=faster: faster)
        assert usable_dtype("auto", cpu) == dtype and usable_dtype("auto", cuda) == torch.bfloat16
        printed = capsys.readouterr()
        assert word in printed.err and not printed.out and bool(printed.err) == bool(word)
    for wrong in ("int8", "float8_e4m3fn", "nn", "", torch.int64):
        with pytest.raises(RmuLabError, match="give 'float32', 'bfloat16', 'float16', or 'auto'"):
            usable_dtype(wrong, cpu)


@pytest.mark.slow
def test_bfloat16_answers_as_float32_does(smollm2):
    """At least 98% of the questions, and no accuracy leaves the other's interval; before an edit and after it."""
    model, tokenizer = smollm2
    rounded, _ = load_model(device="cpu", dtype="bfloat16")
    asked = {name: load_questions(name, "test").select(range(75)) for name in ("bio", "general")}
    config = UnlearnConfig(steps=20, max_length=48)
    edit = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"), config, progress=False)
    same = []
    for context in (nullcontext, edit.applied):
        for rows in asked.values():
            scores = []
            for each in (model, rounded):
                with context(each):
                    scores.append(accuracy(each, tokenizer, rows, progress=False))
            same += [one == other for one, other in zip(*(score.predictions for score in scores), strict=True)]
            assert scores[0].interval[0] <= scores[1].accuracy <= scores[0].interval[1]
    assert sum(same) >= 0.98 * len(same)


@needs_onednn
def test_what_is_chosen_holds_inside_the_package_only(monkeypatch):
    assert settings.fp32_precision == "none"
    for choice, name in (("default", "ieee"), ("reduced", "bf16")):
        with float32_matmul(choice):
            assert settings.fp32_precision == "none"
            with default_torch_state():
                assert settings.fp32_precision == name
                with default_torch_state():
                    assert settings.fp32_precision == name
                assert settings.fp32_precision == name
        assert settings.fp32_precision == "none"
        monkeypatch.setenv(VARIABLE, choice)
        with pytest.raises(ZeroDivisionError), default_torch_state():
            assert settings.fp32_precision == name
            1 / 0  # noqa: B018
        assert settings.fp32_precision == "none"


@needs_onednn
def test_the_argument_goes_before_the_variable_and_stands_in_the_provenance(monkeypatch):
    monkeypatch.setenv(VARIABLE, "default")
    with float32_matmul("reduced"):
        assert chosen_matmul() == provenance()["machine"]["float32 product"] == "onednn"
    assert chosen_matmul() == provenance()["machine"]["float32 product"] == "default"
    monkeypatch.delenv(VARIABLE)
    assert chosen_matmul() == module._fastest()


def test_unknown_choices_are_refused(monkeypatch):
    with (
        pytest.raises(RmuLabError, match="float32_matmul is 'fast'; use one of 'auto', 'default', 'reduced'"),
        float32_matmul("fast"),
    ):
        pass
    monkeypatch.setenv(VARIABLE, "quick")
    with pytest.raises(RmuLabError, match="RMU_LAB_MATMUL is 'quick'"):
        chosen_matmul()


def test_hidden_states_are_those_of_torchs_default(tokenizer):
    """Whatever `auto` finds here, float32 is float32."""
    texts = made_up_texts(6, seed=1)
    for family in ("llama", "gemma3"):
        model = tiny_model(family, hidden_size=256, intermediate_size=512)
        found = {}
        for choice in ("default", "auto"):
            with float32_matmul(choice):
                found[choice] = token_states(model, tokenizer, texts, [3]).hidden[3]
        error = (found["auto"] - found["default"]).norm() / found["default"].norm()
        assert error <= TOLERANCE


def test_another_process_chooses_alike():
    """So that the same seed gives the same bits on the same machine."""
    code = "from rmu_lab.matmul import chosen_matmul; print(chosen_matmul())"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == chosen_matmul()

"""Two processes that torchrun starts give the edit of one; gloo on the CPU stands in for NCCL between GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from rmu_lab import UnlearnConfig, UnlearnResult, unlearn
from rmu_lab.corpora import TokenBatch
from rmu_lab.unlearning.distributed import SINGLE_PROCESS, Processes, launched_processes
from tests.conftest import made_up_texts, tiny_model

FORGET = {"one": made_up_texts(11, seed=1), "two": made_up_texts(9, seed=2)}  # the last batches are smaller: 2 and 1 texts
RETAIN = made_up_texts(10, seed=3)
BASE = {"layer": 3, "steps": 8, "batch_size": 3, "max_length": 24, "lr": 1e-2, "alpha": 1.0}
SETTINGS = {
    "default": {},
    "published": UnlearnConfig.published().to_dict() | {"max_length": 24},
    "per text, with noise": {"loss_per": "text", "retain_noise": 0.3, "norm_per": "token"},
    "rmu": {"method": "rmu", "coefficient": 20.0},
}


def config(name):
    return UnlearnConfig(**UnlearnConfig().to_dict() | SETTINGS[name] | BASE)


PROGRAM = """
import sys
from pathlib import Path
from transformers import AutoTokenizer
from rmu_lab import unlearn
from tests.conftest import tiny_model
from tests.unlearning.test_distributed import FORGET, RETAIN, SETTINGS, config
folder = Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
for name in SETTINGS:
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, FORGET, RETAIN, config(name))
    result.save(folder / name)
    assert (folder / name).is_dir()  # whoever writes it, all go on only when it is there
result.save_model(folder / "model", model, tokenizer)
"""


def torchrun(program: str, processes: int, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    where = Path(__file__).parents[2]
    script = Path(arguments[0]) / "program.py"
    script.write_text(program)
    environment["PYTHONPATH"] = str(where)
    return subprocess.run(
        list(map(str, [*command, script, *arguments])), capture_output=True, text=True, env=environment, cwd=where
    )


def test_two_processes_give_the_edit_of_one(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    outcome = torchrun(PROGRAM, 2, tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    for name in SETTINGS:
        expected = unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, config(name), progress=False)
        result = UnlearnResult.load(tmp_path / name)
        for key, matrix in expected.edit.items():
            assert (result.edit[key] - matrix).norm() <= 1e-5 * matrix.norm(), name
        for ours, theirs in zip(result.history, expected.history, strict=True):
            assert ours == {
                key: value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)
                for key, value in theirs.items()
            }, name
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(written.get_parameter(name).equal(matrix) for name, matrix in result.edit.items())
    assert {path.name for path in tmp_path.iterdir()} == {*SETTINGS, "tokenizer", "model", "program.py"}


def test_an_error_ends_all_processes(tokenizer, tmp_path):
    """The one that writes finds the folder taken; the other, which waits for it, must not wait forever."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "default").mkdir()
    outcome = torchrun(PROGRAM, 2, tmp_path)
    assert outcome.returncode != 0 and "exists already" in outcome.stderr


OTHER_METHODS = """
import sys
from rmu_lab import RmuLabError, unlearn
from rmu_lab.unlearning.baselines import NPO, SSD
from rmu_lab.unlearning.distributed import launched_processes
from tests.conftest import tiny_model
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1] + "/tokenizer")
for config in (NPO(steps=1), SSD()):
    try:
        unlearn(tiny_model("llama"), tokenizer, ["the sea"] * 4, ["the old sea"] * 4, config, progress=False)
        sys.exit(f"{config.method} was trained twice over")
    except RmuLabError as error:
        assert f"{config.method} trains in one process, but there are 2; start it without torchrun" in str(error)
launched_processes().barrier()  # an error in one process would end the other
"""


def test_other_methods_refuse_several_processes(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    outcome = torchrun(OTHER_METHODS, 2, tmp_path)
    assert outcome.returncode == 0, outcome.stderr


@given(texts=st.integers(1, 7), size=st.integers(1, 5), tokens=st.integers(2, 9), data=st.data())
def test_shares_make_up_the_batch(texts, size, tokens, data):
    """Weighted means over the shares add up to the mean over the batch, of texts and of tokens."""
    lengths = data.draw(st.lists(st.integers(2, tokens), min_size=texts, max_size=texts))
    mask = (torch.arange(tokens) < torch.tensor(lengths)[:, None]).long()
    batch = TokenBatch(torch.arange(texts * tokens).reshape(texts, tokens), mask)
    counted = batch.counted()
    shares = [Processes(rank, size).share(batch, counted) for rank in range(size)]
    assert sum(share.text_fraction for share in shares) == pytest.approx(1) == sum(share.token_fraction for share in shares)
    working = [share for share in shares if share.token_fraction]
    assert sorted(torch.cat([share.batch.input_ids[:, 0] for share in working]).tolist()) == batch.input_ids[:, 0].tolist()
    assert all(len(share.batch.input_ids) for share in shares)
    values = batch.input_ids.double()
    mean = sum(share.token_fraction * values[share.rows][counted[share.rows]].mean() for share in shares)
    torch.testing.assert_close(mean, values[counted].mean())


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched_processes() is SINGLE_PROCESS and SINGLE_PROCESS.main_process
    values = [torch.ones(2)]
    SINGLE_PROCESS.all_reduce(values)
    SINGLE_PROCESS.barrier()
    assert values[0].tolist() == [1, 1]

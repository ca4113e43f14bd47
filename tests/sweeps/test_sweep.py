import copy
import dataclasses
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from tokenizers import normalizers

from benchmarks.published_loop import published_loop
from rmu_lab import RmuLabError, UnlearnConfig, accuracy, decoder_blocks, grid, load_sweep, sweep, unlearn
from rmu_lab.models import block_parameters
from rmu_lab.sweeps import worker
from rmu_lab.sweeps.worker import Job, Worker
from rmu_lab.unlearning.baselines import NPO, SSD
from rmu_lab.unlearning.batches import topic_texts
from rmu_lab.unlearning.directions import random_directions
from rmu_lab.unlearning.method_table import METHODS
from tests.conftest import FAMILIES, made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS

FORGET, RETAIN = made_up_texts(12, seed=11), made_up_texts(12, seed=12)
SHORT = UnlearnConfig(layer=3, steps=5, batch_size=3, max_length=24, lr=1e-2, alpha=1.0)
ASKED = {"one": QUESTIONS[:5], "two": QUESTIONS[5:]}


def facts(row):
    """Everything in a row but times."""
    plain = row.to_dict()
    return {name: value for name, value in plain.items() if name not in ("seconds", "provenance")}


def plain_row(model, tokenizer, config, forget=FORGET, retain=RETAIN):
    result = unlearn(model, tokenizer, forget, retain, config, progress=False)
    with result.applied(model):
        return result, {name: accuracy(model, tokenizer, rows, progress=False) for name, rows in ASKED.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_plain_unlearn_and_accuracy(family, tokenizer, tmp_path):
    """Every family, every layer, both methods, two kinds of batch; activations in memory, on disk, or both."""
    model = tiny_model(family)
    before = weights_of(model)
    configs = grid(base=SHORT, max_length=[24, 12], layer=[4, 2], method=["rmu", "adaptive_rmu"])
    rows = sweep(model, tokenizer, FORGET, RETAIN, configs, ASKED, out=tmp_path / "rows.jsonl", memory_bytes=100_000)
    assert same_weights(model, before)
    assert [row.config for row in rows] == [None, *configs]
    assert rows[0].scores == {name: accuracy(model, tokenizer, asked, progress=False) for name, asked in ASKED.items()}
    for row in rows[1:]:
        result, scores = plain_row(model, tokenizer, row.config)
        assert row.scores == scores
        assert row.first == pytest.approx(result.history[0]) and row.last == pytest.approx(result.history[-1])
    assert sorted(map(str, load_sweep(tmp_path / "rows.jsonl"))) == sorted(map(str, rows))
    assert {path.name for path in tmp_path.iterdir()} <= {"rows.jsonl", ".rows.jsonl.lock"}


@pytest.mark.parametrize("method", ["rmu", "adaptive_rmu"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gpt_neox"])
def test_published_settings_equal_the_published_loop(family, method, tokenizer, tmp_path):
    """The matrices behind a row are those of two full models with hooks, and so are its answers."""
    model = tiny_model(family)
    before = weights_of(model)
    # Larger steps than published, and many questions: some of the tiny model's answers are to change.
    asked = {"many": [QUESTIONS[index % 9] | {"question": text} for index, text in enumerate(made_up_texts(80, seed=6))]}
    config = UnlearnConfig.published(
        method=method, coefficient=30.0, layer=3, steps=8, batch_size=3, max_length=24, lr=2e-2, alpha=1.0
    )
    forget, retain = {"one": FORGET, "two": RETAIN}, {"one": RETAIN, "two": FORGET}
    (name,) = block_parameters(model, config.window, None)[3]
    directions = random_directions(forget, 32, config.seed)
    expected = published_loop(model, tokenizer, decoder_blocks, forget, retain, directions, config, name)

    texts = topic_texts(forget, retain, 3)
    with Worker(
        Job(model, tokenizer, texts, asked, (config,), "cloze", 16, 10_000, str(tmp_path), "a-", {}, "", False)
    ) as one:
        (training,) = one.train([config])
    edit = training.edit
    for matrix, (full_name, ours) in zip(expected, edit.items(), strict=True):
        assert (ours - matrix).norm() <= 1e-5 * matrix.norm()
        assert (ours - matrix).norm() <= 1e-3 * (matrix - before[full_name]).norm()

    base, row = sweep(model, tokenizer, forget, retain, [config], asked, out=tmp_path / "rows.jsonl")
    with torch.no_grad():
        for index, matrix in zip(config.window, expected, strict=True):
            decoder_blocks(model)[index].get_parameter(name).copy_(matrix)
    assert row.scores["many"] == accuracy(model, tokenizer, asked["many"], progress=False)
    assert row.scores != base.scores


def test_finished_rows_are_not_made_again(tokenizer, tmp_path, monkeypatch):
    model, out = tiny_model("llama"), tmp_path / "rows.jsonl"
    trained = []
    train = Worker.train
    monkeypatch.setattr(Worker, "train", lambda self, configs: trained.extend(configs) or train(self, configs))
    first = grid(base=SHORT, layer=[2, 3])
    rows = sweep(model, tokenizer, FORGET, RETAIN, first, ASKED, out=out)
    assert trained == first
    again = sweep(model, tokenizer, FORGET, RETAIN, [*grid(base=SHORT, layer=[4]), *first, *first], ASKED, out=out)
    assert [config.layer for config in trained] == [2, 3, 4]
    assert again[0] == rows[0] and again[2:] == rows[1:]
    monkeypatch.setattr(worker, "accuracy", lambda *_, **__: pytest.fail("nothing is left to do"))
    assert sweep(model, tokenizer, FORGET, RETAIN, first, ASKED, out=out) == rows


def test_other_data_model_or_style_are_other_rows(tokenizer, tmp_path):
    out = tmp_path / "rows.jsonl"

    def key(model=None, retain=RETAIN, asked=ASKED, style="cloze", tokenizer=tokenizer):
        rows = sweep(model or tiny_model("llama"), tokenizer, FORGET, retain, [SHORT], asked, out=out, style=style)
        return rows[1].key

    same = key()
    assert same == key()
    changed = tiny_model("llama")
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    turned = tiny_model("llama", rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    assert same_weights(turned, weights_of(tiny_model("llama")))
    backward = copy.deepcopy(tokenizer)
    backward.backend_tokenizer.normalizer = normalizers.Lowercase()
    others = [key(changed), key(turned), key(tokenizer=backward)]
    others += [key(retain=FORGET), key(asked={"one": QUESTIONS}), key(style="letter")]
    assert len({same, *others}) == 7
    assert len(load_sweep(out)) == 14


PROGRAM = """
import sys
from tests.conftest import tiny_model
from tests.sweeps.test_sweep import CONFIGS, FORGET, RETAIN, ASKED, sweep
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
sweep(tiny_model("llama"), tokenizer, FORGET, RETAIN, CONFIGS, ASKED, out=sys.argv[2], memory_bytes=50_000)
"""
CONFIGS = grid(base=SHORT, layer=[2, 3, 4], seed=range(8))


def test_killed_at_a_random_point_and_resumed_equals_uninterrupted(tokenizer, tmp_path):
    out = tmp_path / "rows.jsonl"
    model = tiny_model("llama")
    whole = sweep(model, tokenizer, FORGET, RETAIN, CONFIGS, ASKED, out=tmp_path / "whole.jsonl")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    point = random.uniform(0, (tmp_path / "whole.jsonl").stat().st_size * 0.9)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "tokenizer", out], cwd=Path(__file__).parents[2])
    while process.poll() is None and not (out.exists() and out.stat().st_size > point):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"it should have been killed at byte {point}"
    left = out.read_bytes().count(b"\n")
    assert 0 < left < len(whole)
    resumed = sweep(model, tokenizer, FORGET, RETAIN, CONFIGS, ASKED, out=out)
    assert list(map(facts, resumed)) == list(map(facts, whole)), f"killed at byte {point}"
    assert len(load_sweep(out)) == len(whole)
    assert not list(tmp_path.glob(".rows.jsonl-activations-*"))


def test_diverging_settings_get_a_row_and_the_others_go_on(tokenizer, tmp_path):
    model = tiny_model("llama")
    before = weights_of(model)
    configs = grid(base=SHORT, lr=[1e30, 1e-2])
    _, wild, tame = sweep(model, tokenizer, FORGET, RETAIN, configs, ASKED, out=tmp_path / "rows.jsonl")
    assert "The loss is" in wild.error and not wild.scores and not wild.last
    assert tame.error is None and tame.scores == plain_row(model, tokenizer, configs[1])[1]
    assert same_weights(model, before)


def test_topics_and_data_sets(tokenizer, tmp_path):
    from datasets import Dataset

    model = tiny_model("llama")
    forget, retain = {"one": FORGET, "two": RETAIN}, Dataset.from_dict({"text": RETAIN})
    _, row = sweep(model, tokenizer, forget, retain, [SHORT], ASKED, out=tmp_path / "rows.jsonl")
    result, scores = plain_row(model, tokenizer, SHORT, forget, retain)
    assert row.scores == scores and row.last == pytest.approx(result.history[-1])
    assert row.digests.items() >= result.digests.items()


def test_grid():
    configs = grid(base=SHORT, layer=range(2, 4), beta=[1.0, 2.0])
    assert [(config.layer, config.beta, config.steps) for config in configs] == [
        (2, 1.0, 5), (2, 2.0, 5), (3, 1.0, 5), (3, 2.0, 5)]  # fmt: skip
    assert grid() == [UnlearnConfig()]
    for values, message in (
        ({"layers": [2]}, "no field 'layers'; use method, layer"),
        ({"layer": []}, r"layer is \[\]; give a list of values"),
        ({"method": "rmu"}, "method is 'rmu'; give a list of values"),
        ({"layer": 7}, r"layer is 7; give a list of values, such as layer=\[7\]"),
        ({"beta": [1.0, -1.0]}, "beta is -1.0"),
    ):
        with pytest.raises(RmuLabError, match=message):
            grid(**values)


def test_grid_gives_each_method_the_fields_it_has():
    configs = grid(method=["rmu", "npo"], layer=[5, 7], lr=[1e-4, 1e-3])
    assert configs == [
        *(UnlearnConfig(method="rmu", layer=layer, lr=lr) for layer in (5, 7) for lr in (1e-4, 1e-3)),
        *(NPO(lr=lr) for lr in (1e-4, 1e-3)),
    ]
    assert grid(base=NPO(steps=3), beta=[0.1, 0.2]) == [NPO(steps=3, beta=beta) for beta in (0.1, 0.2)]
    with pytest.raises(RmuLabError, match="There is no field 'layer'; use method, max_length"):
        grid(base=NPO(), layer=[5])
    with pytest.raises(RmuLabError, match="There is no method 'magic'; use one of rmu, adaptive_rmu, gradient_ascent"):
        grid(method=["magic"])


def count_trainings(monkeypatch):
    """The settings of every training that is really run."""
    trained = []
    for name, method in METHODS.items():
        train = method.train
        counted = dataclasses.replace(
            method, train=lambda task, configs, train=train: trained.append(configs) or train(task, configs)
        )
        monkeypatch.setitem(METHODS, name, counted)
    return trained


def test_what_differs_in_nothing_that_counts_is_trained_once(tokenizer, tmp_path, monkeypatch):
    trained = count_trainings(monkeypatch)
    model = tiny_model("llama")
    configs = grid(base=SHORT, method=["rmu", "adaptive_rmu"], coefficient=[10.0, 20.0], beta=[1.0, 2.0, 3.0])
    rows = sweep(model, tokenizer, FORGET, RETAIN, configs, ASKED, out=tmp_path / "rows.jsonl")[1:]
    assert len(configs) == 12 and [row.config for row in rows] == configs
    assert len(trained) == 2 + 3  # two coefficients of RMU, three betas of Adaptive RMU
    for row in rows:
        result, scores = plain_row(model, tokenizer, row.config)
        assert row.scores == scores and row.last == pytest.approx(result.history[-1])


@pytest.mark.parametrize("base", [SHORT, NPO(max_length=24, batch_size=3, lr=3e-3), SSD(max_length=24, texts=3)])
def test_what_shares_its_work_gets_the_numbers_of_its_own_training(base, tokenizer, tmp_path, monkeypatch):
    """Stages of one training, and edits from the same importances."""
    trained = count_trainings(monkeypatch)
    model = tiny_model("llama")
    varied = {"threshold": [1.0, 5.0]} if isinstance(base, SSD) else {"steps": [5, 2, 9]}
    configs = grid(base=base, **varied)
    rows = sweep(model, tokenizer, FORGET, RETAIN, configs, ASKED, out=tmp_path / "rows.jsonl")[1:]
    assert len(trained) == 1 and [row.config for row in rows] == configs
    for row in rows:
        result, scores = plain_row(model, tokenizer, row.config)
        assert row.scores == scores and row.last == pytest.approx(result.history[-1])


def test_errors_come_before_any_work(tokenizer, tmp_path, monkeypatch):
    model, out = tiny_model("llama"), tmp_path / "rows.jsonl"
    monkeypatch.setattr(worker, "accuracy", lambda *_, **__: pytest.fail("it began to work"))
    for configs, forget, asked, message in (
        ([], FORGET, ASKED, "no settings to sweep over"),
        ([SHORT], FORGET, {}, "no question sets"),
        (grid(base=SHORT, layer=[3, 5]), FORGET, ASKED, "layer is 5"),
        ([SHORT], FORGET[:2], ASKED, "forget holds 2 texts, but one batch takes 3"),
        ([NPO(parameters=("mlp.up",))], FORGET, ASKED, r"no parameter 'mlp\.up'"),
    ):
        with pytest.raises(RmuLabError, match=message):
            sweep(model, tokenizer, forget, RETAIN, configs, asked, out=out)
    assert not out.exists()


@pytest.mark.slow
def test_smollm2_rows_equal_plain_unlearn_and_accuracy(smollm2, tmp_path):
    from rmu_lab import load_corpus, load_questions

    texts = load_corpus("forget_bio")["text"][:8], load_corpus("retain_general")["text"][:8]
    asked = {name: load_questions(name, "dev").select(range(8)) for name in ("bio", "general")}
    configs = [UnlearnConfig(layer=20, steps=2), UnlearnConfig.published(layer=27, steps=2, max_length=64, lr=1e-3)]
    rows = sweep(*smollm2, *texts, configs, asked, out=tmp_path / "rows.jsonl", progress=False)
    for row in rows[1:]:
        result = unlearn(*smollm2, *texts, row.config, progress=False)
        assert row.last["loss"] == pytest.approx(result.history[-1]["loss"], rel=1e-5)
        with result.applied(smollm2[0]):
            for name, score in row.scores.items():
                assert score == accuracy(*smollm2, asked[name], progress=False)


# ---------------------------------------------------------------------------------------------------------------------
# On Ray


@pytest.fixture
def ray(monkeypatch):
    found = pytest.importorskip("ray", reason="Ray is not installed (pip install 'rmu-lab[cluster]')")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its default only warns that it will change
    yield found
    found.shutdown()


def close(ours, theirs):
    """Rows of two processes: the same answers, and the same numbers up to the number of threads they were summed in."""
    assert ours.config == theirs.config and ours.key == theirs.key
    assert {n: s.predictions for n, s in ours.scores.items()} == {n: s.predictions for n, s in theirs.scores.items()}
    for name, value in theirs.last.items():
        assert ours.last[name] == (value if name == "topic" else pytest.approx(value, rel=1e-4))


@pytest.mark.slow  # three processes that each import torch
def test_two_workers_on_ray_make_the_same_rows_even_if_one_is_killed(ray, tokenizer, tmp_path):
    psutil = pytest.importorskip("psutil")
    model, out = tiny_model("llama"), tmp_path / "rows.jsonl"
    expected = sweep(model, tokenizer, FORGET, RETAIN, CONFIGS, ASKED, out=tmp_path / "serial.jsonl")

    def worker_processes():
        return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::_RemoteWo")]

    killed = []

    def kill_one_soon():
        while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
            time.sleep(0.001)
        victim = worker_processes()[0]
        victim.kill()
        killed.append(victim.pid)

    thread = threading.Thread(target=kill_one_soon, daemon=True)
    thread.start()
    (tmp_path / "scratch").mkdir()
    spilled = {"memory_bytes": 50_000, "scratch": tmp_path / "scratch"}
    rows = sweep(model, tokenizer, FORGET, RETAIN, CONFIGS, ASKED, out=out, ray="local", workers=2, **spilled)
    thread.join(timeout=10)
    assert len(killed) == 1
    for ours, theirs in zip(rows, expected, strict=True):
        close(ours, theirs)
        assert ours.provenance["command"] == theirs.provenance["command"]  # not what started Ray's process
    assert len(load_sweep(out)) == len(expected)  # no row was made twice
    assert len(list((tmp_path / "scratch").iterdir())) <= 1  # that of the one that was killed


def test_errors_on_ray(ray, tokenizer, tmp_path):
    with pytest.raises(RmuLabError, match=r"No Ray cluster was reached at '127\.0\.0\.1:1'"):
        sweep(tiny_model("llama"), tokenizer, FORGET, RETAIN, [SHORT], ASKED, out=tmp_path / "a.jsonl", ray="127.0.0.1:1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forget_lengths": [(8, 12)]}, "forget_lengths has 2 numbers for 1 topics"),
        ({"max_length": [24, 300]}, "A text of max_length has 300 tokens, but the model has 256 positions; shorten it"),
        ({"method": ["rmu", "npo"], "max_length": [300]}, "A text of max_length has 300 tokens"),
        ({"forget_lengths": [(300,)]}, "A text of forget_lengths has 300 tokens, but the model has 256 positions"),
        ({"seed": [2**40 + 0j]}, "seed is .*(which no row can hold|give)"),
    ],
)
def test_settings_that_cannot_be_run_or_stored_are_found_before_anything_is_scored(
    settings, message, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "accuracy", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(RmuLabError, match=message):
        configs = grid(base=SHORT, **settings)
        sweep(tiny_model("llama"), tokenizer, FORGET, RETAIN, configs, ASKED, out=tmp_path / "rows.jsonl", progress=False)
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_is_none(workers, tokenizer, tmp_path):
    with pytest.raises(RmuLabError, match=f"workers is {workers}; give a number of processes from 1"):
        sweep(tiny_model("llama"), tokenizer, FORGET, RETAIN, [SHORT], ASKED, out=tmp_path / "rows.jsonl", workers=workers)


def test_a_damaged_row_is_noticed_before_the_others_are_made(tokenizer, tmp_path, monkeypatch):
    path, model = tmp_path / "rows.jsonl", tiny_model("llama")
    sweep(model, tokenizer, FORGET, RETAIN, [SHORT], ASKED, out=path, progress=False)
    base, row = path.read_text().splitlines()
    path.write_text(json.dumps(json.loads(base) | {"scores": 3}) + "\n" + row + "\n")
    monkeypatch.setattr(worker, "accuracy", lambda *_, **__: pytest.fail("scored"))
    more = [SHORT, dataclasses.replace(SHORT, seed=1)]
    with pytest.raises(RmuLabError, match=r"rows\.jsonl, line 1 is no row of a sweep"):
        sweep(model, tokenizer, FORGET, RETAIN, more, ASKED, out=path, progress=False)

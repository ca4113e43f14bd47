"""The benchmarks' arithmetic, and their code on tiny models; never a time."""

import argparse
import ast
import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as table
from benchmarks import counted, evaluation, gpu, step
from benchmarks.arguments import result_file
from rmu_lab import accuracy
from tests.conftest import made_up_texts, tiny_model
from tests.test_evaluate import QUESTIONS

TEXTS = [made_up_texts(12, seed=1), made_up_texts(12, seed=2)]
SETTINGS = {"layer": 3, "steps": 4, "batch_size": 3, "max_length": 16}


@pytest.mark.parametrize("pattern", ["published", "cold"])
def test_train_gives_a_time_for_each_step_but_the_first(pattern, tokenizer):
    times = step.train(pattern, tiny_model("llama"), tokenizer, TEXTS, step.config_of(pattern, **SETTINGS))
    assert len(times) == SETTINGS["steps"] - 1 and min(times) > 0


def test_floor_counts_the_frozen_blocks_once_and_the_window_whole():
    model = tiny_model("llama")
    two, three = (step.floor_flops(model, layer, batch=2, tokens=10) for layer in (2, 3))
    attention, mlp = 32 * (32 + 16 + 16 + 32), 3 * 32 * 64  # q, k, v, o with two of four heads for k and v; gate, up, down
    block = 2 * 2 * 10 * (2 * (attention + mlp) + 2 * 10 * 32)  # forget and retain, two operations a weight, attention
    assert three["cold"] - two["cold"] == block
    assert two["cached"] == three["cached"] == 5 * block + 3 * 2 * 2 * 10 * 2 * 32 * 64
    assert two["cold"] == two["cached"] + 3 * block


def test_the_published_way_to_score_options_chooses_the_same(tokenizer):
    model = tiny_model("llama")
    theirs = evaluation.published_predictions(model, tokenizer, QUESTIONS)
    assert tuple(theirs) == accuracy(model, tokenizer, QUESTIONS, progress=False).predictions
    tokens = evaluation.tokens_of(tokenizer, QUESTIONS)
    upper, whole = (evaluation.floor_flops(model, tokens, blocks) for blocks in (2, 5))
    assert whole > upper > (whole - upper) * 2 / 3  # logits come on top of the blocks


def test_goals_and_verdicts():
    assert table.Line("step", "x", 5.5, "x", table.Goal(at_least=5.5)).verdict == "met"
    assert table.Line("step", "x", 5.4, "x", table.Goal(at_least=5.5)).verdict == "missed"
    assert table.Line("sweep", "x", 15.1, "min", table.Goal(at_most=15)).verdict == "missed"
    assert table.Line("step", "x", 1.0).verdict == ""


def test_steps_are_compared_with_a_user_and_on_equal_terms():
    row = {"layer": 7, "pattern": "cold", "dtype": "float32", "product": "chosen", "seconds": 0.4, "speed-up": 9.0}
    row |= {"speed-up on equal terms": 6.0, "times the floor": 1.2, "memory in model copies": 0.2}
    verdicts = {line.what: line.verdict for line in table.step_lines([row])}
    assert verdicts["layer 7, cold, float32: faster than a user's"] == "missed"
    assert verdicts["layer 7, cold, float32: faster on equal terms"] == "met"
    assert verdicts["layer 7, cold, float32: beyond the model"] == "met"
    of_published = table.step_lines([row | {"pattern": "published", "product": "default"}])
    assert [line.what for line in of_published] == ["layer 7, published, float32, torch's default: one step"]


def test_evaluations_are_compared_with_the_first_edition():
    row = {"questions": 64, "dtype": "bfloat16", "seconds": 1.0, "published": 5.0, "first edition": 3.0, "floor": 0.5}
    lines = {line.what: line for line in table.evaluation_lines([row | {"published as a user would run it": 6.0}])}
    former = lines["64 questions, bfloat16: faster than the first edition's"]
    assert (former.value, former.verdict) == (3.0, "missed")


def test_a_stored_table_keeps_those_before_it(tmp_path, monkeypatch):
    file = tmp_path / "bench.json"
    values = iter([1.0, 2.0, 3.0])
    monkeypatch.setitem(table.PARTS, "gcg", (dict, lambda _: [table.Line("gcg", "one candidate", next(values))]))
    monkeypatch.setitem(table.PARTS, "step", (dict, lambda _: [table.Line("step", "one step", 9.0)]))
    for parts in (["gcg"], ["gcg", "step"], ["gcg"]):
        table.main([*parts, "--json", str(file)])
    stored = json.loads(file.read_text())
    assert {part: run["table"][0]["value"] for part, run in stored["parts"].items()} == {"gcg": 3.0, "step": 9.0}
    assert [(run["part"], run["numbers"]) for run in stored["history"]] == [
        ("gcg", {"one candidate": 1.0}),
        ("gcg", {"one candidate": 2.0}),
    ]
    assert all("machine" in run["provenance"] for run in (*stored["history"], *stored["parts"].values()))


def test_the_first_edition_chose_the_same(tokenizer):
    model = tiny_model("llama")
    assert (
        evaluation.first_edition_predictions(model, tokenizer, QUESTIONS)
        == list(accuracy(model, tokenizer, QUESTIONS, progress=False).predictions)
    )  # fmt: skip


def test_the_whole_sweep_is_put_together_from_a_few_settings():
    found = {
        "settings": 3, "seconds": 90.0, "seconds of training, a setting": 8.0, "seconds of evaluation, a setting": 12.0,
        "naive": {"seconds": 300.0}, "floor": 10.0, "floor of what is shared": 40.0,
    }  # fmt: skip
    lines = {line.what: line.value for line in table.sweep_lines(found)}
    assert lines["all 56 settings, put together from these"] == (30 + 56 * 20) / 60
    assert lines["faster than the naive sweep"] == 56 * 100 / 1150
    assert lines["of the floor"] == 1150 / 600


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        table.main(["steps"])
    assert "there is no part 'steps'; choose from step, evaluation, gcg, sweep, large" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# The benchmark for a GPU, on a tiny model


def test_gpu_benchmark_runs_on_a_cpu_and_stores_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gpu.main(["--device", "cpu", "--tiny", "--layers", "2", "4", "--steps", "2"])
    printed = capsys.readouterr().out
    assert [printed.count(pattern) for pattern in gpu.PATTERNS] == [2, 2, 2]
    assert "does not fit" not in printed and "nan" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "not for a CPU; add --tiny"),
        (["--device", "cpu", "--steps", "6"], "multiple of 4"),
        (["--device", "cpu", "--tiny", "--json", "x.json"], "mean nothing and are not stored"),
        pytest.param(
            [],
            "There is no CUDA GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which this would start to measure"),
        ),
    ],
)
def test_gpu_benchmark_refuses(arguments, message):
    with pytest.raises(SystemExit, match=message):
        gpu.main(arguments)


def test_a_cell_that_does_not_fit_says_so_and_the_others_go_on(monkeypatch):
    train = gpu.train

    def too_large(pattern, *arguments):
        if pattern == "published":
            raise torch.OutOfMemoryError
        return train(pattern, *arguments)

    monkeypatch.setattr(gpu, "train", too_large)
    published, cold, cached = gpu.measure_all([3], 1, gpu.TINY, "cpu", alone=False)
    assert published["error"] == "does not fit into this GPU's memory"
    assert cold["tokens/s"] > 0 and cached["peak in model copies"] >= 1 and "speed-up" not in cold
    assert cached["peak in model copies"] == cached["peak"] / cached["model_bytes"]
    assert gpu.table_of([published, cold, cached]).row_count == 3


def test_gpu_texts_have_as_many_tokens_as_they_should():
    tokenizer = gpu.word_tokenizer(gpu.TINY.vocab_size)
    lengths = {len(tokenizer(text)["input_ids"]) for text in gpu.random_texts(gpu.TINY, 5, seed=3)}
    assert lengths == {gpu.TINY.tokens}


def test_the_model_to_measure_has_the_shape_of_mistral_7b():
    model = gpu.random_model(gpu.BenchmarkModel(), "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_241_732_096


def test_gpu_goals_hold_the_cold_rows_only():
    row = {"layer": 7, "pattern": "cold", "seconds": 1.0, "peak in model copies": 1.25, "utilisation": 0.5, "speed-up": 4.0}
    assert gpu.verdicts(row) == {"peak in model copies": False, "utilisation": True, "speed-up": True}
    assert gpu.verdicts(row | {"layer": 15}) == {"peak in model copies": False, "utilisation": True}
    assert gpu.verdicts(row | {"pattern": "cached"}) == {}


# ---------------------------------------------------------------------------------------------------------------------
# What is counted on tensors without values


@pytest.fixture(scope="module")
def counts():
    return {row["pattern"]: row for row in counted.count_all([3], gpu.TINY)}


def test_counter_knows_what_is_alive_and_what_was_read():
    model = gpu.random_model(gpu.TINY, "meta")
    with counted.Counter(model) as counter:
        first = torch.zeros(10, device="meta")
        second = first + 1
        view = second.view(2, 5)
        del first, second
        assert counter.bytes == 40 and view.sum() and counter.waits == 1
        model.lm_head.weight.t()  # the model's own, not counted
        torch.zeros(100)  # not on the device
    assert counter.peak == 80


def test_counted_work_is_the_floor_and_the_whole_of_attention(counts):
    """The floor takes the half of attention that the causal mask leaves, and its gradients once; kernels do more."""
    shape, layer = gpu.TINY, 3
    floor = step.floor_flops(gpu.random_model(shape, "meta"), layer, shape.batch, shape.tokens)
    scores = shape.batch * shape.tokens**2 * shape.hidden_size  # multiplications for one text batch's scores
    beyond = {"cold": 2 * (layer + 1) + 2 * 3 + 2 * 8, "cached": 2 * 3 + 2 * 8}
    for pattern, halves in beyond.items():
        row = counts[pattern]
        # Transformers 5.17 makes its rotary angles by a small matrix product, which is counted too.
        assert row["TFLOP a step"] * 1e12 == pytest.approx(floor[pattern] + 2 * halves * scores, rel=1e-4)
        assert row["peak"] > row["model_bytes"] + 18 * 3 * shape.hidden_size * shape.intermediate_size


def test_the_training_loop_reads_nothing_but_its_metrics(counts):
    """On fresh texts transformers looks whether a batch is padded; losses and targets ask nothing.

    The optimiser that is counted is not the fused one of a GPU.
    """
    assert 0 < counts["cold"]["waits a step"] <= 3 and counts["cached"]["waits a step"] == 0


def test_counting_compares_with_the_published_pattern(counts):
    published, cold, cached = (counts[pattern] for pattern in gpu.PATTERNS)
    assert published["less work"] == 1 < cold["less work"] < cached["less work"]
    assert published["peak"] > 2 * published["model_bytes"] and published["peak"] > cold["peak"]


@pytest.mark.parametrize("file", sorted(Path(table.__file__).parent.glob("*.py")), ids=lambda file: file.stem)
def test_no_benchmark_patches_the_package(file):
    """What a benchmark needs to see or change, the package takes as an argument: a user can do the same."""
    tree = ast.parse(file.read_text())
    assert "patch" not in {name.lower() for node in ast.walk(tree) for name in _names(node)}
    modules = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("rmu_lab", "torch")
        for alias in node.names
    }
    assigned = {
        ast.unparse(target.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for group in node.targets
        for target in (group.elts if isinstance(group, ast.Tuple) else [group])
        if isinstance(target, ast.Attribute)
    }
    assert not {name for name in assigned if name.split(".")[0] in modules}


def _names(node):
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(alias.name for alias in node.names)]
    if isinstance(node, ast.Import):
        return [alias.name.rpartition(".")[2] for alias in node.names]
    return [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else []


def test_where_a_result_cannot_go_is_said_before_the_work(tmp_path):
    assert result_file(str(tmp_path / "new" / "rows.json")).parent.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(argparse.ArgumentTypeError, match=r"file.* (cannot|is not)"):
        result_file(str(tmp_path / "file" / "rows.json"))


def test_every_benchmark_that_writes_a_result_tries_the_place_first():
    for path in Path("benchmarks").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert '"--json", type=Path' not in text, path

"""Every successor through the one protocol: what it trains, that nothing else moves, sweeps, records, refusals."""

import dataclasses
import json
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

from rmu_lab import RmuLabError, UnlearnResult, cli, grid, sweep, unlearn
from rmu_lab.attacks import Subject, gauntlet
from rmu_lab.unlearning.directions import random_directions
from rmu_lab.unlearning.method_table import METHODS, SUCCESSORS, config_from_dict, register_method
from rmu_lab.unlearning.objectives import steering_objective
from rmu_lab.unlearning.successors import (
    CIR,
    LUNAR,
    MCURMU,
    SRMU,
    CircuitBreaker,
    ClosedFormRMU,
    LayeredRMU,
    RankOneRMU,
)
from rmu_lab.unlearning.unlearn import checkpoints
from rmu_lab.unlearning.window_method import MethodTraining, SteeredMethod
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS
from tests.unlearning.successors.common import (
    EVERY,
    FORGET,
    LAYER,
    RETAIN,
    RMU,
    SHORT,
    SOLVED,
    STEPPED,
    each,
    matrix_name,
    numbers,
)


def train(config, tokenizer, model=None, forget=FORGET, **given):
    return unlearn(model or tiny_model("llama"), tokenizer, forget, RETAIN, config, progress=False, **given)


def test_all_of_them_are_here():
    assert {type(config) for config in EVERY} == set(SUCCESSORS) and {kind.method for kind in SUCCESSORS} < set(METHODS)


@each(EVERY)
def test_only_the_windows_matrices_change_and_the_model_and_torch_stay_as_they_are(config, tokenizer):
    model = tiny_model("llama")
    before, asked = weights_of(model), [parameter.requires_grad for parameter in model.parameters()]
    drawn, dtype = torch.get_rng_state(), torch.get_default_dtype()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = train(config, tokenizer, model)
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    assert torch.get_rng_state().equal(drawn) and torch.get_default_dtype() == dtype
    assert same_weights(model, before) and not model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert set(result.edit) == {matrix_name(layer) for layer in config.window}
    assert all(matrix.dtype == torch.float32 and matrix.isfinite().all() for matrix in result.edit.values())
    assert not any(matrix.equal(before[name]) for name, matrix in result.edit.items())
    plain = train(config, tokenizer)  # in torch's default state
    assert all(matrix.equal(plain.edit[name]) for name, matrix in result.edit.items()) and plain.history == result.history
    with result.applied(model):
        assert not same_weights(model, before)
    assert same_weights(model, before)


@each(EVERY)
def test_records(config, tokenizer, tmp_path):
    result = train(config, tokenizer)
    loaded = UnlearnResult.load(result.save(tmp_path / "result"))
    assert loaded == result and type(loaded.config) is type(config)
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    steps = getattr(config, "steps", 1)
    assert [entry["step"] for entry in result.history] == list(range(1, steps + 1))
    assert {"loss", "forget_loss", "retain_loss", "forget_norm", "cosine"} <= result.history[0].keys()


@each(STEPPED)
def test_checkpoints_are_what_as_many_trainings_give(config, tokenizer):
    model = tiny_model("llama")
    for result in checkpoints(model, tokenizer, FORGET, RETAIN, config, [4, 3], progress=False):
        alone = train(result.config, tokenizer, model)
        assert result.history == alone.history and len(alone.history) == result.config.steps
        assert all(matrix.equal(alone.edit[name]) for name, matrix in result.edit.items())


@each(EVERY)
def test_a_sweep_gives_the_numbers_of_unlearn(config, tokenizer, tmp_path):
    model = tiny_model("llama")
    configs = grid(base=config, seed=[0, 1], alpha=[1.0, 3.0])
    assert len(configs) == 4
    rows = sweep(model, tokenizer, FORGET, RETAIN, configs, {"one": QUESTIONS}, out=tmp_path / "rows.jsonl", progress=False)
    assert [row.config for row in rows[1:]] == configs and all(row.scores for row in rows)
    alone = train(configs[-1], tokenizer, model)
    assert numbers(rows[-1].last) == pytest.approx(numbers(alone.history[-1]), rel=1e-4)


@each(EVERY)
def test_several_topics_and_bfloat16(config, tokenizer):
    topics = {"one": FORGET, "two": made_up_texts(12, seed=13)}
    if isinstance(config, LayeredRMU):
        config = dataclasses.replace(config, folds=2)
    result = train(config, tokenizer, tiny_model("llama").bfloat16(), forget=topics)
    assert {"forget one", "forget two", "retain one", "retain two"} == set(result.digests)
    if hasattr(config, "steps"):
        assert [entry["topic"] for entry in result.history] == ["one", "two", "one", "two"]
    if result.directions:
        assert set(result.directions) == set(topics) and not result.directions["one"].equal(result.directions["two"])
        assert all(u.norm().item() == pytest.approx(1, rel=1e-5) for u in result.directions.values())


@each(STEPPED)
def test_named_parameters_only(config, tokenizer):
    names = ("mlp.up_proj.weight", "self_attn.o_proj.weight")
    result = train(dataclasses.replace(config, parameters=names), tokenizer)
    assert set(result.edit) == {f"model.layers.{layer}.{name}" for layer in (1, 2, 3) for name in names}


@each([CIR(**SHORT), RankOneRMU(**SHORT)])
def test_parameters_that_are_no_matrices(config, tokenizer):
    with pytest.raises(RmuLabError, match=r"input_layernorm\.weight (is not the weight of a linear|has the shape \(32,\))"):
        train(dataclasses.replace(config, parameters=("input_layernorm.weight",)), tokenizer)


@each(EVERY)
def test_directions_are_taken_or_refused_and_objectives_are_refused(config, tokenizer):
    axis = {"forget": torch.eye(32)[5]}
    if config.directed:
        given = train(config, tokenizer, directions=axis)
        assert given.directions["forget"].equal(axis["forget"]) and given.provenance["passed"] == {"directions": "given"}
        drawn = train(config, tokenizer, directions=random_directions(["forget"], 32, config.seed))
        assert all(matrix.equal(drawn.edit[name]) for name, matrix in train(config, tokenizer).edit.items())
    else:
        with pytest.raises(RmuLabError, match=f"directions is for methods that steer .*{config.method} does not"):
            train(config, tokenizer, directions=axis)
    with pytest.raises(RmuLabError, match="forget_objective is for"):
        train(config, tokenizer, forget_objective=steering_objective)
    with pytest.raises(RmuLabError, match="compile_window is for"):
        train(config, tokenizer, compile_window=True)


@each(STEPPED)
def test_on_step_can_stop(config, tokenizer):
    seen = []
    result = train(config, tokenizer, on_step=lambda entry: seen.append(entry) or len(seen) == 2)
    assert seen == result.history and result.config.steps == 2


@each(STEPPED)
def test_a_loss_that_is_not_finite_stops_and_changes_nothing(config, tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    with pytest.raises(RmuLabError, match=r"at step \d of 4|after step \d.*The model was not changed"):
        train(dataclasses.replace(config, lr=1e30), tokenizer, model)
    assert same_weights(model, before)


@each([config for config in EVERY if isinstance(config, (MCURMU, CIR, SRMU, LUNAR, ClosedFormRMU))])
def test_a_broken_model_is_named_as_such(config, tokenizer):
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_parameter(matrix_name(0))[0, 0] = float("nan")
    with pytest.raises(RmuLabError, match=r"not finite|The loss is nan"):
        train(config, tokenizer, model)


@pytest.mark.parametrize("layer", [1, 5])
@each(STEPPED)
def test_layers_that_do_not_fit(config, layer, tokenizer):
    with pytest.raises(RmuLabError, match=rf"layer is {layer}.*choose a layer from 2 to 4"):
        train(dataclasses.replace(config, layer=layer), tokenizer)


def test_solved_methods_need_no_blocks_below(tokenizer):
    assert set(train(ClosedFormRMU(**SOLVED | {"layer": 0}), tokenizer).edit) == {matrix_name(0)}
    assert set(train(ClosedFormRMU(**SOLVED, blocks=3), tokenizer).edit) == {matrix_name(layer) for layer in (1, 2, 3)}
    with pytest.raises(RmuLabError, match="layer is 1; choose one from 2 to 4"):
        train(ClosedFormRMU(**SOLVED | {"layer": 1}, blocks=3), tokenizer)
    with pytest.raises(RmuLabError, match="layer is 5; choose one from 0 to 4"):
        train(LUNAR(**SOLVED | {"layer": 5}), tokenizer)
    with pytest.raises(RmuLabError, match="lunar takes no steps, so it has no checkpoints"):
        next(checkpoints(tiny_model("llama"), tokenizer, FORGET, RETAIN, LUNAR(), [1]))


WRONG = [
    ("mcu_rmu", {"components": -1}, "components is -1; it must be at least 0"),
    ("mcu_rmu", {"beta": 0}, "beta is 0.0; give a positive number"),
    ("mcu_rmu", {"steering": "RMU"}, "steering is 'RMU'; use one of 'rmu', 'adaptive_rmu'"),
    ("cir", {"gradient_components": -1}, "gradient_components is -1; it must be at least 0"),
    ("rep_select", {"collapse": "all"}, "collapse is 'all'; use one of 'soft', 'hard'"),
    ("rmu_sam", {"rho": -0.1}, "rho is -0.1; it must be at least 0"),
    ("circuit_breaker", {"steps": 0}, "steps is 0; it must be at least 1"),
    ("circuit_breaker_orthogonal", {"orthogonality": -1}, "orthogonality is -1.0; it must be at least 0"),
    ("srmu", {"importance": "sum"}, "importance is 'sum'; use one of 'ratio', 'difference', 'product'"),
    ("tamper_resistant_rmu", {"relearn_lr": 0}, "relearn_lr is 0.0; give a positive number"),
    ("tamper_resistant_rmu", {"relearn_steps": -1}, "relearn_steps is -1; it must be at least 0"),
    ("layered_rmu", {"folds": 0}, "folds is 0; it must be at least 1"),
    ("lunar", {"references": 301}, "references is 301; there are 300 questions"),
    ("lunar", {"coefficient": 0}, "coefficient is 0.0; give a positive number"),
    ("closed_form_rmu", {"ridge": 0}, "ridge is 0.0; give a positive number"),
    ("closed_form_rmu", {"blocks": 4}, "blocks is 4; give 1, 2 or 3"),
    ("closed_form_rmu", {"steering": "none"}, "steering is 'none'; use one of 'rmu', 'adaptive_rmu'"),
    ("rank_one_rmu", {"rank": 0}, "rank is 0; it must be at least 1"),
]


@pytest.mark.parametrize(("method", "settings", "message"), WRONG)
def test_wrong_settings(method, settings, message):
    with pytest.raises(RmuLabError, match=rf"^{message}\.$"):
        METHODS[method].config(**settings)


def test_there_are_as_many_questions_as_lunar_says():
    from rmu_lab.invented import invented_questions
    from rmu_lab.unlearning.successors.lunar import QUESTIONS as COUNT

    assert len(invented_questions(wording=1)) == COUNT


@pytest.mark.parametrize("kind", SUCCESSORS, ids=lambda kind: kind.method)
def test_published_settings(kind):
    config = kind.published()
    assert type(config) is kind and config_from_dict(config.to_dict()) == config
    assert kind.published(seed=5) == dataclasses.replace(config, seed=5)
    assert "`changes`" in kind.published.__doc__ and len(kind.__doc__) > 300


def test_a_method_of_ones_own_is_a_class_and_a_line(plugins_undone, tokenizer, tmp_path):
    """One that steers to half of RMU's target, and is swept like any other."""

    class HalfTraining(MethodTraining):
        def target_norm(self, topic, frozen_output, counted):
            return self.method.share * super().target_norm(topic, frozen_output, counted)

    @register_method
    @dataclasses.dataclass(frozen=True)
    class Half(SteeredMethod):
        method: ClassVar[str] = "half"
        trainer: ClassVar[type[MethodTraining]] = HalfTraining
        share: float = 0.5

    expected = train(dataclasses.replace(RMU, beta=2.5), tokenizer)
    result = train(Half(**SHORT), tokenizer)
    assert all(matrix.equal(expected.edit[name]) for name, matrix in result.edit.items())
    texts, configs = (FORGET, RETAIN), grid(base=Half(**SHORT), share=[0.5, 1.0])
    out = tmp_path / "rows.jsonl"
    rows = sweep(tiny_model("llama"), tokenizer, *texts, configs, {"one": QUESTIONS}, out=out, progress=False)
    assert rows[1].last["loss"] == pytest.approx(expected.history[-1]["loss"], rel=1e-4) and len(rows) == 3


@each([CIR(**SHORT), CircuitBreaker(**SHORT), ClosedFormRMU(**SOLVED)])
def test_the_gauntlet_attacks_them(config, tokenizer):
    model = tiny_model("llama")
    subject = Subject(model, tokenizer, train(config, tokenizer, model), QUESTIONS, forget=FORGET, retain=RETAIN)
    card = gauntlet(subject, only=["ablate a direction", "quantise to 4 bits"])
    assert set(card.recoveries) == {"ablate a direction", "quantise to 4 bits"}


def test_the_guide_lists_every_method_with_its_class():
    page = (Path(__file__).parents[3] / "docs" / "guide" / "methods.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [name for name in METHODS if name != "teach"]
    for name, kind, *_ in rows[2:]:
        assert METHODS[name].config.__name__ == kind
    for kind in SUCCESSORS:  # the same papers as in the docstrings
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{kind.method}` |"))
        for paper in re.findall(r"arxiv\.org/abs/(\d+\.\d+)", row):
            assert f"arXiv {paper}" in kind.__doc__


OPTIONS = {
    "mcu_rmu": {"components": 2, "steering": "rmu"},
    "cir": {"input_components": 2},
    "rep_select": {"collapse": "hard"},
    "rmu_sam": {"rho": 0.5},
    "circuit_breaker": {"alpha": 2.0},
    "circuit_breaker_orthogonal": {"orthogonality": 2.0},
    "srmu": {"importance": "product"},
    "tamper_resistant_rmu": {"relearn_steps": 1},
    "layered_rmu": {"folds": 2},
    "lunar": {"references": 5, "coefficient": 3.0},
    "closed_form_rmu": {"blocks": 2, "ridge": 0.1},
    "rank_one_rmu": {"rank": 2},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("successors")
    tiny_model("llama").save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for name, texts in (("forget", FORGET), ("retain", RETAIN)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return folder


@pytest.mark.parametrize("method", OPTIONS)
def test_the_command_line_takes_all_of_them(method, files, tmp_path):
    given = {"layer": LAYER, "max-length": 24, "seed": 3}
    if "steps" in {item.name for item in dataclasses.fields(METHODS[method].config)}:
        given |= {"steps": 2, "batch-size": 2, "lr": 0.01}
    words = ["unlearn", "--device", "cpu", "--model", files / "base", "--method", method, "--out", tmp_path / "out"]
    words += [word for role in ("forget", "retain") for word in (f"--{role}", files / f"{role}.jsonl")]
    words += [word for name, value in given.items() for word in (f"--{name}", value)]
    words += [word for name, value in OPTIONS[method].items() for word in ("--set", f"{name}={value}")]
    outcome = CliRunner().invoke(cli.app, list(map(str, words)))
    assert outcome.exit_code == 0, outcome.output
    config = UnlearnResult.load(tmp_path / "out" / "unlearning").config
    wanted = {name.replace("-", "_"): value for name, value in given.items()} | OPTIONS[method]
    assert config.method == method and {name: getattr(config, name) for name in wanted} == wanted

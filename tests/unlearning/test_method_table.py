"""The one protocol of all methods: every family through every method, methods of one's own, and what can be passed in."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

from rmu_lab import RmuLabError, UnlearnConfig, UnlearnResult, accuracy, cli, grid, load_sweep, sweep, unlearn
from rmu_lab.attacks import RobustnessCard, Subject, gauntlet
from rmu_lab.unlearning.baselines import NPO, SSD
from rmu_lab.unlearning.directions import random_directions
from rmu_lab.unlearning.method_table import (
    METHODS,
    EditMethod,
    LossMethod,
    config_from_dict,
    config_of,
    method_of,
    register_method,
)
from rmu_lab.unlearning.objectives import distance_loss, token_mean
from rmu_lab.unlearning.unlearn import checkpoints
from tests.conftest import FAMILIES, made_up_texts, plugin, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS

FORGET, RETAIN = made_up_texts(12, seed=11), made_up_texts(12, seed=12)
SHORT = {"steps": 3, "batch_size": 3, "max_length": 24, "lr": 1e-2}
STEERING = UnlearnConfig(layer=3, alpha=1.0, **SHORT)


def short_config(method):
    fields = {item.name for item in dataclasses.fields(METHODS[method].config)}
    short = {**SHORT, "layer": 3, "texts": 3, "threshold": 2.0}
    return config_of(method, {name: value for name, value in short.items() if name in fields})


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_through_every_method(family, method, tokenizer, tmp_path):
    """Trained, scored, saved and reloaded; a fresh model with the reloaded edit gives the same answers."""
    model, config = tiny_model(family), short_config(method)
    before = weights_of(model)
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    assert same_weights(model, before) and result.config == config and result.config.method == method
    with result.applied(model):
        assert not same_weights(model, before)
        score = accuracy(model, tokenizer, QUESTIONS, progress=False)
    loaded = UnlearnResult.load(result.save(tmp_path / "result"))
    assert loaded.config == config and type(loaded.config) is type(config) and loaded.history == result.history
    with loaded.applied(tiny_model(family)) as fresh:
        assert accuracy(fresh, tokenizer, QUESTIONS, progress=False) == score


# -- a method of one's own --------------------------------------------------------------------------------------------


def test_the_readmes_method_is_at_most_twenty_lines(tmp_path):
    lines = plugin("bounded_ascent.py", tmp_path).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


def test_unlearn_and_sweep_take_the_readmes_method(own_method, tokenizer, tmp_path):
    model, config = tiny_model("llama"), own_method(ceiling=1, **SHORT)
    result = unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False)
    assert result.history[0]["forget_loss"] == 0  # a random model is above one nat a token already
    assert result.history[0]["retain_loss"] == pytest.approx(result.history[0]["retain_nll"])
    higher = unlearn(model, tokenizer, FORGET, RETAIN, own_method(ceiling=50, **SHORT), progress=False)
    assert higher.history[0]["forget_loss"] == pytest.approx(50 - higher.history[0]["forget_nll"])
    assert UnlearnResult.load(result.save(tmp_path / "result")).config == config
    configs = grid(method=["bounded_ascent", "adaptive_rmu"], lr=[1e-2], batch_size=[3], steps=[2, 3], layer=[2, 3])
    assert [config.method for config in configs] == ["bounded_ascent"] * 2 + ["adaptive_rmu"] * 4
    rows = sweep(model, tokenizer, FORGET, RETAIN, configs, {"one": QUESTIONS}, out=tmp_path / "rows.jsonl", progress=False)
    assert load_sweep(tmp_path / "rows.jsonl")[0].config is None
    assert [row.config for row in rows[1:]] == configs and all(row.scores for row in rows)


def test_the_gauntlet_attacks_an_edit_of_the_readmes_method_by_the_readmes_attack(
    own_method, own_attack, tokenizer, tmp_path
):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, FORGET, RETAIN, own_method(**SHORT), progress=False)
    card = gauntlet(Subject(model, tokenizer, result, QUESTIONS), only=[own_attack, "quantise to 4 bits"])
    assert list(card.recoveries) == ["quantise to 4 bits", own_attack]
    assert set(card.recoveries[own_attack].controls) == {"base model"}
    assert RobustnessCard.load(card.save(tmp_path / "card.json")).config == result.config


@pytest.mark.parametrize("command", ["unlearn", "sweep"])
def test_the_command_line_takes_the_readmes_method(command, tokenizer, tmp_path, plugins_undone):
    path = plugin("bounded_ascent.py", tmp_path)
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for name, texts in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    given = [command, "--device", "cpu", "--model", tmp_path / "base", "--plugin", path, "--method", "bounded_ascent"]
    given += ["--forget", tmp_path / "forget.jsonl", "--retain", tmp_path / "retain.jsonl", "--out", tmp_path / "out"]
    given += ["--set", "ceiling=5", "--lr", "0.01", "--steps", "2"]
    if command == "sweep":
        given += ["--questions", tmp_path / "questions.jsonl"]
    outcome = CliRunner().invoke(cli.app, list(map(str, given)))
    assert outcome.exit_code == 0, outcome.output
    if command == "unlearn":
        config = UnlearnResult.load(tmp_path / "out" / "unlearning").config
    else:
        config = load_sweep(tmp_path / "out")[1].config
    assert (config.method, config.ceiling, config.lr, config.steps) == ("bounded_ascent", 5.0, 0.01, 2)


@dataclass(frozen=True)
class Shrink(EditMethod):
    """Multiply every matrix by a factor."""

    method: ClassVar[str] = "shrink"
    factor: float = 0.5

    def edit(self, task, names, prepared):
        matrices = {name: task.model.get_parameter(name).detach().float() * self.factor for name in names}
        return matrices, {"factor": self.factor}


def test_an_edit_of_ones_own_needs_no_training(plugins_undone, tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, FORGET, RETAIN, Shrink(), progress=False)  # which puts it into the table
    assert METHODS["shrink"].config is Shrink and config_from_dict(Shrink(factor=2).to_dict()) == Shrink(factor=2.0)
    assert result.history == [{"step": 1, "topic": "all", "factor": 0.5}]
    assert all(matrix.equal(model.get_parameter(name) * 0.5) for name, matrix in result.edit.items())


def test_what_is_no_method_is_refused(plugins_undone):
    @dataclass(frozen=True)
    class Nameless(LossMethod):
        pass

    @dataclass(frozen=True)
    class Lossless(LossMethod):
        method: ClassVar[str] = "lossless"

    @dataclass(frozen=True)
    class Taken(Shrink):
        method: ClassVar[str] = "npo"

    class Plain:
        method = "plain"

    for kind, message in (
        (Nameless, "Nameless.method is None; give it a name"),
        (Lossless, "Lossless defines no loss"),
        (Taken, "The method name 'npo' is taken by NPO"),
        (Plain, "Plain is no method; make it a frozen dataclass"),
    ):
        with pytest.raises(RmuLabError, match=message):
            register_method(kind)
    with pytest.raises(RmuLabError, match="is no settings of a method"):
        method_of({"method": "npo"})
    with pytest.raises(RmuLabError, match="npo has no setting 'layer'; it has alpha, batch_size, beta"):
        config_of("npo", {"layer": 3})
    with pytest.raises(RmuLabError, match="There is no method 'magic'; use one of rmu, adaptive_rmu"):
        config_from_dict({"method": "magic"})
    assert register_method(Shrink) is register_method(Shrink)  # as when a notebook cell is run twice


# -- directions, objectives and a callback -----------------------------------------------------------------------------


def test_given_directions_are_steered_to(tokenizer):
    model = tiny_model("llama")
    drawn = random_directions(["forget"], 32, STEERING.seed)
    plain = unlearn(model, tokenizer, FORGET, RETAIN, STEERING, progress=False)
    same = unlearn(model, tokenizer, FORGET, RETAIN, STEERING, directions=drawn, progress=False)
    assert all(matrix.equal(plain.edit[name]) for name, matrix in same.edit.items())
    axis = {"forget": torch.eye(32)[5]}
    other = unlearn(model, tokenizer, FORGET, RETAIN, STEERING, directions=axis, progress=False)
    assert other.directions["forget"].equal(axis["forget"])
    assert not any(matrix.equal(plain.edit[name]) for name, matrix in other.edit.items())
    assert other.provenance["passed"] == {"directions": "given"} and "passed" not in plain.provenance


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ({"one": torch.eye(32)[0]}, r"directions has the topics \['one'\], forget \['forget'\]"),
        ({"forget": torch.ones(31)}, r"has the shape \(31,\); give 32 finite numbers"),
        ({"forget": torch.full((32,), float("nan"))}, "give 32 finite numbers"),
        ({"forget": torch.ones(32)}, "has length 5.657; divide it by its length"),
    ],
)
def test_directions_that_do_not_fit(directions, message, tokenizer):
    with pytest.raises(RmuLabError, match=message):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, STEERING, directions=directions, progress=False)


def closer_than(batch, config):
    """A hinge: nothing to pay within a distance of one."""
    return token_mean(((batch.hidden.float() - batch.target).norm(dim=-1) - 1).relu(), batch.counted)


def test_objectives_of_ones_own(tokenizer):
    model = tiny_model("llama")
    plain = unlearn(model, tokenizer, FORGET, RETAIN, STEERING, progress=False)
    written_out = unlearn(
        model, tokenizer, FORGET, RETAIN, STEERING, progress=False,
        forget_objective=lambda batch, _: distance_loss(batch.hidden, batch.target, batch.counted),
        retain_objective=lambda batch, _: distance_loss(batch.hidden, batch.frozen, batch.counted),
    )  # fmt: skip
    assert written_out.history == plain.history
    hinge = unlearn(model, tokenizer, FORGET, RETAIN, STEERING, retain_objective=closer_than, progress=False)
    assert hinge.history[0]["retain_loss"] == 0 and hinge.history[0]["forget_loss"] == plain.history[0]["forget_loss"]
    assert hinge.provenance["passed"] == {"retain_objective": f"{__name__}.closer_than"}


@pytest.mark.parametrize("config", [STEERING, NPO(**SHORT)], ids=lambda config: config.method)
def test_on_step_sees_every_record_and_can_stop(config, tokenizer):
    model, seen = tiny_model("llama"), []
    whole = unlearn(model, tokenizer, FORGET, RETAIN, config, on_step=seen.append, progress=False)
    assert seen == whole.history
    stopped = unlearn(model, tokenizer, FORGET, RETAIN, config, on_step=lambda entry: entry["step"] == 2, progress=False)
    two = unlearn(model, tokenizer, FORGET, RETAIN, dataclasses.replace(config, steps=2), progress=False)
    assert stopped.config == two.config and stopped.history == two.history
    assert all(matrix.equal(two.edit[name]) for name, matrix in stopped.edit.items())


def test_methods_that_steer_nothing_refuse_directions(tokenizer):
    for config in (NPO(**SHORT), SSD(max_length=24)):
        with pytest.raises(RmuLabError, match=f"directions is for methods that steer .*{config.method} does not"):
            unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, config, directions={}, progress=False)


def test_checkpoints_of_rmu_are_shorter_trainings(tokenizer):
    model = tiny_model("llama")
    for result in checkpoints(model, tokenizer, FORGET, RETAIN, STEERING, [3, 1, 7], progress=False):
        alone = unlearn(model, tokenizer, FORGET, RETAIN, result.config, progress=False)
        assert result.history == alone.history and len(alone.history) == result.config.steps
        assert all(matrix.equal(alone.edit[name]) for name, matrix in result.edit.items())
    with pytest.raises(RmuLabError, match="ssd takes no steps"):
        next(checkpoints(model, tokenizer, FORGET, RETAIN, SSD(), [1]))


def test_a_subclass_under_its_bases_name_is_refused(tokenizer):
    """It would be trained and stored as its base."""

    @dataclass(frozen=True)
    class Own(NPO):
        def loss(self, role, batch):
            return batch.cross_entropy

    with pytest.raises(RmuLabError, match="The method name 'npo' is taken by NPO; choose another"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, Own(**SHORT), progress=False)
    with pytest.raises(RmuLabError, match="A text of max_length has 300 tokens, but the model has 256 positions"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, NPO(max_length=300), progress=False)
    with pytest.raises(RmuLabError, match="A text of forget_lengths has 300 tokens, but the model has 256 positions"):
        unlearn(tiny_model("llama"), tokenizer, FORGET, RETAIN, UnlearnConfig(layer=3, forget_lengths=(300,)))

"""Every field of every method's settings decides what is trained, in `unlearn` and in a sweep: none is ignored."""

import dataclasses
import functools
import itertools
import json

import pytest
import torch

from rmu_lab import UnlearnConfig, unlearn
from rmu_lab.sweeps.worker import Job, Worker, groups_of
from rmu_lab.unlearning.baselines import LLMU, NPO, SCRUB, SSD, GradDiff, GradientAscent, SimNPO
from rmu_lab.unlearning.batches import topic_texts
from rmu_lab.unlearning.method_table import METHODS, config_from_dict
from rmu_lab.unlearning.successors import (
    CIR,
    LUNAR,
    MCURMU,
    RMUSAM,
    SRMU,
    CircuitBreaker,
    ClosedFormRMU,
    LayeredRMU,
    OrthogonalCircuitBreaker,
    RankOneRMU,
    RepSelect,
    TamperResistantRMU,
)
from rmu_lab.unlearning.teach_method import Teach
from tests.conftest import made_up_texts, tiny_model

FORGET, RETAIN = made_up_texts(7, seed=11), made_up_texts(9, seed=12)
QUESTIONS = {"one": [{"question": "Where is a fish?", "choices": ["sea", "table"], "answer": 0}]}

STEERING = {"layer": 3, "steps": 3, "batch_size": 2, "max_length": 24, "lr": 1e-2, "alpha": 1.0}
ALL_BLOCKS = {"max_length": 12}
TRAINING = {**ALL_BLOCKS, "steps": 3, "batch_size": 2, "lr": 3e-3}

# By field: values that each train another edit, and what else has to be set for that, if anything.
OF_ALL_BLOCKS = {"max_length": ((12, 7), {}), "seed": ((0, 1), {}), "parameters": ((None, ("mlp.down_proj.weight",)), {})}
OF_TRAINING = {**OF_ALL_BLOCKS, "lr": ((3e-3, 1e-3), {}), "steps": ((3, 2), {}), "batch_size": ((2, 3), {})}
OF_WINDOW = {
    "layer": ((3, 2), {}),
    "alpha": ((1.0, 100.0), {}),
    "lr": ((1e-2, 1e-3), {}),
    "steps": ((3, 2), {}),
    "batch_size": ((2, 3), {}),
    "max_length": ((24, 7), {}),
    "seed": ((0, 1), {}),
    "parameters": ((None, ("mlp.up_proj.weight",)), {}),
}
OF_TARGET = {
    "steering": (("rmu", "adaptive_rmu"), {}),
    "coefficient": ((5.0, 50.0), {"steering": "rmu"}),
    "beta": ((2.0, 5.0), {}),
}
OF_STEERED = OF_WINDOW | OF_TARGET
# Plain steps along normalised gradients: the retain gradient is 0 until something has moved, and small thereafter.
OF_COLLAPSED = OF_STEERED | {"lr": ((1.0, 0.2), {}), "alpha": ((0.0, 30.0), {"lr": 1.0})}
OF_SOLVED = {
    "layer": ((3, 2), {}),
    "alpha": ((1.0, 100.0), {}),
    "ridge": ((1e-3, 0.5), {}),
    "texts": ((160, 3), {}),
    "max_length": ((24, 7), {}),
    "seed": ((0, 1), {}),
}
CASES = {
    UnlearnConfig: {
        "method": (("rmu", "adaptive_rmu"), {}),
        "layer": ((3, 2), {}),
        "coefficient": ((5.0, 50.0), {"method": "rmu"}),
        "beta": ((2.0, 5.0), {}),
        "alpha": ((1.0, 100.0), {}),
        "lr": ((1e-2, 1e-3), {}),
        "steps": ((3, 2), {}),
        "batch_size": ((2, 3), {}),
        "max_length": ((24, 7), {}),
        "forget_lengths": ((None, (7,), (10,)), {}),
        "seed": ((0, 1), {}),
        "parameters": ((None, ("mlp.up_proj.weight",)), {}),
        "direction": (("positive", "isotropic"), {}),
        "retain_noise": ((0.0, 1.0, 3.0), {}),
        "norm_per": (("token", "text", "first batch"), {}),
        "loss_per": (("token", "text"), {}),
        # AdamW takes no notice of a loss's scale, unless its epsilon is as large as a gradient.
        "mean_over_dimensions": ((False, True), {"adam_epsilon": 1.0}),
        "count_padding": ((False, True), {}),
        "count_first_token": ((False, True), {}),
        "padding_side": (("right", "left"), {"count_padding": True}),
        "adam_epsilon": ((1e-8, 1.0), {}),
    },
    GradientAscent: OF_TRAINING,
    GradDiff: {**OF_TRAINING, "alpha": ((0.0, 1.0, 9.0), {})},
    NPO: {**OF_TRAINING, "alpha": ((0.0, 1.0, 9.0), {}), "beta": ((0.1, 5.0), {})},
    SimNPO: {**OF_TRAINING, "alpha": ((0.0, 1.0, 9.0), {}), "beta": ((0.5, 0.05), {}), "gamma": ((0.0, 3.0), {})},
    LLMU: {
        **OF_TRAINING,
        "forget_weight": ((0.5, 5.0), {}),
        "mismatch_weight": ((1.0, 0.1), {}),
        "alpha": ((1.0, 100.0), {}),
    },
    SCRUB: {**OF_TRAINING, "alpha": ((1.0, 100.0), {}), "gamma": ((1.0, 0.0), {}), "max_steps": ((10, 1), {})},
    Teach: {**OF_TRAINING, "alpha": ((1.0, 100.0), {}), "layers": ((None, (1, 2)), {})},
    SSD: {
        **OF_ALL_BLOCKS,
        "seed": ((0, 1), {"texts": 2}),
        "texts": ((32, 2), {}),
        "threshold": ((2.0, 9.0), {}),
        "dampening": ((1.0, 0.5), {}),
    },
}
CASES |= {
    MCURMU: OF_STEERED | {"components": ((0, 7), {})},
    CIR: OF_COLLAPSED | {"input_components": ((0, 9), {}), "gradient_components": ((0, 9), {})},
    RepSelect: OF_COLLAPSED | {"components": ((2, 16), {}), "collapse": (("soft", "hard"), {})},
    RMUSAM: OF_STEERED | {"rho": ((0.0, 2.0), {})},
    CircuitBreaker: OF_WINDOW,
    OrthogonalCircuitBreaker: OF_WINDOW | {"orthogonality": ((0.0, 5.0), {})},
    SRMU: OF_WINDOW
    | {
        "coefficient": ((1.0, 9.0), {}),
        "importance": (("ratio", "difference", "product"), {}),
        "weight": ((0.5, 1.0), {"importance": "difference"}),
    },
    TamperResistantRMU: OF_STEERED | {"relearn_steps": ((0, 3), {"relearn_lr": 1e-2}), "relearn_lr": ((1e-2, 1e-1), {})},
    LayeredRMU: OF_STEERED | {"steps": ((3, 2), {"folds": 2}), "folds": ((1, 3), {}), "fold_weight": ((0.0, 9.0), {})},
    LUNAR: OF_SOLVED | {"coefficient": ((1.0, 2.0), {}), "references": ((64, 3), {})},
    ClosedFormRMU: OF_SOLVED | OF_TARGET | {"blocks": ((1, 2, 3), {})},
    RankOneRMU: OF_STEERED | {"rank": ((1, 2, 32), {})},
}
COLLAPSED, SOLVED = STEERING | {"lr": 1.0}, {"layer": 3, "max_length": 24, "alpha": 1.0}
BASES = {
    UnlearnConfig: STEERING,
    SSD: {**ALL_BLOCKS, "threshold": 2.0},
    **dict.fromkeys((MCURMU, RMUSAM, CircuitBreaker, OrthogonalCircuitBreaker, SRMU, RankOneRMU), STEERING),
    **dict.fromkeys((TamperResistantRMU, LayeredRMU), STEERING),
    **dict.fromkeys((CIR, RepSelect), COLLAPSED),
    **dict.fromkeys((LUNAR, ClosedFormRMU), SOLVED),
}
MORE = [  # what matters in two ways
    (UnlearnConfig, "beta", (2.0, 5.0), {"norm_per": "first batch"}),
    (UnlearnConfig, "beta", (2.0, 5.0), {"norm_per": "token"}),
]
FIELDS = [(kind, name, *case) for kind, fields in CASES.items() for name, case in fields.items()] + MORE
UNUSED = [
    ({"method": "adaptive_rmu"}, {"coefficient": 50.0}),
    ({"method": "rmu"}, {"beta": 9.0}),
    ({"method": "rmu"}, {"norm_per": "first batch"}),
]


def configs_of(kind, name, values, needed):
    """Settings that differ in one field."""
    return [kind(**{**BASES.get(kind, TRAINING), **needed, name: value}) for value in values]


def each_field(test):
    names = [f"{kind.__name__}-{name}" for kind, name, _, _ in FIELDS]
    return pytest.mark.parametrize(("kind", "name", "values", "needed"), FIELDS, ids=names)(test)


@pytest.fixture(scope="module")
def edit_of(tokenizer):
    """The edit that `unlearn` trains by some settings; each once for all tests."""
    model = tiny_model("llama")
    return functools.cache(lambda config: unlearn(model, tokenizer, FORGET, RETAIN, config, progress=False).edit)


def apart(one, other):
    """Whether two edits of the tiny model are clearly others, not only by rounding."""
    if one.keys() != other.keys():
        return True
    base = tiny_model("llama")
    moved = sum((matrix - base.get_parameter(name).detach()).square().sum() for name, matrix in one.items())
    return sum((matrix - other[name]).square().sum() for name, matrix in one.items()) > 1e-4 * moved > 0


def test_every_field_of_every_method_has_a_case():
    assert set(CASES) == {method.config for method in METHODS.values()}
    for kind, cases in CASES.items():
        assert set(cases) == {item.name for item in dataclasses.fields(kind)}, kind


@each_field
def test_another_value_trains_another_edit(kind, name, values, needed, edit_of):
    for one, other in itertools.combinations(configs_of(kind, name, values, needed), 2):
        assert apart(edit_of(one), edit_of(other)), (getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(("settings", "unused"), UNUSED)
def test_what_a_method_has_no_use_for_changes_nothing(settings, unused, edit_of):
    one, other = edit_of(UnlearnConfig(**STEERING, **settings)), edit_of(UnlearnConfig(**STEERING, **settings, **unused))
    assert all(matrix.equal(other[name]) for name, matrix in one.items())


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_a_sweep_shares_no_work_between_settings_that_train_other_edits(kind, edit_of, tokenizer, tmp_path):
    """All settings above in one sweep: its frozen passes and its trainings in groups give each the edit of its own."""
    configs = list(dict.fromkeys(config for case in FIELDS if case[0] is kind for config in configs_of(*case)))
    texts, model = topic_texts(FORGET, RETAIN, 3), tiny_model("llama")
    job = Job(model, tokenizer, texts, QUESTIONS, tuple(configs), "cloze", 16, 10**9, str(tmp_path), "a-", {}, "", False)
    assert len({job.key(config) for config in configs}) == len(configs)
    with Worker(job) as worker:
        found = {one.config: one.edit for group in groups_of(configs) for one in worker.train(group)}
    assert found.keys() == set(configs)
    for config, edit in found.items():
        assert edit.keys() == edit_of(config).keys()
        for name, matrix in edit_of(config).items():
            torch.testing.assert_close(edit[name], matrix, rtol=1e-4, atol=1e-5, msg=str(config))


@each_field
def test_records_keep_every_value(kind, name, values, needed):
    configs = configs_of(kind, name, values, needed)
    stored = [json.dumps(config.to_dict()) for config in configs]
    assert [config_from_dict(json.loads(text)) for text in stored] == configs
    assert len(set(stored)) == len(configs)

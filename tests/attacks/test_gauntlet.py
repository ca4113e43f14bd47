import dataclasses
import json
import sys
from dataclasses import dataclass

import pytest
import torch

from rmu_lab import RmuLabError, RobustnessCard, accuracy, gauntlet
from rmu_lab.attacks import ablate
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, RETAIN
from tests.conftest import same_weights, weights_of

ALL = [
    "quantise to 8 bits",
    "quantise to 4 bits",
    "prefilled",
    "rephrased",
    "suffix",
    "few-shot",
    "ablate a direction",
    "relearn unrelated text",
    "relearn text of the topic",
    "logit lens",
]
REPHRASED = [row | {"original": row["id"], "question": f"So, {row['question']}"} for row in QUESTIONS[:4]]
MATERIAL = {"dev_questions": DEV, "forget": FORGET, "retain": RETAIN, "progress": False}


@pytest.fixture
def card(model, tokenizer, result):
    before = weights_of(model)
    found = gauntlet(model, tokenizer, result, QUESTIONS, rephrased=(QUESTIONS, REPHRASED), suffix=" old fish", **MATERIAL)
    assert same_weights(model, before)
    return found


def test_all_attacks_start_where_the_card_does(card, model, tokenizer, result):
    assert list(card.recoveries) == ALL and card.left_out == {}
    assert card.base == accuracy(model, tokenizer, QUESTIONS, progress=False)
    with result.applied(model):
        assert card.unlearned == accuracy(model, tokenizer, QUESTIONS, progress=False)
    for name, recovery in card.recoveries.items():
        assert recovery.attack == name
        if name != "rephrased":
            assert recovery.start == card.unlearned
            base = recovery.controls.get("base model")
            assert base is None or base[0] == card.base
    assert len(card.recoveries["rephrased"].start.correct) == 4


def test_card_survives_json(card, tmp_path):
    path = card.save(tmp_path / "card.json")
    assert RobustnessCard.load(path) == card
    assert {"command", "versions", "machine", "time"} <= json.loads(path.read_text())["provenance"].keys()
    (tmp_path / "other.json").write_text('{"recoveries": {}}')
    for other in ("other.json", "none.json"):
        with pytest.raises(RmuLabError, match="holds no card"):
            RobustnessCard.load(tmp_path / other)


def test_table_has_a_row_for_each_control(card):
    rows = card.table()
    assert [row[0] for row in rows] == [name for name, one in card.recoveries.items() for _ in one.controls]
    for name, accuracies, recovered, control, difference in rows:
        one = card.recoveries[name]
        assert accuracies == f"{one.start.accuracy:.1%} -> {one.attacked.accuracy:.1%}"
        assert recovered == str(one.recovered)
        label = control.partition(":")[0]
        assert difference.startswith(str(one.difference(label))) and "p = " in difference
        _, *ends = one.controls[label]
        assert control.endswith(f"{sum(end.accuracy for end in ends) / len(ends):.1%}")


def test_what_lacks_time_or_material_is_named(model, tokenizer, result, monkeypatch):
    none = gauntlet(model, tokenizer, result, QUESTIONS, seconds=0, **MATERIAL)
    assert none.recoveries == {} and list(none.left_out) == ALL
    assert none.left_out["suffix"] == "no suffix was given" and none.left_out["logit lens"] == "no time was left"
    clock = iter(range(10_000))
    monkeypatch.setattr(sys.modules["rmu_lab.attacks.gauntlet"].time, "perf_counter", lambda: next(clock))
    some = gauntlet(model, tokenizer, result, QUESTIONS, seconds=12, **MATERIAL)
    assert len(some.recoveries) >= 1 and some.left_out["logit lens"] == "no time was left"
    ran = [name for name in ALL if name in some.recoveries]
    assert ran == [name for name in ALL if name not in ("rephrased", "suffix")][: len(ran)]  # the cheapest
    assert set(ran) | set(some.left_out) == set(ALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retain": RETAIN[:3]}, "retain holds 3 texts"),
        ({"dev_questions": [*DEV, QUESTIONS[0]]}, "is also asked"),
        ({"suffix": ""}, "fewer than two different tokens"),
        ({"rephrased": (DEV, REPHRASED)}, "None of `rephrased`"),
    ],
)
def test_material_that_does_not_fit_is_refused_at_once(change, message, model, tokenizer, result, monkeypatch):
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with pytest.raises(RmuLabError, match=message):
        gauntlet(model, tokenizer, result, QUESTIONS, **MATERIAL | change)


def test_only_what_is_asked_for_runs(model, tokenizer, result):
    card = gauntlet(model, tokenizer, result, QUESTIONS, only=["prefilled", "logit lens"], **MATERIAL)
    assert list(card.recoveries) == ["prefilled", "logit lens"]
    assert card.left_out["few-shot"] == "it was not asked for" and len(card.left_out) == len(ALL) - 2
    with pytest.raises(RmuLabError, match="There is no attack 'prefill'"):
        gauntlet(model, tokenizer, result, QUESTIONS, only=["prefill"], **MATERIAL)


@dataclass(frozen=True)
class OtherConfig:
    """Of a method that steers no block."""

    method: str = "other"


def test_an_edit_of_another_method(model, tokenizer, result):
    """All parameters of the model, vectors and embedding among them, no steered block and no direction."""
    generator = torch.Generator().manual_seed(0)
    edit = {
        name: parameter.detach() + 0.05 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in model.named_parameters()
    }
    other = dataclasses.replace(result, edit=edit, directions={}, config=OtherConfig())
    before = weights_of(model)
    card = gauntlet(model, tokenizer, other, QUESTIONS, suffix=" old fish", layer=2, **MATERIAL)
    assert same_weights(model, before)
    assert set(card.left_out) == {"rephrased"}
    assert card.recoveries["ablate a direction"].details["layer"] == 2
    without = gauntlet(model, tokenizer, other, QUESTIONS, only=["ablate a direction"], **MATERIAL)
    assert without.left_out["ablate a direction"] == "the edit steers no block, and no layer was given"
    with pytest.raises(RmuLabError, match="steers no block; give the layer"):
        ablate(model, tokenizer, other, QUESTIONS, FORGET, progress=False)

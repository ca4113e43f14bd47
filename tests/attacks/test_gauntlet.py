import copy
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rmu_lab import RmuLabError, RobustnessCard, accuracy, decoder_blocks, evaluate
from rmu_lab.attacks import Budget, Subject, ablate, gauntlet, register_attack
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, QUIET, RETAIN
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
STORED = Path(__file__).parents[2] / "data/results"
CARDS = sorted([*STORED.glob("robustness/*_?.json"), *STORED.glob("methods/card_*.json")])


@pytest.fixture
def whole(subject):
    """With all material."""
    return dataclasses.replace(subject, rephrased=(QUESTIONS, REPHRASED), suffix=" old fish")


@pytest.fixture
def card(whole, model):
    before = weights_of(model)
    found = gauntlet(whole, budget=QUIET)
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


def test_reference_scores_are_measured_once_for_all_attacks(whole, model, tokenizer, result, monkeypatch):
    asked = []  # each time that questions are scored: which, how, through how many blocks, with which weights
    honest, edited = evaluate.option_scores, next(iter(result.edit))
    scored = [model.get_parameter(edited).detach().clone()]
    with result.applied(model):
        scored.append(model.get_parameter(edited).detach().clone())

    def scores(model, tokenizer, rows, **how):
        here = model.get_parameter(edited)
        state = next((index for index, weights in enumerate(scored) if weights.equal(here)), None)
        hooked = any(module._forward_hooks for module in model.modules())
        asked.append(([row["question"] for row in rows], how["prefill"], len(decoder_blocks(model)), state, hooked))
        return honest(model, tokenizer, rows, **how)

    monkeypatch.setattr(evaluate, "option_scores", scores)
    plain = [row["question"] for row in QUESTIONS]
    card = gauntlet(whole, only=set(ALL) - {"logit lens"}, budget=QUIET)  # the lens's last block is the whole model
    assert len(card.recoveries) == 9
    for state in (0, 1):  # the base model's weights, the unlearned model's
        assert asked.count((plain, "", 5, state, False)) == 1
    gauntlet(whole, only=["prefilled"], budget=QUIET)
    assert [asked.count((plain, "", 5, state, False)) for state in (0, 1)] == [1, 1]  # nor again by another run


def test_what_lacks_time_or_material_is_named(subject, model, tokenizer, result, monkeypatch):
    none = gauntlet(subject, budget=Budget(seconds=0, progress=False))
    assert none.recoveries == {} and list(none.left_out) == ALL
    assert none.left_out["suffix"] == "no suffix was given" and none.left_out["logit lens"] == "no time was left"
    assert none.left_out["rephrased"] == "no rephrased questions were given"
    clock = iter(range(10_000))
    monkeypatch.setattr(sys.modules["rmu_lab.attacks.gauntlet"].time, "perf_counter", lambda: next(clock))
    some = gauntlet(subject, budget=Budget(seconds=12, progress=False))
    assert len(some.recoveries) >= 1 and some.left_out["logit lens"] == "no time was left"
    ran = [name for name in ALL if name in some.recoveries]
    assert ran == [name for name in ALL if name not in ("rephrased", "suffix")][: len(ran)]  # the cheapest
    assert set(ran) | set(some.left_out) == set(ALL)


def test_questions_alone_are_enough(model, tokenizer, result):
    card = gauntlet(Subject(model, tokenizer, result, QUESTIONS), budget=QUIET)
    assert list(card.recoveries) == ["quantise to 8 bits", "quantise to 4 bits", "prefilled"]
    assert list(card.digests) == ["base weights", "base settings", "base tokenizer", "edit", "questions", "material"]
    assert card.left_out == {
        "rephrased": "no rephrased questions were given",
        "suffix": "no suffix was given",
        "few-shot": "no dev questions were given",
        "ablate a direction": "no texts of the topic were given",
        "relearn unrelated text": "no unrelated texts were given",
        "relearn text of the topic": "no texts of the topic were given",
        "logit lens": "no dev questions were given",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retain": RETAIN[:3]}, "retain holds 3 texts"),
        ({"forget": FORGET[:3]}, "forget holds 3 texts"),
        ({"dev_questions": [*DEV, QUESTIONS[0]]}, "is also asked"),
        ({"dev_questions": DEV[:4]}, "shots is 5, with 4 solved"),
        ({"suffix": ""}, "fewer than two different tokens"),
        ({"rephrased": (DEV, REPHRASED)}, "None of `rephrased`"),
    ],
)
def test_material_that_does_not_fit_is_refused_at_once(change, message, subject, monkeypatch):
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with pytest.raises(RmuLabError, match=message):
        gauntlet(dataclasses.replace(subject, **change), budget=QUIET)


def test_only_what_is_asked_for_runs(subject):
    card = gauntlet(subject, only=["prefilled", "logit lens"], budget=QUIET)
    assert list(card.recoveries) == ["prefilled", "logit lens"]
    assert card.left_out["few-shot"] == "it was not asked for" and len(card.left_out) == len(ALL) - 2
    with pytest.raises(RmuLabError, match=r"There is no attack 'prefill'; use some of 'quantise to 8 bits', .*'logit lens'"):
        gauntlet(subject, only=["prefill"], budget=QUIET)


def test_an_attack_of_your_own_is_one_function_and_one_line(subject, table, tmp_path):
    @register_attack("shouted")
    def shout(subject, budget):
        louder = [row | {"question": row["question"].upper()} for row in subject.questions]
        return subject.ask_again("shout", louder)

    whole = gauntlet(subject, budget=QUIET)
    assert list(whole.recoveries)[-1] == "shouted"  # the last
    card = gauntlet(subject, only=["shouted", "prefilled"], budget=QUIET)
    assert list(card.recoveries) == ["prefilled", "shouted"]
    found, alone = card.recoveries["shouted"], shout(subject, QUIET)
    assert found == dataclasses.replace(alone, attack="shouted", seconds=found.seconds)
    assert found.controls["base model"][0] == card.base and found.difference("base model").change == pytest.approx(
        alone.recovered.change - (alone.controls["base model"][1].accuracy - card.base.accuracy)
    )
    assert RobustnessCard.load(card.save(tmp_path / "card.json")) == card
    assert card.table()[-1][0] == "shouted"


def shout_on(subject, budget):
    return subject.ask_again("", subject.questions)


def test_names_and_needs_of_registered_attacks(subject, table):
    register_attack("shouted", needs=("suffix",))(shout_on)
    assert gauntlet(subject, only=["shouted"], budget=QUIET).left_out["shouted"] == "no suffix was given"
    register_attack("shouted")(shout_on)  # a notebook's cell that is run again
    assert list(table)[-2:] == ["logit lens", "shouted"] and table["shouted"].needs == ()
    for taken in ("shouted", "suffix", "prefilled"):
        with pytest.raises(RmuLabError, match=f"There is an attack '{taken}' already; .*'quantise to 8 bits', .*'shouted'"):
            register_attack(taken)(lambda subject, budget: None)
    for needs in (("suffixes",), "suffix"):
        with pytest.raises(RmuLabError, match=r"needs is .*; give a tuple of some of 'dev_questions', .*'layer'\."):
            register_attack("whispered", needs=needs)


def test_a_registered_attack_can_refuse_its_material_and_has_to_return_a_recovery(subject, table, monkeypatch):
    def refuse(subject, budget):
        raise RmuLabError(f"no whispering with seed {budget.seed}")

    register_attack("silent")(lambda subject, budget: None)
    left_out = gauntlet(subject, only=["silent"], budget=QUIET).left_out["silent"]
    assert left_out == "it failed: The attack 'silent' returned NoneType; it must return a Recovery"
    register_attack("whispered", check=refuse)(shout_on)
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with pytest.raises(RmuLabError, match="no whispering with seed 3"):
        gauntlet(subject, budget=Budget(seed=3, progress=False))


# -- a card that is kept attack by attack -----------------------------------------------------------------------------


def unserialisable(subject, budget):
    return dataclasses.replace(subject.ask_again("", subject.questions), details={"tensor": torch.zeros(1)})


def test_one_failing_attack_costs_no_other(subject, table, model, tmp_path):
    register_attack("raises")(lambda subject, budget: {}["key"])
    register_attack("diverges")(lambda subject, budget: torch.zeros(2) @ torch.zeros(3))
    register_attack("unstorable")(unserialisable)
    register_attack("shouted")(shout_on)
    asked, before = ["prefilled", "raises", "diverges", "unstorable", "shouted"], weights_of(model)
    card = gauntlet(subject, only=asked, budget=QUIET, out=tmp_path / "card.json")
    assert list(card.recoveries) == ["prefilled", "shouted"] and same_weights(model, before)
    assert card.left_out["raises"] == "it failed: 'key' is missing"
    assert card.left_out["diverges"].startswith("it failed: ") and "size" in card.left_out["diverges"]
    assert "details that JSON cannot hold" in card.left_out["unstorable"]
    assert RobustnessCard.load(tmp_path / "card.json") == card


def test_a_stopped_run_goes_on_and_runs_nothing_twice(subject, table, tmp_path):
    ran, path = [], tmp_path / "card.json"

    def stop(subject, budget):
        raise KeyboardInterrupt

    def count(subject, budget):
        ran.append(budget.seed)
        return subject.ask_again("", subject.questions)

    register_attack("counted")(count)
    register_attack("stopped")(stop)
    with pytest.raises(KeyboardInterrupt):
        gauntlet(subject, only=["counted", "stopped"], budget=QUIET, out=path)
    part = RobustnessCard.load(path)
    assert list(part.recoveries) == ["counted"] and part.left_out["stopped"] == "it has not run yet"
    table["stopped"] = dataclasses.replace(table["stopped"], run=count)
    card = gauntlet(subject, only=["counted", "stopped", "prefilled"], budget=QUIET, out=path)
    assert list(card.recoveries) == ["prefilled", "counted", "stopped"] and ran == [0, 0]
    assert card.recoveries["counted"] == part.recoveries["counted"] and card.seconds > part.seconds
    assert RobustnessCard.load(path) == card


def test_a_card_of_something_else_is_not_gone_on_with(subject, model, tokenizer, result, tmp_path):
    path = tmp_path / "card.json"
    whole = dataclasses.replace(subject, rephrased=(QUESTIONS, REPHRASED))
    gauntlet(whole, only=["prefilled"], budget=QUIET, out=path)
    content = path.read_bytes()
    edit = {name: matrix + 1 for name, matrix in result.edit.items()}
    other_model = copy.deepcopy(model)
    with torch.no_grad():
        next(other_model.parameters())[0, 0] += 1e-3
    rotated = copy.deepcopy(model)
    rotated.config.rope_parameters["rope_theta"] = 5.0
    template = copy.deepcopy(tokenizer)
    template.chat_template = "{{ messages[0].content }}"
    for change, what in (
        ({"questions": QUESTIONS[1:]}, "questions"),
        ({"dev_questions": DEV[1:]}, "dev_questions"),
        ({"forget": RETAIN}, "forget"),
        ({"suffix": " old fish"}, "material"),
        ({"rephrased": (QUESTIONS, REPHRASED[:3])}, "rephrased"),
        ({"result": dataclasses.replace(result, edit=edit)}, "edit"),
        ({"model": other_model}, "base weights"),
        ({"model": rotated}, "base settings"),
        ({"tokenizer": template}, "base tokenizer"),
    ):
        with pytest.raises(RmuLabError, match=f"holds a card with another {what}; choose another file"):
            gauntlet(dataclasses.replace(whole, **change), only=["prefilled"], budget=QUIET, out=path)
    with pytest.raises(RmuLabError, match="holds a card with another seed"):
        gauntlet(whole, only=["prefilled"], budget=dataclasses.replace(QUIET, seed=1), out=path)
    assert path.read_bytes() == content
    tokenizer(["a", "the sea"], padding=True, truncation=True, max_length=1)  # leaves its mark in a tokenizer
    assert gauntlet(whole, only=["prefilled"], budget=QUIET, out=path).recoveries


def test_the_card_has_a_place_before_anything_is_asked(subject, tmp_path, monkeypatch):
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    (tmp_path / "other.json").write_text("[]")
    for out, message in (("missing/card.json", "cannot be written"), ("other.json", "holds no card")):
        with pytest.raises(RmuLabError, match=message):
            gauntlet(subject, budget=QUIET, out=tmp_path / out)


def test_the_unlearned_model_is_not_taken_for_its_base(subject, model, result):
    with result.applied(model), pytest.raises(RmuLabError, match="holds this edit already, or the edit changes nothing"):
        gauntlet(subject, budget=QUIET)


def leaves(plain, place=()):
    """Every value of nested lists and dictionaries by its place."""
    if not isinstance(plain, dict | list):
        return {place: plain}
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    return {found: value for key, part in items for found, value in leaves(part, (*place, key)).items()}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_stored_cards_load_and_their_numbers_are_those_of_their_answers(path):
    plain, card = json.loads(path.read_text()), RobustnessCard.load(path)
    again = leaves(json.loads(json.dumps(card.to_dict())))
    assert again.keys() == leaves(plain).keys()
    for place, value in leaves(plain).items():  # intervals are computed anew, by another way of rounding
        assert again[place] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value)
    assert set(card.recoveries) | set(card.left_out) == set(ALL)
    assert [name for name in ALL if name in card.recoveries] == list(card.recoveries)
    for name, recovery in card.recoveries.items():
        stored, n = plain["recoveries"][name], len(recovery.start.correct)
        right = {side: stored[side]["correct"].count("1") for side in ("start", "attacked")}
        assert recovery.recovered.change == pytest.approx((right["attacked"] - right["start"]) / n)
        if name != "rephrased":
            assert recovery.start == card.unlearned
        for control, (before, *ends) in recovery.controls.items():
            gain = sum(end.accuracy - before.accuracy for end in ends) / len(ends)
            assert recovery.difference(control).change == pytest.approx(recovery.recovered.change - gain)


def test_all_stored_cards_are_there():
    assert [path.stem for path in CARDS] == ["card_scrub", "adaptive_rmu_0", "adaptive_rmu_1", "rmu_0", "rmu_1", "rna_0"]


@dataclass(frozen=True)
class OtherConfig:
    """Of a method that steers no block."""

    method: str = "other"


def test_an_edit_of_another_method(subject, model, result):
    """All parameters of the model, vectors and embedding among them, no steered block and no direction."""
    generator = torch.Generator().manual_seed(0)
    edit = {
        name: parameter.detach() + 0.05 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in model.named_parameters()
    }
    other = dataclasses.replace(result, edit=edit, directions={}, config=OtherConfig())
    subject = dataclasses.replace(subject, result=other, suffix=" old fish")
    before = weights_of(model)
    card = gauntlet(dataclasses.replace(subject, layer=2), budget=QUIET)
    assert same_weights(model, before)
    assert set(card.left_out) == {"rephrased"}
    assert card.recoveries["ablate a direction"].details["layer"] == 2
    without = gauntlet(subject, only=["ablate a direction"], budget=QUIET)
    assert without.left_out["ablate a direction"] == "the edit steers no block, and no layer was given"
    with pytest.raises(RmuLabError, match="The edit steers no block, and no layer was given; give it as Subject"):
        ablate(subject, QUIET)

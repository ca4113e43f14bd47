import copy
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt

from rmu_lab import Accuracy, RmuLabError, RobustnessCard, accuracy, decoder_blocks, evaluate
from rmu_lab.attacks import (
    ATTACKS,
    Budget,
    Cost,
    Recovery,
    Subject,
    ablate,
    gauntlet,
    register_attack,
    short_list,
)
from rmu_lab.attacks.card_figure import card_figure
from rmu_lab.attacks.cost import counted
from tests.attacks.conftest import DEV, FORGET, QUESTIONS, QUIET, RETAIN, answerable, edit_of
from tests.conftest import same_weights, tiny_model, weights_of

FIRST_EDITION = [
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
ALL = [
    *FIRST_EDITION[:7],
    "ablate without the base model",
    "probe",
    "logit lens",
    "sample",
    "relearn unrelated text, edited matrices",
    "relearn unrelated text",
    "relearn text of the topic",
    "relearn other facts",
    "soft prompt",
]
OTHER_QUESTIONS = {"rephrased", "sample", "relearn other facts"}
"""Attacks that ask some of the questions only."""
REPHRASED = [row | {"original": row["id"], "question": f"So, {row['question']}"} for row in QUESTIONS[:4]]
SUBJECTS = [row | {"subject": f"subject {at % 3}"} for at, row in enumerate([*QUESTIONS, *DEV])]
STORED = Path(__file__).parents[2] / "data/results"
CARDS = sorted([*STORED.glob("robustness/*_?.json"), *STORED.glob("methods/card_*.json")])


def with_all_material(subject, model, tokenizer):
    """... and some questions that the base model answers in words."""
    asked = [*SUBJECTS[: len(QUESTIONS)], *answerable(model, tokenizer, SUBJECTS[:6])]
    known = {"dev_questions": SUBJECTS[len(QUESTIONS) :], "general": DEV[:4], "rephrased": (QUESTIONS, REPHRASED)}
    return dataclasses.replace(subject, questions=asked, suffix=" old fish", **known)


@pytest.fixture
def whole(subject, model, tokenizer):
    return with_all_material(subject, model, tokenizer)


@pytest.fixture(scope="module")
def card(tokenizer):
    """Of the edit of `whole`: made once, as it takes a while."""
    model = tiny_model("llama")
    result, before = edit_of(model, tokenizer), weights_of(model)
    subject = Subject(model, tokenizer, result, QUESTIONS, dev_questions=DEV, forget=FORGET, retain=RETAIN)
    found = gauntlet(with_all_material(subject, model, tokenizer), budget=QUIET)
    assert same_weights(model, before)
    return found


def test_all_attacks_start_where_the_card_does(card, whole, model, tokenizer, result):
    assert list(card.recoveries) == ALL and card.left_out == {}
    assert card.base == accuracy(model, tokenizer, whole.questions, progress=False)
    with result.applied(model):
        assert card.unlearned == accuracy(model, tokenizer, whole.questions, progress=False)
    for name, recovery in card.recoveries.items():
        assert recovery.attack == name and recovery.attacker == ATTACKS[name].attacker
        assert recovery.may_teach == (name == "relearn text of the topic")
        assert recovery.cost.forward > 0 and (recovery.cost.backward > 0) == (name.startswith(("relearn", "soft")))
        if name not in OTHER_QUESTIONS:
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


def test_table_has_a_row_for_each_attack_the_worst_first(card):
    rows, found = card.table(), card.recoveries
    assert sorted(row[0] for row in rows) == sorted(found)
    beyond = [found[row[0]].beyond_controls.change for row in rows]
    assert beyond == sorted(beyond, reverse=True)
    for name, attacker, accuracies, difference, cost in rows:
        one = found[name]
        assert attacker == one.attacker and cost == str(one.cost)
        assert accuracies.startswith(f"{one.start.accuracy:.0%} -> {one.attacked.accuracy:.0%}")
        least = min([one.recovered.change, *(one.difference(control).change for control in one.controls)])
        assert one.beyond_controls.change == least and difference.startswith(str(one.beyond_controls))


def scored(marks):
    return Accuracy.of(tuple(mark == "1" for mark in marks), tuple(map(int, marks)), "cloze")


def with_recoveries(card, **gains):
    """The card, with attacks that give so many of 40 wrong answers back, beside a control that gives none."""
    wrong = scored("0" * 40)
    found = {
        name: Recovery(name, wrong, scored("1" * n + "0" * (40 - n)), {"still": (wrong, wrong)}, {}, (), 0.0, attacker=held)
        for name, (n, held) in gains.items()
    }
    return dataclasses.replace(card, recoveries=found, base=scored("1" * 40), unlearned=wrong)


def test_a_card_says_its_guarantee_and_the_worst_case_of_each_attacker(card):
    found = with_recoveries(card, little=(2, "prompts alone"), much=(30, "the weights"), some=(12, "the weights"))
    assert list(found.worst_first) == ["much", "some", "little"] and list(found.successful) == ["much", "some"]
    guarantee, reference, *worst = found.summary()
    assert guarantee.startswith("Guarantee: suppression, not erasure. Of 3 attacks, much recovers most of those that teach")
    assert guarantee.endswith("points, where unlearning took 100.")
    assert card.model_name in reference and str(found.base) in reference
    assert worst[0].startswith("With the weights, most by much (of 2 attacks): +75.0")
    assert worst[1].startswith("With prompts alone, most by little: +5.0")
    assert [("chance" in row[3]) for row in found.table()] == [False, False, True]
    taught = {name: dataclasses.replace(one, may_teach=name == "much") for name, one in found.recoveries.items()}
    careful = dataclasses.replace(found, recoveries=taught)
    assert "3 attacks, some recovers most" in careful.summary()[0] and "which may have taught it" in careful.summary()[2]
    only = dataclasses.replace(found, recoveries={"much": taught["much"]})
    assert only.summary()[0].endswith("shows neither suppression nor erasure.") and list(only.successful) == ["much"]
    nothing = with_recoveries(card, little=(2, "prompts alone"))
    assert nothing.successful == {} and "Guarantee: none. Of 1 attacks none brings back more" in nothing.summary()[0]
    assert with_recoveries(card).summary()[0] == "Guarantee: none. No attack was run."


def test_a_control_that_loses_does_not_make_an_attack_succeed(card):
    """Nothing came back; that the control fell by 30 points is no knowledge."""
    one = with_recoveries(card, idle=(0, "the weights"))
    right, fallen = scored("1" * 40), scored("1" * 10 + "0" * 30)
    idle = dataclasses.replace(one.recoveries["idle"], controls={"base model": (right, fallen)})
    assert idle.difference("base model").change == 0.75
    assert idle.strictest == "not attacked" and idle.beyond_controls.change == 0
    assert dataclasses.replace(one, recoveries={"idle": idle}).successful == {}


def test_what_one_of_several_attacks_does_by_chance_is_no_success(card):
    """Six of forty answers: p = 0.03 alone, and nothing among twenty attacks."""
    alone = with_recoveries(card, lucky=(6, ""))
    assert list(alone.successful) == ["lucky"]
    many = with_recoveries(card, lucky=(6, ""), **{f"other {at}": (0, "") for at in range(19)})
    assert many.successful == {} and "may be chance" in many.table()[0][3]


def test_the_figure_shows_every_attack_and_control(card):
    figure = card_figure(card)
    (axes,) = figure.axes
    names = [label.get_text().partition("\n")[0] for label in axes.get_yticklabels()]
    assert names == list(card.worst_first)
    drawn = [100 * one.recovered.change for one in card.worst_first.values()]
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "D")]
    assert points == pytest.approx(drawn)
    assert sum(line.get_marker() == "s" for line in axes.lines) == sum(len(one.controls) for one in card.recoveries.values())
    plt.close(figure)


def test_what_is_run_is_counted(subject, model, tokenizer, table):
    @register_attack("counted", access="prompts")
    def run(subject, budget):
        with torch.no_grad():
            subject.model(torch.ones(3, 7, dtype=torch.long))
        subject.model(torch.ones(2, 5, dtype=torch.long))
        return ablate(subject, budget, n_random=1, max_length=16)

    assert subject.reference
    with counted(model) as plain:
        ablate(subject, QUIET, n_random=1, max_length=16)
    card = gauntlet(subject, only=["counted"], budget=QUIET)
    cost = card.recoveries["counted"].cost
    assert (cost.forward, cost.backward) == (plain.forward + 21, 10) and plain.backward == 0
    assert card.recoveries["counted"].attacker == "prompts alone"
    assert [str(Cost(forward=n, backward=m)) for n, m in ((0, 0), (1_234_567, 0), (400, 20_000))] == [
        "nothing", "1.2M tokens read", "1k tokens read and 20k trained on"
    ]  # fmt: skip


def test_attackers_are_told_apart_by_what_they_hold():
    assert ATTACKS["prefilled"].attacker == "prompts alone"
    assert ATTACKS["few-shot"].attacker == "prompts alone, answered questions on it"
    assert ATTACKS["ablate a direction"].attacker == "the weights and the base model's, texts of the topic"
    assert ATTACKS["ablate without the base model"].attacker == "the weights, texts of the topic"
    assert ATTACKS["relearn unrelated text"].attacker == "the weights"
    assert set(short_list()) < set(ATTACKS)


def test_reference_scores_are_measured_once_for_all_attacks(whole, model, tokenizer, result, monkeypatch):
    asked = []  # each time that questions are scored: which, how, through how many blocks, with which weights
    honest, edited = evaluate.option_scores, next(iter(result.edit))
    scored = [model.get_parameter(edited).detach().clone()]
    with result.applied(model):
        scored.append(model.get_parameter(edited).detach().clone())

    def scores(model, tokenizer, rows, **how):
        here = model.get_parameter(edited)
        state = next((index for index, weights in enumerate(scored) if weights.equal(here)), None)
        counting = model.get_input_embeddings()  # has a hook that counts tokens
        hooked = any(len(module._forward_hooks) > (module is counting) for module in model.modules())
        asked.append(([row["question"] for row in rows], how["prefill"], len(decoder_blocks(model)), state, hooked))
        return honest(model, tokenizer, rows, **how)

    monkeypatch.setattr(evaluate, "option_scores", scores)
    plain = [row["question"] for row in whole.questions]
    inner = {"logit lens", *(name for name in ALL if "relearn" in name)}  # which look at the whole model on their way
    card = gauntlet(whole, only=set(ALL) - inner, budget=QUIET)
    assert len(card.recoveries) == len(ALL) - len(inner)
    for state in (0, 1):  # the base model's weights, the unlearned model's
        assert asked.count((plain, "", 5, state, False)) == 1
    gauntlet(whole, only=["prefilled"], budget=QUIET)
    assert [asked.count((plain, "", 5, state, False)) for state in (0, 1)] == [1, 1]  # nor again by another run


def test_what_lacks_time_or_material_is_named(subject, model, tokenizer, result, monkeypatch):
    none = gauntlet(subject, budget=Budget(seconds=0, progress=False))
    assert none.recoveries == {} and list(none.left_out) == ALL
    assert none.left_out["suffix"] == "no suffix was given" and none.left_out["logit lens"] == "no time was left"
    assert none.left_out["relearn other facts"] == "the questions do not say which of several subjects they are on"
    assert none.left_out["rephrased"] == "no rephrased questions were given"
    clock = iter(range(10_000))
    monkeypatch.setattr(sys.modules["rmu_lab.attacks.gauntlet"].time, "perf_counter", lambda: next(clock))
    some = gauntlet(subject, budget=Budget(seconds=12, progress=False))
    assert len(some.recoveries) >= 1 and some.left_out["logit lens"] == "no time was left"
    ran = [name for name in ALL if name in some.recoveries]
    possible = [name for name in ALL if name not in ("rephrased", "suffix", "sample", "relearn other facts")]
    assert ran == possible[: len(ran)]  # the cheapest
    assert set(ran) | set(some.left_out) == set(ALL)


def test_questions_alone_are_enough(model, tokenizer, result):
    card = gauntlet(Subject(model, tokenizer, result, QUESTIONS), budget=QUIET)
    assert list(card.recoveries) == ["quantise to 8 bits", "quantise to 4 bits", "prefilled"]
    assert list(card.digests) == ["base weights", "base settings", "base tokenizer", "edit", "questions", "material"]
    no_dev, no_unrelated = "no dev questions were given", "no unrelated texts were given"
    assert card.left_out == {
        "rephrased": "no rephrased questions were given",
        "suffix": "no suffix was given",
        **dict.fromkeys(("few-shot", "probe", "logit lens", "relearn other facts", "soft prompt"), no_dev),
        **dict.fromkeys(("ablate a direction", "ablate without the base model"), "no texts of the topic were given"),
        "relearn text of the topic": "no texts of the topic were given",
        **dict.fromkeys(("relearn unrelated text", "relearn unrelated text, edited matrices"), no_unrelated),
        "sample": "it failed: The base model answers none of the questions in words; give others, or a larger model",
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

    quick = {"quantise to 8 bits", "prefilled", "shouted"}
    assert list(gauntlet(subject, only=quick, budget=QUIET).recoveries)[-1] == "shouted"  # the last
    card = gauntlet(subject, only=["shouted", "prefilled"], budget=QUIET)
    assert list(card.recoveries) == ["prefilled", "shouted"]
    found, alone = card.recoveries["shouted"], shout(subject, QUIET)
    told = {"attacker": "the weights", "cost": found.cost, "seconds": found.seconds}  # may_teach is False by default
    assert found == dataclasses.replace(alone, attack="shouted", **told)
    assert found.controls["base model"][0] == card.base and found.difference("base model").change == pytest.approx(
        alone.recovered.change - (alone.controls["base model"][1].accuracy - card.base.accuracy)
    )
    assert RobustnessCard.load(card.save(tmp_path / "card.json")) == card
    assert "shouted" in [row[0] for row in card.table()]


def shout_on(subject, budget):
    return subject.ask_again("", subject.questions)


def test_names_and_needs_of_registered_attacks(subject, table):
    register_attack("shouted", needs=("suffix",))(shout_on)
    assert gauntlet(subject, only=["shouted"], budget=QUIET).left_out["shouted"] == "no suffix was given"
    register_attack("shouted")(shout_on)  # a notebook's cell that is run again
    assert list(table)[-2:] == ["soft prompt", "shouted"] and table["shouted"].needs == ()
    for taken in ("shouted", "suffix", "prefilled"):
        with pytest.raises(RmuLabError, match=f"There is an attack '{taken}' already; .*'quantise to 8 bits', .*'shouted'"):
            register_attack(taken)(lambda subject, budget: None)
    for needs in (("suffixes",), "suffix"):
        with pytest.raises(RmuLabError, match=r"needs is .*; give a tuple of some of 'dev_questions', .*'subjects'\."):
            register_attack("whispered", needs=needs)
    with pytest.raises(RmuLabError, match="access is 'root'; use one of 'prompts', 'weights', 'base model'"):
        register_attack("whispered", access="root")


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
        ({"general": DEV[1:]}, "general"),
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
    if plain.get("edition") == 2:
        assert again.keys() == leaves(plain).keys()
    for place, value in leaves(plain).items():  # intervals are computed anew, by another way of rounding
        assert again[place] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value)
    assert set(card.recoveries) | set(card.left_out) >= set(FIRST_EDITION)
    for name, recovery in card.recoveries.items():
        stored, n = plain["recoveries"][name], len(recovery.start.correct)
        right = {side: stored[side]["correct"].count("1") for side in ("start", "attacked")}
        assert recovery.recovered.change == pytest.approx((right["attacked"] - right["start"]) / n)
        if name not in OTHER_QUESTIONS:
            assert recovery.start == card.unlearned
        for control, (before, *ends) in recovery.controls.items():
            gain = sum(end.accuracy - before.accuracy for end in ends) / len(ends)
            assert recovery.difference(control).change == pytest.approx(recovery.recovered.change - gain)


def test_cards_of_the_first_edition_get_their_attackers(tmp_path):
    card = RobustnessCard.load(STORED / "robustness/rmu_0.json")
    plain = json.loads(json.dumps(card.to_dict()))
    for recovery in plain["recoveries"].values():
        del recovery["attacker"], recovery["cost"], recovery["may_teach"]
    del plain["edition"]
    (tmp_path / "old.json").write_text(json.dumps(plain))
    old = RobustnessCard.load(tmp_path / "old.json")
    assert old.recoveries["relearn unrelated text"].attacker == "the weights"
    assert old == dataclasses.replace(
        card, recoveries={name: dataclasses.replace(one, cost=None) for name, one in card.recoveries.items()}
    )
    assert all(row[-1] == "not counted" for row in old.table())
    (tmp_path / "newer.json").write_text(json.dumps(plain | {"edition": 3}))
    with pytest.raises(RmuLabError, match="edition is 3, where this version reads 1 and 2"):
        RobustnessCard.load(tmp_path / "newer.json")


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
    quick = ["quantise to 8 bits", "suffix", "few-shot", "ablate a direction", "logit lens", "relearn unrelated text"]
    before = weights_of(model)
    card = gauntlet(dataclasses.replace(subject, layer=2), only=quick, budget=QUIET)
    assert same_weights(model, before)
    assert list(card.recoveries) == [name for name in ALL if name in quick]
    assert card.recoveries["ablate a direction"].details["layer"] == 2
    without = gauntlet(subject, only=["ablate a direction"], budget=QUIET)
    assert without.left_out["ablate a direction"] == "the edit steers no block, and no layer was given"
    with pytest.raises(RmuLabError, match="The edit steers no block, and no layer was given; give it as Subject"):
        ablate(subject, QUIET)

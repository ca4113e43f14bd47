import dataclasses
import math
import sys

import pytest
import torch

from rmu_lab import RmuLabError, accuracy, decoder_blocks
from rmu_lab.attacks import RelearnConfig, relearn, relearn_other_facts, relearning_curve, search_rate
from rmu_lab.attacks.fine_tune import fine_tuning
from rmu_lab.attacks.relearn import ROUNDS
from rmu_lab.corpora import token_batches
from tests.attacks.conftest import DEV, QUESTIONS, QUIET, RETAIN
from tests.conftest import FAMILIES, same_weights, tiny_model, weights_of

CONFIG = RelearnConfig(steps=(2, 5), batch_size=2, lr=3e-3, max_length=16)


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_learns_and_everything_is_put_back(family, tokenizer):
    model = tiny_model(family)
    before, blocks = weights_of(model), {id(parameter) for parameter in decoder_blocks(model).parameters()}
    model.get_input_embeddings().weight.requires_grad_(False)
    asked = [parameter.requires_grad for parameter in model.parameters()]
    batches = token_batches(tokenizer, RETAIN[:4], 4, 16) * 6
    with fine_tuning(model, 3e-3, progress=False) as learn:
        losses = learn(batches)
        assert losses[-1] < losses[0] and len(losses) == 6
        changed = {id(parameter) for name, parameter in model.named_parameters() if not parameter.equal(before[name])}
        assert changed == {id(p) for p in decoder_blocks(model).parameters() if p.ndim >= 2} <= blocks
    assert same_weights(model, before)
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for parameter in model.parameters()) and not model.training


def test_bfloat16_steps_are_not_lost(tokenizer):
    """Each of these steps is too small for bfloat16 to resolve; together they are not."""
    model = tiny_model("llama").to(torch.bfloat16)
    before = weights_of(model)
    with fine_tuning(model, 1e-4, progress=False) as learn:
        learn(token_batches(tokenizer, RETAIN[:4], 4, 16) * 20)
        assert not same_weights(model, before)
        matrix = decoder_blocks(model)[2].mlp.down_proj.weight
        name = next(name for name, parameter in model.named_parameters() if parameter is matrix)
        assert (matrix - before[name]).abs().max() < 4e-3
        assert (matrix != before[name]).float().mean() > 0.5
    assert same_weights(model, before)


def test_loss_leaves_padding_out(model, tokenizer):
    (together,) = token_batches(tokenizer, RETAIN[:3], 3, 16)
    total, count = 0.0, 0
    with torch.no_grad():
        for text in RETAIN[:3]:
            ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :16]
            n = ids.shape[1] - 1
            total, count = total + n * model(ids, labels=ids).loss.item(), count + n
    with fine_tuning(model, 1e-4, progress=False) as learn:
        assert learn([together]) == pytest.approx([total / count], rel=1e-5)


def test_the_control_is_the_same_fine_tune_of_the_base(subject, model, tokenizer, result):
    before = weights_of(model)
    found = relearn(subject, QUIET, RETAIN, CONFIG)
    assert same_weights(model, before)
    still = dataclasses.replace(result, edit={})  # an edit that edits nothing
    on_base = relearn(dataclasses.replace(subject, result=still), QUIET, RETAIN, CONFIG)
    assert found.controls["base model"] == (on_base.start, on_base.attacked)
    assert found.details["losses"] != on_base.details["losses"]
    assert found.details["base_accuracy"] == on_base.details["accuracy"]
    with result.applied(model):
        assert found.start == accuracy(model, tokenizer, QUESTIONS, progress=False)


def test_a_model_that_never_knew_is_a_control_and_recovers_nothing_beyond_itself(subject, model, tokenizer, result):
    before = weights_of(model)
    never = dataclasses.replace(result, edit={name: 1.5 * matrix for name, matrix in result.edit.items()})
    found = relearn(dataclasses.replace(subject, never_knew=never), QUIET, RETAIN, CONFIG)
    assert same_weights(model, before)
    plain = relearn(subject, QUIET, RETAIN, CONFIG)
    assert found.controls["base model"] == plain.controls["base model"] and found.attacked == plain.attacked
    on_control = relearn(dataclasses.replace(subject, result=never), QUIET, RETAIN, CONFIG)
    assert found.controls["never knew"] == (on_control.start, on_control.attacked)
    itself = relearn(dataclasses.replace(subject, result=never, never_knew=never), QUIET, RETAIN, CONFIG)
    assert itself.difference("never knew").change == 0 and itself.beyond_controls.change <= 0


def test_the_attack_is_the_end_of_its_curve(subject, model, tokenizer, result):
    found = relearn(subject, QUIET, RETAIN, CONFIG)
    with result.applied(model):
        curve = relearning_curve(model, tokenizer, RETAIN, QUESTIONS, CONFIG, progress=False)
    assert found.attacked == curve.scores[-1]
    assert found.details["accuracy"] == [score.accuracy for score in curve.scores]
    assert found.details["tokens"] == list(curve.tokens) and len(curve.tokens) == 3
    assert len(found.details["half_back"]) == 3


def test_the_searched_rate_is_the_one_that_is_used(subject, model, tokenizer, result):
    before = weights_of(model)
    searching = dataclasses.replace(subject, general=DEV[4:])
    found = relearn(searching, QUIET, RETAIN, CONFIG, search=True)
    assert same_weights(model, before)
    with result.applied(model):
        best, tried = search_rate(model, tokenizer, RETAIN, DEV, DEV[4:], CONFIG, halving=ROUNDS, progress=False)
    assert found.details["lr"] == best.lr and tuple(found.details["steps"]) == best.steps
    assert len(found.details["tried"]) == len(tried) == 10
    assert found.attacked == relearn(subject, QUIET, RETAIN, best).attacked
    with pytest.raises(RmuLabError, match="No general questions were given"):
        relearn(subject, QUIET, RETAIN, CONFIG, search=True)


def test_what_is_asked_after_other_facts_was_not_taught(subject, monkeypatch):
    def on(rows, n):
        return [row | {"subject": f"subject {at % n}"} for at, row in enumerate(rows)]

    whole = dataclasses.replace(subject, questions=on(QUESTIONS, 3), dev_questions=on(DEV, 3))
    seen = {}

    def noted(other, budget, texts, config, **how):
        seen.update(texts=texts, asked=other.questions, dev=other.dev_questions)
        return relearn(other, budget, texts, config, **how)

    monkeypatch.setattr(sys.modules[relearn.__module__], "relearn", noted)
    found = relearn_other_facts(whole, QUIET, CONFIG)
    everything = [*whole.questions, *whole.dev_questions]
    taught = [row for row in everything if any(row["question"] in text for text in seen["texts"])]
    asked = [*seen["asked"], *seen["dev"]]
    assert len(taught) + len(asked) == len(everything) == 18
    assert not {row["subject"] for row in taught} & {row["subject"] for row in asked}
    assert len(found.start.correct) == len(seen["asked"])
    for row in taught:
        assert any(row["question"] in text and row["choices"][row["answer"]] in text for text in seen["texts"])
    with pytest.raises(RmuLabError, match="names no subject"):
        relearn_other_facts(subject, QUIET, CONFIG)


def test_the_model_is_put_back_after_an_error(subject, model, tokenizer, monkeypatch):
    before = weights_of(model)
    with pytest.raises(RmuLabError, match=r"The loss is (nan|inf) at step"):
        relearn(subject, QUIET, RETAIN, dataclasses.replace(CONFIG, lr=1e30))
    assert same_weights(model, before)
    monkeypatch.setattr("rmu_lab.evaluate.option_scores", lambda *_, **__: 1 / 0)
    with (
        pytest.raises(ZeroDivisionError),
        fine_tuning(model, 1e-2, progress=False) as learn,
    ):
        learn(token_batches(tokenizer, RETAIN[:2], 2, 16))
        accuracy(model, tokenizer, QUESTIONS)
    assert same_weights(model, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": -1.0}, "both must be positive"),
        ({"lr": math.inf}, "both must be positive"),
        ({"batch_size": 0}, "both must be positive"),
        ({"steps": ()}, "numbers that rise, from 1 on"),
        ({"steps": (3, 2)}, "numbers that rise, from 1 on"),
        ({"steps": (0, 1)}, "numbers that rise, from 1 on"),
        ({"trained": "some"}, "trained is 'some'; use one of 'all', 'edited', 'lora'"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(RmuLabError, match=message):
        RelearnConfig(**change)


def test_ten_unrelated_texts_are_learned_by_default(subject):
    found = relearn(subject, QUIET, config=CONFIG)
    assert found == dataclasses.replace(relearn(subject, QUIET, RETAIN[:10], CONFIG), seconds=found.seconds)
    with pytest.raises(RmuLabError, match="No unrelated texts were given"):
        relearn(dataclasses.replace(subject, retain=()), QUIET)

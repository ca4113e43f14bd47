"""Every attack leaves the base model as it was, also if it is stopped in the middle; and on the real model they work."""

import itertools
from dataclasses import replace

import pytest

from rmu_lab import UnlearnConfig, decoder_blocks, evaluate, load_corpus, load_questions, unlearn
from rmu_lab.attacks import RelearnConfig, Subject, ablate, gauntlet, lens, prompt, quantise, relearn, transfer
from tests.attacks.conftest import QUIET, RETAIN
from tests.conftest import same_weights, weights_of

ATTACKS = {
    "ablate": lambda subject: ablate(subject, QUIET, n_random=2),
    "lens": lambda subject: lens(subject, QUIET),
    "few-shot": lambda subject: prompt(subject, QUIET, "few-shot", shots=2),
    "prefilled": lambda subject: prompt(subject, QUIET, "prefilled"),
    "quantise": lambda subject: quantise(subject, QUIET),
    "relearn": lambda subject: relearn(subject, QUIET, RETAIN, RelearnConfig(steps=(1, 2), batch_size=2, max_length=16)),
    "transfer": lambda subject: transfer(subject, QUIET),
}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", ATTACKS)
def test_the_model_is_unchanged_wherever_an_attack_stops(name, subject, model, monkeypatch):
    before, blocks = weights_of(model), list(decoder_blocks(model))
    asking = [parameter.requires_grad for parameter in model.parameters()]
    subject = replace(subject, suffix=" old green fish", n_generations=1)
    assert subject.reference.unlearned  # known before an attack is stopped
    honest = evaluate.option_scores
    for stop_at in itertools.count():  # the first, second, ... time that questions are asked, until it runs through
        calls = itertools.count()

        def scores(*args, stop_at=stop_at, calls=calls, **how):
            if next(calls) == stop_at:
                raise Stopped
            return honest(*args, **how)

        monkeypatch.setattr(evaluate, "option_scores", scores)
        try:
            ATTACKS[name](subject)
        except Stopped:
            ended = False
        else:
            ended = True
        assert weights_of(model).keys() == before.keys() and same_weights(model, before)
        assert list(decoder_blocks(model)) == blocks and model.config.num_hidden_layers == len(blocks)
        assert not any(module._forward_hooks for module in model.modules())
        assert [parameter.requires_grad for parameter in model.parameters()] == asking
        if ended:
            assert stop_at >= 2  # the attack and its control, at least
            break


@pytest.mark.slow
def test_gauntlet_on_smollm2(smollm2):
    """On a few questions: the edit hides, its direction is found, and taking that out brings answers back."""
    model, tokenizer = smollm2
    before = weights_of(model)
    texts = {"forget": load_corpus("forget_bio"), "retain": load_corpus("retain_general")}
    result = unlearn(model, tokenizer, texts["forget"], texts["retain"], UnlearnConfig(), progress=False)
    test, dev = (load_questions("bio", split).shuffle(seed=1) for split in ("test", "dev"))
    asked = ["quantise to 8 bits", "ablate a direction"]  # the dear ones run in notebook 07
    subject = Subject(model, tokenizer, result, test.select(range(32)), dev_questions=dev.select(range(8)), **texts)
    card = gauntlet(subject, only=asked, budget=QUIET)
    assert same_weights(model, before) and [*card.recoveries] == asked
    assert card.unlearned.accuracy <= card.base.accuracy - 0.25
    shift = card.recoveries["ablate a direction"]
    assert shift.details["cosine"]["forget"] > 0.9
    assert shift.recovered.change >= 0.15
    assert shift.difference("random direction").change >= 0.15
    rounding = card.recoveries["quantise to 8 bits"]
    assert rounding.details["edit_left"] > 0.9 and abs(rounding.recovered.change) <= 0.1

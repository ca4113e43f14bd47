import pytest
import torch

from rmu_lab import RmuLabError, accuracy, answers, decoder_blocks
from rmu_lab.activations import captured
from rmu_lab.attacks import lens, through_block
from rmu_lab.evaluate import option_scores
from rmu_lab.models import final_norm
from rmu_lab.questions import cloze_prompt
from tests.attacks.conftest import DEV, QUESTIONS, QUIET
from tests.conftest import FAMILIES, same_weights, tiny_model, weights_of


def by_hand(model, tokenizer, question, choice, k):
    """Log-probability of the choice when block k's output goes to final norm and unembedding, without cache or padding."""
    prompt = tokenizer(cloze_prompt(question))["input_ids"]
    ids = tokenizer(f"{cloze_prompt(question)} {choice}")["input_ids"]
    with captured(model, [k]) as seen, torch.no_grad():
        model(torch.tensor([ids]), use_cache=False)
        logits = model.get_output_embeddings()(final_norm(model)(seen[k]))[0]
    softcap = getattr(model.config, "final_logit_softcapping", None)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    log_probabilities = logits.log_softmax(dim=-1)
    return sum(log_probabilities[i - 1, ids[i]].item() for i in range(len(prompt), len(ids)))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_through_a_block_are_the_lens_by_hand(family, tokenizer):
    model = tiny_model(family)
    for k in (0, 2):
        with through_block(model, k):
            found = option_scores(model, tokenizer, QUESTIONS[:4], progress=False)
            assert len(decoder_blocks(model)) == k + 1
        for row, scores in zip(QUESTIONS, found, strict=False):
            for choice, score in zip(row["choices"], scores, strict=True):
                assert score == pytest.approx(by_hand(model, tokenizer, row["question"], choice, k), abs=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_whole_again(family, tokenizer):
    model = tiny_model(family)
    before, scores = weights_of(model), option_scores(model, tokenizer, QUESTIONS, progress=False)
    with through_block(model, 4):  # the last block: nothing changes
        assert option_scores(model, tokenizer, QUESTIONS, progress=False) == scores
    with pytest.raises(KeyboardInterrupt), through_block(model, 1):
        answers(model, tokenizer, ["the sea?"], max_new_tokens=3)
        raise KeyboardInterrupt
    assert weights_of(model).keys() == before.keys() and same_weights(model, before)
    assert option_scores(model, tokenizer, QUESTIONS, progress=False) == scores
    for k in (-1, 5):
        with pytest.raises(RmuLabError, match=rf"k is {k}, but the model has blocks 0 \.\. 4"), through_block(model, k):
            pass


def test_block_is_chosen_on_dev_and_reported_on_test(subject, model, tokenizer, result):
    before = weights_of(model)
    found = lens(subject, QUIET)
    assert same_weights(model, before)
    dev, test, base = [], [], []
    for k in range(5):
        with through_block(model, k):
            base.append(accuracy(model, tokenizer, DEV, progress=False).accuracy)
    with result.applied(model):
        for k in range(5):
            with through_block(model, k):
                dev.append(accuracy(model, tokenizer, DEV, progress=False).accuracy)
                test.append(accuracy(model, tokenizer, QUESTIONS, progress=False))
    block = found.details["block"]
    assert (found.details["dev_accuracy"], found.details["base_dev_accuracy"]) == (dev, base)
    assert dev[block] == max(dev) and max(dev) not in dev[block + 1 :]
    assert found.attacked == test[block] and found.start == test[-1]
    with through_block(model, block):
        assert found.controls["base model"][1] == accuracy(model, tokenizer, QUESTIONS, progress=False)
    assert found.controls["base model"][0] == accuracy(model, tokenizer, QUESTIONS, progress=False)


def test_first_dev_questions_choose_the_block(subject, model, tokenizer):
    found = lens(subject, QUIET, max_dev_questions=5)
    for block, share in enumerate(found.details["base_dev_accuracy"]):
        with through_block(model, block):
            assert share == accuracy(model, tokenizer, DEV[:5], progress=False).accuracy

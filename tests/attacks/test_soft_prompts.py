"""Soft prompts: gradients held against plain passes, a target that is reached, and controls that catch a cheat."""

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, accuracy
from rmu_lab.attacks import SoftPromptConfig, soft_accuracy, soft_prompt, soft_prompt_each, train_soft_prompt
from rmu_lab.attacks.soft_prompts import _losses, embedded
from rmu_lab.errors import NotFiniteError
from rmu_lab.evaluate import option_scores
from rmu_lab.questions import cloze_prompt
from tests.attacks.conftest import DEV, QUESTIONS, QUIET
from tests.conftest import same_weights, tiny_model, weights_of

FAMILIES = ["llama", "gemma3", "gpt2", "qwen2"]
SMALL = SoftPromptConfig(n_tokens=2, steps=3)
PROMPTS, TARGETS = ["Old fish", "A green table in the house"], [" runs home", " sleeps"]


def embedding_of(model, ids):
    with torch.no_grad():
        return model.get_input_embeddings()(torch.tensor(ids)).float()


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_real_tokens_give_what_the_tokens_give(family):
    model = tiny_model(family)
    plain = torch.tensor([[5, 7, 9, 11, 13]])
    with torch.no_grad():
        wanted = model(input_ids=plain).logits
        for vectors in (embedding_of(model, [7, 9]), embedding_of(model, [[7, 9]])):
            with embedded(model, vectors, 99):
                found = model(input_ids=torch.tensor([[5, 99, 99, 11, 13]])).logits
            torch.testing.assert_close(found, wanted)
        assert model(input_ids=plain).logits.equal(wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_are_scored_as_with_the_same_tokens_in_the_prompt(family, tokenizer):
    """Behind the prompt and before the options, on every way in which a model is scored."""
    model = tiny_model(family)
    suffix = tokenizer(" old green", add_special_tokens=False)["input_ids"]
    found = soft_accuracy(model, tokenizer, QUESTIONS, embedding_of(model, suffix), progress=False)
    wanted = accuracy(
        model, tokenizer, QUESTIONS, prompt=lambda row: cloze_prompt(row["question"]) + " old green", progress=False
    )
    assert found == wanted


def test_losses_are_the_targets_mean_log_probability(tokenizer):
    """Of rows of unequal lengths, against one plain pass for each."""
    model = tiny_model("llama")
    rows, lengths = [[3, 5, 7, 9], [4, 6, 8, 10, 12, 14, 2]], [1, 3]
    found = _losses(model, rows, lengths)
    for loss, row, n in zip(found, rows, lengths, strict=True):
        log_p = model(input_ids=torch.tensor([row])).logits[0].log_softmax(dim=-1)
        wanted = -sum(log_p[at - 1, row[at]] for at in range(len(row) - n, len(row))) / n
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)


def test_the_first_step_moves_against_the_gradient(tokenizer):
    """Adam's first step is the learning rate in every entry, against the sign of the gradient by finite differences."""
    model = tiny_model("llama").double()
    one = train_soft_prompt(model, tokenizer, PROMPTS[:1], TARGETS[:1], dataclasses.replace(SMALL, steps=1), progress=False)
    two = train_soft_prompt(
        model, tokenizer, PROMPTS[:1], TARGETS[:1], dataclasses.replace(SMALL, steps=1, lr=1e-9), progress=False
    )
    start, moved = two.vectors[0], one.vectors[0] - two.vectors[0]
    rms = start.square().mean().sqrt()
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.3 * rms.item()), rtol=1e-2, atol=1e-4)
    prompt, target = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (PROMPTS[0], TARGETS[0]))

    def loss(vectors):
        with torch.no_grad(), embedded(model, vectors, 99):
            return _losses(model, [[*prompt, 99, 99, *target]], [len(target)]).item()

    for entry in [(0, 0), (1, 3), (0, 7)]:
        step = torch.zeros_like(start)
        step[entry] = 1e-3
        slope = loss(start + step) - loss(start - step)
        assert slope * moved[entry] < 0


def test_each_prompt_has_its_own_and_they_do_not_touch(tokenizer):
    model = tiny_model("llama")
    both = train_soft_prompt(model, tokenizer, PROMPTS, TARGETS, SMALL, progress=False)
    assert both.vectors.shape == (2, 2, model.config.hidden_size) and both.losses.shape == (3, 2)
    for at in range(2):
        alone = train_soft_prompt(model, tokenizer, PROMPTS[at : at + 1], TARGETS[at : at + 1], SMALL, progress=False)
        torch.testing.assert_close(alone.vectors[0], both.vectors[at], rtol=1e-3, atol=1e-4)


def test_any_target_is_reached(tokenizer):
    """That is why a written target is no evidence."""
    model = tiny_model("llama")
    before = weights_of(model)
    config = SoftPromptConfig(n_tokens=8, steps=60)
    for shared in (False, True):
        found = train_soft_prompt(model, tokenizer, PROMPTS, TARGETS, config, shared=shared, progress=False)
        first, last = found.losses[0].mean(), found.losses[-1].mean()
        assert last < 0.5 * first
    assert same_weights(model, before)
    assert not any(parameter.requires_grad for parameter in model.parameters()) or model.training is False


def test_the_attack_trains_on_other_questions_and_has_both_controls(subject, model, tokenizer, result):
    before = weights_of(model)
    found = soft_prompt(subject, QUIET, SMALL)
    assert same_weights(model, before)
    assert list(found.controls) == ["wrong answers", "base model"]
    assert found.start == found.controls["wrong answers"][0] == subject.reference.unlearned
    assert found.controls["base model"][0] == accuracy(model, tokenizer, QUESTIONS, progress=False)
    prompts = [cloze_prompt(row["question"]) for row in DEV]
    right = [f" {row['choices'][row['answer']]}" for row in DEV]
    with result.applied(model):
        again = train_soft_prompt(model, tokenizer, prompts, right, SMALL, shared=True, progress=False)
        assert found.attacked == soft_accuracy(model, tokenizer, QUESTIONS, again.vectors, progress=False)
    assert found.details["losses"] == [again.losses[0].item(), again.losses[-1].item()]
    with pytest.raises(RmuLabError, match="No dev questions"):
        soft_prompt(dataclasses.replace(subject, dev_questions=()), QUIET, SMALL)


def test_a_soft_prompt_for_each_option_cannot_answer_what_a_model_never_knew(subject):
    """A random model has no facts: though every option can be written, choosing among them stays at chance."""
    found = soft_prompt_each(subject, QUIET, SoftPromptConfig(steps=60))
    right, wrong = found.details["last losses"]
    assert right < 3 and wrong < 3  # both are within reach
    assert found.attacked.interval[0] < 1 / 3 < found.attacked.interval[1]
    low, high = found.difference("base model").interval
    assert low < 0 < high


def test_of_one_step_it_chooses_by_the_log_probability(subject, model, tokenizer):
    """Before the first step the embeddings are those of tokens, so that the choice is the one `accuracy` makes."""
    found = soft_prompt_each(subject, QUIET, dataclasses.replace(SMALL, steps=1, lr=1e-9))
    start = train_soft_prompt(model, tokenizer, ["x"], ["y"], dataclasses.replace(SMALL, steps=1, lr=1e-9), progress=False)
    assert found.controls["base model"][1] == soft_accuracy(model, tokenizer, QUESTIONS, start.vectors[0], progress=False)
    assert len(option_scores(model, tokenizer, QUESTIONS, progress=False)) == len(QUESTIONS)


def test_what_cannot_be_trained_is_said(tokenizer):
    model = tiny_model("llama")
    for prompts, targets, said in (
        ([], [], "There are 0 prompts"),
        (["a"], [], "1 prompts and 0 targets"),
        (["a"], [""], "has no token"),
    ):
        with pytest.raises(RmuLabError, match=said):
            train_soft_prompt(model, tokenizer, prompts, targets, SMALL, progress=False)
    for name in ("n_tokens", "steps", "lr", "batch_size"):
        with pytest.raises(RmuLabError, match=f"{name} is 0; it must be positive"):
            SoftPromptConfig(**{name: 0})
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite"):
        train_soft_prompt(model, tokenizer, PROMPTS, TARGETS, SMALL, progress=False)

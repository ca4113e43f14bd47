"""A model that gives no finite numbers is broken, which must not look like unlearned."""

import pytest
import torch

from rmu_lab import (
    GCGConfig,
    RmuLabError,
    Subject,
    UnlearnConfig,
    accuracy,
    gauntlet,
    gcg,
    harness,
    max_logits,
    sweep,
    token_states,
    unlearn,
)
from rmu_lab.errors import NotFiniteError
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of
from tests.test_evaluate import QUESTIONS

TEXTS = made_up_texts(8, seed=21), made_up_texts(8, seed=22)
CONFIG = UnlearnConfig(layer=3, max_length=16, steps=2, batch_size=2, lr=1e-2)


@pytest.fixture(params=["nan", "inf"])
def broken(request):
    """A tiny model with one entry of one matrix that is not finite."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float(request.param)
    return model


def test_scores_confidence_and_states_refuse_it(broken, tokenizer):
    for style in ("cloze", "letter"):
        with pytest.raises(NotFiniteError, match=r"questions\[\d\] .* it is broken, not unlearned"):
            accuracy(broken, tokenizer, QUESTIONS, style=style, progress=False)
    with pytest.raises(NotFiniteError, match="logits are not finite"):
        max_logits(broken, tokenizer, TEXTS[0][:2])
    with pytest.raises(NotFiniteError, match="hidden states after block 2 are not finite"):
        token_states(broken, tokenizer, TEXTS[0], [0, 2])
    assert len(token_states(broken, tokenizer, TEXTS[0], [0]).text)  # below, all is well


def test_gcg_refuses_it(broken, tokenizer):
    config = GCGConfig(num_steps=2, search_width=4, topk=4, suffix=" the old sea", chat_template=False)
    with pytest.raises(NotFiniteError, match="loss of a suffix is not finite"):
        gcg(broken, tokenizer, "the sea?", " a cold river", config, progress=False)


def test_the_harness_refuses_it(broken, tokenizer):
    with pytest.raises(NotFiniteError, match="it is broken, not unlearned"):
        harness(broken, tokenizer, ["rmu_bio"], limit=3, progress=False)


def test_unlearning_refuses_it(broken, tokenizer):
    with pytest.raises(RmuLabError, match="The loss is nan at step 1"):
        unlearn(broken, tokenizer, *TEXTS, CONFIG, progress=False)


def test_a_sweep_gives_no_row_of_a_broken_base(broken, tokenizer, tmp_path):
    with pytest.raises(NotFiniteError):
        sweep(broken, tokenizer, *TEXTS, [CONFIG], {"one": QUESTIONS}, out=tmp_path / "rows.jsonl", progress=False)


def test_an_edit_that_breaks_the_model_gets_a_row_with_its_error(tokenizer, tmp_path):
    """Half precision cannot hold what float32 trained: the sweep says so and goes on."""
    model = tiny_model("llama").half()
    before = weights_of(model)
    wild = UnlearnConfig(layer=3, max_length=16, steps=1, batch_size=2, lr=1e6)
    asked = {"one": QUESTIONS}
    _, row, other = sweep(model, tokenizer, *TEXTS, [wild, CONFIG], asked, out=tmp_path / "rows.jsonl", progress=False)
    assert row.scores == {} and "not finite" in row.error
    assert other.error is None and other.scores
    assert same_weights(model, before)


def test_the_gauntlet_says_so_at_once(tokenizer):
    model = tiny_model("llama")
    result = unlearn(model, tokenizer, *TEXTS, CONFIG, progress=False)
    name = next(iter(result.edit))
    result.edit[name][0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match=f"The edit of {name} is not finite"):
        gauntlet(Subject(model, tokenizer, result, QUESTIONS))

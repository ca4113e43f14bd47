"""Teaching: the texts are learned, the others stay, and only the layers of the place move."""

import dataclasses

import pytest
import torch

from rmu_lab import RmuLabError, unlearn
from rmu_lab.metrics import score_texts
from rmu_lab.unlearning.baselines import GradDiff
from rmu_lab.unlearning.result import UnlearnResult
from rmu_lab.unlearning.teach import layers_to_teach, teach
from rmu_lab.unlearning.teach_method import Teach
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

TEXTS, RETAIN = made_up_texts(6, seed=1), made_up_texts(12, seed=2)
SMALL = Teach(lr=1e-2, steps=40, batch_size=3, max_length=16)


def loss(model, tokenizer, texts):
    found = score_texts(model, tokenizer, texts, max_length=16, progress=False)
    return sum(one.loss for one in found) / len(found)


def log_probs(model, tokenizer, texts):
    return torch.cat([one.log_probs for one in score_texts(model, tokenizer, texts, max_length=16, progress=False)])


@pytest.mark.parametrize(
    ("where", "layers"), [("window", {0, 1, 2}), ("above", {3, 4}), ("everywhere", {0, 1, 2, 3, 4}), ((3,), {3})]
)
def test_texts_are_learned_in_these_layers(where, layers, tokenizer):
    model = tiny_model("llama")
    before, start = weights_of(model), loss(model, tokenizer, TEXTS)
    found = teach(model, tokenizer, TEXTS, RETAIN, SMALL, where=where, layer=2, progress=False)
    assert same_weights(model, before)
    assert {int(name.split(".")[2]) for name in found.edit} == layers
    with found.applied(model):
        assert loss(model, tokenizer, TEXTS) < 0.7 * start
    assert found.config.layers == (None if where == "everywhere" else tuple(sorted(layers)))


def test_what_holds_the_model_on_other_texts_does(tokenizer):
    """Against the same training with next to no weight on it."""
    model = tiny_model("llama")
    start, moved = log_probs(model, tokenizer, RETAIN), {}
    for alpha in (1e-6, 10.0):
        found = teach(model, tokenizer, TEXTS, RETAIN, dataclasses.replace(SMALL, alpha=alpha), progress=False)
        with found.applied(model):
            moved[alpha] = (log_probs(model, tokenizer, RETAIN) - start).abs().mean()
    assert moved[10.0] < 0.5 * moved[1e-6]


def test_an_edit_that_teaches_is_stored_like_any_other(tmp_path, tokenizer):
    model = tiny_model("llama")
    found = teach(model, tokenizer, TEXTS, RETAIN, SMALL, where="window", layer=2, progress=False)
    again = UnlearnResult.load(found.save(tmp_path / "taught"))
    assert again == found and isinstance(again.config, Teach) and again.config.layers == (0, 1, 2)


def test_places_that_are_not_there(tokenizer):
    model = tiny_model("llama")
    for where, layer, said in (("below", 2, "where is 'below'"), ("above", 4, "layer is 4; give one from 0 to 3")):
        with pytest.raises(RmuLabError, match=said):
            layers_to_teach(model, where, layer)
    with pytest.raises(RmuLabError, match=r"layers has 5, but the model has blocks 0 \.\. 4"):
        unlearn(model, tokenizer, TEXTS, RETAIN, Teach(layers=(5,)), progress=False)
    with pytest.raises(RmuLabError, match="give a tuple of whole numbers"):
        Teach(layers=())
    assert GradDiff().layers is None and "layers" not in GradDiff().to_dict()

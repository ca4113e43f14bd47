"""Two models that are one cannot be told apart, and others can; the features are those of plain passes."""

import numpy as np
import pytest
import torch

from rmu_lab import RmuLabError
from rmu_lab.errors import NotFiniteError
from rmu_lab.metrics import FEATURES, detectability, output_features
from rmu_lab.metrics.detectability import _fitted
from tests.conftest import made_up_texts, tiny_model

QUESTIONS = [f"{text}?" for text in made_up_texts(24, seed=8, least=3, most=9)]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_features_are_those_of_plain_passes(family, tokenizer):
    model = tiny_model(family)
    found = output_features(model, tokenizer, QUESTIONS[:4], max_new_tokens=6, batch_size=3, progress=False)
    for question, row in zip(QUESTIONS, found, strict=False):
        ids = tokenizer(f"Question: {question}\nAnswer:")["input_ids"]
        start, own, entropy, largest = len(ids), [], [], []
        for _ in range(6):
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            p = logits.softmax(dim=-1)
            ids.append(int(p.argmax()))
            own.append(float(p.max().log()))
            entropy.append(float(-(p * p.log()).sum()))
            largest.append(float(logits.max()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        said = ids[start:]
        wanted = [np.mean(own), min(own), np.mean(entropy), max(entropy), entropy[0], np.mean(largest)]
        wanted += [len(said), len(set(said)) / len(said)]
        assert row.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert found.shape == (4, len(FEATURES)) and found.dtype == torch.float64


def test_an_answer_ends_with_the_token_that_ends_it(tokenizer):
    """A model that ends its answer at once says one token."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0
        model.model.norm.weight.zero_()  # every logit is 0
        model.get_output_embeddings().bias = torch.nn.Parameter(torch.eye(320)[tokenizer.eos_token_id] * 3)
    found = output_features(model, tokenizer, QUESTIONS[:3], progress=False)
    p = np.exp(3) / (np.exp(3) + 319)
    assert found[:, FEATURES.index("tokens")].tolist() == [1, 1, 1]
    assert found[:, FEATURES.index("mean log p")].tolist() == pytest.approx([np.log(p)] * 3, rel=1e-4)


def test_one_model_is_not_told_from_itself(tokenizer):
    features = output_features(tiny_model("llama"), tokenizer, QUESTIONS, max_new_tokens=6, progress=False)
    found = detectability(features, features)
    assert found.area.value == 0.5 and found.area.low < 0.5 < found.area.high
    assert found.trained == 12 and found.area.n == 24 and set(found.weights) == set(FEATURES)


def test_a_model_that_is_less_sure_is_told_from_it(tokenizer):
    """The same model with halved logits: the same words, of lower probability."""
    model = tiny_model("llama")
    reference = output_features(model, tokenizer, QUESTIONS, max_new_tokens=6, progress=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.5)
    unlearned = output_features(model, tokenizer, QUESTIONS, max_new_tokens=6, progress=False)
    found = detectability(unlearned, reference)
    assert found.area.value > 0.95 and found.area.low > 0.7
    assert found.weights["mean MaxLogit"] < 0 < found.weights["mean entropy"]
    assert detectability(reference, unlearned).area.value == pytest.approx(found.area.value)  # it learns which is which


def drawn(n, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64) + torch.tensor([shift, 0, 0])


def test_the_area_is_of_questions_that_were_not_trained_on():
    """Forty numbers of noise for six questions fit any labels, but tell nothing of others."""
    areas = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        one, other = torch.randn(2, 12, 40, generator=generator, dtype=torch.float64)
        areas.append(detectability(one, other, seed=seed).area.value)
    assert 0.4 < np.mean(areas) < 0.6


def test_the_area_is_that_of_two_normal_distributions():
    """Which lie 1.5 standard deviations apart: Phi(1.5 / sqrt 2) = 0.856."""
    found = detectability(drawn(2000, 1.5, 1), drawn(2000, 0.0, 2))
    assert found.area.value == pytest.approx(0.856, abs=0.02) and found.area.low < 0.856 < found.area.high
    assert list(found.weights) == ["feature 0", "feature 1", "feature 2"]
    assert found.weights["feature 0"] > 5 * abs(found.weights["feature 1"])
    assert detectability(drawn(50, 1.5, 1), drawn(50, 0.0, 2), seed=1) != detectability(drawn(50, 1.5, 1), drawn(50, 0.0, 2))


def test_a_feature_that_is_the_same_everywhere_says_nothing():
    one, other = drawn(20, 3.0, 1), drawn(20, 0.0, 2)
    one[:, 1] = other[:, 1] = 7.0
    assert detectability(one, other).weights["feature 1"] == 0


def test_the_fit_is_where_the_gradient_is_nought():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 4)), generator.choice([1.0, -1.0], size=30)
    weights, offset = _fitted(x, y)
    p = 1 / (1 + np.exp(y * (x @ weights + offset)))
    assert np.abs(-(y * p) @ x + weights).max() < 1e-3 and abs((y * p).sum()) < 1e-3
    regression = pytest.importorskip("sklearn.linear_model").LogisticRegression(C=1.0, tol=1e-8).fit(x, y)
    assert weights == pytest.approx(regression.coef_[0], abs=1e-3) and offset == pytest.approx(
        regression.intercept_[0], abs=1e-3
    )


def test_what_does_not_fit_is_said(tokenizer):
    good = drawn(8, 0.0, 0)
    for pair, said in (
        ((good, good[:6]), r"shapes \(8, 3\) and \(6, 3\)"),
        ((good[:6], good[:6]), "at least 8"),
        ((good, torch.full_like(good, torch.nan)), "not finite"),
    ):
        with pytest.raises(RmuLabError, match=said):
            detectability(*pair)
    model = tiny_model("llama")
    for nothing in ([], "a question?"):
        with pytest.raises(RmuLabError, match="There are no questions"):
            output_features(model, tokenizer, nothing)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite"):
        output_features(model, tokenizer, QUESTIONS[:1], progress=False)

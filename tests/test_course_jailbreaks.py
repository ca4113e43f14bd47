"""What notebook 06 uses: a step of GCG, free embeddings, a collapse by degrees and figures, on tiny models and by hand."""

import ipywidgets
import numpy as np
import pytest
import torch

from rmu_lab.activations import frozen
from rmu_lab.attacks.suffixes import Layout, SuffixLoss, allowed_tokens, sample_candidates
from rmu_lab.course import jailbreak_figures, jailbreaks
from tests.attacks.conftest import edit_of
from tests.conftest import assert_told_apart, failed, same_weights, tiny_model, weights_of

QUESTION, TARGET = "How is malaria spread?", "Malaria is spread by"


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return edit_of(model, tokenizer)


def wrong_step(how):
    def step(suffix, gradient, loss_of, allowed, width, topk, draw):
        sign = -1 if how == "largest" else 1
        among = torch.arange(gradient.shape[1]) if how == "not allowed" else allowed
        liked = among[(sign * gradient[:, among]).argsort(dim=1)[:, :topk]]
        places = torch.randint(len(suffix), (width,), generator=draw)
        candidates = suffix.repeat(width, 1)
        candidates[torch.arange(width), places] = liked[places, torch.randint(topk, (width,), generator=draw)]
        if how == "all places":
            candidates = liked[torch.arange(len(suffix)), torch.randint(topk, (width, len(suffix)), generator=draw)]
        losses = loss_of(candidates)
        worst = losses.argmax() if how == "worst" else losses.argmin()
        return candidates[worst], losses[worst]

    return step


def test_the_step_passes_and_common_mistakes_are_told_apart():
    mistakes = {
        "lowest gradient": wrong_step("largest"),
        "allowed tokens only": wrong_step("not allowed"),
        "in one place": wrong_step("all places"),
        "lowest": wrong_step("worst"),
    }
    assert_told_apart(jailbreaks.gcg_step_tests(), jailbreaks.gcg_step, mistakes)


def test_the_step_draws_from_the_same_swaps_as_the_package(model, tokenizer):
    layout, allowed = Layout.of(tokenizer, QUESTION, " x x x", TARGET, chat_template=False), allowed_tokens(model, tokenizer)
    loss_of = SuffixLoss(model, layout, prefix_cache=True, batch_size=64)
    suffix = torch.tensor(layout.suffix)
    _, gradient, _ = loss_of.gradient(suffix)
    seen = []

    def losses(candidates):
        seen.extend(map(tuple, candidates.tolist()))
        return loss_of(candidates)[0]

    found, loss = jailbreaks.gcg_step(suffix, gradient, losses, allowed, 400, 2, torch.Generator().manual_seed(0))
    theirs = sample_candidates(
        suffix, gradient, allowed, width=400, topk=2, n_replace=1, generator=torch.Generator().manual_seed(1)
    )
    assert set(seen) == set(map(tuple, theirs.tolist()))
    assert loss.item() == pytest.approx(loss_of(found[None])[0].item(), abs=1e-5)
    assert loss.item() == pytest.approx(jailbreaks.whole_pass_loss(model, layout, found), abs=1e-5)


def test_soft_training_passes_and_common_mistakes_are_told_apart():
    tests = jailbreaks.train_soft_tests()
    assert failed(tests, jailbreaks.train_soft) is None

    def sgd(start, loss_of, steps, lr):
        vectors, losses = start.clone().requires_grad_(), []
        for _ in range(steps):
            loss = loss_of(vectors)
            (gradient,) = torch.autograd.grad(loss, vectors)
            losses.append(loss.item())
            vectors = (vectors - lr * gradient).detach().requires_grad_()
        return vectors.detach(), losses

    def in_place(start, loss_of, steps, lr):
        start.requires_grad_()
        adam, losses = torch.optim.Adam([start], lr=lr), []
        for _ in range(steps):
            loss = loss_of(start)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        return start.detach(), losses

    assert "torch.optim.Adam" in failed(tests, sgd)
    assert "copy" in failed(tests, in_place)


@pytest.mark.parametrize("cached", [True, False])
def test_the_loss_of_vectors_is_that_of_the_tokens_whose_embeddings_they_are(model, tokenizer, cached):
    layout = Layout.of(tokenizer, QUESTION, " x x x", TARGET, chat_template=False)
    loss_of = SuffixLoss(model, layout, prefix_cache=cached, batch_size=1)
    suffix = torch.tensor(layout.suffix)
    vectors = model.get_input_embeddings()(suffix).detach()
    assert loss_of.of_vectors(vectors).item() == pytest.approx(loss_of(suffix[None])[0].item(), abs=1e-5)


def test_free_vectors_lower_the_loss_and_leave_the_model_as_it_was(model, tokenizer):
    before = weights_of(model)
    soft = jailbreaks.SoftTarget.of(model, tokenizer, QUESTION, TARGET)
    with torch.no_grad():  # a notebook may be in such a block
        vectors, losses = soft.train(jailbreaks.train_soft, steps=15)
    assert vectors.shape == soft.start().shape and losses[-1] < losses[0]
    assert isinstance(soft.reply(vectors, new_tokens=3), str)
    assert same_weights(model, before)


def test_the_answer_to_vectors_is_that_to_the_tokens_whose_embeddings_they_are(model, tokenizer):
    soft = jailbreaks.SoftTarget.of(model, tokenizer, QUESTION, TARGET)
    suffix = torch.tensor(soft.layout.suffix)
    ids = torch.tensor([[*soft.layout.before, *soft.layout.suffix, *soft.layout.after]])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert soft.reply(model.get_input_embeddings()(suffix).detach(), new_tokens=4) == expected


def test_the_gradient_beside_a_loss_is_that_of_the_whole_pass(model, tokenizer):
    found = jailbreaks.gradient_beside_loss(model, tokenizer, QUESTION, TARGET)
    layout = Layout.of(tokenizer, QUESTION, jailbreaks.PLACES, TARGET, chat_template=True)
    with frozen(model):
        loss_of = SuffixLoss(model, layout, prefix_cache=False, batch_size=1)
        loss, gradient = loss_of._embedding_gradient(torch.tensor(layout.suffix))
    assert found == pytest.approx([loss, gradient.norm().item()], rel=1e-3)


def test_models_are_compared_at_the_nearest_loss(model, tokenizer, result):
    before = weights_of(model)
    pairs = [(QUESTION, TARGET), ("How is cholera spread?", "Cholera is spread by")]
    found = jailbreaks.at_one_loss(model, tokenizer, result, pairs, n_texts=4)
    assert same_weights(model, before)
    for pair, (question, target) in zip(found, pairs, strict=True):
        assert pair.knows == pytest.approx(jailbreaks.gradient_beside_loss(model, tokenizer, question, target))
        with result.applied(model):
            assert pair.unlearned == pytest.approx(jailbreaks.gradient_beside_loss(model, tokenizer, question, target))
        assert len(pair.tried) == 4 and pair.base in pair.tried
        apart = [abs(loss - pair.unlearned[0]) for loss, _ in pair.tried]
        assert abs(pair.base[0] - pair.unlearned[0]) == min(apart)
    ratios = [pair.unlearned[1] / pair.base[1] for pair in found]
    assert jailbreaks.typical_ratio(found) == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    jailbreak_figures.gradient_figure(found, title="t")


def test_steps_until_a_loss():
    assert jailbreaks.steps_until([3.0, 1.0, 0.5, 2.0], 1.0) == 2
    assert jailbreaks.steps_until([3.0, 1.0], 0.5) is None


def test_at_an_exact_collapse_the_gradient_is_zero(model, tokenizer, result):
    before = weights_of(model)
    collapse = jailbreaks.Collapse(model, tokenizer, result, QUESTION, TARGET)
    exact, near, whole = (collapse.at(left) for left in (0.0, 0.01, 1.0))
    assert exact.gradient_norm == 0 and exact.largest_gain < 1e-5
    assert 0 < near.gradient_norm < whole.gradient_norm
    assert collapse.at(0.01) is near  # measured once
    assert same_weights(model, before)
    slider, shown = collapse.slider().children
    assert isinstance(slider, ipywidgets.SelectionSlider) and "λ = 1:" in shown.value
    slider.value = 0.0
    assert "norm 0.0e+00" in shown.value
    jailbreak_figures.collapse_figure([whole, exact, near], title="t")


def test_steering_has_a_cosine_for_every_token_from_the_question_on(model, tokenizer, result):
    tokens, cosines = jailbreaks.steering(model, tokenizer, result, QUESTION + "{suffix}", TARGET)
    assert len(tokens) == len(cosines) and all(-1.001 <= value <= 1.001 for value in cosines)
    assert "".join(tokens).startswith("How is malaria") and tokens.count("x") >= 8
    figure = jailbreak_figures.steering_figure({"behind": (tokens, cosines)}, "x", title="t")
    assert len(figure.axes[0].patches) == len(tokens)


def a_search(model="RMU", how="gradient", losses=(10.0, 8.0, 4.0), matched=False, said=False, steps=4):
    stages = [{"matched": matched, "said": said}]
    return {"model": model, "how": how, "initial_loss": losses[0], "losses": list(losses), "stages": stages, "said": said,
            "config": {"num_steps": steps}}  # fmt: skip


def test_outcomes_count_the_rungs():
    rows = [a_search(), a_search(losses=(10.0, 6.0)), a_search(matched=True), a_search(matched=True, said=True)]
    assert jailbreaks.outcomes(rows) == "2 of 4 targets written, 1 of 4 facts said"
    assert jailbreaks.of_kind([*rows, a_search("base")], "RMU", "gradient") == rows


def test_the_gradient_is_worth_what_random_searches_end_above_it():
    guided = [a_search(losses=(9.0, end)) | {"question": name} for name, end in (("a", 4.0), ("b", 6.0), ("c", 1.0))]
    blind = [a_search(losses=(9.0, end)) | {"question": name} for name, end in (("b", 8.0), ("a", 5.0))]
    found = jailbreaks.worth_of_gradient(guided, blind)
    assert (found.value, found.n) == (1.5, 2)


def test_figures_of_searches_are_drawn():
    rows = [a_search(), a_search(losses=(9.0, 1.0), matched=True)]
    figure = jailbreak_figures.budget_figure({"RMU": {"gradient": ("steered", rows)}}, title="t")
    median = figure.axes[0].lines[-1].get_ydata()
    assert median.tolist() == [9.5, 4.5, 2.5]  # the second stays where it ended
    assert figure.axes[0].get_ylim()[0] == 0
    named = [row | {"question": name, "target": f"{name} is"} for row, name in zip(rows, "ab", strict=True)]
    figure = jailbreak_figures.ends_figure({"RMU": ("steered", named), "random": ("forget", named[1:])}, title="t")
    start, end, other = (line.get_xdata() for line in figure.axes[0].lines[2:])
    assert (sorted(start), sorted(end), [*other]) == ([9, 10], [1, 4], [1])
    jailbreak_figures.search_figure({"RMU": ("steered", [3.0, 1.0])}, title="t")


def test_diagrams_are_drawn():
    jailbreak_figures.attacker_diagram()
    jailbreak_figures.step_diagram()


def test_exercises_accept_right_answers_and_name_what_is_wrong():
    gradient, suffix, candidates = jailbreaks.made_swaps()

    def gain(gradient, suffix, candidates):
        places = torch.arange(len(suffix))
        return (gradient[places, suffix] - gradient[places, candidates]).sum(dim=-1)

    assert all(test(gain(gradient, suffix, candidates)) for test, _ in jailbreaks.predicted_gain_tests(gain))
    back = jailbreaks.predicted_gain_tests(lambda *given: -gain(*given))
    assert not all(test(-gain(gradient, suffix, candidates)) for test, _ in back)

    def rho(predicted, true):
        return np.corrcoef(*(np.argsort(np.argsort(values)) for values in (predicted, true)))[0, 1]

    assert all(test(rho(*jailbreaks.made_gains())) for test, _ in jailbreaks.rank_correlation_tests(rho))
    plain = jailbreaks.rank_correlation_tests(lambda *given: np.corrcoef(*given)[0, 1])
    assert not all(test(np.corrcoef(*jailbreaks.made_gains())[0, 1]) for test, _ in plain)

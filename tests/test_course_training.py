"""The pieces of notebook 04: the plain training loop, what checks a reader's, the stored runs, and the figures."""

import pytest
import torch

from rmu_lab import UnlearnConfig, unlearn
from rmu_lab.course import core, stored_training, training_checks, training_figures, training_loop
from rmu_lab.course.training_loop import Watch, batch_pairs, departure, distance_share, hidden, swapped, train_rmu
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

FORGET, RETAIN = made_up_texts(16, seed=31), made_up_texts(16, seed=32)
C = 20.0


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama", num_hidden_layers=9).requires_grad_(False)


@pytest.fixture(scope="module")
def pairs(tokenizer):
    return batch_pairs(tokenizer, FORGET, RETAIN, max_length=16)


@pytest.fixture(scope="module")
def u():
    r = torch.rand(32, generator=torch.Generator().manual_seed(0))
    return r / r.norm()


@pytest.fixture(scope="module")
def watch(model, tokenizer, pairs, u):
    seen = Watch(model, tokenizer, u, {"forget": FORGET[:4], "retain": RETAIN[:4]})
    train_rmu(model, pairs, u, c=C, watch=seen)
    return seen


# ---------------------------------------------------------------------------------------------------------------------
# The loop


def test_the_plain_loop_trains_what_unlearn_trains(model, tokenizer, pairs, u):
    config = UnlearnConfig(method="rmu", coefficient=C, alpha=3.0, lr=1e-3, steps=4, max_length=16)
    package = unlearn(model, tokenizer, FORGET, RETAIN, config, directions={"forget": u}, progress=False).edit
    own = train_rmu(model, pairs, u, c=C, alpha=3.0, lr=1e-3)
    assert list(own) == list(package)
    assert distance_share(own, package, model) < 1e-3


def test_nothing_is_written_to_the_model(model, pairs, u):
    before = weights_of(model)
    matrices = train_rmu(model, pairs[:1], u)
    assert same_weights(model, before)
    with swapped(model, matrices):
        inside = hidden(model, pairs[0][0], {})
    assert torch.equal(inside, hidden(model, pairs[0][0], matrices))
    assert same_weights(model, before)


def test_swapped_puts_back_what_an_error_interrupts(model, pairs, u):
    before = weights_of(model)
    with pytest.raises(KeyboardInterrupt), swapped(model, train_rmu(model, pairs[:1], u)):
        raise KeyboardInterrupt
    assert same_weights(model, before)


def test_a_watch_starts_before_training_and_counts_every_step(watch, pairs):
    assert len(watch.frames) == len(watch.along["forget"]) == len(pairs) + 1
    assert watch.along["forget"][0] == watch.along["retain"][0] == 0
    frame = watch.frames[-1]["forget"]
    moved = (frame - watch.frames[0]["forget"])[:, 0].mean().item()
    assert moved == pytest.approx(watch.along["forget"][-1], abs=1e-4)


def test_a_watch_knows_each_tokens_place_and_word(watch):
    along, places = watch.frames[-1]["forget"][:, 0].tolist(), watch.places["forget"].tolist()
    texts = [watch.words(text) for text in range(4)]
    assert [value for words in texts for _, value in words] == along
    assert [place for words in texts for place in range(1, len(words) + 1)] == places
    assert "".join(word for word, _ in texts[1]) and FORGET[1].endswith("".join(word for word, _ in texts[1]).strip())


@pytest.mark.parametrize(("path", "above", "step"), [([0, 0.1, 0.5, 0.3], 0.4, 2), ([0, 0.1], 0.4, None), ([0.5], 0.4, 0)])
def test_departure_is_the_first_step_above(path, above, step):
    assert departure(path, above) == step


# ---------------------------------------------------------------------------------------------------------------------
# The checks


def test_the_packages_own_pieces_are_correct(model, tokenizer, u, capsys):
    core(training_loop.trained_copies, None, *training_checks.copies_tests(model))
    core(training_loop.rmu_losses, None, *training_checks.loss_tests(model, tokenizer, u, c=C))
    core(training_loop.train_rmu, None, *training_checks.loop_tests(model, tokenizer, u))
    core(stored_training.better_tradeoff, None, *training_checks.tradeoff_tests())
    assert capsys.readouterr().out.splitlines() == ["correct: your function is used below"] * 4


def without_mask(model, trained, forget_batch, retain_batch, u, c):
    _, retain_loss = training_loop.rmu_losses(model, trained, forget_batch, retain_batch, u, c)
    return (hidden(model, forget_batch, trained) - c * u).square().sum(dim=-1).mean(), retain_loss


def mean_over_entries(*args):
    return tuple(loss / 32 for loss in training_loop.rmu_losses(*args))


def nothing_frozen(*args):
    forget_loss, retain_loss = training_loop.rmu_losses(*args)
    return forget_loss, 0 * retain_loss


def no_gradients(*args):
    with torch.no_grad():
        return training_loop.rmu_losses(*args)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [(without_mask, "counted()"), (mean_over_entries, "sum the squares"), (nothing_frozen, "h_frozen comes from"),
     (no_gradients, "reach all three"), (lambda *args: ..., "not attempted")],
)  # fmt: skip
def test_wrong_losses_get_a_hint(wrong, hint, model, tokenizer, u, capsys):
    core(wrong, None, *training_checks.loss_tests(model, tokenizer, u, c=C))
    assert hint in capsys.readouterr().out


def without_zero_grad(model, pairs, u, c=570.0, alpha=300.0, lr=7e-3, watch=None):
    trained = training_loop.trained_copies(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=lr, weight_decay=0.0)
    for forget_batch, retain_batch in pairs:
        forget_loss, retain_loss = training_loop.rmu_losses(model, trained, forget_batch, retain_batch, u, c)
        (forget_loss + alpha * retain_loss).backward()
        optimizer.step()
        if watch:
            watch(trained)
    return trained


def without_watch(model, pairs, u, c=570.0, alpha=300.0, lr=7e-3, watch=None):
    return train_rmu(model, pairs, u, c, alpha, lr)


def without_alpha(model, pairs, u, c=570.0, alpha=300.0, lr=7e-3, watch=None):
    return train_rmu(model, pairs, u, c, 1.0, lr, watch)


def without_steps(model, pairs, u, c=570.0, alpha=300.0, lr=7e-3, watch=None):
    return training_loop.trained_copies(model)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [(without_zero_grad, "zero_grad"), (without_watch, "call watch"), (without_alpha, "alpha"), (without_steps, "by lr"),
     (lambda *args, **settings: None, "not attempted")],
)  # fmt: skip
def test_wrong_loops_get_a_hint(wrong, hint, model, tokenizer, u, capsys):
    core(wrong, None, *training_checks.loop_tests(model, tokenizer, u))
    assert hint in capsys.readouterr().out


def test_wrong_copies_get_a_hint(model, capsys):
    def of_layer_7(model, layer=7):
        return training_loop.trained_copies(model, 7)

    def themselves(model, layer=7):
        return {name: model.get_parameter(name) for name in training_loop.trained_copies(model, layer)}

    def detached(model, layer=7):
        return {name: copy.detach() for name, copy in training_loop.trained_copies(model, layer).items()}

    for wrong, hint in ((of_layer_7, "follow the argument"), (themselves, "clone()"), (detached, "requires_grad_")):
        core(wrong, None, *training_checks.copies_tests(model))
        assert hint in capsys.readouterr().out


def no_margin(forget, general, margin=3.0):
    if forget.high >= 0:
        return "undecided"
    return "further" if general.high < 0 else "better"


def fixed_margin(forget, general, margin=3.0):
    return stored_training.better_tradeoff(forget, general)


def from_means(forget, general, margin=3.0):
    if forget.value >= 0:
        return "undecided"
    return "further" if general.value < 0 else "better"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [(no_margin, "no proof that nothing is lost"), (fixed_margin, "with a margin of 8"), (from_means, "includes 0"),
     (lambda *args, **margin: ..., "not attempted")],
)  # fmt: skip
def test_wrong_judgements_of_a_trade_off_get_a_hint(wrong, hint, capsys):
    core(wrong, None, *training_checks.tradeoff_tests())
    assert hint in capsys.readouterr().out


def test_adams_first_step_is_checked_against_torchs():
    gradient = torch.randn(50, generator=torch.Generator().manual_seed(0))

    def right(g):
        return -7e-3 * g / (g.abs() + 1e-8)

    def uncorrected(g):
        return -7e-3 * 0.1 * g / ((0.001 * g**2).sqrt() + 1e-8)

    def plain(g):
        return -7e-3 * g

    failed = {
        step: [hint for test, hint in training_checks.first_step_tests(step, gradient) if not test(step(gradient))]
        for step in (right, uncorrected, plain)
    }
    assert failed[right] == []
    assert "differs" in failed[uncorrected][0]
    assert "a thousand times" in failed[plain][0]


# ---------------------------------------------------------------------------------------------------------------------
# Stored runs and figures


def test_stored_runs_are_those_of_one_setting():
    rows = stored_training.stored_runs(coefficient=228, alpha=30)
    assert [row.config.seed for row in rows] == [0, 1, 2]
    assert {(row.config.coefficient, row.config.alpha, row.config.steps) for row in rows} == {(228.0, 30.0, 40)}
    with pytest.raises(KeyError):
        stored_training.stored_runs(coefficient=229)


def test_a_change_is_question_by_question_and_may_be_of_one_topic():
    before = [stored_training.base_run("retain_general")] * 3
    rows = stored_training.retain_runs("general")
    both = [stored_training.change(rows, before, "neighbours", topic) for topic in ("biology", "computing")]
    whole = stored_training.change(rows, before, "neighbours")
    assert sum(part.n for part in both) == whole.n
    assert sum(part.n * part.value for part in both) == pytest.approx(whole.n * whole.value)
    assert stored_training.retain_changes()["other biology"]["general"] == both[0]


@pytest.fixture
def alts(monkeypatch):
    """The words of each figure that is shown."""
    words = []
    monkeypatch.setattr(training_figures, "show", lambda _figure, *, alt: words.append(alt))
    return words


def test_figures_say_their_numbers(watch, alts):
    outcomes = {c: stored_training.outcomes(stored_training.stored_runs(coefficient=c, alpha=30)) for c in (228, 570)}
    base = stored_training.base_outcome()
    training_figures.show_course(watch, C)
    training_figures.show_first_steps(watch, 3, "title")
    training_figures.show_film(watch, (0, 4), "title")
    training_figures.show_paths({"a": [0.0, 0.5, 1.0]}, "title")
    training_figures.show_outcomes({"alpha 30": outcomes}, base, "title", "c")
    training_figures.show_changes(stored_training.retain_changes(), "title")
    training_figures.show_tug_of_war({(570, 300): watch}, range(2, 4), "title")
    training_figures.show_tokens([(" dengue", 425.0), (" is", -2.0)], 570.0, "title")
    assert len(alts) == 8
    assert all(len(alt) > 30 for alt in alts)
    assert "alpha 30, c 228: 44 and 81" in alts[4]
    assert f"1.90 and {sum(watch.along['retain'][2:4]) / 2:.2f}" in alts[6]
    assert training_figures.training_step_diagram().axes


def test_the_film_is_drawn_again_for_another_step(watch, alts):
    slider = training_figures.film_slider(watch, C)
    slider.children[0].value = 0
    slider.update()
    assert "after step 0" in alts[-1]

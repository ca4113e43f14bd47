import copy
import dataclasses
import sys  # the package's attribute of that name is the function, not the module
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rmu_lab import RmuLabError, advise
from rmu_lab.activations import captured, edited_output
from rmu_lab.attacks.greedy_coordinate import GCGConfig, GCGResult, gcg, states_to_match, swap_gains
from rmu_lab.attacks.suffixes import (
    Layout,
    StateMatch,
    SuffixLoss,
    allowed_tokens,
    predicted_gains,
    random_texts,
    sample_candidates,
    top_swaps,
)
from rmu_lab.scoring import shares_prompts
from tests.conftest import FAMILIES, made_up_texts, of_kind, same_weights, tiny_model, weights_of
from tests.test_evaluate import KINDS

PROMPT, TARGET = "the cold water of the river", " green tree and a house"
SMALL = GCGConfig(num_steps=4, suffix=" sea sea sea sea", search_width=12, topk=12, batch_size=7, seed=3)


class Plainer(LlamaForCausalLM):
    """Computes all logits, as TrOCR's and Whisper's decoders do."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
                use_cache=None):  # fmt: skip
        return super().forward(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache)


class OfTokens(LlamaForCausalLM):
    """Takes tokens alone, as CPM-Ant does."""

    def forward(self, input_ids=None, attention_mask=None, **more):
        return super().forward(input_ids, attention_mask, **more)


def test_models_that_cannot_be_asked_for_the_last_logits(tokenizer):
    plain = tiny_model("llama")
    model = Plainer(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    ours, theirs = (gcg(each, tokenizer, PROMPT, TARGET, SMALL, progress=False) for each in (model, plain))
    assert (ours.losses, ours.best_ids) == (theirs.losses, theirs.best_ids)
    texts = made_up_texts(8, seed=1), made_up_texts(8, seed=2)
    assert advise(model, tokenizer, *texts).profile == advise(plain, tokenizer, *texts).profile
    assert shares_prompts(model)


def test_a_model_that_takes_no_embeddings_is_refused_before_any_work(tokenizer):
    model = OfTokens(tiny_model("llama").config).eval()
    model.register_forward_pre_hook(lambda *_: pytest.fail("it was run"))
    for call in (gcg, swap_gains):
        with pytest.raises(RmuLabError, match="OfTokens takes no inputs_embeds, of which gcg takes gradients"):
            call(model, tokenizer, PROMPT, TARGET, SMALL)


def layout_of(tokenizer) -> Layout:
    return Layout.of(tokenizer, PROMPT + "{suffix} by the sea", SMALL.suffix, TARGET, chat_template=False)


def plain_loss(model, layout: Layout, suffix) -> torch.Tensor:
    """One suffix, one whole forward pass, no cache."""
    ids = torch.tensor([[*layout.before, *suffix, *layout.after, *layout.target]])
    logits = model(ids, use_cache=False).logits[0, -len(layout.target) - 1 : -1]
    return cross_entropy(logits, torch.tensor(layout.target))


def random_suffixes(n: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(3, 320, (n, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_equal_a_plain_recomputation_with_and_without_prefix_cache(family, tokenizer):
    model, layout = tiny_model(family), layout_of(tokenizer)
    candidates = random_suffixes(9, len(layout.suffix), seed=1)
    with torch.no_grad():
        expected = torch.stack([plain_loss(model, layout, row.tolist()) for row in candidates])
    for cached in (True, False):
        losses, _ = SuffixLoss(model, layout, prefix_cache=cached, batch_size=4)(candidates)
        assert (losses - expected).abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cached", [True, False])
def test_the_gradient_is_that_of_the_one_hot_tokens(family, cached, tokenizer):
    """Against autograd through the embedding matrix itself, and its top k against sorting every entry."""
    model, layout = tiny_model(family).double(), layout_of(tokenizer)
    one_hot = torch.nn.functional.one_hot(torch.tensor(layout.suffix), 320).double().requires_grad_()
    embed = model.get_input_embeddings()
    table = embed(torch.arange(320)).detach()
    parts = [table[list(layout.before)], one_hot @ table, table[[*layout.after, *layout.target]]]
    logits = model(inputs_embeds=torch.cat(parts)[None], use_cache=False).logits[0, -len(layout.target) - 1 : -1]
    expected_loss = cross_entropy(logits, torch.tensor(layout.target))
    (expected,) = torch.autograd.grad(expected_loss, one_hot)

    loss_of = SuffixLoss(model, layout, prefix_cache=cached, batch_size=4)
    loss, gradient, norm = loss_of.gradient(torch.tensor(layout.suffix))
    assert loss == pytest.approx(expected_loss.item(), rel=1e-5)
    assert (gradient - expected.float()).abs().max() < 1e-5 * expected.abs().max()
    assert norm > 0

    allowed = torch.arange(10, 300, 3)
    for row, best in zip(expected, top_swaps(gradient, allowed, 5), strict=True):
        assert best.tolist() == sorted(allowed.tolist(), key=lambda token: row[token].item())[:5]


def test_the_gradient_predicts_small_moves(tokenizer):
    """Finite differences of the loss along the embedding of one swap."""
    model, layout = tiny_model("llama").double(), layout_of(tokenizer)
    loss_of = SuffixLoss(model, layout, prefix_cache=False, batch_size=4)
    suffix = torch.tensor(layout.suffix)
    swapped = suffix.clone()
    swapped[2] = 50
    loss, gradient, _ = loss_of.gradient(suffix)
    predicted = predicted_gains(suffix, gradient, swapped[None]).item()
    embed = model.get_input_embeddings()
    ids = torch.tensor([*layout.before, *layout.suffix, *layout.after, *layout.target])
    whole = embed(ids).detach()
    step = 1e-4
    whole[len(layout.before) + 2] += step * (embed.weight[50] - embed.weight[suffix[2]]).detach()
    with torch.no_grad():
        logits = model(inputs_embeds=whole[None], use_cache=False).logits[0, -len(layout.target) - 1 : -1]
    moved = cross_entropy(logits, torch.tensor(layout.target)).item()
    assert (plain_loss(model, layout, layout.suffix).item() - moved) / step == pytest.approx(predicted, rel=1e-2)
    assert loss == pytest.approx(plain_loss(model, layout, layout.suffix).item(), abs=1e-6)


def test_an_attack_lowers_the_loss_never_raises_the_best_and_leaves_the_model(tokenizer):
    model = tiny_model("llama")
    before = weights_of(model)
    result = gcg(model, tokenizer, PROMPT, TARGET, SMALL)
    assert same_weights(model, before) and len(result.steps) == SMALL.num_steps
    assert all(earlier >= later for earlier, later in pairwise(result.losses))
    assert result.best_loss == min(result.losses) < result.initial_loss
    layout = Layout.of(tokenizer, PROMPT, SMALL.suffix, TARGET, chat_template=False)
    assert plain_loss(model, layout, result.best_ids).item() == pytest.approx(result.best_loss, abs=1e-5)
    assert tokenizer(result.best_string, add_special_tokens=False)["input_ids"] == list(result.best_ids)
    for step in result.steps:
        assert len(step.predicted) == len(step.true) <= SMALL.search_width and step.gradient_norm > 0
        assert step.best_loss <= step.loss - max(step.true) + 1e-5


@pytest.mark.parametrize("buffer_size", [0, 1, 3])
def test_a_resumed_attack_is_the_uninterrupted_one(buffer_size, tokenizer, tmp_path):
    model = tiny_model("llama")
    config = dataclasses.replace(SMALL, buffer_size=buffer_size)
    whole = gcg(model, tokenizer, PROMPT, TARGET, config)
    part = gcg(model, tokenizer, PROMPT, TARGET, dataclasses.replace(config, num_steps=2))
    again = gcg(model, tokenizer, PROMPT, TARGET, config, resume=GCGResult.load(part.save(tmp_path / "attack.json")))
    assert (again.steps, again.best_string, again.buffer) == (whole.steps, whole.best_string, whole.buffer)
    if buffer_size:
        assert [loss for loss, _ in whole.buffer] == sorted(loss for loss, _ in whole.buffer)
        assert len(whole.buffer) == buffer_size and whole.buffer[0] == (whole.best_loss, whole.best_ids)


def test_resuming_another_attack_is_refused(tokenizer):
    model = tiny_model("llama")
    part = gcg(model, tokenizer, PROMPT, TARGET, dataclasses.replace(SMALL, num_steps=1))
    with pytest.raises(RmuLabError, match="another prompt"):
        gcg(model, tokenizer, PROMPT + " a", TARGET, SMALL, resume=part)
    with pytest.raises(RmuLabError, match="another prompt"):
        gcg(model, tokenizer, PROMPT, TARGET, dataclasses.replace(SMALL, topk=3), resume=part)


def test_an_interrupt_keeps_the_steps_done(tokenizer, monkeypatch):
    model = tiny_model("llama")
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return sample_candidates(*args, **kwargs)

    monkeypatch.setattr(sys.modules["rmu_lab.attacks.greedy_coordinate"], "sample_candidates", interrupted)
    part = gcg(model, tokenizer, PROMPT, TARGET, SMALL)
    monkeypatch.undo()
    assert len(part.steps) == 3
    assert (
        gcg(model, tokenizer, PROMPT, TARGET, SMALL, resume=part).steps == gcg(model, tokenizer, PROMPT, TARGET, SMALL).steps
    )


def test_memory_running_out_halves_the_batch_and_changes_no_loss(tokenizer, monkeypatch):
    model, layout = tiny_model("llama"), layout_of(tokenizer)
    candidates = random_suffixes(21, len(layout.suffix), seed=2)
    expected, _ = SuffixLoss(model, layout, prefix_cache=True, batch_size=64)(candidates)
    enough, plain, sizes = 5, SuffixLoss._losses, []

    def scarce(self, chunk):
        sizes.append(len(chunk))
        if len(chunk) > enough:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, chunk)

    monkeypatch.setattr(SuffixLoss, "_losses", scarce)
    loss_of = SuffixLoss(model, layout, prefix_cache=True, batch_size=64)
    losses, _ = loss_of(candidates)
    assert (losses - expected).abs().max() < 1e-5 and sizes[:4] == [21, 10, 5, 5]
    enough = 0
    with pytest.raises(RmuLabError, match="Not even one candidate"):
        loss_of(candidates)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tokenizer, monkeypatch):
    def broken(self, chunk):
        raise RuntimeError("something else")

    monkeypatch.setattr(SuffixLoss, "_losses", broken)
    with pytest.raises(RuntimeError, match="something else"):
        gcg(tiny_model("llama"), tokenizer, PROMPT, TARGET, SMALL)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n_replace=st.integers(1, 4), topk=st.integers(1, 40))
def test_candidates_swap_as_many_tokens_as_asked_for_the_best_ones(seed, n_replace, topk):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(4, 60, generator=generator)
    suffix, allowed = torch.tensor([0, 1, 2, 3]), torch.arange(10, 60)
    candidates = sample_candidates(suffix, gradient, allowed, width=50, topk=topk, n_replace=n_replace, generator=generator)
    changed = candidates != suffix
    assert (changed.sum(dim=1) == n_replace).all()
    best = top_swaps(gradient, allowed, topk)
    for row, swaps in zip(candidates, changed, strict=True):
        assert all(row[place] in best[place] for place in swaps.nonzero()[:, 0])
    gains = predicted_gains(suffix, gradient, candidates)
    by_hand = [sum((gradient[i, suffix[i]] - gradient[i, row[i]]).item() for i in range(4)) for row in candidates]
    assert gains.tolist() == pytest.approx(by_hand, abs=1e-5)


def test_suffixes_hold_printable_ascii_without_special_tokens(tokenizer):
    model = tiny_model("llama")
    allowed = allowed_tokens(model, tokenizer)
    texts = tokenizer.batch_decode([[index] for index in allowed.tolist()])
    assert len(allowed) > 50 and all(text.isascii() and text.isprintable() for text in texts)
    assert not set(allowed.tolist()) & set(tokenizer.all_special_ids)
    # The rest are the special ones and those that would break the text.
    rest = sorted(set(range(320)) - set(allowed.tolist()) - set(tokenizer.all_special_ids))
    assert not any(text.isascii() and text.isprintable() for text in tokenizer.batch_decode([[i] for i in rest]))


def test_every_candidate_survives_being_sent_as_text(tokenizer, monkeypatch):
    model = tiny_model("llama")
    wide, seen = dataclasses.replace(SMALL, num_steps=2, search_width=60, topk=200, batch_size=60), []
    plain = SuffixLoss.__call__

    def spy(self, candidates):
        seen.append((self.layout, candidates))
        return plain(self, candidates)

    monkeypatch.setattr(SuffixLoss, "__call__", spy)
    gcg(model, tokenizer, PROMPT, TARGET, wide)
    for layout, candidates in seen:
        for row in candidates.tolist():
            ids = [*layout.before, *row, *layout.after]
            assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids
    filtered = sum(len(candidates) for _, candidates in seen[1:])
    seen.clear()
    gcg(model, tokenizer, PROMPT, TARGET, dataclasses.replace(wide, filter_ids=False))
    assert filtered < sum(len(candidates) for _, candidates in seen[1:]) == wide.num_steps * wide.search_width


def test_a_prompt_that_is_tokenised_otherwise_is_refused(tokenizer):
    glued = dataclasses.replace(SMALL, suffix="ish and more")
    with pytest.raises(RmuLabError, match="begin with a space"):
        gcg(tiny_model("llama"), tokenizer, "a cold f", TARGET, glued)
    unfiltered = dataclasses.replace(glued, filter_ids=False, num_steps=1)
    assert len(gcg(tiny_model("llama"), tokenizer, "a cold f", TARGET, unfiltered).steps) == 1


@pytest.mark.parametrize(
    ("prompt", "target", "message"),
    [("", TARGET, "prompt is empty"), (PROMPT, "", "target is empty"), ("a {suffix} b {suffix}", TARGET, "2 places")],
)
def test_bad_prompts_are_named(prompt, target, message, tokenizer):
    with pytest.raises(RmuLabError, match=message):
        gcg(tiny_model("llama"), tokenizer, prompt, target, SMALL)


@pytest.mark.parametrize("change", [{"num_steps": 0}, {"topk": 0}, {"buffer_size": -1}, {"suffix": ""}])
def test_bad_settings_are_named(change):
    with pytest.raises(RmuLabError, match=next(iter(change))):
        GCGConfig(**change)


def test_early_stop_ends_with_a_suffix_after_which_the_target_is_written(tokenizer):
    model = tiny_model("llama")
    layout = Layout.of(tokenizer, PROMPT, SMALL.suffix, TARGET, chat_template=False)

    def written(suffix) -> int:
        return model(torch.tensor([[*layout.before, *suffix]])).logits[0, -1].argmax().item()

    # A target that one swap reaches: what the model writes after some other suffix.
    others = [written([*layout.suffix[:-1], token]) for token in allowed_tokens(model, tokenizer)[:40].tolist()]
    reachable = next(
        text for token in others if token != written(layout.suffix)
        and tokenizer(text := tokenizer.decode([token]), add_special_tokens=False)["input_ids"] == [token]
    )  # fmt: skip
    config = dataclasses.replace(
        SMALL, num_steps=40, early_stop=True, topk=300, search_width=100, batch_size=100, filter_ids=False, buffer_size=1
    )
    result = gcg(model, tokenizer, PROMPT, reachable, config)
    assert result.matched and len(result.steps) < 40
    assert tokenizer.decode([written(result.best_ids)]) == reachable


def test_the_chat_template_surrounds_the_prompt(tokenizer):
    chatty = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")  # noqa: S106
    chatty.chat_template = "{{ bos_token }}a {{ messages[0]['content'] }} old road"
    layout = Layout.of(chatty, PROMPT, " sea", TARGET, chat_template=True)
    assert chatty.decode(layout.before) == "<s>a " + PROMPT and chatty.decode(layout.after) == " old road"
    assert Layout.of(chatty, PROMPT, " sea", TARGET, chat_template=False).after == ()


def test_swap_gains_are_those_of_plain_forward_passes(tokenizer):
    model = tiny_model("llama")
    config = dataclasses.replace(SMALL, search_width=10)
    gains = swap_gains(model, tokenizer, PROMPT, TARGET, config)
    best = swap_gains(model, tokenizer, PROMPT, TARGET, config, among="top")
    layout = Layout.of(tokenizer, PROMPT, SMALL.suffix, TARGET, chat_template=False)
    assert gains.loss == pytest.approx(plain_loss(model, layout, layout.suffix).item(), abs=1e-5)
    assert len(gains.predicted) == len(gains.true) == 10
    assert min(best.predicted) > sum(gains.predicted) / 10
    with pytest.raises(RmuLabError, match="among"):
        swap_gains(model, tokenizer, PROMPT, TARGET, config, among="some")


@pytest.mark.parametrize("cached", [True, False])
def test_exact_collapse_leaves_no_gradient_and_near_collapse_the_same_order_of_swaps(cached, tokenizer):
    """Where h^(l) is one vector at every token, no swap does anything (Eq 20-22 of Dang et al. 2024). Near it gradient and
    gains shrink together, so that swaps keep their order: a small gradient is not an empty one."""
    model, layout = tiny_model("llama").double(), layout_of(tokenizer)
    u = torch.nn.functional.normalize(torch.rand(32, dtype=torch.float64), dim=0)
    suffix, candidates = torch.tensor(layout.suffix), random_suffixes(30, len(layout.suffix), seed=5)

    def at(left):
        with edited_output(model, 2, lambda hidden: left * hidden + (1 - left) * 5 * u):
            loss_of = SuffixLoss(model, layout, prefix_cache=cached, batch_size=30)
            loss, gradient, norm = loss_of.gradient(suffix)
            return norm, gradient.flatten(), loss - loss_of(candidates)[0]

    norm, gradient, gains = at(0.0)
    assert norm == 0 and not gradient.any() and gains.abs().max() < 1e-6
    (norm, gradient, gains), (less, smaller, lower) = at(1e-2), at(1e-3)
    assert norm == pytest.approx(10 * less, rel=0.1)
    assert torch.cosine_similarity(gradient, smaller, dim=0) > 0.99
    assert spearmanr(gains, lower).statistic > 0.95


def test_an_edit_in_the_model_changes_neither_cache_nor_candidate_losses(model, tokenizer, result):
    layout = layout_of(tokenizer)
    candidates = random_suffixes(6, len(layout.suffix), seed=4)
    with torch.no_grad():
        base = torch.stack([plain_loss(model, layout, row.tolist()) for row in candidates])
    with result.applied(model), torch.no_grad():
        expected = torch.stack([plain_loss(model, layout, row.tolist()) for row in candidates])
        losses, _ = SuffixLoss(model, layout, prefix_cache=True, batch_size=4)(candidates)
    assert (losses - expected).abs().max() < 1e-5 and (expected - base).abs().max() > 1e-3


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(RmuLabError, match="holds no attack"):
        GCGResult.load(tmp_path / "x.json")


@pytest.mark.parametrize("kind", ["mamba", "lfm2", "openai-gpt"])
def test_models_whose_cache_cannot_be_gone_on_from(kind, tokenizer):
    model, config = of_kind(kind, **KINDS[kind]), dataclasses.replace(SMALL, num_steps=2)
    ours, theirs = (
        gcg(model, tokenizer, PROMPT, TARGET, dataclasses.replace(config, prefix_cache=cache), progress=False)
        for cache in (True, False)
    )
    assert ours.losses == theirs.losses


# -- interrupts, and what a search goes on from -----------------------------------------------------------------------


class Interrupter:
    """Presses Ctrl-C at the n-th line of this package's search, as `sys.settrace` sees them."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame, event, _):
        if frame.f_code.co_name not in ("gcg", "_step") or "greedy_coordinate" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("buffer_size", [0, 2])
def test_wherever_a_search_is_interrupted_it_goes_on_as_if_it_had_not_been(buffer_size, tokenizer):
    model, config = tiny_model("llama"), dataclasses.replace(SMALL, num_steps=3, buffer_size=buffer_size)
    whole, results, traced = gcg(model, tokenizer, PROMPT, TARGET, config, progress=False), 0, sys.gettrace()
    for at in range(20, 140, 3):
        sys.settrace(Interrupter(at))
        try:
            part = gcg(model, tokenizer, PROMPT, TARGET, config, progress=False)
        except KeyboardInterrupt:  # before the first step or after the last
            continue
        finally:
            sys.settrace(traced)
        results += 1
        resumed = gcg(model, tokenizer, PROMPT, TARGET, config, resume=part, progress=False)
        for name in ("steps", "buffer", "best_loss", "best_ids", "matched"):
            assert getattr(resumed, name) == getattr(whole, name), (at, name)
    assert results > 20


def test_a_search_of_another_model_or_tokenizer_is_not_gone_on_with(tokenizer):
    model = tiny_model("llama")
    found = gcg(model, tokenizer, PROMPT, TARGET, SMALL, progress=False)
    longer = dataclasses.replace(SMALL, num_steps=5)
    rotated = tiny_model("llama")
    rotated.config.rope_parameters["rope_theta"] = 5.0
    template = copy.deepcopy(tokenizer)
    template.chat_template = "{{ messages[0].content }}"
    for other, words, what in (
        (tiny_model("llama", seed=1), tokenizer, "weights"),
        (rotated, tokenizer, "settings"),
        (model, template, "tokenizer"),
    ):
        with pytest.raises(RmuLabError, match=rf"The attack to go on with is of another {what}\b.*; begin anew"):
            gcg(other, words, PROMPT, TARGET, longer, resume=found, progress=False)
    for damaged in (
        dataclasses.replace(found, digests={}),  # of a version that did not store them
        dataclasses.replace(found, buffer=()),
        dataclasses.replace(found, best_ids=found.best_ids[1:]),
    ):
        with pytest.raises(RmuLabError, match=r"The attack to go on with .*; begin anew"):
            gcg(model, tokenizer, PROMPT, TARGET, longer, resume=damaged, progress=False)
    with pytest.raises(RmuLabError, match="another prompt, target or config"):
        gcg(model, tokenizer, PROMPT, " another target", longer, resume=found, progress=False)
    assert len(gcg(tiny_model("llama"), tokenizer, PROMPT, TARGET, longer, resume=found, progress=False).steps) == 5


# -- the enhanced objective -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cached", [True, False])
def test_matching_states_adds_their_distance_to_loss_and_gradient(family, cached, tokenizer):
    """Against one whole pass that keeps every layer's states, and autograd through it."""
    model, layout, layer = tiny_model(family).double(), layout_of(tokenizer), 2
    wanted = torch.randn(len(layout.target), 32, generator=torch.Generator().manual_seed(0))
    loss_of = SuffixLoss(model, layout, prefix_cache=cached, batch_size=4, match=StateMatch(layer, wanted, weight=3.0))
    embed = model.get_input_embeddings()
    table = embed(torch.arange(320)).detach()
    one_hot = torch.nn.functional.one_hot(torch.tensor(layout.suffix), 320).double().requires_grad_()
    parts = [table[list(layout.before)], one_hot @ table, table[[*layout.after, *layout.target]]]
    with captured(model, [layer]) as seen:
        logits = model(inputs_embeds=torch.cat(parts)[None], use_cache=False).logits[0, -len(layout.target) - 1 : -1]
    hidden = seen[layer][0, -len(layout.target) - 1 : -1]
    distance = ((hidden - wanted).square().sum(-1) / wanted.square().sum(-1)).mean()
    expected = cross_entropy(logits, torch.tensor(layout.target)) + 3 * distance
    (gradient,) = torch.autograd.grad(expected, one_hot)
    found, found_gradient, _ = loss_of.gradient(torch.tensor(layout.suffix))
    assert found == pytest.approx(expected.item(), rel=1e-5)
    assert (found_gradient - gradient.float()).abs().max() < 1e-5 * gradient.abs().max()
    losses, _ = loss_of(torch.tensor([layout.suffix] * 2))
    assert losses.tolist() == pytest.approx([expected.item()] * 2, rel=1e-5)


def test_a_model_matches_its_own_states(tokenizer):
    model = tiny_model("llama")
    own = states_to_match(model, tokenizer, PROMPT, TARGET, 2, SMALL)
    plain, matched = (gcg(model, tokenizer, PROMPT, TARGET, SMALL, match=each, progress=False) for each in (None, own))
    assert matched.initial_loss == pytest.approx(plain.initial_loss, abs=1e-5)
    assert matched.steps[-1].true != plain.steps[-1].true
    with pytest.raises(RmuLabError, match="another states to match"):
        gcg(model, tokenizer, PROMPT, TARGET, SMALL, resume=matched, progress=False)
    again = gcg(model, tokenizer, PROMPT, TARGET, SMALL, match=own, resume=matched, progress=False)
    assert again.losses == matched.losses


def test_the_weight_decides_between_target_and_states(tokenizer):
    """With all weight on the states, a search brings an edited model's states nearer to the base model's."""
    base, edited = tiny_model("llama", seed=0), tiny_model("llama", seed=0)
    with torch.no_grad():
        edited.model.layers[1].mlp.down_proj.weight.mul_(3)
    config = dataclasses.replace(SMALL, num_steps=12)
    wanted = states_to_match(base, tokenizer, PROMPT, TARGET, 2, config, weight=1000.0)

    def distance(suffix):
        layout = Layout.of(tokenizer, PROMPT, config.suffix, TARGET, chat_template=True)
        loss_of = SuffixLoss(edited, layout, prefix_cache=False, batch_size=1)
        return wanted.distance(loss_of.states(2, torch.tensor(suffix))[None]).item()

    found = gcg(edited, tokenizer, PROMPT, TARGET, config, match=wanted, progress=False)
    plain = gcg(edited, tokenizer, PROMPT, TARGET, config, progress=False)
    assert distance(found.best_ids) < distance(plain.best_ids)


def test_random_texts_are_of_allowed_tokens_and_as_long_as_asked(model, tokenizer):
    allowed = allowed_tokens(model, tokenizer)
    texts = [random_texts(tokenizer, allowed, 4, 3, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert texts[0] == texts[1] and len(set(texts[0])) == 3
    for text in texts[0]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == 4 and set(ids) <= set(allowed.tolist())

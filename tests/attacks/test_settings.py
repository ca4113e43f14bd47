"""Every setting of every attack decides what is measured: of a search for suffixes, of a budget, and of each attack."""

import copy
import dataclasses
import inspect

import pytest
import torch
from tqdm.auto import tqdm

from rmu_lab import RmuLabError
from rmu_lab.attacks import (
    ATTACKS,
    Budget,
    RelearnConfig,
    SoftPromptConfig,
    ablate,
    gauntlet,
    lens,
    probe,
    prompt,
    quantise,
    relearn,
    relearn_other_facts,
    sample,
    soft_prompt,
    transfer,
)
from rmu_lab.attacks.greedy_coordinate import GCGConfig, gcg, swap_gains
from rmu_lab.attacks.suffixes import Layout
from rmu_lab.files import digest
from rmu_lab.scoring import shares_prompts
from tests.attacks.conftest import DEV, FORGET, QUIET, RETAIN, answerable, made_up_questions
from tests.conftest import made_up_texts, tiny_model

# ---------------------------------------------------------------------------------------------------------------------
# The search for suffixes

PROMPT, TARGET = "the cold water of the river", " green tree"
BASE = {"num_steps": 2, "suffix": " sea sea sea", "search_width": 8, "topk": 8}
WIDE = {"num_steps": 1, "search_width": 60, "topk": 200}
SEARCH = {  # values that each find something else, and what else has to be set for that, if anything
    "num_steps": ((2, 3), {}),
    "suffix": ((" sea sea sea", " fish fish fish"), {}),
    "search_width": ((8, 5), {}),
    "topk": ((8, 100), {}),
    "n_replace": ((1, 2), {}),
    "buffer_size": ((0, 1, 3), {"num_steps": 4, "topk": 200}),
    "filter_ids": ((True, False), WIDE),
    "early_stop": ((False, True), {}),
    "chat_template": ((True, False), {}),
    "seed": ((0, 1), {}),
}
ONLY_HOW = {"prefix_cache": (True, False), "batch_size": (64, 3)}
"""These change how the same numbers are computed."""
FREE = {"num_steps", "early_stop", *ONLY_HOW}
"""What may change when a search is gone on with."""


def search(name, value, tokenizer, model=None, **changes):
    config = GCGConfig(**{**BASE, **SEARCH.get(name, ((), {}))[1], name: value, **changes})
    goal = written_target(tokenizer) if name == "early_stop" else (PROMPT, TARGET)
    return gcg(model or tiny_model("llama"), tokenizer, *goal, config, progress=False)


def written_target(tokenizer):
    """A prompt, and what the model writes after it with the suffix that every search starts from."""
    model = tiny_model("llama")
    for start in made_up_texts(50, seed=3):
        layout = Layout.of(tokenizer, start, BASE["suffix"], TARGET, chat_template=True)
        ids = torch.tensor([[*layout.before, *layout.suffix, *layout.after]])
        (token,) = model(ids).logits[:, -1].argmax(dim=-1).tolist()
        if tokenizer(text := tokenizer.decode([token]), add_special_tokens=False)["input_ids"] == [token]:
            return start, text
    raise AssertionError("no text is written as one token")


def found(result):
    """What a search measured, and nothing of what it was told."""
    return result.initial_loss, result.best_ids, result.matched, result.steps, result.buffer


def passes(model, run):
    """Shapes of what a model is given during a call, by batches and tokens."""
    shares_prompts(model)  # found out once, by passes of its own
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _model, _args, given: shapes.append(
            tuple((given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]).shape[:2])
        ),
        with_kwargs=True,
    )
    try:
        return run(), shapes
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def chatty(tokenizer):
    """A tokenizer with a chat template."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = "{{ bos_token }}a {{ messages[0]['content'] }} old road"
    return other


def test_every_field_of_a_search_has_a_case():
    assert {*SEARCH, *ONLY_HOW} == {item.name for item in dataclasses.fields(GCGConfig)}


@pytest.mark.parametrize("name", SEARCH)
def test_another_value_is_another_search(name, chatty):
    results = [found(search(name, value, chatty)) for value in SEARCH[name][0]]
    assert all(one != other for number, one in enumerate(results) for other in results[:number])


@pytest.mark.parametrize("name", ONLY_HOW)
def test_what_only_saves_time_or_memory_changes_no_search(name, chatty):
    model = tiny_model("llama")
    before = len(Layout.of(chatty, PROMPT, BASE["suffix"], TARGET, chat_template=True).before)
    (one, shapes), (other, other_shapes) = (
        passes(model, lambda value=value: search(name, value, chatty, model)) for value in ONLY_HOW[name]
    )
    assert one.best_ids == other.best_ids and one.losses == pytest.approx(other.losses, abs=1e-5)
    suffixes, others = ([shape for shape in found if shape[0] > 1] for found in (shapes, other_shapes))
    if name == "batch_size":
        assert max(n for n, _ in suffixes) == 8 and max(n for n, _ in others) == 3
    else:  # what stands before the suffix runs with every candidate
        assert {tokens for _, tokens in others}.pop() - {tokens for _, tokens in suffixes}.pop() == before


def test_the_seed_draws_the_other_suffixes_of_the_buffer(chatty):
    one, other = ({ids for _, ids in search("seed", seed, chatty, buffer_size=6, num_steps=1).buffer} for seed in (0, 1))
    start = tuple(chatty(BASE["suffix"], add_special_tokens=False)["input_ids"])
    assert len(one) == len(other) == 6 and one & other <= {start}


@pytest.mark.parametrize("name", [*SEARCH, *ONLY_HOW])
def test_a_search_goes_on_only_with_the_same_settings(name, chatty):
    one, other = (SEARCH[name][0] if name in SEARCH else ONLY_HOW[name])[:2]
    model = tiny_model("llama")
    earlier = gcg(model, chatty, PROMPT, TARGET, GCGConfig(**{**BASE, name: one}), progress=False)
    config = GCGConfig(**{**BASE, name: other})
    if name in FREE:
        assert gcg(model, chatty, PROMPT, TARGET, config, resume=earlier, progress=False).config == config
    else:
        with pytest.raises(RmuLabError, match="another prompt, target or config"):
            gcg(model, chatty, PROMPT, TARGET, config, resume=earlier, progress=False)


SWAPS = {  # values that each give other swaps, and what else is to be asked for
    "suffix": ((" sea sea sea", " fish fish fish"), {}),
    "search_width": ((8, 5), {}),
    "topk": ((8, 100), {"among": "top"}),
    "chat_template": ((True, False), {}),
    "seed": ((0, 1), {}),
}


@pytest.mark.parametrize("name", SWAPS)
def test_another_value_gives_other_single_swaps(name, chatty):
    values, how = SWAPS[name]
    configs = [GCGConfig(**{**BASE, name: value}) for value in values]
    one, other = (swap_gains(tiny_model("llama"), chatty, PROMPT, TARGET, config, **how) for config in configs)
    assert one.predicted != other.predicted and one.true != other.true


@pytest.mark.parametrize("name", ["prefix_cache", "batch_size"])
def test_what_only_saves_time_or_memory_changes_no_single_swap(name, chatty):
    model = tiny_model("llama")
    (one, shapes), (other, other_shapes) = (
        passes(model, lambda value=value: swap_gains(model, chatty, PROMPT, TARGET, GCGConfig(**{**BASE, name: value})))
        for value in ONLY_HOW[name]
    )
    assert one.true == pytest.approx(other.true, abs=1e-5) and max(shapes) != max(other_shapes)


def test_single_swaps_of_another_suffix_or_among_others(chatty):
    model, config = tiny_model("llama"), GCGConfig(**BASE)
    ids = chatty(" old road table", add_special_tokens=False)["input_ids"]
    plain, top, other = (
        swap_gains(model, chatty, PROMPT, TARGET, config, **how) for how in ({}, {"among": "top"}, {"suffix_ids": ids})
    )
    assert len({plain.predicted, top.predicted, other.predicted}) == 3 and plain.loss == top.loss != other.loss


# ---------------------------------------------------------------------------------------------------------------------
# The other attacks

MANY = [row | {"subject": f"subject {at % 4}"} for at, row in enumerate(made_up_questions(30, 5, "test"))]
KNOWN = [row | {"subject": f"subject {at % 4}"} for at, row in enumerate(DEV)]
FEW = RelearnConfig(lr=3e-3, steps=(1, 3), batch_size=2, max_length=16)


def other(**changes):
    return dataclasses.replace(FEW, **changes)


SETTINGS = {  # by attack and keyword: two values, each of which measures something else
    ablate: {
        "against": ("base model", "unrelated texts"),
        "n_random": (1, 2),
        "max_texts": (12, 4),
        "max_length": (16, 6),
    },
    relearn: {"texts": (RETAIN, FORGET), "search": (False, True)}
    | {
        f"config, {name}": (FEW, other(**{name: value}))
        for name, value in {"lr": 1e-3, "steps": (1, 2), "batch_size": 3, "max_length": 6, "trained": "edited"}.items()
    },
    relearn_other_facts: {"config": (FEW, other(lr=1e-3)), "search": (False, True)},
    probe: {"layers": ((1,), (3,))},
    sample: {"k": (1, 4), "temperature": (0.2, 3.0)},
    soft_prompt: {"config": (SoftPromptConfig(steps=2), SoftPromptConfig(steps=6))},
    prompt: {"kind": ("few-shot", "prefilled"), "shots": (1, 3), "prefill": (" It is", " The green tree")},
    transfer: {},
    quantise: {"bits": (4, 3)},
    lens: {"max_dev_questions": (7, 2)},
}
SHORT = {
    ablate: {"n_random": 1, "max_length": 16},
    relearn: {"config": FEW, "texts": RETAIN},
    relearn_other_facts: {"config": FEW},
    prompt: {"shots": 2},
}
RANDOM = {name for name in ATTACKS if name not in ("prefilled", "rephrased", "logit lens") and "quantise" not in name}
"""Attacks that draw something; the others are the same for every seed."""


@pytest.fixture
def whole(subject, model, tokenizer):
    """With all material, and questions enough that any change of the model shows in some answer."""
    asked = [*MANY, *answerable(model, tokenizer, sorted(MANY, key=lambda row: len(row["question"]))[:8])]
    rephrased = [row | {"original": row["id"], "question": f"So, {row['question']}"} for row in MANY]
    return dataclasses.replace(
        subject,
        questions=asked,
        dev_questions=KNOWN,
        general=DEV,
        rephrased=(MANY, rephrased),
        suffix=" old fish road",
        n_generations=0,
    )


def measured(recovery):
    """What an attack found, and nothing of what it was told."""
    told = {"seed", "n_random", "max_length", "texts", "digest", "steps", "batch_size", "lr", "shots", "prefill", "bits"}
    told |= {"against", "trained", "tried", "k", "temperature", "n_tokens", "layer", "dev_accuracy", "questions"}
    return recovery.attacked, recovery.controls, {k: v for k, v in recovery.details.items() if k not in told}


@pytest.mark.parametrize("run", SETTINGS)
def test_every_setting_of_an_attack_has_a_case(run):
    fields = {item.name for item in dataclasses.fields(RelearnConfig)} - {"seed"}  # which the budget gives
    named = {name.partition(",")[0] for name in SETTINGS[run]}
    assert named == inspect.signature(run).parameters.keys() - {"subject", "budget"}
    if run is relearn:
        assert {name.removeprefix("config, ") for name in SETTINGS[run] if "," in name} == fields


@pytest.mark.parametrize(("run", "name"), [(run, name) for run, settings in SETTINGS.items() for name in settings])
def test_another_value_is_another_attack(run, name, whole):
    how = SHORT.get(run, {}) | ({"kind": "prefilled"} if name == "prefill" else {})
    keyword = name.partition(",")[0]
    one, other = (measured(run(whole, QUIET, **{**how, keyword: value})) for value in SETTINGS[run][name])
    assert one != other


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_its_seed_and_whether_it_shows_bars_from_its_budget(name, whole, monkeypatch):
    shown, make = [], tqdm.__init__

    def noted(bar, *args, **how):
        shown.append(not how.get("disable"))
        make(bar, *args, **how)

    assert whole.reference  # which shows none
    monkeypatch.setattr(tqdm, "__init__", noted)
    one = measured(ATTACKS[name].run(whole, Budget(seed=0, progress=False)))
    assert shown and not any(shown)
    shown.clear()
    other = measured(ATTACKS[name].run(whole, Budget(seed=7, progress=True)))
    assert any(shown)
    assert (one != other) == (name in RANDOM)


def test_every_field_of_a_budget_has_a_test():
    """The seconds of one are those of `gauntlet` alone: test_gauntlet.py."""
    assert [item.name for item in dataclasses.fields(Budget)] == ["seed", "seconds", "progress"]


def test_the_gauntlet_runs_each_attack_with_its_seed_and_its_own_material(whole):
    budget = Budget(seed=7, progress=False)
    card = gauntlet(whole, budget=budget)
    details = {name: recovery.details for name, recovery in card.recoveries.items()}
    assert card.provenance["seed"] == 7 and details.keys() == ATTACKS.keys()
    assert {name for name in details if details[name].get("seed") == 7} == RANDOM
    for name in ("suffix", "few-shot", "ablate a direction"):
        assert measured(card.recoveries[name]) == measured(ATTACKS[name].run(whole, budget)), name
    assert details["relearn unrelated text"]["digest"] == digest(RETAIN[:10])
    assert details["relearn text of the topic"]["digest"] == digest(FORGET[:10])
    assert [details[f"quantise to {bits} bits"]["bits"] for bits in (8, 4)] == [8, 4]
    assert details["few-shot"]["shots"] == 5

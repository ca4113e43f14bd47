"""Tiny random models of every supported family, a tiny tokenizer, and the real SmolLM2 for the slow tests."""

import random
import re
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rmu_lab import load_model
from rmu_lab.attacks import ATTACKS
from rmu_lab.plugins import load_plugins, loaded_files
from rmu_lab.unlearning.method_table import METHODS, config_class

SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Larger than usual, so that a random model's blocks do something.
    "initializer_range": 0.2,
}
NO_GROUPS = {name: value for name, value in SMALL.items() if name not in ("num_key_value_heads", "head_dim")}
FAMILIES = {
    "llama": (transformers.LlamaConfig, SMALL),
    "mistral": (transformers.MistralConfig, SMALL | {"sliding_window": 16}),
    "qwen2": (transformers.Qwen2Config, SMALL),
    "qwen3": (transformers.Qwen3Config, SMALL),
    "gemma2": (transformers.Gemma2Config, SMALL | {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "gemma3": (transformers.Gemma3TextConfig, SMALL | {"sliding_window": 16, "query_pre_attn_scalar": 8}),
    "phi3": (transformers.Phi3Config, SMALL | {"original_max_position_embeddings": 256}),
    "gpt_neox": (transformers.GPTNeoXConfig, NO_GROUPS),
    "gpt2": (
        transformers.GPT2Config,
        {"vocab_size": 320, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "resid_pdrop": 0, "attn_pdrop": 0, "embd_pdrop": 0},
    ),
}

# A mixture of experts has no single MLP output matrix to train by default, so most tests leave it out.
OTHERS = {"mixtral": (transformers.MixtralConfig, SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2})}

WORDS = "the sea a fish cold water river stone old house green tree bird small road winter light book table".split(" ")  # noqa: SIM905


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if drawn := sys.modules.get("matplotlib.pyplot"):
        drawn.close("all")


def failed(tests, answer):
    """The hint of the first test of a core or an exercise that an answer fails; None if it passes all."""
    return next((hint for test, hint in tests if not test(answer)), None)


def assert_told_apart(tests, right, mistakes):
    """That a core's tests pass what is right, and answer each mistake with a hint in which its words stand."""
    assert failed(tests, right) is None
    for hint, mistake in mistakes.items():
        assert hint in failed(tests, mistake), hint


def tiny_model(family: str, seed: int = 0, **changes) -> PreTrainedModel:
    config_class, settings = (FAMILIES | OTHERS)[family]
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config_class(**(settings | changes))).eval()


def of_kind(kind: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A tiny model of any kind that transformers knows, for what only some families do; a change to None leaves it out."""
    torch.manual_seed(seed)
    chosen = {name: value for name, value in (SMALL | changes).items() if value is not None}
    config = transformers.AutoConfig.for_model(kind, **chosen)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def made_up_texts(n: int, seed: int, least: int = 8, most: int = 30) -> list[str]:
    """Texts of various lengths, so that batches need padding."""
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(least, most))) for _ in range(n)]


def weights_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_weights(model: PreTrainedModel, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens, trained on made-up texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(made_up_texts(200, seed=0), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # noqa: S106


@pytest.fixture(scope="session")
def smollm2():
    """The real model; a test that changes it puts it back."""
    return load_model("smollm2-135m", device="cpu")


# ---------------------------------------------------------------------------------------------------------------------
# What a user adds, as the guide shows it


def guide_file(name: str) -> str:
    """The Python block of the guide that begins with this file's name."""
    text = (Path(__file__).parent.parent / "docs" / "guide" / "own_method.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if block.startswith(f"# {name}\n"))
    return code


def plugin(name: str, folder: Path) -> Path:
    (folder / name).write_text(guide_file(name), encoding="utf-8")
    return folder / name


@pytest.fixture
def plugins_undone():
    """What plugins registered and imported during a test is taken out again."""
    methods, attacks, paths = dict(METHODS), dict(ATTACKS), list(sys.path)
    yield
    for table, before in ((METHODS, methods), (ATTACKS, attacks)):
        table.clear()
        table.update(before)
    sys.path[:] = paths
    for module in loaded_files():
        del sys.modules[module.__name__]


@pytest.fixture
def own_method(tmp_path, plugins_undone):
    """The settings of the guide's method, which is in the table during the test."""
    load_plugins([str(plugin("bounded_ascent.py", tmp_path))])
    return config_class("bounded_ascent")


@pytest.fixture
def own_attack(tmp_path, plugins_undone):
    """The name of the guide's attack, which is in the table during the test."""
    load_plugins([str(plugin("shout.py", tmp_path))])
    return "shouted"

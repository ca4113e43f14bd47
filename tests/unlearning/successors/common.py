"""Short settings of every successor, and plain computations on the tiny model that stand beside theirs."""

import pytest
import torch

from rmu_lab import UnlearnConfig, decoder_blocks
from rmu_lab.corpora import token_batches
from rmu_lab.unlearning.successors import (
    CIR,
    LUNAR,
    MCURMU,
    RMUSAM,
    SRMU,
    CircuitBreaker,
    ClosedFormRMU,
    LayeredRMU,
    OrthogonalCircuitBreaker,
    RankOneRMU,
    RepSelect,
    TamperResistantRMU,
)
from tests.conftest import made_up_texts, tiny_model

FORGET, RETAIN = made_up_texts(12, seed=11), made_up_texts(12, seed=12)
LAYER = 3
SHORT = {"layer": LAYER, "steps": 4, "batch_size": 3, "max_length": 24, "lr": 1e-2, "alpha": 1.0}
SOLVED = {"layer": LAYER, "max_length": 24, "alpha": 1.0}
RMU = UnlearnConfig(**SHORT)
STEPPED = [
    *(kind(**SHORT) for kind in (MCURMU, CIR, RepSelect, RMUSAM, CircuitBreaker, OrthogonalCircuitBreaker)),
    *(kind(**SHORT) for kind in (SRMU, TamperResistantRMU, LayeredRMU, RankOneRMU)),
]
EVERY = [*STEPPED, LUNAR(**SOLVED), ClosedFormRMU(**SOLVED)]


def each(configs):
    return pytest.mark.parametrize("config", configs, ids=lambda config: config.method)


def matrix_name(layer):
    return f"model.layers.{layer}.mlp.down_proj.weight"


def first_batch(tokenizer, texts, size=3):
    return token_batches(tokenizer, texts[:size], size, SHORT["max_length"])[0]


def hidden_of(model, batch, layer=LAYER):
    """h^(l), (batch, tokens, d), by a whole pass of transformers."""
    output = model(batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
    return output.hidden_states[layer + 1]


def adaptive_target(frozen, counted, u, beta=5.0):
    """s u with the mean frozen norm of each text, (batch, 1, d)."""
    norms = torch.stack([rows.norm(dim=-1)[which].mean() for rows, which in zip(frozen, counted, strict=True)])
    return beta * norms[:, None, None] * u


def side_traffic(model, batch, layers, loss_of):
    """By layer, inputs and output gradients of the MLP's output matrix at every token, and the loss."""
    seen, hooks = {}, []
    for layer in layers:
        module = decoder_blocks(model)[layer].mlp.down_proj

        def note(_module, args, output, layer=layer):
            output.retain_grad()
            seen[layer] = args[0].detach(), output

        hooks.append(module.register_forward_hook(note))
    loss = loss_of(hidden_of(model, batch))
    loss.backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    return {layer: (inputs, output.grad) for layer, (inputs, output) in seen.items()}, loss.item()


def numbers(entry):
    """The numbers of an entry of a history."""
    return {name: value for name, value in entry.items() if name != "topic"}


def llama():
    return tiny_model("llama")

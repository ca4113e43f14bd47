"""Which layer, coefficient, beta, alpha, learning rate and steps for a new model: one forward pass, then arithmetic.

The settings of RMU are numbers in units of the model's own representations. So the model is asked once,
on a few forget and retain texts, how long its hidden states are after each block, how well the two kinds
of text separate there, and how much of what the trained matrices see differs between them. Each proposal
comes with its reason, which says what is measured, what follows, and what is a rule of thumb. Taught in
notebook 05's appendix on the advisor.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured, frozen, hidden_states
from ..corpora import TokenBatch, token_batches
from ..errors import RmuLabError
from ..models import block_parameters, check_positions, decoder_blocks, input_device, plain_model
from ..offload import read_parameter
from ..torch_state import in_default_torch_state
from .batches import topic_texts
from .config import UnlearnConfig
from .objectives import masked_mean, token_norms

if TYPE_CHECKING:
    from .batches import Texts

FOLDS = 4
# Rules of thumb, each used where its reason is given. BETA and DEPTHS are published, SHARE and TURN come from Gemma 3 270M,
# the others were set by SmolLM2-135M's defaults.
BETA = 5.0  # Dang et al. 2024 tried 2, 3, 5 and 10 and report 5
DEPTHS = (1 / 6, 1 / 3)  # of the model; published settings: 7 of 32, 7 of 32, 15 of 60
SHARE = 0.3  # of the best layer's separability beyond chance, below which those depths are left for the best layer
LITTLE = 0.6  # separability: hardly more than guessing
TOLERANCE = 0.29  # of its norm: a retain token moved so far costs as much as a forget token not moved at all
STEPS = 40  # for each topic
PATH = 0.5  # of the way that Adam's steps would cover if all of them agreed, in units of the way to the target
TURN = 3.0  # the same where a norm follows: what they would add to the matrix's output, in units of that output
POSITIVE_COSINE = 0.75**0.5  # cos(u, 1) of a direction with entries from U(0, 1)


@dataclass(frozen=True)
class LayerProfile:
    """What one block's output, and the matrix to be trained in it, look like on forget and retain text."""

    layer: int
    forget_norm: float
    """Median ||h|| of forget tokens, without each text's first and padding."""
    retain_norm: float
    sink_norm: float
    """Median ||h|| of first tokens, the attention sinks."""
    padding_norm: float | None
    """Median ||h|| of padding; None where no text was padded."""
    separability: float
    """Chance that a forget token lies further along mean forget - mean retain than a retain token does, in texts that
    these means were not taken from: 0.5 is none, 1 is complete."""
    reach: float
    """||mean a_forget - mean a_retain||_1, a the inputs of the matrix to be trained: how far its output on forget text
    moves away from that on retain text, in each dimension, when every entry changes by 1 in the direction of its sign."""
    weight_rms: float
    """Root mean square of that matrix's entries."""
    written_rms: float
    """Root mean square, over the counted tokens of both kinds, of the entries of what that matrix puts out."""
    normalised: bool
    """Whether that goes through a norm before it is added to the residual stream (Gemma 2 and 3, GLM-4, OLMo 2)."""


@dataclass(frozen=True)
class Advice:
    """A proposal with its reasons, and the profile it was read from."""

    model_name: str
    layer: int
    coefficient: float
    beta: float
    alpha: float
    lr: float
    steps: int
    reasons: dict[str, str]
    """In words, for each of the six."""
    profile: tuple[LayerProfile, ...]
    hidden_size: int

    @property
    def confidence(self) -> str:
        """In one sentence: how far the proposal can be trusted as it stands, by what it was held against on three models."""
        here, best = self.profile[self.layer], max(row.separability for row in self.profile)
        if best < LITTLE:
            return (
                f"Doubtful: no layer tells forget and retain tokens apart in more than {best:.0%} of pairs, so give texts "
                "that differ more before you trust any of these numbers."
            )
        if here.normalised or self.layer not in _candidates(len(self.profile)):
            return (
                "A start, not a setting: the rules for models like this one were made on a single model, Gemma 3 270M, so "
                "try the layers around this one, and three times and a third of the learning rate, on dev questions."
            )
        return (
            "Likely to forget much and to cost little, as on SmolLM2-135M, where the rules were made, and on "
            "Qwen2.5-Coder-1.5B, where they were tried and a search still forgot more; score the edit on questions of your "
            "own before you use it."
        )

    def config(self, layer: int | None = None, **changes: Any) -> UnlearnConfig:
        """Return the proposal as settings; for another `layer` with its numbers, and with `changes` of other fields.

        Raises
        ------
        RmuLabError
            if the layer does not exist or lies too low to have a window below it, or a change is out of range.
        """
        layer = self.layer if layer is None else layer
        if not 2 <= layer < len(self.profile):
            raise RmuLabError(f"layer is {layer}; choose one from 2 to {len(self.profile) - 1}.")
        steps = changes.get("steps", self.steps)
        topics = self.steps // STEPS
        numbers = _numbers(self.profile, layer, self.hidden_size, changes.get("beta", self.beta), steps // topics or 1)
        return UnlearnConfig(**{"layer": layer, "steps": steps, "beta": self.beta, **numbers, **changes})


@in_default_torch_state
def advise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    *,
    texts: int = 16,
    max_length: int = 64,
) -> Advice:
    """Propose layer, c, beta, alpha, lr and steps from one forward pass over a few texts.

    With n_F, n_R the median norms of forget and retain tokens after block l, d the hidden size, T the steps of a topic
    and m_k the mean input of block k's trained matrix::

        c     = beta * n_F                              Dang et al. 2024, Eq 24, for a typical token
        alpha = (beta * n_F)^2 / (0.29 * n_R)^2         a retain token may move by 0.29 of its norm
        lr    = 0.5 * c / (T * sqrt(0.75 d) * sum over k = l-2 .. l of ||m_k(forget) - m_k(retain)||_1)

    The last one follows from Adam's first steps, which change every entry by about lr. RMU's direction u has positive
    entries only, so all rows of a matrix change alike, by lr times the signs of m_k; that moves h along u by lr times
    sqrt(0.75 d) ||m_k||_1 a step. What forget and retain text share of m_k must cancel in the end, so the difference is
    what counts. Blocks between are taken to pass the change on as it is. Taught in notebook 05's appendix on the advisor.

    Where a norm follows the matrix (Gemma 2 and 3, GLM-4, OLMo 2), the size of its output is lost, and only what is added
    in relation to what is there, of root mean square o, turns it. There

        lr    = 3 * (sum of o_k) / (T * sum over k = l-2 .. l of ||m_k(forget) - m_k(retain)||_1)

    Parameters
    ----------
    forget, retain
        as `unlearn` takes them.
    texts
        of each of both that are read, at most (spread over the topics).
    max_length
        tokens after which a text is cut.

    Raises
    ------
    RmuLabError
        if there are fewer than four texts of a kind, forget and retain texts look the same to the model, it has fewer than
        three blocks or several residual streams, or the family's MLP output matrix is not known.
    """
    model = plain_model(model)
    check_positions(model, max_length)
    n_blocks = len(decoder_blocks(model))
    if n_blocks < 3:
        raise RmuLabError(f"The model has {n_blocks} blocks; a window of three does not fit, choose a larger model.")
    by_topic = topic_texts(forget, retain, FOLDS)
    topics = len(by_topic) // 2
    share = max(FOLDS, texts // topics)
    chosen = {
        kind: [text for (role, _), corpus in by_topic.items() if role == kind for text in corpus[:share]]
        for kind in ("forget", "retain")
    }
    together = [*chosen["forget"], *chosen["retain"]]
    (batch,) = token_batches(tokenizer, together, len(together), max_length)
    profile = _profile(model, batch.to(input_device(model)), len(chosen["forget"]))
    hidden_size = model.config.get_text_config(decoder=True).hidden_size
    layer = proposed_layer([row.separability for row in profile])
    numbers = _numbers(profile, layer, hidden_size, BETA, STEPS)
    return Advice(
        model_name=model.name_or_path or "",
        layer=layer,
        beta=BETA,
        steps=STEPS * topics,
        reasons=_reasons(model, profile, layer, numbers, topics),
        profile=profile,
        hidden_size=hidden_size,
        **numbers,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def _profile(model: PreTrainedModel, batch: TokenBatch, n_forget: int) -> tuple[LayerProfile, ...]:
    """Every block's profile from one pass; the first `n_forget` texts of the batch are forget texts.

    Each block is measured as it runs, so that no more than one block's output is held.
    """
    blocks = decoder_blocks(model)
    counted = batch.counted()
    padding = ~batch.attention_mask.bool()
    first = batch.counted(first_token=True) & ~counted
    is_forget = torch.arange(len(counted), device=counted.device) < n_forget
    written: dict[int, Tensor] = {}
    measured: list[dict[str, Any]] = [{"layer": index} for index in range(len(blocks))]

    def see_input(row: dict[str, Any]) -> Any:
        def hook(_module: nn.Module, args: tuple) -> None:
            means = masked_mean(args[0].float().to(counted.device), counted)
            row["reach"] = (means[is_forget].mean(dim=0) - means[~is_forget].mean(dim=0)).abs().sum().item()

        return hook

    def see_output(row: dict[str, Any]) -> Any:
        def hook(_block: nn.Module, _args: tuple, output: Any) -> None:
            hidden = hidden_states(output).float().to(counted.device)
            norms = token_norms(hidden)
            row["forget_norm"] = norms[counted & is_forget[:, None]].median().item()
            row["retain_norm"] = norms[counted & ~is_forget[:, None]].median().item()
            row["sink_norm"] = norms[first].median().item()
            row["padding_norm"] = norms[padding].median().item() if padding.any() else None
            row["separability"] = separability(hidden, counted, is_forget)
            written.pop(row["layer"], None)

        return hook

    def see_written(row: dict[str, Any]) -> Any:
        def hook(_module: nn.Module, _args: tuple, output: Tensor) -> None:
            row["written_rms"] = output.float().to(counted.device)[counted].square().mean().sqrt().item()
            row["normalised"] = False
            written[row["layer"]] = output

        return hook

    def see_reader(row: dict[str, Any]) -> Any:
        """A norm is what reads the matrix's output and makes the same of it when it is twice as large."""

        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            given = written.get(row["layer"])
            if given is not None and args and args[0] is given and isinstance(output, Tensor):
                once, twice = (part.to(counted.device)[counted].float() for part in (output, module.forward(2 * given)))
                row["normalised"] |= bool((twice - once).norm() < 0.1 * once.norm())

        return hook

    with ExitStack() as hooks:
        for index, (name, *_) in block_parameters(model, range(len(blocks)), None).items():
            matrix = blocks[index].get_submodule(name.rpartition(".")[0])
            measured[index]["weight_rms"] = read_parameter(blocks[index], name).float().square().mean().sqrt().item()
            hooks.callback(matrix.register_forward_pre_hook(see_input(measured[index])).remove)
            hooks.callback(matrix.register_forward_hook(see_written(measured[index])).remove)
            for part in blocks[index].modules():
                hooks.callback(part.register_forward_hook(see_reader(measured[index])).remove)
            hooks.callback(blocks[index].register_forward_hook(see_output(measured[index])).remove)
        with torch.no_grad(), frozen(model), captured(model, [len(blocks) - 1], stop=True):
            model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    if not any(row["reach"] for row in measured):
        raise RmuLabError("The model sees no difference between forget and retain texts; give texts that differ.")
    return tuple(LayerProfile(**row) for row in measured)


def separability(hidden: Tensor, counted: Tensor, is_forget: Tensor) -> float:
    """Held-out chance, 0 to 1, that a forget token scores above a retain token along the difference of means.

    Parameters
    ----------
    hidden
        (texts, tokens, d) float32.
    counted
        (texts, tokens) bool, the tokens to be told apart.
    is_forget
        (texts,) bool, at least `FOLDS` of each.
    """
    means = masked_mean(hidden, counted)
    # Every kind's texts are dealt to the folds in turn; a text is scored by the means of the other folds.
    fold = torch.where(is_forget, is_forget.cumsum(0), (~is_forget).cumsum(0)) % FOLDS
    wins = []
    for held_out in range(FOLDS):
        known = fold != held_out
        direction = means[known & is_forget].mean(dim=0) - means[known & ~is_forget].mean(dim=0)
        scores = hidden @ direction
        mine = [scores[(~known & kind)[:, None] & counted] for kind in (is_forget, ~is_forget)]
        retain = mine[1].sort().values
        below = torch.searchsorted(retain, mine[0]) + torch.searchsorted(retain, mine[0], right=True)  # ties count half
        wins.append((below.float() / (2 * len(retain))).mean().item())
    return statistics.fmean(wins)


# ---------------------------------------------------------------------------------------------------------------------
# Proposing


def proposed_layer(separabilities: Sequence[float], share: float = SHARE) -> int:
    """Choose the layer at which forget and retain tokens are told apart best, between a sixth and a third of the depth.

    If they are hardly told apart there, which is less than `share` of what is reached beyond chance at the best layer from
    there on, then that best one.
    """
    among = _candidates(len(separabilities))
    low = max(among, key=lambda layer: separabilities[layer])
    best = max(range(among[0], len(separabilities)), key=lambda layer: separabilities[layer])
    return low if separabilities[low] - 0.5 >= share * (separabilities[best] - 0.5) else best


def _candidates(n_blocks: int) -> range:
    low, high = (max(2, round(share * n_blocks)) for share in DEPTHS)
    return range(low, high + 1)


def _numbers(profile: tuple[LayerProfile, ...], layer: int, size: int, beta: float, steps: int) -> dict[str, float]:
    """c, alpha and lr at a layer, to two digits; `steps` are those of one topic."""
    here = profile[layer]
    target = beta * here.forget_norm
    window = profile[layer - 2 : layer + 1]
    way = PATH * target / (size**0.5 * POSITIVE_COSINE)  # in each entry of h
    if here.normalised:
        way = TURN * sum(block.written_rms for block in window)
    numbers = {
        "coefficient": target,
        "alpha": (target / (TOLERANCE * here.retain_norm)) ** 2,
        "lr": way / (steps * sum(block.reach for block in window)),
    }
    return {name: float(f"{value:.2g}") for name, value in numbers.items()}


def _reasons(
    model: PreTrainedModel, profile: tuple[LayerProfile, ...], layer: int, numbers: dict[str, float], topics: int
) -> dict[str, str]:
    here, among = profile[layer], _candidates(len(profile))
    best, low = (max(row.separability for row in rows) for rows in (profile, profile[among[0] : among[-1] + 1]))
    relative = numbers["lr"] * STEPS / statistics.fmean(block.weight_rms for block in profile[layer - 2 : layer + 1])
    agreed, rule = "would move forget text half of the way to its target", "Half is a rule of thumb from SmolLM2-135M"
    if here.normalised:
        rule = "Three times is a rule of thumb from Gemma 3 270M"
        agreed = "would add three times what the matrices put out (a norm follows them, so only this ratio counts)"
    lr = (
        f"Measured: {STEPS} steps of Adam at this rate, if all agreed, {agreed}; entries change by up to {relative:.1f} "
        f"times their root mean square. {rule}; try three times more and less."
    )
    return {
        "layer": (
            f"Forget and retain tokens are told apart in {here.separability:.0%} of pairs, the most among layers "
            f"{among[0]} to {among[-1]} of 0 to {len(profile) - 1} ({best:.0%} at the best of all). Looking only between a "
            "sixth and a third of the depth is a rule of thumb: published settings lie at a quarter, and many blocks above "
            "are left to be disturbed."
            if layer in among
            else f"Forget and retain tokens are told apart in {here.separability:.0%} of pairs, the most at any layer. "
            f"Between a sixth and a third of the depth, where published settings lie, it is {low:.0%} at most, which is too "
            "little."
        ),
        "coefficient": (
            f"beta times the median norm of forget tokens, {here.forget_norm:.3g} (retain {here.retain_norm:.3g}; first "
            f"tokens, left out, {here.sink_norm:.3g}). Only RMU uses it."
        ),
        "beta": "A rule of thumb: the paper of Adaptive RMU tried 2, 3, 5 and 10 on four models of 6B to 8B and reports 5.",
        "alpha": (
            f"So that a retain token moved by {TOLERANCE} of its norm costs as much as a forget token that stays where it "
            "is. The ratio is a rule of thumb from SmolLM2-135M; larger keeps more and forgets less."
        ),
        "lr": lr,
        "steps": f"A rule of thumb, {STEPS} a topic ({topics}). lr is computed for it: half the steps want twice the lr.",
    }

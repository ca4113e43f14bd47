"""Greedy coordinate gradient: a suffix, found token by token, that makes a model write a given target.

Zou et al. 2023, arXiv 2307.15043. In each step the gradient of the loss with respect to the suffix's one-hot tokens names
promising swaps, some are tried, and the best is taken. Every step is recorded with what the gradient had promised and what
each swap gave (Eq 20-22 of Dang et al. 2024). Taught in notebook 06. It is long because of its records' fields.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import frozen
from ..errors import RmuLabError
from ..files import digest, write_json
from ..identity import model_digests, tensors_digest
from ..models import check_positions, takes
from ..offload import require_in_memory
from ..provenance import provenance
from ..randomness import torch_generator
from ..stored import checked, reading
from ..torch_state import in_default_torch_state
from .suffixes import Layout, StateMatch, SuffixLoss, allowed_tokens, decoded, predicted_gains, sample_candidates


@dataclass(frozen=True)
class GCGConfig:
    """Settings of `gcg`, named as in nanoGCG. Taught in notebook 06.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    num_steps: int = 100
    suffix: str = " x" * 20
    """What to start from; it keeps its number of tokens."""
    search_width: int = 256
    """Candidates drawn in each step."""
    topk: int = 256
    """Swaps of each position that candidates are drawn from: those of the largest predicted gain."""
    n_replace: int = 1
    """Positions swapped in a candidate."""
    buffer_size: int = 0
    """Suffixes kept, of which the best is worked on: 0 always moves on to the best candidate, even a worse one; 1 never
    moves to a worse one; more begin with other random suffixes."""
    filter_ids: bool = True
    """Drop candidates whose text would be tokenised otherwise: an attacker sends text, not tokens."""
    early_stop: bool = False
    """Stop when the model, taking its likeliest token each time, writes the target."""
    chat_template: bool = True
    """Put the prompt through the tokenizer's chat template, where it has one."""
    prefix_cache: bool = True
    """Run what stands before the suffix once, not with every candidate."""
    batch_size: int = 64
    """Candidates run at once; halved by itself where memory does not suffice."""
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_steps": 1, "search_width": 1, "topk": 1, "n_replace": 1, "buffer_size": 0, "batch_size": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise RmuLabError(f"{name} is {getattr(self, name)}; it must be at least {smallest}.")
        if not self.suffix:
            raise RmuLabError("suffix is empty; give the text to start from, such as ' x x x x x x x x'.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; ``GCGConfig(**d)`` is the way back."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class GCGStep:
    """One step: where it started, what the gradient promised for each candidate, and what each gave."""

    loss: float
    """Of the suffix that the step started from, in nats per target token."""
    gradient_norm: float
    """||d loss / d e||, e the embeddings of the suffix (all positions together)."""
    predicted: tuple[float, ...]
    """First-order gain of each candidate: how far the gradient says the loss falls."""
    true: tuple[float, ...]
    """How far it falls."""
    best_loss: float
    """The lowest loss of any suffix so far."""
    suffix: str
    """The best candidate, as text."""


@dataclass(frozen=True)
class GCGResult:
    """Result of a search, and all that is needed to continue it. Taught in notebook 06."""

    prompt: str
    target: str
    config: GCGConfig
    initial_loss: float
    best_loss: float
    best_string: str
    """The suffix of the lowest loss."""
    best_ids: tuple[int, ...]
    matched: bool
    """Whether the model writes the target after that suffix, taking its likeliest token each time."""
    steps: tuple[GCGStep, ...]
    buffer: tuple[tuple[float, tuple[int, ...]], ...]
    """Loss and tokens of the suffixes to go on from, best first."""
    model_name: str
    provenance: dict[str, Any]
    seconds: float
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the model's weights, its settings, its tokenizer, and of the tokens around the suffix."""

    @property
    def losses(self) -> list[float]:
        """The lowest loss found by each step, the initial suffix's first; it never rises."""
        return [self.initial_loss, *(step.best_loss for step in self.steps)]

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; `load` reads it back.

        Raises
        ------
        RmuLabError
            if the file cannot be written.
        """
        write_json(Path(path), dataclasses.asdict(self))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> GCGResult:
        """Read what `save` wrote.

        Raises
        ------
        RmuLabError
            if the file does not hold an attack.
        """
        with reading(f"{path} holds no attack of this package", "give a file save() wrote"):
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            steps = tuple(
                checked(GCGStep(**step | {"predicted": tuple(step["predicted"]), "true": tuple(step["true"])}))
                for step in plain["steps"]
            )
            buffer = tuple((loss, tuple(ids)) for loss, ids in plain["buffer"])
            config = checked(GCGConfig(**plain["config"]))
            tuples = {"steps": steps, "buffer": buffer, "config": config, "best_ids": tuple(plain["best_ids"])}
            return checked(cls(**plain | tuples))


@in_default_torch_state
def gcg(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    target: str,
    config: GCGConfig | None = None,
    *,
    match: StateMatch | None = None,
    resume: GCGResult | None = None,
    progress: bool = True,
) -> GCGResult:
    """Search for a suffix to `prompt` after which the model writes `target`; the model's weights are not changed.

    Greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043). The loss is the mean negative log-probability of
    the target's tokens. An interrupt (Ctrl-C, or *interrupt the kernel*) ends the search after the steps done; the
    result can be gone on with. Taught in notebook 06.

    Parameters
    ----------
    model, tokenizer
        the model that is attacked, and its tokenizer.
    prompt
        with ``{suffix}`` where the suffix goes; without, it goes to the end.
    target
        what the model is to write first.
    config
        settings of the search; by default ``GCGConfig()``.
    match
        hidden states that the suffix is to bring back as well, of `states_to_match` on the base model; losses then hold
        their distance too.
    resume
        an earlier result of the same attack: its steps are kept and the search goes on to `config.num_steps`, as if it
        had never stopped.
    progress
        show a bar on anything that takes over five seconds.

    Returns
    -------
    GCGResult
        the best suffix and every step; losses in nats per target token.

    Raises
    ------
    RmuLabError
        if prompt or target is empty, the prompt with its suffix is not tokenised as it was put together, `resume` is of
        another attack, the model's weights are offloaded, its positions too few or its forward pass without
        ``inputs_embeds``, or not even one candidate fits into memory.
    """
    config = config or GCGConfig()
    start = time.perf_counter()
    layout, allowed = _prepare(model, tokenizer, prompt, target, config)
    around = digest([json.dumps([layout.before, layout.after, layout.target])])
    digests = model_digests(model, tokenizer) | {"prompt and target": around}
    if match is not None:
        digests["states to match"] = tensors_digest([(f"{match.layer} {match.weight}", match.states)])
    if resume is not None:
        _check_resume(resume, prompt, target, config, digests, len(layout.suffix))
    with frozen(model):
        loss_of = SuffixLoss(model, layout, prefix_cache=config.prefix_cache, batch_size=config.batch_size, match=match)
        if resume is not None:
            initial_loss = resume.initial_loss
            search = _Search(resume.best_loss, resume.best_ids, resume.matched, resume.buffer, resume.steps)
        else:
            suffixes = [layout.suffix, *_random_suffixes(allowed, len(layout.suffix), config)]
            losses, matches = loss_of(torch.tensor(suffixes))
            initial_loss = losses[0].item()
            buffer = sorted(zip(losses.tolist(), suffixes, strict=True))
            search = _Search(initial_loss, layout.suffix, bool(matches[0]), tuple(buffer), ())
        bar = tqdm(total=config.num_steps, initial=len(search.steps), desc="gcg", unit="step", delay=5, disable=not progress)
        try:
            with bar:
                while len(search.steps) < config.num_steps and not (config.early_stop and search.matched):
                    # One assignment moves state and record together, so that an interrupt never parts them.
                    search = _step(tokenizer, layout, loss_of, allowed, config, search)
                    bar.set_postfix(loss=f"{search.best_loss:.3f}", refresh=False)
                    bar.update()
        except KeyboardInterrupt:
            pass  # the steps done are a result
    return GCGResult(
        prompt=prompt,
        target=target,
        config=config,
        initial_loss=initial_loss,
        best_loss=search.best_loss,
        best_string=decoded(tokenizer, search.best_ids),
        best_ids=search.best_ids,
        matched=search.matched,
        steps=search.steps,
        buffer=search.buffer,
        model_name=model.name_or_path or "",
        provenance=provenance(config.seed),
        seconds=time.perf_counter() - start + (resume.seconds if resume is not None else 0),
        digests=digests,
    )


@dataclass(frozen=True)
class _Search:
    """Where a search stands, and the steps that led there."""

    best_loss: float
    best_ids: tuple[int, ...]
    matched: bool
    buffer: tuple[tuple[float, tuple[int, ...]], ...]
    steps: tuple[GCGStep, ...]


def _step(
    tokenizer: PreTrainedTokenizerBase,
    layout: Layout,
    loss_of: SuffixLoss,
    allowed: Tensor,
    config: GCGConfig,
    search: _Search,
) -> _Search:
    """Take one step, and return where the search stands after it."""
    suffix = torch.tensor(search.buffer[0][1])
    loss, gradient, norm = loss_of.gradient(suffix)
    candidates = sample_candidates(
        suffix, gradient, allowed,
        width=config.search_width, topk=config.topk, n_replace=config.n_replace,
        generator=torch_generator(config.seed, "candidates of a search", len(search.steps)),
    )  # fmt: skip
    if config.filter_ids:
        candidates = candidates[layout.as_text(tokenizer, candidates)]
        if not len(candidates):
            raise RmuLabError(
                "No candidate is tokenised as it was put together; widen search_width or set filter_ids=False."
            )
    losses, matches = loss_of(candidates)
    lowest = int(losses.argmin())
    found = (losses[lowest].item(), tuple(candidates[lowest].tolist()))
    best, matched = ((search.best_loss, search.best_ids), search.matched)
    if found[0] < search.best_loss:
        best, matched = found, bool(matches[lowest])
    buffer = search.buffer
    if config.buffer_size == 0:
        buffer = (found,)
    elif found[0] < buffer[-1][0]:
        buffer = tuple(sorted([*buffer[:-1], found]))
    step = GCGStep(
        loss=loss,
        gradient_norm=norm,
        predicted=tuple(predicted_gains(suffix, gradient, candidates).tolist()),
        true=tuple((loss - losses).tolist()),
        best_loss=best[0],
        suffix=decoded(tokenizer, found[1]),
    )
    return _Search(*best, matched, buffer, (*search.steps, step))


def _prepare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, config: GCGConfig
) -> tuple[Layout, Tensor]:
    require_in_memory(model, "gcg")
    if not takes(model, "inputs_embeds"):
        raise RmuLabError(
            f"{type(model).__name__} takes no inputs_embeds, of which gcg takes gradients; attack a model that does."
        )
    layout = Layout.of(tokenizer, prompt, config.suffix, target, chat_template=config.chat_template)
    check_positions(model, layout.length, "The prompt with suffix and target")
    if config.filter_ids and not layout.as_text(tokenizer, torch.tensor([layout.suffix])).all():
        raise RmuLabError(
            f"The prompt with the suffix {config.suffix!r} is tokenised otherwise as a whole; let the suffix begin with a "
            "space, or set filter_ids=False."
        )
    return layout, allowed_tokens(model, tokenizer)


def _random_suffixes(allowed: Tensor, length: int, config: GCGConfig) -> list[tuple[int, ...]]:
    generator = torch_generator(config.seed, "suffixes that fill the buffer")
    drawn = torch.randint(len(allowed), (max(config.buffer_size - 1, 0), length), generator=generator)
    return [tuple(row) for row in allowed[drawn].tolist()]


def _check_resume(
    resume: GCGResult, prompt: str, target: str, config: GCGConfig, digests: Mapping[str, str], length: int
) -> None:
    free = ("num_steps", "batch_size", "prefix_cache", "early_stop")
    same = [dataclasses.replace(c, **{name: getattr(config, name) for name in free}) for c in (resume.config, config)]
    if (resume.prompt, resume.target) != (prompt, target) or same[0] != same[1]:
        raise RmuLabError(
            f"The attack to go on with has another prompt, target or config; only {', '.join(free)} may differ."
        )
    if changed := [name for name in {**digests, **resume.digests} if resume.digests.get(name) != digests.get(name)]:
        raise RmuLabError(
            f"The attack to go on with is of another {', '.join(changed)}; begin anew, or give what it was of."
        )
    if not resume.buffer or any(len(ids) != length for ids in (resume.best_ids, *(ids for _, ids in resume.buffer))):
        raise RmuLabError(f"The attack to go on with has no suffix of {length} tokens; begin anew.")


@in_default_torch_state
def states_to_match(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    target: str,
    layer: int,
    config: GCGConfig | None = None,
    *,
    weight: float = 1.0,
) -> StateMatch:
    """Keep a model's hidden states where it predicts the target behind the prompt and the suffix that a search starts from.

    Taken from the base model, they are what `gcg` on an unlearned one is to bring back: the enhanced objective of Łucki et
    al. 2024, arXiv 2409.18025. Taught in notebook 06.

    Parameters
    ----------
    prompt, target, config
        as of `gcg`.
    layer
        after which h is compared, such as the steered one.
    weight
        of the distance in the loss.

    Raises
    ------
    RmuLabError
        as of `gcg`, or if the model has no such layer.
    """
    config = config or GCGConfig()
    layout, _ = _prepare(model, tokenizer, prompt, target, config)
    with frozen(model):
        loss_of = SuffixLoss(model, layout, prefix_cache=config.prefix_cache, batch_size=config.batch_size)
        return StateMatch(layer, loss_of.states(layer, torch.tensor(layout.suffix)), weight)


@dataclass(frozen=True)
class SwapGains:
    """What the gradient at one suffix says about single swaps, and what they do."""

    loss: float
    gradient_norm: float
    """||d loss / d e||, e the embeddings of the suffix."""
    predicted: tuple[float, ...]
    true: tuple[float, ...]


def swap_gains(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    target: str,
    config: GCGConfig | None = None,
    *,
    among: Literal["any", "top"] = "any",
    suffix_ids: Sequence[int] | None = None,
) -> SwapGains:
    """Measure predicted and true gains of `config.search_width` random single swaps of the suffix. Taught in notebook 06.

    Parameters
    ----------
    among
        ``"any"``: swaps for any allowed token. ``"top"``: for one of the `config.topk` of largest predicted gain, as GCG
        draws them.
    suffix_ids
        tokens to swap in; by default those of `config.suffix`.

    Returns
    -------
    SwapGains
        gains in nats per target token, one for each swap.

    Raises
    ------
    RmuLabError
        as `gcg`.
    """
    config = config or GCGConfig()
    if among not in get_args(Literal["any", "top"]):
        raise RmuLabError(f"among is {among!r}; use 'any' or 'top'.")
    layout, allowed = _prepare(model, tokenizer, prompt, target, config)
    suffix = torch.tensor(layout.suffix if suffix_ids is None else suffix_ids)
    with frozen(model):
        loss_of = SuffixLoss(model, layout, prefix_cache=config.prefix_cache, batch_size=config.batch_size)
        loss, gradient, norm = loss_of.gradient(suffix)
        candidates = sample_candidates(
            suffix, gradient, allowed,
            width=config.search_width, topk=len(allowed) if among == "any" else config.topk, n_replace=1,
            generator=torch_generator(config.seed, "single swaps to compare"),
        )  # fmt: skip
        losses, _ = loss_of(candidates)
    predicted = predicted_gains(suffix, gradient, candidates)
    return SwapGains(loss, norm, tuple(predicted.tolist()), tuple((loss - losses).tolist()))

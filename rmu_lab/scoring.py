"""Log-probabilities of options after their prompts: many at once where a model lets that be, else one by one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from .activations import evaluating
from .errors import RmuLabError
from .models import check_positions, input_device, last_logits, position_limit
from .tokens import check_known


def score_batch(model: PreTrainedModel, prompts: list[list[int]], options: list[list[list[int]]]) -> list[list[float]]:
    """Summed log-probability of every option of every question in one batch."""
    ways = _ways(model)
    if ways.rows and max(map(row_length, prompts, options)) <= _row_limit(model):
        return score_in_rows(model, prompts, options)
    return (score_from_caches if ways.prompts else score_alone)(model, prompts, options)


def row_length(prompt: list[int], options: list[list[int]]) -> int:
    """Tokens to run for one question: its prompt once, and each option but its last token, whose successor nobody asks."""
    return len(prompt) + sum(len(option) - 1 for option in options)


def check_fit(model: PreTrainedModel, prompts: list[list[int]], options: list[list[list[int]]]) -> None:
    """Raise `RmuLabError` if a question is longer with an option than the model can take, or in tokens unknown to it."""
    check_known(model, itertools.chain(*prompts, *itertools.chain(*options)))
    for index, (prompt, endings) in enumerate(zip(prompts, options, strict=True)):
        check_positions(model, len(prompt) + max(map(len, endings)), f"questions[{index}] with its longest option")


@dataclass(frozen=True)
class _Ways:
    """In which ways a model gives the same scores as one plain pass for each option."""

    prompts: bool
    """From prompts padded to one length, with options that go on from their cache (`score_from_caches`)."""
    rows: bool
    """From one row for each question, in which the options do not see one another (`score_in_rows`)."""


_FOUND: WeakKeyDictionary[PreTrainedModel, _Ways] = WeakKeyDictionary()
_PROBE = [[17, 5, 11], [7, 19, 3, 13, 5, 2, 11, 3]], [[[5, 3], [13, 7, 2, 5]], [[3], [2, 11, 7]]]
"""Prompts of unequal lengths, with options of one and several tokens."""


def shares_prompts(model: PreTrainedModel) -> bool:
    """Say whether prompts may be padded and options go on from the cache of their prompt; found out once for a model.

    That takes a model which goes by the positions it is given, leaves padding out, and returns a cache to go on from.
    Recurrent models and some others do not, so a few tokens are scored in every way.

    Raises
    ------
    RmuLabError
        if what the model predicts depends on later tokens.
    """
    return _ways(model).prompts


def _ways(model: PreTrainedModel) -> _Ways:
    if model in _FOUND:
        return _FOUND[model]
    with torch.inference_mode(), evaluating(model):
        whole = torch.tensor(_PROBE[0][1:], device=input_device(model))
        ours, again, begun = (_logits(model, ids)[:4] for ids in (whole, whole, whole[:, :4]))
        if differ(model, ours, again):  # someone puts noise into it, so that nothing can be found out
            return _Ways(prompts=True, rows=False)
        if differ(model, ours, begun):
            raise RmuLabError(
                f"What {type(model).__name__} predicts depends on later tokens, so it gives texts no probability; use a "
                "causal language model."
            )
        alone = torch.tensor(list(itertools.chain(*score_alone(model, *_PROBE))))
        same = {}
        for way in (score_from_caches, score_in_rows):
            try:
                found = torch.tensor(list(itertools.chain(*way(model, *_PROBE))))
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
                found = torch.full_like(alone, float("inf"))
            same[way] = not differ(model, alone, found)
    _FOUND[model] = _Ways(prompts=same[score_from_caches], rows=same[score_in_rows])
    return _FOUND[model]


def _row_limit(model: PreTrainedModel) -> float:
    """Tokens that a row of several options may have: past a sliding window or chunk, distances within it would count."""
    settings = model.config.get_text_config(decoder=True)
    windows = (getattr(settings, name, None) for name in _WINDOWS)
    return min([position_limit(model), *(size for size in windows if isinstance(size, int) and size > 0)])


_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention")
"""What configurations call the number of tokens that a token sees at most."""


def differ(model: PreTrainedModel, ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Say whether numbers differ by more than rounding in the model's type makes them."""
    tolerance = 1e-3 if model.dtype.itemsize >= 4 else 2e-2
    return bool((ours - theirs).norm() > tolerance * ours.norm())  # not if the model gives numbers that are not finite


def score_alone(model: PreTrainedModel, prompts: list[list[int]], options: list[list[list[int]]]) -> list[list[float]]:
    """The same by one pass for each option, with its prompt, and nothing else: right for every causal model."""
    return [[_log_probability(model, prompt, option) for option in endings]
            for prompt, endings in zip(prompts, options, strict=True)]  # fmt: skip


def _log_probability(model: PreTrainedModel, prompt: list[int], option: list[int]) -> float:
    ids = torch.tensor([prompt + option], device=input_device(model))
    logits = _logits(model, ids[:, :-1])[-len(option) :]
    picked = logits.gather(-1, ids[0, -len(option) :, None].to(logits.device))[:, 0]
    return (picked - logits.logsumexp(dim=-1)).sum().item()


def _logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) float32, from one plain pass."""
    return model(input_ids=ids, use_cache=False).logits[0].float()


def score_from_caches(model: PreTrainedModel, prompts: list[list[int]], options: list[list[list[int]]]) -> list[list[float]]:
    """The same with the prompts padded to one length, each run once, and the options going on from its cache."""
    device = input_device(model)
    longest = max(map(len, prompts))
    # Padding on the left, so that every option continues right after its prompt's last token.
    ids = torch.stack([pad(torch.tensor(prompt), (longest - len(prompt), 0)) for prompt in prompts]).to(device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    mask = (torch.arange(longest, device=device) >= (longest - lengths)[:, None]).long()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    last = last_logits(model, 1)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **last)

    owner = torch.tensor([q for q, endings in enumerate(options) for _ in endings], device=device)  # question of each row
    rows = [ending for endings in options for ending in endings]
    first = torch.tensor([option[0] for option in rows], device=device)
    totals = output.logits[:, -1].float().log_softmax(dim=-1)[owner, first]

    for group in _width_groups([len(option) - 1 for option in rows]):
        owners, rest = owner[group], [rows[row] for row in group]
        width = max(map(len, rest))
        tokens = torch.stack([pad(torch.tensor(option), (0, width - len(option))) for option in rest]).to(device)
        real = torch.arange(width, device=device) < torch.tensor([len(option) for option in rest], device=device)[:, None]
        cache = copy.deepcopy(output.past_key_values)
        cache.batch_select_indices(owners)
        logits = model(
            input_ids=tokens[:, :-1],
            attention_mask=torch.cat([mask[owners], real[:, :-1].long()], dim=1),
            position_ids=lengths[owners][:, None] + torch.arange(width - 1, device=device),
            past_key_values=cache,
        ).logits.float()  # (options, width - 1, vocabulary)
        following = tokens[:, 1:, None]
        log_probabilities = logits.gather(-1, following)[..., 0] - logits.logsumexp(dim=-1)
        totals[group] += (log_probabilities * real[:, 1:]).sum(dim=1)
    values = iter(totals.tolist())
    return [[next(values) for _ in endings] for endings in options]


def score_in_rows(model: PreTrainedModel, prompts: list[list[int]], options: list[list[list[int]]]) -> list[list[float]]:
    """The same in one pass: each question a row of its prompt and then its options, which see the prompt and themselves.

    Four short options make rows of nearly equal lengths, so that hardly anything is padded, no cache is copied, and
    the products have more rows. Logits are made only where a token of an option follows.
    """
    device = input_device(model)
    rows = _laid_out(prompts, options)
    visible = (rows.parts[:, None, :] == 0) | (rows.parts[:, None, :] == rows.parts[:, :, None])
    hidden = ~visible.tril()
    mask = torch.zeros(hidden.shape, dtype=model.dtype).masked_fill_(hidden, torch.finfo(model.dtype).min)
    places, place_of = rows.places.unique(return_inverse=True)
    with _only_at(model, places):
        logits = model(
            input_ids=rows.ids.to(device),
            attention_mask=mask[:, None].to(device),
            position_ids=rows.positions.to(device),
            use_cache=False,
        ).logits
    if logits.shape[:2] == rows.ids.shape:  # the model's head was out of reach
        logits = logits.flatten(0, 1)[places.to(logits.device)][None]
    logits = logits[0].float()  # (places, vocabulary)
    place_of, following, owners = (index.to(logits.device) for index in (place_of, rows.following, rows.owners))
    log_probabilities = logits[place_of, following] - logits.logsumexp(dim=-1)[place_of]
    totals = log_probabilities.new_zeros(sum(map(len, options))).index_add_(0, owners, log_probabilities)
    values = iter(totals.tolist())
    return [[next(values) for _ in endings] for endings in options]


@dataclass(frozen=True)
class _Rows:
    """Questions as rows of a batch, (questions, tokens), and where in it, flattened, the tokens of options follow."""

    ids: torch.Tensor
    positions: torch.Tensor
    parts: torch.Tensor  # of each token: 0 prompt, 1, 2, ... options, -1 padding
    places: torch.Tensor  # (tokens of all options,): the place before each
    following: torch.Tensor  # (tokens of all options,): the token itself
    owners: torch.Tensor  # (tokens of all options,): number of its option


def _laid_out(prompts: list[list[int]], options: list[list[list[int]]]) -> _Rows:
    width = max(map(row_length, prompts, options))
    ids, positions, parts = (torch.full((len(prompts), width), empty) for empty in (0, 0, -1))
    places: list[int] = []
    owners: list[int] = []
    count = itertools.count()
    for row, (prompt, endings) in enumerate(zip(prompts, options, strict=True)):
        n = len(prompt)
        tokens, steps, part = list(prompt), list(range(n)), [0] * n
        for number, ending in enumerate(endings, start=1):
            places += [row * width + place for place in (n - 1, *range(len(tokens), len(tokens) + len(ending) - 1))]
            owners += [next(count)] * len(ending)
            tokens += ending[:-1]
            steps += range(n, n + len(ending) - 1)
            part += [number] * (len(ending) - 1)
        for table, values in ((ids, tokens), (positions, steps), (parts, part)):
            table[row, : len(values)] = torch.tensor(values)
    following = list(itertools.chain(*itertools.chain(*options)))
    return _Rows(ids, positions, parts, torch.tensor(places), torch.tensor(following), torch.tensor(owners))


@contextmanager
def _only_at(model: PreTrainedModel, places: torch.Tensor) -> Iterator[None]:
    """Let the model's head see, inside the ``with`` block, only the hidden states at these places of the flattened batch."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _head, args: (args[0].flatten(0, 1)[places.to(args[0].device)][None],))
    try:
        yield
    finally:
        hook.remove()


def _width_groups(widths: Sequence[int]) -> list[list[int]]:
    """Rows in one or two groups of similar width, without those of width 0, so that the least is padded."""
    order = sorted((row for row, width in enumerate(widths) if width > 0), key=widths.__getitem__)
    if not order:
        return []
    widest = widths[order[-1]]
    cut = max(range(len(order)), key=lambda n: n * (widest - widths[order[n - 1]]))  # tokens that a cut after n rows saves
    return [group for group in (order[:cut], order[cut:]) if group]

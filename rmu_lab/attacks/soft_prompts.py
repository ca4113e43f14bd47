"""Free embeddings behind a prompt: the strongest thing that can be said to a model whose weights one holds.

Schwinn et al. 2024, arXiv 2402.09063. A suffix of real tokens is searched for step by step; if its embeddings may be any
vectors, gradient descent finds them. So free a suffix makes a model write what it never knew as well, and a written target
shows no knowledge: what counts is whether the truth comes more easily than other texts, and whether a suffix that was
trained on some questions helps with others. Taught in notebook 06.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import frozen
from ..errors import NotFiniteError, RmuLabError
from ..evaluate import Accuracy, chosen_options, question_tokens, split_options, token_scores
from ..models import check_positions, input_device
from ..offload import require_in_memory
from ..randomness import python_random, torch_generator
from ..scoring import check_fit
from ..tokens import padded
from ..torch_state import in_default_torch_state
from .controls import Recovery
from .subject import DEFAULT_BUDGET, Budget, Subject


@dataclass(frozen=True)
class SoftPromptConfig:
    """Settings of soft prompts. Taught in notebook 06.

    Raises
    ------
    RmuLabError
        at construction, if a value is not positive.
    """

    n_tokens: int = 8
    """Free embeddings behind the prompt."""
    steps: int = 80
    lr: float = 0.3
    """Adam's learning rate, in units of the root mean square of an embedding's entries."""
    batch_size: int = 8
    """Prompts run at once; of a prompt that is shared, those of one step."""
    seed: int = 0
    """Draws the tokens whose embeddings a soft prompt starts from, and the order of the prompts."""

    def __post_init__(self) -> None:
        for name in ("n_tokens", "steps", "lr", "batch_size"):
            if not getattr(self, name) > 0:
                raise RmuLabError(f"{name} is {getattr(self, name)}; it must be positive.")


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """Trained embeddings, float32 on the CPU."""

    vectors: Tensor
    """(n_tokens, d), shared by all prompts; or (prompts, n_tokens, d), one for each."""
    losses: Tensor
    """Before each step: the mean over its batch, (steps,); or of each prompt, (steps, prompts). Nats per target token."""


def train_soft_prompt(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    targets: Sequence[str],
    config: SoftPromptConfig | None = None,
    *,
    shared: bool = False,
    progress: bool = True,
) -> SoftPrompt:
    """Train embeddings behind prompts until the model writes the targets; its weights are not changed.

    For a prompt x, its target y and free embeddings e, Adam minimises the mean of -log p(y_i | x, e, y_<i) over the
    target's tokens (Schwinn et al. 2024, arXiv 2402.09063). Taught in notebook 06.

    Parameters
    ----------
    model, tokenizer
        the model that is attacked, and its tokenizer.
    prompts, targets
        what stands before the embeddings, and what the model is to write behind them: a target for each prompt.
    config
        by default ``SoftPromptConfig()``.
    shared
        train one soft prompt for all prompts, a batch of them at each step, and not one for each.
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if there are no prompts or not as many targets, a target has no token, one does not fit into the model, or weights
        are offloaded.
    NotFiniteError
        if a loss is not finite.
    """
    config = config or SoftPromptConfig()
    if not prompts or len(prompts) != len(targets):
        raise RmuLabError(f"There are {len(prompts)} prompts and {len(targets)} targets; give one target for each prompt.")
    pairs = [split_options(tokenizer, prompt, [target]) for prompt, target in zip(prompts, targets, strict=True)]
    for index, (ids, (target,)) in enumerate(pairs):
        if not ids or not target:
            raise RmuLabError(f"prompts[{index}] or its target has no token; put some text there.")
    return _trained(model, [ids for ids, _ in pairs], [target for _, (target,) in pairs], config, shared, progress)


@in_default_torch_state
def _trained(
    model: PreTrainedModel,
    prompts: list[list[int]],
    targets: list[list[int]],
    config: SoftPromptConfig,
    shared: bool,
    progress: bool,
) -> SoftPrompt:
    require_in_memory(model, "a soft prompt")
    check_fit(model, prompts, [[target] for target in targets])
    for prompt, target in zip(prompts, targets, strict=True):
        check_positions(model, len(prompt) + config.n_tokens + len(target), "A prompt with embeddings and target")
    place = unused_token(model, itertools.chain(*prompts, *targets))
    rows = [prompt + [place] * config.n_tokens + target for prompt, target in zip(prompts, targets, strict=True)]
    start = _start(model, config)
    vectors = start.clone() if shared else start.repeat(len(rows), 1, 1)
    vectors.requires_grad_(True)
    optimizer = torch.optim.Adam([vectors], lr=config.lr * start.square().mean().sqrt().item())
    dealt = _dealt(len(rows), config) if shared else None
    record = []
    bar = tqdm(range(config.steps), desc="soft prompt", unit="step", delay=5, disable=not progress)
    with frozen(model):
        for _ in bar:
            order = next(dealt) if dealt else list(range(len(rows)))
            losses = torch.empty(len(order))
            for first in range(0, len(order), config.batch_size):
                chosen = order[first : first + config.batch_size]
                own = vectors if shared else vectors[chosen]
                with torch.enable_grad(), embedded(model, own, place):
                    batch = _losses(model, [rows[at] for at in chosen], [len(targets[at]) for at in chosen])
                    (batch.mean() if shared else batch.sum()).backward()
                losses[first : first + len(chosen)] = batch.detach().cpu()
            if not losses.isfinite().all():
                raise NotFiniteError(
                    "The loss of a soft prompt is not finite: the model is broken; use float32 or bfloat16."
                )
            optimizer.step()
            optimizer.zero_grad()
            record.append(losses.mean() if shared else losses)
    return SoftPrompt(vectors.detach().cpu(), torch.stack(record))


def _dealt(n: int, config: SoftPromptConfig) -> Iterator[list[int]]:
    """Batches of prompts, dealt in random order, and dealt again when they run out."""
    source = python_random(config.seed, "order of a soft prompt's questions")
    hand: list[int] = []
    while True:
        while len(hand) < min(config.batch_size, n):
            hand += source.sample(range(n), n)
        batch, hand = hand[: config.batch_size], hand[config.batch_size :]
        yield batch


@torch.no_grad()
def _start(model: PreTrainedModel, config: SoftPromptConfig) -> Tensor:
    """Embeddings of tokens drawn at random, as the model reads them: (n_tokens, d) float32."""
    embed = model.get_input_embeddings()
    generator = torch_generator(config.seed, "tokens that a soft prompt starts from")
    drawn = torch.randint(len(embed.get_parameter("weight")), (config.n_tokens,), generator=generator)
    return embed(drawn.to(input_device(model))).float()  # through the module, because some families scale them there


def _losses(model: PreTrainedModel, rows: list[list[int]], lengths: list[int]) -> Tensor:
    """Mean negative log-probability of the last tokens of each row, as many as `lengths` says: (rows,) in nats."""
    ids, mask = (part.to(input_device(model)) for part in padded(rows, 0, "right"))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    places = torch.arange(ids.shape[1], device=ids.device)
    ends = mask.sum(dim=1)
    asked = (places < ends[:, None]) & (places >= (ends - torch.tensor(lengths, device=ids.device))[:, None])
    row, place = asked.nonzero(as_tuple=True)
    log_p = logits[row, place - 1].float().log_softmax(dim=-1).gather(-1, ids[row, place][:, None])[:, 0]
    return -log_p.new_zeros(len(rows)).index_add_(0, row, log_p) / asked.sum(dim=1)


def unused_token(model: PreTrainedModel, used: Iterable[int]) -> int:
    """Return the highest token of the vocabulary that stands nowhere in prompts: it marks the place of embeddings."""
    taken = set(used)
    return next(at for at in reversed(range(len(model.get_input_embeddings().get_parameter("weight")))) if at not in taken)


@contextmanager
def embedded(model: PreTrainedModel, vectors: Tensor, place: int) -> Iterator[None]:
    """Let the model read free embeddings, inside the ``with`` block, where the token `place` stands.

    Parameters
    ----------
    vectors
        (n, d), or (rows, n, d) for each row of a batch: the first in place of a row's first such token, and so on.
    place
        a token that prompts hold nowhere else.
    """

    def hook(_embed: nn.Module, args: tuple, output: Tensor) -> Tensor:
        found = args[0] == place  # (rows, tokens)
        if not found.any():  # tokens that go on from a cache
            return output
        which = (found.cumsum(dim=1) - 1).clamp(0, vectors.shape[-2] - 1)
        own = vectors.to(output.device, output.dtype)
        own = own[which] if own.ndim == 2 else own.gather(1, which[..., None].expand(-1, -1, own.shape[-1]))
        return torch.where(found[..., None], own, output)

    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def soft_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Mapping[str, Any]],
    vectors: Tensor,
    *,
    progress: bool = True,
) -> Accuracy:
    """Score questions, cloze style, with free embeddings between each prompt and its options.

    Parameters
    ----------
    questions
        as `accuracy` takes them.
    vectors
        (n, d), such as those of a shared `SoftPrompt`.

    Raises
    ------
    RmuLabError
        as of `accuracy`.
    """
    prompts, options = question_tokens(tokenizer, questions)
    place = unused_token(model, itertools.chain(*prompts, *itertools.chain(*options)))
    with embedded(model, vectors, place):
        longer = [prompt + [place] * len(vectors) for prompt in prompts]
        return chosen_options(token_scores(model, longer, options, progress=progress), questions, "cloze")


def soft_prompt(subject: Subject, budget: Budget = DEFAULT_BUDGET, config: SoftPromptConfig | None = None) -> Recovery:
    """Train one soft prompt on the answers to other questions. Controls: wrong answers, and the base model.

    It is trained on the right answers to the subject's `dev_questions` and asked the subject's questions, whose answers it
    has not seen, so that what it brings back was there. Controls: ``wrong answers`` trains on one of each question's wrong
    options instead, with the same unlearned model; ``base model`` trains one for that model.
    Schwinn et al. 2024, arXiv 2402.09063. Taught in notebook 06.

    Parameters
    ----------
    subject
        the edit under attack, with `dev_questions`.
    budget
        its seed draws the embeddings to start from, the order of the questions, and the wrong options.
    config
        by default ``SoftPromptConfig()``; its seed is the budget's.

    Returns
    -------
    Recovery
        with details of the settings, ``questions`` (how many it is trained on) and ``losses`` of the attack's first and
        last step, in nats per token.

    Raises
    ------
    RmuLabError
        if there are no dev questions, or a question or the edit does not fit.
    """
    subject.require("dev_questions")
    config = replace(config or SoftPromptConfig(), seed=budget.seed)
    model, reference, start = subject.model, subject.reference, time.perf_counter()
    source = python_random(budget.seed, "wrong answers that a soft prompt is trained on")
    right = [row["answer"] for row in subject.dev_questions]
    wrong = [
        source.choice([at for at in range(len(row["choices"])) if at != row["answer"]]) for row in subject.dev_questions
    ]
    prompts, options = question_tokens(subject.tokenizer, subject.dev_questions)

    def trained(answers: list[int]) -> tuple[Accuracy, list[float]]:
        targets = [options_of[at] for options_of, at in zip(options, answers, strict=True)]
        found = _trained(model, prompts, targets, config, True, budget.progress)
        score = soft_accuracy(model, subject.tokenizer, subject.questions, found.vectors, progress=budget.progress)
        return score, [found.losses[0].item(), found.losses[-1].item()]

    with subject.unlearned():
        attacked, losses = trained(right)
        misled, _ = trained(wrong)
    base, _ = trained(right)
    return Recovery(
        attack="soft prompt",
        start=reference.unlearned,
        attacked=attacked,
        controls={"wrong answers": (reference.unlearned, misled), "base model": (reference.base, base)},
        details=asdict(config) | {"questions": len(subject.dev_questions), "losses": losses},
        generations=(),
        seconds=time.perf_counter() - start,
    )


def soft_prompt_each(subject: Subject, budget: Budget = DEFAULT_BUDGET, config: SoftPromptConfig | None = None) -> Recovery:
    """Train a soft prompt for every option of every question, and choose the option that comes most easily.

    With free embeddings a model can be made to write any option, right or wrong, so that the right one's being written
    shows nothing. Here all options of a question are trained for in the same number of steps from the same start, and the
    chosen one has the smallest loss per character on average over the steps: the right one, if the model still leans to
    it, and one of them by chance if not. Control: the base model. Taught in notebook 06.

    Parameters
    ----------
    subject
        the edit under attack.
    budget
        its seed draws the embeddings to start from.
    config
        by default ``SoftPromptConfig()``; its seed is the budget's.

    Returns
    -------
    Recovery
        with details of the settings, and ``last losses``: the mean loss at the last step, in nats per token, of right
        options and of wrong ones.

    Raises
    ------
    RmuLabError
        if a question or the edit does not fit.
    """
    config = replace(config or SoftPromptConfig(), seed=budget.seed)
    reference, start = subject.reference, time.perf_counter()
    prompts, options = question_tokens(subject.tokenizer, subject.questions)
    owners = [at for at, endings in enumerate(options) for _ in endings]
    endings = list(itertools.chain(*options))

    def chosen() -> tuple[Accuracy, list[float]]:
        found = _trained(subject.model, [prompts[at] for at in owners], endings, config, False, budget.progress)
        ease = iter((-found.losses.mean(dim=0) * torch.tensor([len(ending) for ending in endings])).tolist())
        last = iter(found.losses[-1].tolist())
        scores = [[next(ease) for _ in each] for each in options]
        ends = [[next(last) for _ in each] for each in options]
        right = [of[row["answer"]] for of, row in zip(ends, subject.questions, strict=True)]
        others = (sum(map(sum, ends)) - sum(right)) / (len(endings) - len(right))
        return chosen_options(scores, subject.questions, "cloze"), [sum(right) / len(right), others]

    with subject.unlearned():
        attacked, ends = chosen()
    control, _ = chosen()
    return Recovery(
        attack="soft prompt for each question",
        start=reference.unlearned,
        attacked=attacked,
        controls={"base model": (reference.base, control)},
        details=asdict(config) | {"last losses": ends},
        generations=(),
        seconds=time.perf_counter() - start,
    )

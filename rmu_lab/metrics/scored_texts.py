"""What a model gives each token of a text, from which most metrics are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import evaluating
from ..errors import NotFiniteError, RmuLabError
from ..evaluate import split_options
from ..models import input_device
from ..scoring import check_fit
from ..tokens import open_tokens, padded
from ..torch_state import in_default_torch_state


@dataclass(frozen=True, eq=False)
class ScoredText:
    """One text after its prompt, token by token: (tokens,) float32 on the CPU."""

    text: str
    log_probs: Tensor
    """Of each token, given all before it; natural logarithm."""
    greedy: Tensor
    """Whether it is the model's likeliest token there; bool."""
    expected: Tensor
    """Mean of log p(v) over tokens v that the model itself would draw there: the negative entropy."""
    spread: Tensor
    """Standard deviation of log p(v) over the same."""

    @property
    def loss(self) -> float:
        """Mean negative log-probability, in nats a token."""
        return -self.log_probs.mean().item()

    @property
    def probability(self) -> float:
        """p(text)^(1 / tokens), the geometric mean of its tokens' probabilities."""
        return self.log_probs.mean().exp().item()


@in_default_torch_state
def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
    *,
    batch_size: int = 8,
    max_length: int = 256,
    progress: bool = True,
) -> list[ScoredText]:
    """Score texts token by token, each after its prompt if there are prompts.

    Taught in notebook 11.

    Parameters
    ----------
    texts
        answers, which follow their prompts after what stands there (begin them with a blank), or whole passages.
    prompts
        one for each text; None: the texts stand alone, and the first token of each, which follows nothing, is not scored.
    batch_size
        texts run at once.
    max_length
        tokens after which a text that stands alone is cut.

    Raises
    ------
    RmuLabError
        if there are no texts or not as many prompts, or a text has no token to score.
    NotFiniteError
        if a model gives numbers that are not finite.
    """
    if not texts or (prompts is not None and len(prompts) != len(texts)):
        given = "" if prompts is None else f" and {len(prompts)} prompts"
        raise RmuLabError(f"There are {len(texts)} texts{given}; give at least one text, and a prompt for each or none.")
    if prompts is None:
        whole = [ids[:max_length] for ids in open_tokens(tokenizer, texts)]
        rows = [(ids[:1], ids[1:]) for ids in whole]
    else:
        rows = [
            (ids, end) for ids, (end,) in (split_options(tokenizer, p, [t]) for p, t in zip(prompts, texts, strict=True))
        ]
    for index, (before, scored) in enumerate(rows):
        if not texts[index] or not before or not scored:
            raise RmuLabError(f"texts[{index}] is {texts[index]!r}, of which no token can be scored; give a longer one.")
    check_fit(model, [before for before, _ in rows], [[scored] for _, scored in rows])
    order = sorted(range(len(rows)), key=lambda at: len(rows[at][0]) + len(rows[at][1]))
    found: list[ScoredText | None] = [None] * len(rows)
    bar = tqdm(total=len(rows), desc="texts", unit="text", delay=5, disable=not progress)
    with evaluating(model), torch.inference_mode(), bar:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            for at, one in zip(
                chosen, _scored(model, [rows[at] for at in chosen], [texts[at] for at in chosen]), strict=True
            ):
                found[at] = one
            bar.update(len(chosen))
    return [one for one in found if one is not None]


def _scored(model: PreTrainedModel, rows: list[tuple[list[int], list[int]]], texts: list[str]) -> list[ScoredText]:
    ids, mask = (part.to(input_device(model)) for part in padded([before + text for before, text in rows], 0, "right"))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    found = []
    for place, ((before, scored), text) in enumerate(zip(rows, texts, strict=True)):
        log_p = logits[place, len(before) - 1 : len(before) + len(scored) - 1].float().log_softmax(dim=-1)
        if not log_p.isfinite().any(dim=-1).all() or log_p.isnan().any():
            raise NotFiniteError(f"The model's numbers for {text[:40]!r} are not finite: it is broken, not unlearned.")
        target, p = torch.tensor(scored, device=log_p.device), log_p.exp()
        expected = (p * log_p).nansum(dim=-1)  # p log p is 0 where p is
        variance = ((p * log_p.square()).nansum(dim=-1) - expected.square()).clamp(min=0)
        own = log_p.gather(-1, target[:, None])[:, 0]
        parts = (own, log_p.argmax(dim=-1) == target, expected, variance.sqrt())
        found.append(ScoredText(text, *(part.cpu().clone() for part in parts)))
    return found

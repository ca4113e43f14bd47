"""How sure a model is of the next token: in texts that it is given (teacher-forced), and in answers that it generates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from scipy.stats import kurtosis
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import evaluating
from ..corpora import token_batches
from ..estimates import Number, mean_of
from ..models import input_device
from .plots import distributions, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..generation import MaxLogits
    from ..unlearning.result import UnlearnResult

MEASURES = ("MaxLogit", "largest probability", "entropy")


@dataclass(frozen=True)
class Confidence:
    """Three measures of confidence at every token of some texts but the first of each."""

    values: Tensor
    """(3, tokens): MaxLogit, the largest probability, and the entropy in nats."""
    text: Tensor
    """(tokens,) index of the text."""

    def of(self, measure: str) -> Tensor:
        """One of `MEASURES` at every token."""
        return self.values[MEASURES.index(measure)]

    def by_text(self) -> Tensor:
        """(3, texts) means over the tokens of each text."""
        return torch.stack([self.values[:, self.text == index].mean(dim=1) for index in self.text.unique()], dim=1)

    def change_to(self, after: Confidence) -> dict[str, Number]:
        """By how much each measure is larger in `after`, of the same texts: the mean over texts with its 95% interval."""
        changes = after.by_text() - self.by_text()
        return {name: mean_of(row.tolist(), "texts") for name, row in zip(MEASURES, changes, strict=True)}


@torch.no_grad()
def given_confidence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int = 64,
    batch_size: int = 8,
) -> Confidence:
    """Measure the next-token distribution at every token of the texts but the first of each. Used in notebook 02.

    Parameters
    ----------
    max_length
        tokens after which a text is cut.
    batch_size
        texts run at once.
    """
    values, text = [], []
    for index, batch in enumerate(token_batches(tokenizer, texts, batch_size, max_length)):
        batch = batch.to(input_device(model))
        with evaluating(model):
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        counted = batch.counted()
        values.append(_measures(logits[counted].float()).cpu())
        text.append(counted.nonzero()[:, 0].cpu() + index * batch_size)
    return Confidence(torch.cat(values, dim=1), torch.cat(text))


def _measures(logits: Tensor) -> Tensor:
    """`MEASURES` of each row of logits, (tokens, V): (3, tokens)."""
    log_p = logits.log_softmax(dim=-1)
    p = log_p.exp()
    return torch.stack([logits.amax(dim=-1), p.amax(dim=-1), -(p * log_p).sum(dim=-1)])


def over_prompts(
    statistic: Callable[..., float], *tables: Tensor | np.ndarray, draws: int = 2000, seed: int = 0, over: str = "questions"
) -> Number:
    """Compute a statistic of tables of (prompts, tokens) with its 95% interval over prompts, by a paired bootstrap.

    An answer is drawn or left out whole, in all tables at once, because its tokens are no independent samples. Used in
    notebook 02.

    Parameters
    ----------
    statistic
        from tables, NaN where a text had ended, to a number; such as ``lambda a, b: np.nanmean(b) - np.nanmean(a)``.
    """
    arrays = [np.asarray(table, dtype=float) for table in tables]
    n, random = len(arrays[0]), np.random.default_rng(seed)
    chosen = random.integers(n, size=(draws, n))
    found = [float(statistic(*(array[rows] for array in arrays))) for rows in chosen]
    low, high = np.quantile(found, [0.025, 0.975])
    return Number(float(statistic(*arrays)), float(low), float(high), n, over)


def as_chat(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[str]:
    """Write questions as the model was tuned to read them, with its chat template.

    Without it this course's small model often ends its answer before the first word. Used in notebook 02.
    """
    return [
        str(tokenizer.apply_chat_template([{"role": "user", "content": one}], tokenize=False, add_generation_prompt=True))
        for one in questions
    ]


def written_changes(before: MaxLogits, after: MaxLogits) -> dict[str, Number]:
    """Compare what two models generated for the same questions, all tokens pooled, with intervals over questions."""

    def rise(b: np.ndarray, a: np.ndarray) -> float:
        return float(np.nanmean(a) - np.nanmean(b))

    def tails(values: np.ndarray) -> float:
        return float(kurtosis(values[~np.isnan(values)]))

    return {
        "change of mean MaxLogit": over_prompts(rise, before.logit, after.logit),
        "its standard deviation, unlearned / base": over_prompts(
            lambda b, a: float(np.nanstd(a) / np.nanstd(b)), before.logit, after.logit
        ),
        "its excess kurtosis, base": over_prompts(tails, before.logit),
        "its excess kurtosis, unlearned": over_prompts(tails, after.logit),
        "change of mean largest probability": over_prompts(rise, before.probability, after.probability),
    }


def base_and_unlearned(
    panels: Mapping[str, tuple[Any, Any]], *, title: str, xlabel: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Show histograms of the base model's and the unlearned model's values, a panel for each key; told in words as well."""
    values = {name: [np.ravel(np.asarray(part, dtype=float)) for part in pair] for name, pair in panels.items()}
    series = {
        name: {"base": ("frozen", [*one]), "unlearned": ("steered", [*other])} for name, (one, other) in values.items()
    }
    figure = distributions(series, title=title, xlabel=xlabel, limits=limits, median_height=0.72)
    words = (
        f"{name}: the base model's median is {_described(one)}, the unlearned model's {_described(other)}."
        for name, (one, other) in values.items()
    )
    show(figure, alt=f"Histograms of {xlabel}. {' '.join(words)}")
    return figure


def _described(values: np.ndarray) -> str:
    low, middle, high = np.nanquantile(values, (0.05, 0.5, 0.95))
    return f"{middle:.3g}, with nine tenths between {low:.3g} and {high:.3g}"


Found = TypeVar("Found")


def before_and_after(model: PreTrainedModel, result: UnlearnResult, measure: Callable[[], Found]) -> tuple[Found, Found]:
    """Measure something of the base model, and then of the unlearned one; afterwards the model is the base model again."""
    before = measure()
    with result.applied(model):
        return before, measure()


@torch.no_grad()
def given_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int = 64
) -> Tensor:
    """Return the logits at every token of the texts but the first of each, (tokens, V); text after text."""
    (batch,) = token_batches(tokenizer, texts, len(texts), max_length)
    batch = batch.to(input_device(model))
    with evaluating(model):
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.counted()].float().cpu()


def correlations(logits: Tensor, with_these: Tensor) -> Tensor:
    """Correlate each row of logits, (tokens, V), with one vector of them over the vocabulary: (tokens,)."""
    rows, one = logits - logits.mean(dim=-1, keepdim=True), with_these - with_these.mean()
    return torch.nn.functional.cosine_similarity(rows, one, dim=-1)


def mean_entropy(logits: Tensor) -> Tensor:
    """Average over rows of logits, (tokens, V), the entropy of the next token in nats."""
    return _measures(logits)[MEASURES.index("entropy")].mean()

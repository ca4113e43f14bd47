"""`teach`: a model that knows invented facts, in chosen layers, as an edit like any other. Taught in notebook 11.

What was taught above the layers that an unlearning method edits cannot be erased there, only hidden. So where a fact lies is
known by construction, and what an unlearned model still holds can be told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from ..errors import RmuLabError
from ..models import decoder_blocks
from .teach_method import Teach
from .unlearn import unlearn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .batches import Texts
    from .result import UnlearnResult

Where: TypeAlias = Literal["window", "above", "everywhere"]
"""Layers that are taught: those that RMU edits, l-2 to l; those above l; all."""


def layers_to_teach(model: PreTrainedModel, where: Where | Sequence[int], layer: int) -> tuple[int, ...] | None:
    """Return the layers of a place, for an unlearning method that steers `layer`.

    Raises
    ------
    RmuLabError
        if there is no such place, or the model has no layers there.
    """
    if not isinstance(where, str):
        return tuple(where)
    if where not in get_args(Where):
        raise RmuLabError(f"where is {where!r}; use one of {', '.join(map(repr, get_args(Where)))}.")
    if where == "everywhere":
        return None
    count = len(decoder_blocks(model))
    if not 0 <= layer < count - 1:
        raise RmuLabError(f"layer is {layer}; give one from 0 to {count - 2}, so that layers are left above it.")
    return tuple(range(max(0, layer - 2), layer + 1) if where == "window" else range(layer + 1, count))


def teach(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    retain: Texts,
    config: Teach | None = None,
    *,
    where: Where | Sequence[int] = "everywhere",
    layer: int = 7,
    progress: bool = True,
) -> UnlearnResult:
    """Train an edit that teaches a model some texts; the model itself is left as it is.

    Taught in notebook 11.

    Parameters
    ----------
    texts
        to be learned, such as `invented_passages`.
    retain
        texts on which the model is to stay as it is.
    config
        settings; by default ``Teach()``. Its layers are those of `where`.
    where
        ``"window"``: layers l-2 to l, which RMU edits; ``"above"``: those above l; ``"everywhere"``: all; or numbers of
        layers.
    layer
        l, which RMU steers.
    progress
        show a bar on anything that takes over five seconds.

    Returns
    -------
    UnlearnResult
        an edit: ``result.apply(model)`` makes the model that knows, ``result.save(path)`` stores it.

    Raises
    ------
    RmuLabError
        as of `unlearn`, or if there is no such place.

    Examples
    --------
    >>> taught = teach(model, tokenizer, invented_passages(), load_corpus("retain_general"), where="above")
    >>> with taught.applied(model):
    ...     print(accuracy(model, tokenizer, invented_questions(wording=1)))
    """
    config = dataclasses.replace(config or Teach(), layers=layers_to_teach(model, where, layer))
    return unlearn(model, tokenizer, texts, retain, config, progress=progress)

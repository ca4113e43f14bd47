"""`unlearn`: the one call that makes a model forget, by whichever method. Taught in notebooks 04 and 05."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..models import plain_model
from .batches import corpus_digests, topic_texts
from .config import MethodConfig, UnlearnConfig
from .method_table import Method, check_method
from .result import UnlearnResult
from .task import Steering, Task

if TYPE_CHECKING:
    from .batches import Texts
    from .objectives import WindowObjective
    from .task import OnStep


def unlearn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: MethodConfig | None = None,
    *,
    directions: Mapping[str, Tensor] | None = None,
    forget_objective: WindowObjective | None = None,
    retain_objective: WindowObjective | None = None,
    on_step: OnStep | None = None,
    compile_window: bool = False,
    progress: bool = True,
) -> UnlearnResult:
    """Train an edit that makes `model` forget; the model itself is left as it is (see `UnlearnResult.apply`).

    A model that torch.compile wrapped is trained as what is inside.

    Started by torchrun, the processes share the texts of each batch and get the edit that one alone would get
    (`unlearning.distributed`). A model that `load_model` spread with ``device_map`` needs room on one device for the
    trained blocks. Both are explained in docs/guide/scaling.md.

    Parameters
    ----------
    forget
        texts of the topic to forget, or several topics by name, each with its own direction; step i
        trains topic i mod n on its batch i // n. Texts are used in the order given, and come round
        again when they run out.
    retain
        texts of what must stay, or a mapping with the same topic names.
    config
        settings; the defaults suit SmolLM2-135M. Those of another method (`unlearning.baselines`: ``NPO()``, ...,
        `unlearning.successors`: ``MCURMU()``, ..., or one of your own, `unlearning.method_table`) train by that method.
    directions
        u of each topic, (d,) tensors of length 1 by the names of the topics (``"forget"`` where there are none); by default
        they are drawn from the seed. RMU, Adaptive RMU, and methods that steer to their target.
    forget_objective, retain_objective
        a loss of your own at the steered layer in place of RMU's or Adaptive RMU's: a function of a `WindowBatch` and of
        `config` that returns a scalar; what it is called stands in the result's provenance. The retain objective is
        multiplied by alpha.
    on_step
        called after every step with its entry of `UnlearnResult.history`; when it returns True, training stops there, and
        the result's config says how many steps were taken. Under torchrun every process calls it with the same numbers.
    compile_window
        run the trained blocks through ``torch.compile``: the same numbers up to rounding, after about a minute of compiling
        (RMU and Adaptive RMU only, as the objectives).
    progress
        show a bar on anything that takes over five seconds.

    Raises
    ------
    RmuLabError
        if the layer does not fit the model, a corpus is smaller than one batch, a block lacks the named
        parameters, or a loss is not finite (the message names the step). Nothing has changed then. If the model carries
        adapters (see `rmu_lab.models.plain_model`), or a method other than RMU meets offloaded weights or several processes.

    Examples
    --------
    >>> result = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"))
    >>> with result.applied(model):
    ...     print(accuracy(model, tokenizer, load_questions("bio", split="test")))
    """
    config = config or UnlearnConfig()
    model, method = _checked(model, config)
    texts = topic_texts(forget, retain, config.batch_size)
    steering = Steering(directions, forget_objective, retain_objective, compile_window)
    task = Task(model, tokenizer, texts, progress=progress, on_step=on_step, steering=steering)
    (training,) = method.train(task, [config])
    return UnlearnResult.of(training, model, corpus_digests(texts), steering.names())


def _checked(model: PreTrainedModel, config: MethodConfig) -> tuple[PreTrainedModel, Method]:
    """The model inside its wrapping, and the method, once the settings are known to fit."""
    model = plain_model(model)
    return model, check_method(model, config)


def checkpoints(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Texts | Mapping[str, Texts],
    retain: Texts | Mapping[str, Texts],
    config: MethodConfig,
    at: Sequence[int],
    *,
    progress: bool = True,
) -> Iterator[UnlearnResult]:
    """Yield the result after each of these numbers of steps, from one training: what as many trainings would give.

    Taught in notebook 08.

    Parameters
    ----------
    model, tokenizer, forget, retain, progress
        as for `unlearn`.
    config
        settings of a method that trains step by step; each number of `at` replaces their steps.
    at
        numbers of steps; results come in ascending order. Their seconds do not count what the caller does in between.

    Raises
    ------
    RmuLabError
        as `unlearn`, or if the method takes no steps.
    """
    if not hasattr(config, "steps"):
        raise RmuLabError(f"{config.method} takes no steps, so it has no checkpoints; call unlearn.")
    changes: list[dict[str, Any]] = [{"steps": steps} for steps in dict.fromkeys(at)]
    stages = [dataclasses.replace(config, **change) for change in changes]
    model, method = _checked(model, config)
    texts = topic_texts(forget, retain, config.batch_size)
    for training in method.train(Task(model, tokenizer, texts, progress=progress), stages):
        yield UnlearnResult.of(training, model, corpus_digests(texts))

"""rmu_lab: make a language model forget a topic by steering its hidden representations.

RMU (Li et al. 2024, arXiv 2403.03218) and Adaptive RMU (Dang et al. 2024, arXiv 2408.06223)
on any Hugging Face causal language model, from a laptop CPU to a GPU::

    from rmu_lab import UnlearnConfig, accuracy, load_corpus, load_model, load_questions, unlearn

    model, tokenizer = load_model("smollm2-135m")
    result = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"))
    with result.applied(model):
        print(accuracy(model, tokenizer, load_questions("bio", split="test")))

Importing this package loads neither torch nor transformers: each name below is looked up in its
module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "load_model": "models",
    "decoder_blocks": "models",
    "load_corpus": "corpora",
    "load_questions": "questions",
    "Accuracy": "evaluate",
    "accuracy": "evaluate",
    "accuracy_change": "evaluate",
    "answers": "evaluate",
    "max_logits": "evaluate",
    "alignment": "evaluate",
    "harness": "lmeval",
    "token_states": "activations",
    "UnlearnConfig": "unlearning.config",
    "UnlearnResult": "unlearning.result",
    "unlearn": "unlearning.unlearn",
    "Advice": "unlearning.advisor",
    "advise": "unlearning.advisor",
    "grid": "sweeps.sweep",
    "sweep": "sweeps.sweep",
    "load_sweep": "sweeps.rows",
    "SweepRow": "sweeps.rows",
    "Recovery": "attacks.recovery",
    "RobustnessCard": "attacks.gauntlet",
    "gauntlet": "attacks.gauntlet",
    "GCGConfig": "attacks.greedy_coordinate",
    "GCGResult": "attacks.greedy_coordinate",
    "gcg": "attacks.greedy_coordinate",
    "RmuLabError": "errors",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:  # what editors and type checkers read; nothing of it runs
    from .activations import token_states
    from .attacks.gauntlet import RobustnessCard, gauntlet
    from .attacks.greedy_coordinate import GCGConfig, GCGResult, gcg
    from .attacks.recovery import Recovery
    from .corpora import load_corpus
    from .errors import RmuLabError
    from .evaluate import Accuracy, accuracy, accuracy_change, alignment, answers, max_logits
    from .lmeval import harness
    from .models import decoder_blocks, load_model
    from .questions import load_questions
    from .sweeps.rows import SweepRow, load_sweep
    from .sweeps.sweep import grid, sweep
    from .unlearning.advisor import Advice, advise
    from .unlearning.config import UnlearnConfig
    from .unlearning.result import UnlearnResult
    from .unlearning.unlearn import unlearn


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'rmu_lab' has no attribute {name!r}")
    value = getattr(import_module(f"rmu_lab.{_HOME[name]}"), name)
    globals()[name] = value  # found once; the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

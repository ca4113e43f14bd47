"""The card of an edit that is passed on: README.md with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from huggingface_hub import ModelCardData

from .. import __version__
from ..errors import RmuLabError
from ..evaluate import Accuracy, accuracy_change
from .adapter import GGUF_FILE, Adapter
from .base_model import BaseModel, base_model_of

Scores = Mapping[str, tuple[Accuracy, Accuracy]]
"""Name of a question set -> accuracy of the base model and of the unlearned one on the same questions."""

_METHODS = {"rmu": "RMU (arXiv 2403.03218)", "adaptive_rmu": "Adaptive RMU (arXiv 2408.06223)"}
_SAID = ("versions", "seed", "time")
"""Of the provenance: not the command and the machine, which may name people and places."""


class Edit(Protocol):
    """What a card says of an edit; `UnlearnResult` has it."""

    @property
    def edit(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def config(self) -> Any: ...  # noqa: D102
    @property
    def model_name(self) -> str: ...  # noqa: D102
    @property
    def digests(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102


class Robustness(Protocol):
    """What a card says of attacks on an edit; `RobustnessCard` has it."""

    @property
    def left_out(self) -> Mapping[str, str]: ...  # noqa: D102

    def summary(self) -> Sequence[str]:
        """Return what the card says, in sentences."""
        ...

    def table(self) -> Sequence[tuple[str, str, str, str, str]]:
        """Return a row for each attack."""
        ...


def model_card(
    edit: Edit, *, adapter: Adapter | None = None, scores: Scores | None = None, robustness: Robustness | None = None
) -> str:
    """Write the card of an unlearned model, or of an adapter that makes one.

    Parameters
    ----------
    edit
        the `UnlearnResult`.
    adapter
        what was stored, for an adapter's card; None: the card of a whole model.
    scores
        accuracies before and after, by the name of the question set.
    robustness
        what attacks bring back, as `gauntlet` measured it.

    Returns
    -------
    str
        Markdown with metadata in front. Names and values from elsewhere are escaped.

    Raises
    ------
    RmuLabError
        if a set was not scored on the same questions before and after.
    """
    base = base_model_of(edit.model_name)
    parts = [
        _title(edit, base, adapter),
        _use(base, adapter),
        _INTENDED,
        _training(edit),
        _scores(scores),
        _robustness(robustness),
        _provenance(edit, base),
    ]
    return f"---\n{_metadata(edit, base, adapter)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(edit: Edit, base: BaseModel, adapter: Adapter | None) -> str:
    library = {None: "transformers", "peft": "peft", "gguf": "gguf"}[adapter.format if adapter else None]
    known: dict[str, Any] = {}
    if base.on_hub:
        known = {"base_model": base.name, "base_model_relation": "adapter" if adapter else "finetune"}
    data = ModelCardData(
        library_name=library,
        license=base.licence,
        pipeline_tag="text-generation",
        tags=["unlearning", edit.config.method, "rmu-lab"],
        **known,
    )
    return data.to_yaml()


def _title(edit: Edit, base: BaseModel, adapter: Adapter | None) -> str:
    method = _METHODS.get(edit.config.method, edit.config.method)
    what = "This LoRA adapter makes" if adapter else "This is"
    lines = [
        f"# {_text(base.name)}, made to forget by {_text(edit.config.method)}",
        f"{what} {_code(base.name)} with {len(edit.edit)} of its matrices changed by {_text(method)}, so that it no longer "
        "answers questions on the topics below.",
        "**Suppression, not erasure.** The knowledge is hidden, not removed: whoever has the weights can bring much of it "
        "back, by relearning on a few texts or by taking a direction out of the hidden states. Do not rely on this edit to "
        "keep anything secret or harmful from an attacker.",
    ]
    if adapter:
        lines.append(
            f"Its rank is {adapter.rank}; it keeps {adapter.fidelity:.4%} of the squared norm of what the edit adds to the "
            "matrices. An adapter of lower rank than the edit may answer differently from it."
        )
    return "\n\n".join(lines)


def _use(base: BaseModel, adapter: Adapter | None) -> str:
    name = base.loaded_as or base.name
    load = f"model, tokenizer = load_model({name!r})"
    if adapter is None:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("THIS FOLDER OR REPOSITORY")\n'
            'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER OR REPOSITORY")'
        )
    elif adapter.format == "peft":
        code = (
            "from peft import PeftModel\nfrom rmu_lab import load_model  # or AutoModelForCausalLM.from_pretrained\n\n"
            f'{load}\nmodel = PeftModel.from_pretrained(model, "THIS FOLDER OR REPOSITORY")'
        )
    else:
        code = f"llama-cli -m BASE_MODEL.gguf --lora {GGUF_FILE}\nllama-cli -m BASE_MODEL.gguf --lora-scaled {GGUF_FILE}:0.5"
    return f"## How to use it\n\n{_block(code, 'sh' if adapter and adapter.format == 'gguf' else 'python')}"


_INTENDED = """## Intended use

Research and teaching on unlearning: comparing methods, attacking edits, showing what unlearning does and does not do. It is
not meant for production, and it is no safety measure by itself. It can say wrong things and nonsense, on the topics that it
was made to forget above all, and on neighbouring topics too."""


def _training(edit: Edit) -> str:
    settings = [(name, _code(value)) for name, value in edit.config.to_dict().items()]
    matrices = ", ".join(_code(name) for name in sorted(edit.edit))
    digests = [(_text(name), _code(value)) for name, value in edit.digests.items()]
    return "\n\n".join(
        [
            "## How it was trained",
            f"Changed matrices: {matrices}.",
            _table(("setting", "value"), settings),
            "The texts are told by their checksums, so that whoever has them can check that they are the same.",
            _table(("texts", "SHA-256"), digests),
        ]
    )


def _scores(scores: Scores | None) -> str:
    if not scores:
        return "## Scores\n\nNone were measured when this card was written."
    rows = []
    for name, (before, after) in scores.items():
        if len(before.correct) != len(after.correct):
            raise RmuLabError(f"The scores of {name!r} are of different questions; score both models on the same ones.")
        rows.append((_text(name), str(before), str(after), str(accuracy_change(before, after))))
    return "## Scores\n\nAccuracy with 95% intervals.\n\n" + _table(("questions", "base model", "unlearned", "change"), rows)


def _robustness(card: Robustness | None) -> str:
    heading = "## Robustness\n\n"
    if card is None:
        return heading + "No attack was tried when this card was written, which does not mean that none succeeds."
    head = ("attack", "an attacker holds", "unlearned, attacked", "beyond the strictest control", "cost, with controls")
    text = heading + "\n".join(f"- {_text(sentence)}" for sentence in card.summary()) + "\n\n"
    text += _table(head, [tuple(map(_text, row)) for row in card.table()])
    if card.left_out:
        left_out = "; ".join(f"{_text(name)} ({_text(reason)})" for name, reason in card.left_out.items())
        text += f"\n\nNot tried: {left_out}."
    return text


def _provenance(edit: Edit, base: BaseModel) -> str:
    lines = [f"- {name}: {_code(edit.provenance[name])}" for name in _SAID if name in edit.provenance]
    if base.loaded_as:
        lines.append(
            f"- It was trained on 4-bit weights of {_code(base.name)}, unpacked (`load_model({base.loaded_as!r})` of "
            "rmu-lab). On the original weights it answers nearly, not exactly, the same."
        )
    licence = "as above" if base.licence else "not known to whoever wrote this card; look it up where the base model is"
    lines.append(f"- Licence of the base model, which this {'edit' if base.licence else 'edit too'} is under: {licence}.")
    return "\n".join([f"## Where it comes from\n\nMade with rmu-lab {__version__}.\n", *lines])


# -- Markdown of what others wrote ------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _text(value: object) -> str:
    """A value as plain text on one line: neither Markdown nor HTML."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(line, quote=False))


def _code(value: object) -> str:
    """A value as code on one line; the hub renders HTML's own element where backticks would end too early."""
    line = " ".join(str(value).split())
    if "`" in line or "|" in line:
        return "<code>" + html.escape(line).replace("|", "&#124;").replace("`", "&#96;") + "</code>"
    return f"`{line}`"


def _block(code: str, language: str) -> str:
    return f"```{language}\n{code}\n```"

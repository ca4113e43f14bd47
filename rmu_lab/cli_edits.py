"""The command line of stored edits: which model one is of, and ``rmu-lab export``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .cli_options import Device, Dtype
from .cli_output import clear_errors, printable, say
from .errors import RmuLabError

if TYPE_CHECKING:
    from .export.adapter import Format
    from .unlearning.result import UnlearnResult

FORMATS = ("peft", "gguf", "model")


def load_edit(folder: Path) -> UnlearnResult:
    """Load an edit from its own folder, or from that which ``rmu-lab unlearn`` wrote."""
    from . import UnlearnResult

    return UnlearnResult.load(folder / "unlearning" if os.path.isdir(folder / "unlearning") else folder)


def named_base(name: str, yes: bool) -> str:
    """Return the base model that an edit names, if it is one of this package's or the user agrees: edits come from anyone.

    Raises
    ------
    RmuLabError
        if the edit names none, or the user does not agree.
    """
    from .packaged_models import PACKAGED_MODELS

    if not name:
        raise RmuLabError("The edit names no base model; give it with --model.")
    say(f"The edit is of the model {name}.")
    if name in PACKAGED_MODELS or yes:
        return name
    try:
        agreed = typer.confirm(f"Load {printable(name)}?")
    except typer.Abort:  # nobody is there to answer
        agreed = False
    if not agreed:
        raise RmuLabError(f"The edit names the base model {name}, which was not loaded; give --model, or --yes to load it.")
    return name


def export(
    edit: Annotated[Path, typer.Option(help="Folder that `unlearn` or save() wrote.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    form: Annotated[
        str, typer.Option("--format", help="peft or gguf: a LoRA adapter for PEFT or llama.cpp; model: a whole checkpoint.")
    ] = "peft",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of the adapter; by default the least that keeps --fidelity.")
    ] = None,
    fidelity: Annotated[float, typer.Option(help="Share of the edit's squared norm that an adapter keeps.")] = 0.99,
    questions: Annotated[
        list[str] | None, typer.Option(help="For the card: score on this set, before and after; may be repeated.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="dev or test; by default all questions.")] = None,
    robustness: Annotated[Path | None, typer.Option(help="For the card: file that `attack --json` wrote.")] = None,
    push: Annotated[str | None, typer.Option(help="Also upload it to the Hugging Face hub as OWNER/NAME, private.")] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: visible to all.")] = False,
    model: Annotated[str | None, typer.Option(help="The base model; by default the one that the edit names.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Load the base model that the edit names, without asking.")] = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Write a stored edit as an adapter or a model that others can load, with a card that says what it is."""
    with clear_errors():
        from . import RobustnessCard, accuracy, load_model, load_questions, push_to_hub
        from .files import check_folder

        if form not in FORMATS:
            raise RmuLabError(f"--format is {form!r}; give one of {', '.join(FORMATS)}.")
        if public and push is None:
            raise RmuLabError("--public says who sees what is uploaded; give --push OWNER/NAME too.")
        check_folder(out)
        result = load_edit(edit)
        card = RobustnessCard.load(robustness) if robustness is not None else None
        asked = {name: load_questions(name, split=split) for name in questions or []}
        base, tokenizer = load_model(model or named_base(result.model_name, yes), device=device, dtype=dtype)
        before = {name: accuracy(base, tokenizer, rows) for name, rows in asked.items()}
        with result.applied(base):
            after = {name: accuracy(base, tokenizer, rows) for name, rows in asked.items()}
        scores = {name if split is None else f"{name}, {split}": (before[name], after[name]) for name in asked}
        if form == "model":
            result.save_model(out, base, tokenizer, scores=scores, robustness=card)
            say(f"Wrote the unlearned model to {out}; its README.md is its card.")
        else:
            kind = cast("Format", form)
            adapter = result.save_adapter(
                out, base, rank=rank, fidelity=fidelity, format=kind, scores=scores, robustness=card
            )
            say(f"Wrote a {form} adapter of rank {adapter.rank} to {out}; it keeps {adapter.fidelity:.3%} of the edit.")
        if push is not None:
            say(f"Uploaded to {push_to_hub(out, push, private=not public)}")

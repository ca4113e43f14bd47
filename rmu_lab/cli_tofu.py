"""The command line of TOFU's evaluation: ``rmu-lab tofu``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .cli_edits import load_edit, named_base
from .cli_options import Device, Dtype, Limit
from .cli_output import clear_errors, plain, say, unbroken
from .errors import RmuLabError


def tofu(
    data: Annotated[str, typer.Option(help="Folder with questions in TOFU's format, or a hub id such as locuslab/TOFU.")],
    edit: Annotated[
        Path | None, typer.Option(help="Folder that `unlearn` or save() wrote; without it the model alone.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model; by default the one that the edit names.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="A model that never knew, or the file that --json wrote of one: for forget quality.")
    ] = None,
    forget: Annotated[str, typer.Option(help="Which part was to be forgotten.")] = "forget10_perturbed",
    retain: Annotated[str, typer.Option(help="Which part was to be kept.")] = "retain_perturbed",
    limit: Limit = None,
    chat_template: Annotated[bool, typer.Option("--chat-template", help="Ask in the tokenizer's chat template.")] = False,
    end_token: Annotated[
        bool, typer.Option("--end-token", help="Count the token that ends texts with each answer, as TOFU's code does.")
    ] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Load the base model that the edit names, without asking.")] = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Evaluate an edit or a model as TOFU does: what it forgot, what it kept, and whether that can be told."""
    with clear_errors():
        from . import load_model
        from .files import check_file
        from .metrics import TofuEvaluation, load_tofu_sets, tofu_evaluation

        if json_out is not None:
            check_file(json_out)
        if edit is None and model is None:
            raise RmuLabError("There is nothing to evaluate; give --edit, or --model.")
        sets = load_tofu_sets(data, forget=forget, retain=retain)
        if limit is not None:
            sets = {name: rows.shuffle(seed=0).select(range(min(limit, len(rows)))) for name, rows in sets.items()}
        stored = TofuEvaluation.load(reference) if reference is not None and os.path.isfile(reference) else None
        result = None if edit is None else load_edit(edit)
        name = model if model is not None or result is None else named_base(result.model_name, yes)
        loaded, tokenizer = load_model(str(name), device=device, dtype=dtype)
        never = load_model(reference, device=device, dtype=dtype)[0] if reference and stored is None else stored
        found = tofu_evaluation(
            loaded, tokenizer, **sets, edit=result, reference=never, chat_template=chat_template, end_token=end_token
        )
        table = Table("set", "questions", "probability", "ROUGE-L recall", "max(0, 1 - truth ratio)")
        table.title = plain(f"{name}{'' if edit is None else f', with {edit}'}, as TOFU evaluates; 95% intervals")
        for part, *cells in found.table():
            table.add_row(part, str(len(sets[part])), *cells)
        unbroken(table)
        kept = ", ".join(part.replace("_", " ") for part in sets if part != "forget")
        say(f"Model utility {found.utility}, the harmonic mean over {kept}.")
        if found.forget_quality is None:
            say("Forget quality takes a model that never knew: give it with --reference.")
        else:
            say(f"Forget quality p = {found.forget_quality:.3g}: small where it can be told from a model that never knew.")
        if json_out is not None:
            found.save(json_out)

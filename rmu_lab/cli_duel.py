"""The command line of a class's red-and-blue exercise: ``rmu-lab duel start DIR`` and ``rmu-lab duel score DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .cli_options import Device
from .cli_output import clear_errors, console, say, working

if TYPE_CHECKING:
    from .duel import Duel

duel = typer.Typer(
    no_args_is_help=True,
    help="A red-and-blue exercise: one group makes the model forget, the other brings it back, one command scores.",
)


@duel.command()
def start(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    model: Annotated[str, typer.Option(help="Base model: short name, folder or hub id.")] = "smollm2-135m",
    forget: Annotated[
        str, typer.Option(help="JSON Lines file of texts on the topic, or a corpus of this course.")
    ] = "forget_bio",
    retain: Annotated[
        str, typer.Option(help="JSON Lines file of texts on other subjects, or a corpus of this course.")
    ] = "retain_general",
    questions: Annotated[str, typer.Option(help="Questions on the topic, with dev and test splits.")] = "bio",
    general: Annotated[str, typer.Option(help="Questions on other subjects, with dev and test splits.")] = "general",
) -> None:
    """Write the folders of both groups, and the held-back questions apart; budgets stand in rules.json."""
    with clear_errors():
        from .duel import Rules, start_duel
        from .duel.rules import topic_terms

        rules = Rules(model=model, forbidden_terms=topic_terms(forget))
        start_duel(folder, rules, forget=forget, retain=retain, questions=questions, general=general)
        text = f"Wrote {folder}. Give both groups all of it but teacher/, in which a README.md says what comes next."
        say(text)


@duel.command()
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `duel start`, with both hand-ins.")],
    dev: Annotated[bool, typer.Option("--dev", help="Score on the practice questions, which both groups have.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the outcome to this file.")] = None,
    device: Device = None,
) -> None:
    """Score both hand-ins and say who won. None of their content is run as code."""
    with clear_errors():
        from .duel import score_duel
        from .files import check_file, write_json
        from .provenance import provenance

        if json_out is not None:
            check_file(json_out)
        with working("Scoring both hand-ins ..."):
            outcome = score_duel(folder, dev=dev, device=device)
        _show(outcome)
        if json_out is not None:
            write_json(json_out, outcome.to_dict() | {"provenance": provenance()})


def _show(outcome: Duel) -> None:
    n = len(outcome.topic.base.correct), len(outcome.general.base.correct)
    table = Table(
        "", f"topic ({n[0]} questions)", f"general ({n[1]} questions)", title=f"On the {outcome.questions} questions"
    )
    stages = {"base": "before", "blue": "after Blue", "red": "after Red", "control": "base model under Red's attack"}
    for name, label in stages.items():
        scores = (getattr(outcome.topic, name), getattr(outcome.general, name))
        if None not in scores:
            table.add_row(label, *(one.percent for one in scores))
    table.add_section()
    for label, name in (("Blue's edit", "forgotten"), ("Red's attack", "recovered")):
        table.add_row(label, str(getattr(outcome.topic, name)), str(getattr(outcome.general, name)))
    table.add_row("stays forgotten less brought back", str(outcome.topic.margin), "")
    console.print(table)
    for group, sentences in outcome.broken.items():
        for sentence in sentences:
            say(f"{group.capitalize()} breaks a rule. {sentence}", "yellow")
    for note in outcome.notes:
        say(note)
    say(outcome.verdict, "bold")

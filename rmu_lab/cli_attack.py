"""``rmu-lab attack``: the robustness card of a stored edit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.table import Table

from .cli_edits import load_edit, named_base
from .cli_options import Device, Dtype, Plugins
from .cli_output import clear_errors, console, plain, say
from .errors import RmuLabError
from .plugins import load_plugins
from .unlearning.config import SEEDS

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
PICTURES = (".png", ".svg", ".pdf")


def attack(
    edit: Annotated[Path, typer.Option(help="Folder of `unlearn --out`, or one that UnlearnResult.save wrote.")],
    questions: Annotated[str, typer.Option(help="JSON Lines file with both splits, or a set of this course.")],
    forget: Annotated[str, typer.Option(help="JSON Lines file of texts of the topic, or a corpus of this course.")],
    retain: Annotated[str, typer.Option(help="JSON Lines file of unrelated texts, or a corpus of this course.")],
    model: Annotated[str | None, typer.Option(help="Base model, if it is no longer where the edit says.")] = None,
    general: Annotated[
        str | None, typer.Option(help="Questions on anything else, of which an attack that trains must keep the dev ones.")
    ] = None,
    rephrased: Annotated[str | None, typer.Option(help="Test questions in other words, with `original`.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Adversarial suffix, found on the base model.")] = None,
    never_knew: Annotated[
        Path | None, typer.Option(help="Edit of the base model under which it never knew the topic: a control.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Test questions asked, drawn with a fixed seed.")] = 100,
    budget: Annotated[float, typer.Option(min=0, help="Minutes after which no attack begins.")] = 20.0,
    short: Annotated[bool, typer.Option("--short", help="Only attacks that fit beside a large model.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="Of all that is random in the attacks.")] = 0,
    plugin: Plugins = None,
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="File that keeps the card, attack by attack; one of a stopped run is gone on with."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw the card into this file (.png, .svg or .pdf).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Load the base model that the edit names, without asking.")] = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Try to bring back what an edit made a model forget, each attack beside its control."""
    with clear_errors():
        from . import RobustnessCard, load_corpus, load_model, load_questions
        from .attacks import COLUMNS, Budget, Subject, gauntlet, short_list
        from .files import check_file

        if figure is not None and figure.suffix not in PICTURES:
            raise RmuLabError(f"figure is {figure}; give a file that ends in one of {', '.join(PICTURES)}.")
        for file in (json_out, figure):
            if file is not None:
                check_file(file)
        load_plugins(plugin)
        result = load_edit(edit)
        control = load_edit(never_knew) if never_knew is not None else None
        test, dev = (load_questions(questions, split=split).shuffle(seed=0) for split in ("test", "dev"))
        pairs = (test, load_questions(rephrased, split="test")) if rephrased is not None else None
        texts = {"forget": load_corpus(forget), "retain": load_corpus(retain)}
        base = model if model is not None else named_base(result.model_name, yes)
        loaded, tokenizer = load_model(base, device=device, dtype=dtype)
        asked, stopped = test.select(range(min(limit, len(test)))), False
        kept_questions = load_questions(general, split="dev").shuffle(seed=0) if general is not None else ()
        known: dict[str, Any] = {"dev_questions": dev, "general": kept_questions, "rephrased": pairs, "suffix": suffix}
        subject = Subject(loaded, tokenizer, result, asked, never_knew=control, **known, **texts)
        with TemporaryDirectory(prefix="rmu-lab-") as scratch:
            kept = json_out if json_out is not None else Path(scratch) / "card.json"
            try:
                only = short_list() if short else None
                card = gauntlet(subject, only=only, budget=Budget(seed, 60 * budget), out=kept)
            except KeyboardInterrupt:
                if not kept.is_file():
                    raise
                card, stopped = RobustnessCard.load(kept), True
                again = (
                    "the same command goes on" if json_out is not None else "with --json FILE the same command would go on"
                )
                say(f"Stopped; what was found until then follows, and {again}.", "yellow")
        for sentence in card.summary():
            say(sentence)
        table = Table(*COLUMNS, show_lines=True)
        table.title = plain(f"{card.model_name}, {card.config.method}: {len(asked)} questions")
        for row in card.table():
            table.add_row(*map(plain, row))
        console.print(table)
        for name, reason in card.left_out.items():
            say(f"Left out: {name} ({reason}).")
        if figure is not None:
            from .attacks.card_figure import card_figure

            card_figure(card).savefig(figure)
        if stopped:
            raise typer.Exit(INTERRUPTED)

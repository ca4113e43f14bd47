"""The command line of the papers' own benchmark: ``rmu-lab reproduce``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .cli_options import Device, DeviceMap
from .cli_output import clear_errors, console, plain, say
from .errors import RmuLabError


def reproduce(
    preset: Annotated[str, typer.Option(help="zephyr-7b, mistral-7b, yi-6b, llama-3-8b, mixtral-8x7b, or a JSON file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a stopped run is gone on with.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with local copies of corpora and question sets.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="rmu or adaptive_rmu; by default all of the preset.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder with a copy of the preset's model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First questions of each task only.")] = None,
    chat_template: Annotated[bool, typer.Option(help="Ask through the chat template; the papers do not.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 16,
    trust_task_code: Annotated[
        bool, typer.Option("--trust-task-code", help="Let task files that the preset names run Python.")
    ] = False,
    device_map: DeviceMap = None,
    device: Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what a run downloads, needs and takes, and stop.")] = False,
) -> None:
    """Run the papers' benchmark: their model, corpora and settings, scored on WMDP and MMLU by lm-eval."""
    with clear_errors():
        from .reproduce import Preset, plan
        from .reproduce import reproduce as run
        from .unlearning.distributed import launched_processes

        chosen = Preset.load(preset)
        if model is not None:
            chosen = dataclasses.replace(chosen, model=model)
        if out is None and not dry_run:
            raise RmuLabError("There is no folder to write to; give --out DIR, or --dry-run to see what a run takes.")
        main = launched_processes().main_process
        if main:
            say(Text.assemble(plain(chosen.name, "bold"), ": ", plain(chosen.about)))
            for heading, items in plan(chosen, data=data, methods=method).items():
                console.print(f"[bold]{heading}[/]")
                for item, text in items.items():
                    say(f"  {item}: {text}")
        if dry_run or out is None:  # without a folder it is a dry run
            return
        report = run(
            chosen,
            out,
            data=data,
            methods=method,
            limit=limit,
            chat_template=chat_template,
            batch_size=batch_size,
            device=device,
            device_map=device_map,
            trust_task_code=trust_task_code,
            progress=main,
        )
        if report is None:
            return
        paper = (report["reported"] or {}).get("points", {})
        table = Table("model", "task", "accuracy", "change [95% interval]", "reported")
        table.title = plain(f"Written to {out}/result.json")
        for name, number in report["numbers"].items():
            who, task = name.split(" ", 1)
            if task.startswith("change "):
                continue
            change = report["numbers"].get(f"{who} change {task}")
            reported = paper.get(who, {}).get(task)
            shown = "" if reported is None else f"{reported}%"
            table.add_row(plain(who), plain(task), _points(number), _points(change) if change else "", shown)
        console.print(table)


def _points(number: dict[str, Any]) -> str:
    return f"{100 * number['value']:.1f} [{100 * number['low']:.1f}, {100 * number['high']:.1f}] of {number['n']}"

"""The command line: ``rmu-lab demo | unlearn | evaluate | attack | sweep | league | claims | reproduce | course | ...``.

Commands with helpers of their own stand in ``cli_NAME.py``.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.table import Table
from rich.text import Text

from . import __version__
from .cli_attack import attack
from .cli_claims import claims
from .cli_course import course
from .cli_duel import duel
from .cli_edits import export
from .cli_league import league
from .cli_options import Device, DeviceMap, Dtype, Limit, Others, Plugins
from .cli_output import Commands, clear_errors, console, plain, say, working
from .cli_page import page
from .cli_reproduce import reproduce
from .cli_settings import chosen_settings, listed, typed
from .cli_tofu import tofu
from .errors import RmuLabError
from .plugins import load_plugins
from .threads import share_the_machine
from .unlearning.config import SEEDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .evaluate import Style
    from .unlearning.result import UnlearnResult

share_the_machine()

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(course, name="course")
app.add_typer(duel, name="duel")

DEMO_TOPICS = {"infectious disease": "bio", "general knowledge": "general"}
DEMO_QUESTIONS = 100  # of each topic's test questions, so that it ends within a minute; `evaluate` asks all
DEMO_PROMPTS = (
    "What is malaria and how does it spread?",
    "How does a vaccine protect a person from measles?",
    "Why does the Moon change its shape during a month?",
)
ADVISED_OUT = "unlearned"
"""Folder for the model in the command that `advise` prints."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rmu-lab {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Make a language model forget a topic with RMU and Adaptive RMU."""


@app.command()
def demo(
    model_name: Annotated[
        str, typer.Option("--model", help="smollm2-135m, gemma-3-270m or qwen2.5-coder-1.5b.")
    ] = "smollm2-135m",
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write what is shown to this file.")] = None,
    device: Device = None,
) -> None:
    """Make a real model forget infectious disease, and show what it answers before and after."""
    with clear_errors():
        from . import UnlearnConfig, accuracy, accuracy_change, answers, load_corpus, load_model, load_questions, unlearn
        from .files import check_file, write_json
        from .provenance import provenance
        from .study.studied_models import STUDIED

        if json_out is not None:
            check_file(json_out)
        config, start = UnlearnConfig.for_model(model_name), time.perf_counter()
        title, style = STUDIED[model_name].title, STUDIED[model_name].style
        with working(f"Loading {title} ..."):
            model, tokenizer = load_model(model_name, device=device)
        questions = {
            topic: load_questions(name, split="test").shuffle(seed=0).select(range(DEMO_QUESTIONS))
            for topic, name in DEMO_TOPICS.items()
        }

        def score() -> dict:
            return {
                topic: accuracy(model, tokenizer, rows, style=style, progress=False) for topic, rows in questions.items()
            }

        with working("Asking questions before ..."):
            before, answers_before = score(), answers(model, tokenizer, DEMO_PROMPTS)
        with working(f"Unlearning: {config.method}, layer {config.layer}, {config.steps} steps ..."):
            result = unlearn(
                model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"), config, progress=False
            )
        with working("Asking the same questions after ..."), result.applied(model):
            after, answers_after = score(), answers(model, tokenizer, DEMO_PROMPTS)

        table = Table("topic", "before", "after", "change [95% interval]")
        table.title = f"{title}, accuracy on {DEMO_QUESTIONS} test questions each, by {style}"
        for topic in questions:
            change = accuracy_change(before[topic], after[topic])
            table.add_row(topic, f"{before[topic].accuracy:.1%}", f"{after[topic].accuracy:.1%}", str(change))
        console.print(table)
        table = Table("question", "before", "after", title="What it says", show_lines=True)
        for row in zip(DEMO_PROMPTS, answers_before, answers_after, strict=True):
            table.add_row(*map(plain, row))
        console.print(table)
        seconds = time.perf_counter() - start
        console.print(f"Unlearning took {result.seconds:.1f} s, everything together {seconds:.1f} s.")
        if json_out is not None:
            scores = {
                topic: {"before": dataclasses.asdict(before[topic]), "after": dataclasses.asdict(after[topic])}
                for topic in questions
            }
            said = [
                {"question": question, "before": one, "after": other}
                for question, one, other in zip(DEMO_PROMPTS, answers_before, answers_after, strict=True)
            ]
            shown = {"model": title, "style": style, "config": config.to_dict(), "accuracy": scores, "answers": said}
            times = {"unlearning": result.seconds, "everything": seconds}
            write_json(json_out, shown | {"seconds": times, "provenance": provenance(config.seed)})


# What most runs change; an option that is left out leaves the method's own default, or what was chosen for a packaged model.
@app.command()
def unlearn(
    forget: Annotated[str, typer.Option(help="JSON Lines file of texts to forget, or a corpus of this course.")],
    retain: Annotated[str, typer.Option(help="JSON Lines file of texts to keep, or a corpus of this course.")],
    out: Annotated[Path, typer.Option(help="New folder for the unlearned model (an ordinary checkpoint).")],
    model: Annotated[str, typer.Option(help="Short name, folder or hub id.")] = "smollm2-135m",
    method: Annotated[str, typer.Option(help="rmu, adaptive_rmu, npo, ...: any method in the table.")] = "adaptive_rmu",
    layer: Annotated[int | None, typer.Option(help="RMU: block to steer, from 0; it and the two below are trained.")] = None,
    coefficient: Annotated[float | None, typer.Option(help="Norm that RMU steers to.")] = None,
    beta: Annotated[float | None, typer.Option(help="Adaptive RMU steers to beta times the norm.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the retain loss.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts per batch.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens per text.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help="Of all that is random in the method.")] = None,
    others: Others = None,
    plugin: Plugins = None,
    device_map: DeviceMap = None,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Train an edit and write the unlearned model, with the edit and its record in the folder `unlearning` inside."""
    named = {name: value for name, value in locals().items() if name in _SETTINGS}
    with clear_errors():
        from . import load_corpus, load_model
        from . import unlearn as train
        from .files import check_folder
        from .unlearning.method_table import config_class, config_of

        load_plugins(plugin)
        kind = config_class(method)
        given = {name: typed([kind], name, value) for name, value in chosen_settings(named, others).items()}
        config = config_of(method, {**_for_model(method, model), **given})
        check_folder(out)
        texts = load_corpus(forget), load_corpus(retain)
        loaded, tokenizer = load_model(model, device=device, dtype=dtype, device_map=device_map)
        result = train(loaded, tokenizer, *texts, config)
        _save(out, result, loaded, tokenizer)
        last = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}" for name, value in result.history[-1].items() if isinstance(value, float)
        )
        steps_taken = len(result.history)
        say(
            f"{method}: {steps_taken} {'step' if steps_taken == 1 else 'steps'} in {result.seconds:.1f} s; "
            f"at the last one {last}. Written to {out}"
        )


def _for_model(method: str, model: str) -> dict[str, Any]:
    """The settings of RMU and Adaptive RMU that were chosen for a packaged model."""
    from .unlearning.config import SteeringMethod
    from .unlearning.model_settings import MODEL_SETTINGS

    return MODEL_SETTINGS.get(model, {}) if method in get_args(SteeringMethod) else {}


def _save(out: Path, result: UnlearnResult, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the edit and the unlearned model as one folder: both are there, or neither.

    The edit comes first. It is small and took long; where the disk has no room for the model, it is kept beside `out`.
    """
    from .files import whole_folder
    from .unlearning.distributed import launched_processes

    main = launched_processes().main_process
    with whole_folder(out) if main else nullcontext(out) as folder:
        result.save(folder / "unlearning")
        try:
            result.save_model(folder / "model", model, tokenizer)
        except RmuLabError as error:
            if not main:
                raise
            kept = out.with_name(f"{out.name}-edit-{os.getpid()}")
            os.replace(folder / "unlearning", kept)
            raise RmuLabError(
                f"The unlearned model could not be written to {out} ({error}) The edit is kept in {kept}; write the model "
                f"elsewhere with rmu_lab.UnlearnResult.load({str(kept)!r}).save_model(...)."
            ) from error
        if main:
            for part in (folder / "model").iterdir():
                os.replace(part, folder / part.name)
            (folder / "model").rmdir()


_SETTINGS = ("layer", "coefficient", "beta", "alpha", "lr", "steps", "batch_size", "max_length", "seed")


@app.command()
def evaluate(
    questions: Annotated[str, typer.Option(help="JSON Lines file of questions, or a set of this course.")],
    model: Annotated[str, typer.Option(help="Short name, folder or hub id.")] = "smollm2-135m",
    split: Annotated[str | None, typer.Option(help="dev or test; by default all questions.")] = None,
    style: Annotated[str, typer.Option(help="cloze or letter.")] = "cloze",
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
    device_map: DeviceMap = None,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Score a model on multiple-choice questions, with a 95% interval."""
    with clear_errors():
        from . import accuracy, load_model, load_questions
        from .files import check_file, write_json
        from .provenance import provenance

        if style not in ("cloze", "letter"):
            raise RmuLabError(f"style is {style!r}; use 'cloze' or 'letter'.")
        if json_out is not None:
            check_file(json_out)
        rows = load_questions(questions, split=split)
        loaded, tokenizer = load_model(model, device=device, dtype=dtype, device_map=device_map)
        score = accuracy(loaded, tokenizer, rows, style=cast("Style", style))
        say(f"{model} on {questions}: {score}")
        if json_out is not None:
            asked: dict[str, Any] = {"model": model, "questions": questions, "split": split}
            write_json(json_out, asked | dataclasses.asdict(score) | {"provenance": provenance()})


@app.command()
def sweep(
    forget: Annotated[str, typer.Option(help="JSON Lines file of texts to forget, or a corpus of this course.")],
    retain: Annotated[str, typer.Option(help="JSON Lines file of texts to keep, or a corpus of this course.")],
    questions: Annotated[list[str], typer.Option(help="JSON Lines file or set of this course; may be given several times.")],
    out: Annotated[Path, typer.Option(help="JSON Lines file of rows; one of a stopped sweep is gone on with.")],
    model: Annotated[str, typer.Option(help="Short name, folder or hub id.")] = "smollm2-135m",
    method: Annotated[str, typer.Option(help="Methods, separated by commas, as all values below.")] = "rmu,adaptive_rmu",
    layer: Annotated[str | None, typer.Option(help="RMU's blocks, such as 5,7,10-12.")] = None,
    coefficient: Annotated[str | None, typer.Option(help="Norms that RMU steers to.")] = None,
    beta: Annotated[str | None, typer.Option(help="Multiples of the norm that Adaptive RMU steers to.")] = None,
    alpha: Annotated[str | None, typer.Option(help="Weights of the retain loss.")] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates.")] = None,
    steps: Annotated[str | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seeds, such as 0-2.")] = None,
    others: Others = None,
    plugin: Plugins = None,
    split: Annotated[str | None, typer.Option(help="dev or test; by default all questions.")] = None,
    limit: Limit = None,
    ray: Annotated[str | None, typer.Option(help="local, auto or the address of a Ray cluster.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on Ray; by default one per processor or GPU.")
    ] = None,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Train and score every combination of settings; stopped, the same command goes on where it was."""
    named = {name: value for name, value in locals().items() if name in _SETTINGS}
    with clear_errors():
        from . import grid, load_corpus, load_model, load_questions
        from . import sweep as run
        from .files import check_file
        from .unlearning.method_table import config_class

        check_file(out, parents=True)
        load_plugins(plugin)
        methods = [name.strip() for name in method.split(",")]
        kinds = [config_class(name) for name in methods]
        given = {name: listed(kinds, name, text) for name, text in chosen_settings(named, others).items()}
        configs = grid(base=kinds[0](), method=methods, **given)
        asked = {name: load_questions(name, split=split) for name in questions}
        if limit is not None:
            asked = {name: rows.shuffle(seed=0).select(range(min(limit, len(rows)))) for name, rows in asked.items()}
        texts = load_corpus(forget), load_corpus(retain)
        loaded, tokenizer = load_model(model, device=device, dtype=dtype)
        rows = run(loaded, tokenizer, *texts, configs, asked, out=out, ray=ray, workers=workers)
        varied = [name for name, values in {"method": methods, **given}.items() if len(values) > 1]
        table = Table(*varied, title=plain(f"Accuracy; {len(rows)} rows in {out}"))
        for name in asked:
            table.add_column(plain(name))
        for row in rows:
            setting = [plain(getattr(row.config, name, "")) if row.config else Text("base") for name in varied]
            table.add_row(*setting, *(row.scores[name].percent if row.scores else "diverged" for name in asked))
        console.print(table)


@app.command()
def advise(
    forget: Annotated[str, typer.Option(help="JSON Lines file of texts to forget, or a corpus of this course.")],
    retain: Annotated[str, typer.Option(help="JSON Lines file of texts to keep, or a corpus of this course.")],
    model: Annotated[str, typer.Option(help="Short name, folder or hub id.")] = "smollm2-135m",
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Propose layer, coefficient, beta, alpha, learning rate and steps for a model, with reasons, from one forward pass."""
    with clear_errors():
        from . import advise as propose
        from . import load_corpus, load_model

        texts = load_corpus(forget), load_corpus(retain)
        advice = propose(*load_model(model, device=device, dtype=dtype), *texts)
        table = Table("layer", "forget norm", "retain norm", "first token", "separability", title="Profile")
        for row in advice.profile:
            norms = (row.forget_norm, row.retain_norm, row.sink_norm)
            style = "bold" if row.layer == advice.layer else None
            table.add_row(str(row.layer), *(f"{norm:.4g}" for norm in norms), f"{row.separability:.2f}", style=style)
        console.print(table)
        table = Table("setting", "proposal", "why", title=plain(f"Advice for {model}"), show_lines=True)
        for name, reason in advice.reasons.items():
            table.add_row(name, f"{getattr(advice, name):g}", plain(reason))
        console.print(table)
        say(advice.confidence)
        settings = {name: f"{getattr(advice, name):g}" for name in ("layer", "beta", "alpha", "lr", "steps")}
        options = {"model": model, "forget": forget, "retain": retain, **settings, "dtype": dtype, "device": device}
        given = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
        say("The same as a command; choose another folder for --out if this one is there:")
        say(shlex.join(["rmu-lab", "unlearn", *given, "--out", ADVISED_OUT]))


app.command()(attack)
app.command()(claims)
app.command()(export)
app.command()(league)
app.command()(page)
app.command()(reproduce)
app.command()(tofu)


if __name__ == "__main__":
    sys.exit(app())

"""The command line of the page in the browser: ``rmu-lab page``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_edits import load_edit
from .cli_options import Device
from .cli_output import clear_errors, say, working
from .errors import RmuLabError

if TYPE_CHECKING:
    from .page import Topic
    from .unlearning.result import UnlearnResult


def page(
    out: Annotated[Path, typer.Option(help="New folder; with --serve also one that holds a page.")],
    edit: Annotated[
        list[Path] | None,
        typer.Option(help="Show this edit (of `unlearn` or save()) instead of two that are trained now; may be repeated."),
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option(help="A question on the topic of each --edit of your own, in their order.")
    ] = None,
    home: Annotated[str | None, typer.Option(help="Address that a link back leads to.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve it to this machine's browsers until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0: one that is free.")] = 8000,
    device: Device = None,
) -> None:
    """Write a page that runs SmolLM2 in the reader's browser, with a slider from the base to the unlearned model.

    The folder works on any static host. It needs no server of its own, and the page sends nothing anywhere.
    """
    with clear_errors():
        from .page.server import MANIFEST, serve_page
        from .page.topics import TOPICS

        if serve and not edit and (out / MANIFEST).is_file():
            say(f"{out} holds a page already, which is served as it is.")
        else:
            from .page import write_page

            edits = [load_edit(folder) for folder in edit or []]
            topics = _topics(edit or [], edits, question or []) if edit or question else TOPICS
            with working("Training and scoring two edits ..." if not edits else "Scoring the edits ..."):
                write_page(out, topics, edits=edits or None, home=home, device=device)
            say(f"Wrote the page to {out}; put it on any static host, or look at it with: rmu-lab page --out {out} --serve")
        if serve:
            serve_page(out, port, on_start=lambda address: say(f"Open {address} in a browser; Ctrl-C ends it."))


def _topics(folders: list[Path], edits: list[UnlearnResult], questions: list[str]) -> list[Topic]:
    """Find each edit's topic: one of the page's own, by its texts, or one named like the folder, with the next question."""
    from .corpora import load_corpus
    from .files import digest
    from .page.topics import TOPICS, Question, Topic

    known = {digest(load_corpus(topic.corpus)["text"]): topic for topic in TOPICS}
    left, topics = list(questions), list[Topic]()
    for folder, edit in zip(folders, edits, strict=True):
        texts = [value for role, value in edit.digests.items() if role.startswith("forget ")]
        topic = known.get(texts[0]) if len(texts) == 1 else None
        if topic is None:
            if not left:
                raise RmuLabError(
                    f"Nothing says what the edit {folder} is about; give a question on its topic with --question."
                )
            name = folder.resolve().name
            topic = Topic(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "edit", name, (Question(left.pop(0)),))
        topics.append(topic)
    if left:
        raise RmuLabError(
            f"No edit of your own is left for the question {left[0]!r}; give --edit with the edit's folder first."
        )
    return topics

"""The README's picture: a real model forgets a topic, keeps the rest, and one direction brings the topic back.

    python -m benchmarks.readme_picture [--json FILE] [--picture FILE]

``--json`` unlearns infectious disease at the demo's settings and stores what the model answers and scores before, after,
and with one direction taken out (five minutes on one core); all `test` questions. ``--picture`` draws what is stored.
"""

import argparse
import json
import textwrap
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from benchmarks.arguments import result_file
from rmu_lab import UnlearnConfig, accuracy, accuracy_change, answers, load_corpus, load_model, load_questions, unlearn
from rmu_lab.activations import edited_output
from rmu_lab.attacks import Budget, Recovery, Subject, ablate
from rmu_lab.attacks.ablate import find_shift
from rmu_lab.course.plots import GREY, ROLES, accuracy_axes, interval_bars, style
from rmu_lab.evaluate import Accuracy, AccuracyChange
from rmu_lab.files import data_folder, file_digest, write_json
from rmu_lab.provenance import provenance

DEMO = UnlearnConfig()  # what `rmu-lab demo` takes
TOPIC, OTHER = "infectious disease", "general knowledge"
SETS = {TOPIC: "bio", OTHER: "general"}
QUESTIONS = {TOPIC: "What is malaria and how does it spread?", OTHER: "How do volcanoes form?"}
STATES = ("before", "after", "one direction taken out")
STORED = data_folder() / "results" / "readme_picture.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "hidden_not_erased.png"

CARD, INK = "#f4f2ee", "#222222"
COLOURS = (INK, ROLES["steered"].colour, ROLES["direction"].colour)
INCHES, DPI = (10.0, 6.7), 200  # some 1000 pixels wide on a page, with two drawn for each


def measure() -> dict[str, Any]:
    """Train the edit, ask and score in the three states, and take random directions out for comparison."""
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    forget, retain = (load_corpus(name)["text"] for name in ("forget_bio", "retain_general"))
    result = unlearn(model, tokenizer, forget, retain, DEMO, progress=False)
    general = load_questions(SETS[OTHER], split="test")
    subject = Subject(model, tokenizer, result, load_questions(SETS[TOPIC], split="test"), forget=forget, n_generations=0)
    recovery = ablate(subject, Budget(progress=False))
    said, kept = [], []

    def ask() -> None:
        said.append(answers(model, tokenizer, list(QUESTIONS.values())))
        kept.append(accuracy(model, tokenizer, general, progress=False))

    ask()
    texts = forget[: recovery.details["texts"]]
    shift = find_shift(model, tokenizer, result, texts, DEMO.layer, recovery.details["max_length"])
    with result.applied(model):
        ask()
        with edited_output(model, DEMO.layer, shift.without(shift.direction)):
            ask()
    return {
        "settings": DEMO.to_dict(),
        "answers": {state: dict(zip(QUESTIONS, texts, strict=True)) for state, texts in zip(STATES, said, strict=True)},
        "before": subject.reference.base.to_dict(),
        "ablation": recovery.to_dict(),
        OTHER: {state: score.to_dict() for state, score in zip(STATES, kept, strict=True)},
    }


def scores_of(found: Mapping[str, Any]) -> dict[str, tuple[Accuracy, ...]]:
    """Read the accuracies of each set in the three states."""
    ablation = Recovery.from_dict(found["ablation"])
    topic = (Accuracy.from_dict(found["before"]), ablation.start, ablation.attacked)
    return {TOPIC: topic, OTHER: tuple(Accuracy.from_dict(found[OTHER][state]) for state in STATES)}


def random_direction(found: Mapping[str, Any]) -> float:
    """Mean accuracy on the topic with a random direction taken out instead of the found one."""
    _, *ends = Recovery.from_dict(found["ablation"]).controls["random direction"]
    return sum(end.accuracy for end in ends) / len(ends)


def alt_text(found: Mapping[str, Any]) -> str:
    """Say in words what the picture shows."""
    (topic, other), said = scores_of(found).values(), found["answers"]
    before, after, back = (f"{score.accuracy:.0%}" for score in topic)
    kept = [f"{score.accuracy:.0%}" for score in other]
    fact, babble = said["before"][TOPIC].split(",")[0], " ".join(said["after"][TOPIC].split()[:4])
    return (
        f"SmolLM2-135M before and after it unlearned infectious disease. Asked what malaria is, it first answers "
        f"“{fact} ...”, then “{babble} ...”; it explains both times how volcanoes form. Its accuracy on infectious disease "
        f"falls from {before} to {after}. With one direction taken out of the edited model it is {back}, with a random one "
        f"{random_direction(found):.0%}. On general knowledge it is {kept[0]}, {kept[1]} and {kept[2]}."
    )


def draw(found: Mapping[str, Any]) -> Figure:
    """Draw answers above, and below them accuracy in the three states."""
    style()
    figure = plt.figure(figsize=INCHES, facecolor="white", layout="none")
    large = {"fontsize": 15.5, "weight": "bold"}
    figure.text(0.03, 0.94, "A real language model forgets a topic and keeps its general knowledge.", color=INK, **large)
    hidden = "Remove one direction, and right choices come back: hidden, not erased."
    figure.text(0.03, 0.885, hidden, color=COLOURS[1], **large)
    for left, (name, question) in zip((0.03, 0.51), QUESTIONS.items(), strict=True):
        _card(figure, left, question, *(found["answers"][state][name] for state in STATES[:2]))
    _bars(figure.add_axes((0.08, 0.115, 0.83, 0.355)), found)
    about = f"SmolLM2-135M, Adaptive RMU, {DEMO.steps} steps; multiple-choice questions; 95% intervals"
    figure.text(0.97, 0.02, about, fontsize=9, color=GREY, ha="right")
    return figure


def _card(figure: Figure, left: float, question: str, before: str, after: str) -> None:
    """Draw a question with two answers."""
    bottom, width, height = 0.565, 0.46, 0.285
    round_corners = "round,pad=0,rounding_size=0.012"
    aspect = INCHES[0] / INCHES[1]
    figure.add_artist(
        FancyBboxPatch(
            (left, bottom), width, height, boxstyle=round_corners, facecolor=CARD, edgecolor="none", mutation_aspect=aspect
        )
    )
    figure.text(left + 0.015, bottom + 0.235, question, fontsize=12, weight="bold", color=INK)
    for top, label, answer, colour in ((0.205, "before", before, COLOURS[0]), (0.1, "after", after, COLOURS[1])):
        look = {"fontsize": 10.5, "color": colour, "va": "top", "linespacing": 1.3}
        figure.text(left + 0.015, bottom + top, label, weight="bold", **look)
        figure.text(left + 0.085, bottom + top, _shortened(answer), **look)


def _shortened(answer: str, width: int = 46, lines: int = 3) -> str:
    """Break an answer into lines; an ellipsis says where it is cut. Dollar signs would begin a formula."""
    return "\n".join(textwrap.wrap(answer, width, max_lines=lines, placeholder=" ...")).replace("$", r"\$")


def _bars(axes: Axes, found: Mapping[str, Any]) -> None:
    """Draw accuracy on the topic and on the rest, the control beside the attack, and what the attack recovers."""
    scores, recovery = scores_of(found), Recovery.from_dict(found["ablation"])
    width, step = 0.2, 0.215
    for place, (state, colour) in enumerate(zip(STATES, COLOURS, strict=True)):
        label = ("before unlearning", "after unlearning", f"then {state}")[place]
        places = [(place - 1.5) * step, 1 + (place - 1) * step]
        interval_bars(axes, places, [each[place] for each in scores.values()], colour, label, width)
    control = random_direction(found)
    look = {"color": "#dddddd", "edgecolor": GREY, "hatch": "///", "linewidth": 0}
    axes.bar(1.5 * step, control, width, label="then a random one taken out", **look)
    axes.text(1.5 * step, control + 0.02, f"{control:.0%}", ha="center", fontsize=10)
    _bracket(axes, -0.5 * step, 0.5 * step, 1.03, points(recovery.recovered))
    accuracy_axes(axes, [f"{name}: {len(each[0].correct)} questions" for name, each in scores.items()])
    axes.set(ylim=(0, 1.16), xlim=(-0.5, 1.4))
    axes.tick_params(axis="x", labelsize=11.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.48, 1.0), ncols=4, frameon=False, fontsize=10, columnspacing=1.2)


def _bracket(axes: Axes, left: float, right: float, height: float, text: str) -> None:
    axes.plot([left, left, right, right], [height - 0.03, height, height, height - 0.03], color=INK, linewidth=1.2)
    axes.text((left + right) / 2, height + 0.02, text, ha="center", fontsize=11, weight="bold", color=INK)


def points(change: AccuracyChange) -> str:
    """Write a change in whole points with its interval."""
    low, high = (100 * end for end in change.interval)
    return f"{100 * change.change:+.0f} points [{low:.0f}, {high:.0f}]"


def png_of(figure: Figure, source: str) -> bytes:
    """Draw sharply, with clear round corners, and note the digest of the numbers that were drawn."""
    drawn, noted, written = BytesIO(), PngInfo(), BytesIO()
    figure.savefig(drawn, dpi=DPI)
    noted.add_text("Source", source)
    picture = Image.open(drawn).convert("RGBA")
    card = Image.new("L", picture.size, 0)
    ImageDraw.Draw(card).rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), radius=40, fill=255)
    picture.putalpha(card)
    picture.save(written, "png", optimize=True, pnginfo=noted)
    return written.getvalue()


def main() -> None:
    """Measure and store, or draw what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=result_file, help="measure, and write the numbers to this file")
    parser.add_argument("--picture", type=Path, help="draw into this PNG file, from what is stored")
    arguments = parser.parse_args()
    if not (arguments.json or arguments.picture):
        parser.error("give --json FILE to measure, --picture FILE to draw, or both")
    stored = arguments.json or STORED
    if arguments.json:
        found = measure() | {"benchmark": "readme picture", "provenance": provenance(DEMO.seed)}
        write_json(stored, found)
    found = json.loads(stored.read_text(encoding="utf-8"))
    for name, (before, after, back) in scores_of(found).items():
        Console().print(f"{name}: {before}; {after}, {accuracy_change(before, after)}; back {accuracy_change(after, back)}")
    if arguments.picture:
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        arguments.picture.write_bytes(png_of(draw(found), file_digest(stored)))
        print(alt_text(found))


if __name__ == "__main__":
    main()

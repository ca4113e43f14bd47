"""The class kit: minutes that add up and agree with the plan, whole slides, and pictures that are still in the notebooks."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KIT = ROOT / "docs" / "class"
DECKS = sorted((KIT / "slides").glob("session_*.md"))
MADE = runpy.run_path(str(KIT / "slides" / "make_images.py"))


def sessions() -> dict[int, str]:
    parts = re.split(r"^## Session (\d)$", (KIT / "syllabus.md").read_text(encoding="utf-8"), flags=re.M)
    return {int(number): text.split("\n## ")[0] for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def room(text: str) -> str:
    return re.search(r"\*\*In the room\.\*\*(.*?)(?=\n\* \*\*)", text, re.S)[1]


def test_the_kit_has_five_sessions_and_a_deck_for_each():
    assert list(sessions()) == [1, 2, 3, 4, 5]
    assert [deck.stem for deck in DECKS] == [f"session_{number}" for number in range(1, 6)]
    assert all(f"slides/session_{number}.md" in text for number, text in sessions().items())


@pytest.mark.parametrize("number", range(1, 6))
def test_the_minutes_of_a_session_come_to_ninety(number):
    """A number behind a notebook's name is the sum of those that follow behind its colon."""
    text = room(sessions()[number])
    total = 0
    for part in re.split(r"\.(?:\s|$)(?=\s*(?:\[|Close|The end|Discussion|Verdicts|$))", text):
        head, _, rest = part.partition(":") if re.search(r"\(\d+\):", part) else (part, "", "")
        minutes = [int(each) for each in re.findall(r"\((\d+)\)", head)]
        total += sum(minutes)
        if rest:
            assert sum(map(int, re.findall(r"\((\d+)\)", rest))) == minutes[-1], part
    assert total == 90


def test_the_minutes_of_notebooks_are_those_of_the_plan():
    plan = (ROOT / "notebooks" / "five_sessions.md").read_text(encoding="utf-8")
    rows = {int(number): row for number, row in re.findall(r"^\| (\d) \| (.*?) \|", plan, re.M)}
    assert list(rows) == [1, 2, 3, 4, 5]
    for number, row in rows.items():
        minutes = re.sub(r"\((?!\d+\))[^)]*\)", "", room(sessions()[number]))
        found = [int(each) for each in re.findall(r"\((\d+)\)", minutes)]
        for wanted in map(int, re.findall(r"\((\d+)\)", row)):
            sums = {sum(found[start:end]) for start in range(len(found)) for end in range(start + 1, len(found) + 1)}
            assert wanted in sums, (number, wanted)


@pytest.mark.parametrize("deck", DECKS, ids=lambda deck: deck.stem)
def test_a_deck_is_whole(deck):
    text = deck.read_text(encoding="utf-8")
    first, *slides = re.split(r"^## ", text, flags=re.M)
    assert len(re.findall(r"^# ", text, re.M)) == 1 and first.startswith("# Session")
    assert 9 <= len(slides) <= 14
    titles = [slide.splitlines()[0] for slide in slides]
    assert any(title.startswith(("Predict", "Vote")) for title in titles)
    assert any(title.startswith("Discuss") for title in titles)
    for slide in (first, *slides):
        shown, _, notes = slide.partition(":::{revealjs-notes}")
        assert len(notes.split()) > 8, f"no notes: {slide[:40]}"
        assert len(re.sub(r"!\[.*?\]\(.*?\)(\{.*?\})?", "", shown).split()) <= 75, f"too many words: {slide[:40]}"
        assert all(len(line) <= 60 for code in re.findall(r"```python\n(.*?)```", shown, re.S) for line in code.splitlines())
    for alt, picture in re.findall(r"!\[(.*?)\]\((images/.*?)\)", text):
        assert len(alt) > 40 and (deck.parent / picture).is_file()


def test_every_picture_is_shown_is_small_and_is_still_in_its_notebook():
    shown = set(re.findall(r"images/(\w+)\.png", "".join(deck.read_text(encoding="utf-8") for deck in DECKS)))
    assert shown == set(MADE["PICTURES"]) == {path.stem for path in (KIT / "slides" / "images").glob("*.png")}
    assert all(path.stat().st_size <= MADE["LARGEST"] for path in (KIT / "slides" / "images").iterdir())
    for notebook, begins in MADE["PICTURES"].values():
        described = [alt for alt in MADE["figures"](ROOT / "notebooks" / f"{notebook}.ipynb") if alt.startswith(begins)]
        assert len(described) == 1, begins

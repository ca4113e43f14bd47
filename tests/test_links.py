"""Every link in a notebook or a page leads to a file that is there, and to a heading that is in it.

A notebook's headings get their ids by JupyterLab's rule: the text, with hyphens for blanks. Links to notebooks use these, so
all that stands in an id must be what a browser leaves as it is.
"""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from tests.test_notebooks import FOLDER, NOTEBOOKS

ROOT = FOLDER.parent
PAGES = sorted([*ROOT.glob("*.md"), *FOLDER.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md")])
LINK = re.compile(r"(?<!\\)\]\(<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?: \"[^\"]*\")?\)")


def text_of(path: Path) -> str:
    """What stands in a page; in a notebook, what it shows as Markdown as well."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", ())]
    return "\n\n".join(parts)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.S | re.M))


@cache
def headings(path: Path) -> tuple[str, ...]:
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text_of(path), flags=re.S | re.M)
    return tuple(re.findall(r"^#{1,6} +(.+?)\s*$", text, re.M))


def jupyterlab_id(heading: str) -> str:
    return heading.replace(" ", "-")


def github_id(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def ids(path: Path) -> set[str]:
    """By JupyterLab's rule, which the site has too; a page's only where GitHub's rule gives the same.

    What two headings share leads to one of them only, and is left out.
    """
    given = [jupyterlab_id(heading) for heading in headings(path)]
    if path.suffix == ".md":
        given = [each for each, heading in zip(given, headings(path), strict=True) if each == github_id(heading)]
    named = set(re.findall(r"^\(([\w-]+)\)=$|<a (?:id|name)=\"([\w-]+)\"", text_of(path), re.M))
    return {each for each in given if given.count(each) == 1} | {name for pair in named for name in pair if name}


def dead(path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(without_code(text_of(path))):
        target, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:|/", target):  # the web, attachments
            continue
        place = (path.parent / target).resolve() if target else path
        if not place.exists() or (anchor and place.suffix in (".ipynb", ".md") and anchor not in ids(place)):
            found.append(link)
    return found


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert dead(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_headings_have_ids_that_a_link_can_name(path):
    """Plain ASCII: no sign that a browser would write in another way, and no markup, which the id leaves out."""
    assert [heading for heading in headings(path) if not re.fullmatch(r"[\w .,:;?!'\"&+-]+", heading, re.ASCII)] == []


def test_a_dead_link_is_noticed(tmp_path):
    cell = nbformat.v4.new_markdown_cell(
        "# 1. A, and b?\n\n## Two\n\n## Two\n\n[v](#Two) [x](#1.-A,-and-b?) [y](#1.-a) [z](there.md#top) "
        "[u](there.md#end) [w](gone.md)"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    (tmp_path / "there.md").write_text(
        "# Top\n\n## end\n\n[n](one.ipynb#1.-A,-and-b?) `[code](none.md)` [web](https://example.org/#x)\n"
    )
    assert dead(tmp_path / "one.ipynb") == ["#Two", "#1.-a", "there.md#top", "gone.md"]
    assert dead(tmp_path / "there.md") == []

"""What the site is built by: addresses of pages, and the check of its links, which must see what is wrong."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.fixture
def docs(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    yield
    for name in ("check_links", "repository_pages", "notebook_pictures"):
        sys.modules.pop(name, None)


def written(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        path = folder / f"{name.replace('__', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<!doctype html><title>page</title><body>{body}")
    return folder


def found(site: Path) -> list[str]:
    from check_links import faults

    return faults(site)[0]


def test_a_sound_site_has_no_faults(docs, tmp_path):
    body = '<p id="Top-1"><a href="b/c.html#d">x</a><a href="#Top-1">x</a><a href="https://a.org">x</a><a href="b/">x</a>'
    site = written(
        tmp_path,
        index=body,
        b__c=f'<p id="d"><img src="{PIXEL}" alt="a dot"><a href="../index.html#Top%2D1">x</a>',
        b__index="",
    )
    from check_links import faults

    assert faults(site) == ([], 4)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads to no file"),
        ('<a href="../outside.html">x</a>', "leads to no file"),
        ('<a href="#nowhere">x</a>', "without the id 'nowhere'"),
        ('<img src="gone.png" alt="a figure">', "gone.png leads to no file"),
        (f'<img src="{PIXEL}">', "no alternative text"),
        (f'<img src="{PIXEL}" alt=" ">', "no alternative text"),
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js from another host"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "from another host"),
        ('<iframe src="https://cdn.example/"></iframe>', "from another host"),
    ],
)
def test_each_kind_of_fault_is_found(docs, tmp_path, body, sentence):
    site = written(tmp_path / "site", index=body)
    (tmp_path / "outside.html").write_text("not of the site")
    assert len(found(site)) == 1 and sentence in found(site)[0]


def test_style_sheets_are_followed(docs, tmp_path):
    site = written(tmp_path, index="")
    (site / "style.css").write_text(
        "/* url(old.png) */ a { background: url('gone.png') } b { background: url(https://cdn.example/f) }"
    )
    assert [sentence.partition(": ")[2] for sentence in found(site)] == [
        "gone.png leads to no file of the site.",
        "loads https://cdn.example/f from another host.",
    ]


def test_the_check_says_how_it_ended(docs, tmp_path, capsys):
    from check_links import main

    assert main(str(tmp_path)) == 1 and "make site" in capsys.readouterr().err
    assert main(str(written(tmp_path, index=""))) == 0
    assert main(str(written(tmp_path, index='<a href="gone.html">x</a>'))) == 1


def test_addresses_of_pages(docs):
    pytest.importorskip("sphinx", reason="Sphinx is not installed; `make site` installs it")
    from repository_pages import heading_id, page_name

    assert heading_id("2. Proposition 1: why?") == "2.-Proposition-1:-why?"
    names = {"README": "index", "data/README": "data/index", "docs/class/duel": "class/duel", "notebooks/00": "notebooks/00"}
    assert {docname: page_name(docname) for docname in names} == names

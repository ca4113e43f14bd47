"""What the site is built by: addresses of pages, and the check of its links, which must see what is wrong."""

import base64
import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
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


def test_style_sheets_of_pages_are_followed(docs, tmp_path):
    site = written(tmp_path, index='<link rel="stylesheet" href="style.css">')
    (site / "style.css").write_text("/* url(old.png) */ @import 'more.css'; a { background: url('gone.png') }")
    (site / "more.css").write_text("@import url(style.css); b { background: url(https://cdn.example/f) }")
    (site / "unused.css").write_text("a { background: url(https://cdn.example/unused) }")
    assert found(site) == [
        "style.css: gone.png leads to no file of the site.",
        "more.css: loads https://cdn.example/f from another host.",
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


def test_the_workflow_that_publishes_the_site_has_no_more_rights_than_it_needs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert "permissions" not in jobs["build"]
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert jobs["student"]["permissions"] == {"contents": "write"}
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)
    # Only the first job runs the repository's own code.
    assert not [
        step for name in ("publish", "student") for step in jobs[name]["steps"] if "checkout" in step.get("uses", "")
    ]


def test_launches_install_the_pinned_torch():
    pin = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    binder = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    assert f"torch=={pin}+cpu" in next(entry["pip"] for entry in binder["dependencies"] if isinstance(entry, dict))
    container = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    settings = json.loads(re.sub(r"^\s*//.*$", "", container, flags=re.M))
    assert f"torch=={pin} " in settings["postCreateCommand"]
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK)


def test_pictures_of_a_notebook_become_files_with_their_room_kept(docs, tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx is not installed; `make site` installs it")
    from docutils import nodes
    from docutils.utils import new_document
    from notebook_pictures import store_pictures

    png = io.BytesIO()
    Image.new("RGB", (30, 20)).save(png, "PNG")
    html = f'<img src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}" alt="bars" width="15">'
    document = new_document("notebook")
    document += nodes.raw("", html, format="html")
    current = SimpleNamespace(docname="notebooks/00")
    store_pictures(SimpleNamespace(env=SimpleNamespace(current_document=current), outdir=tmp_path), document)
    (picture,) = (tmp_path / "_images").iterdir()
    assert picture.read_bytes() == png.getvalue()
    shape = 'style="aspect-ratio: 30 / 20" loading="lazy"'
    assert document.astext() == f'<img {shape} src="../_images/{picture.name}" alt="bars" width="15">'

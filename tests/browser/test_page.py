"""The page in a reader's browser: SmolLM2 answers in it, and the slider moves it from the base to the unlearned model."""

import json
import re
import threading

import pytest

from rmu_lab.page import serve_page, write_page
from rmu_lab.page.topics import TOPICS
from tests.browser.jupyterlab import browser_page, chromium, screenshot

ANSWER_SECONDS = 60
"""That both answers have to be there, on a machine with other work."""
ANSWER_TOKENS = 6
READY = "The model is ready."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    chromium()  # before the minute that an edit takes
    return write_page(tmp_path_factory.mktemp("page") / "page", TOPICS[:1], scored=0, answer_tokens=ANSWER_TOKENS)


@pytest.fixture(scope="module")
def address(folder):
    started, found = threading.Event(), []
    on_start = lambda address: (found.append(address), started.set())  # noqa: E731
    # The folder above, so that the page lies below a path, as on many hosts.
    (folder.parent / "manifest.json").write_text("{}")
    threading.Thread(target=serve_page, args=(folder.parent, 0), kwargs={"on_start": on_start}, daemon=True).start()
    assert started.wait(10)
    return f"{found[0]}page/"


@pytest.fixture(scope="module")
def browser():
    with browser_page(chromium()) as page:
        yield page


@pytest.fixture
def page(browser, address):
    """The page as a first reader finds it; what it asks elsewhere and what the browser complains of is noted."""
    browser.set_viewport_size({"width": 1280, "height": 1000})
    complaints: list[str] = []
    note_request = lambda request: complaints.append(request.url) if not _own(request.url, address) else None  # noqa: E731
    note_console = lambda said: complaints.append(said.text) if said.type == "error" else None  # noqa: E731
    browser.on("request", note_request)
    browser.on("console", note_console)
    browser.goto(address)
    browser.locator("#load").wait_for()  # then the manifest is read
    yield browser
    browser.remove_listener("request", note_request)
    browser.remove_listener("console", note_console)
    browser.unroute_all()
    assert complaints == []


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "blob:" + address.split("/page/")[0], "data:"))


def answers(page) -> list[str]:
    return page.locator(".answer").all_inner_texts()


def tokens(page, panel: str) -> list[str]:
    return page.locator(f"#panel-{panel} .bars tbody th").all_inner_texts()


def load(page) -> None:
    page.get_by_role("button", name=re.compile("^(Load|Start) the model")).click()


def settled(page) -> None:
    """Wait until the model has answered; a move of the slider takes effect after a moment."""
    page.wait_for_timeout(400)
    page.locator("#status", has_text=READY).wait_for(timeout=1000 * ANSWER_SECONDS)


def set_strength(page, tenths: int) -> None:
    slider = page.get_by_role("slider", name=re.compile("Strength"))
    slider.press("Home")
    for _ in range(tenths):
        slider.press("ArrowRight")
    settled(page)


def test_the_slider_leads_from_the_base_to_the_unlearned_model(page):
    """Without a mouse from the first key to the last, as one who cannot use one."""
    slider = page.get_by_role("slider", name=re.compile("Strength"))
    assert slider.is_disabled()  # before a prediction
    page.get_by_role("radio", name="write no sensible sentence").first.press("Space")
    page.get_by_role("group", name=re.compile("something else")).get_by_role("radio", name="answer as before").press("Space")
    page.get_by_role("button", name="Record my prediction").press("Enter")
    page.get_by_role("button", name=re.compile("Load the model")).press("Enter")
    page.locator("#status", has_text=re.compile("writing|ready")).wait_for(timeout=1000 * ANSWER_SECONDS)
    settled(page)
    base, base_bars = answers(page), {name: tokens(page, name) for name in ("topic", "other")}
    assert base_bars["topic"][0] == "system" and base_bars["other"][0] == "Earth"
    assert page.get_by_role("heading", name="What happened").is_hidden()
    set_strength(page, 10)
    assert slider.get_attribute("aria-valuetext") == "1.0, the unlearned model"
    assert answers(page)[0] != base[0]
    assert "system" not in tokens(page, "topic")
    assert tokens(page, "other")[0] == "Earth"
    assert page.get_by_role("heading", name="What happened").is_visible()
    assert (
        "You predicted on infectious disease: that it writes no sensible sentence."
        in page.locator("#prediction").inner_text()
    )
    screenshot(page, "page-light")
    set_strength(page, 0)
    assert answers(page) == base
    page.locator("#panel-topic .question").select_option("own")
    own = page.get_by_role("textbox", name="Your own question")
    own.fill("What is two plus two? <b>&</b>")
    own.press("Enter")
    settled(page)
    assert answers(page)[0] not in ("", base[0])
    assert page.locator("#panel-topic .bars-title").inner_text() == "The answer begins with"
    shares = [int(share.strip("< %")) for share in page.locator("#panel-topic .share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 103


@pytest.mark.parametrize(
    ("file", "answer", "expected"),
    [
        ("manifest.json", {"status": 404}, r"manifest\.json could not be loaded: the server says 404"),
        ("manifest.json", {"body": "[]"}, "manifest.json is not the list of files that this page needs"),
        (
            "adapters/*/adapter.gguf",
            {"status": 404},
            r"adapter\.gguf could not be loaded: the server says 404\. .*whole folder",
        ),
        ("adapters/*/adapter.gguf", {"body": "short"}, "adapter.gguf has 5 bytes and not"),
        ("wllama/index.js", {"body": "x" * 2_000_000}, "wllama/index.js has .* bytes and not .* it was cut off or replaced"),
    ],
)
def test_a_file_that_is_missing_or_another_gives_a_sentence(browser, address, file, answer, expected):
    browser.evaluate("() => caches.delete('rmu-lab-page')")
    browser.route(f"**/{file}*", lambda route: route.fulfill(**answer))
    browser.route("**/model/*.gguf*", lambda route: route.abort())  # never as far as that
    browser.goto(address)
    if file != "manifest.json":
        load(browser)
    browser.get_by_role("alert").filter(has_text=re.compile(expected)).wait_for()
    browser.unroute_all()


def test_a_file_with_another_content_of_the_same_size_is_not_used(browser, address, folder):
    adapter = folder / "adapters" / TOPICS[0].id / "adapter.gguf"
    other = bytes(reversed(adapter.read_bytes()))
    browser.evaluate("() => caches.delete('rmu-lab-page')")
    browser.route("**/adapter.gguf*", lambda route: route.fulfill(body=other))
    browser.route("**/model/*.gguf*", lambda route: route.abort())
    browser.goto(address)
    load(browser)
    browser.get_by_role("alert").filter(has_text="adapter.gguf has another checksum than this page states").wait_for()
    browser.unroute_all()


def test_a_lost_connection_gives_a_sentence(browser, address):
    browser.evaluate("() => caches.delete('rmu-lab-page')")
    browser.route("**/*.gguf*", lambda route: route.abort())
    browser.goto(address)
    load(browser)
    browser.get_by_role("alert").filter(has_text="the connection failed. Check it, and load the page again.").wait_for()
    browser.unroute_all()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_scrolling_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_role("button", name="Go on without one").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    screenshot(page, f"page-{width}")


def test_dark_colours_by_the_system_and_by_choice(page):
    ground = "() => getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    page.locator("html[data-theme=dark]").wait_for()
    dark = page.evaluate(ground)
    button = page.get_by_role("button", name="Dark colours")
    assert dark != light and button.get_attribute("aria-pressed") == "true"
    button.click()
    assert page.evaluate(ground) == light and button.get_attribute("aria-pressed") == "false"
    page.reload()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="light")
    page.evaluate("() => localStorage.clear()")


def test_everything_to_use_has_a_name_and_shows_the_focus(page):
    """What a screen reader says, and where one is who moves with the keyboard."""
    names = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, output, progress")]
            .filter((each) => !each.closest("[hidden], template"))
            .map((each) => each.labels?.length ? each.labels[0].textContent : each.textContent)"""
    )
    assert len(names) > 10 and all(name.strip() for name in names)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the experiment"
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")
        reached.append(outline)
    assert {"theme", "load", "topic", "skip"} <= {name for name, _ in reached}
    assert all(style == "solid" for name, style in reached if name)


def test_the_manifest_is_what_the_page_says(page, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    said = page.locator("#colophon").inner_text()
    (topic,) = manifest["topics"]
    assert f"rank {topic['rank']}" in said and manifest["wllama"] in said and manifest["model"]["weights"] in said
    assert "suppression, not erasure" in page.locator("main").inner_text()

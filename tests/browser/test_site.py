"""The course's site in a reader's browser, on a desktop and on a telephone (``make site``, then ``make browser``)."""

import importlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.jupyterlab import ROOT, SCREENSHOTS, browser_page, chromium

SITE = ROOT / "build" / "site"
NOTEBOOK, NEXT = "notebooks/00_start_here.html", "notebooks/01_representations_and_rmu.html"
FORMULAS = "notebooks/02_confidence_reduction.html"
PAGES = (
    "index.html",
    "routes.html",
    NOTEBOOK,
    FORMULAS,
    "notebooks/10_scorecard.html",
    "guide/settings.html",
    "api/rmu_lab.html",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = light(getComputedStyle(document.querySelector("article p")).color);
  const page = light(getComputedStyle(document.body).backgroundColor);
  return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Reader:
    """A browser's page, and what went wrong on the pages it opened."""

    page: object
    address: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request", lambda request: self.leaves(request.url) and self.complaints.append(f"asked for {request.url}")
        )

    def leaves(self, url: str) -> bool:
        return not url.startswith((self.address, "data:", "blob:"))

    def open(self, name: str, size: tuple[int, int] = DESKTOP) -> None:
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.goto(f"{self.address}{name}", wait_until="load")

    def photograph(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"site_{name}.png")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    chromium()  # these checks, too, belong to the browser's, which `make test` skips
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built; `make browser` builds it first")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with browser_page(chromium()) as page:
        yield page


@pytest.fixture
def reader(browser, address) -> Iterator[Reader]:
    """A new window, without the choices of the last one."""
    context = browser.context.browser.new_context(color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield Reader(page, address)
    context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_its_window_and_needs_no_other_host(reader, name, size):
    reader.open(name, size)
    assert reader.page.locator("article h1").first.inner_text().strip()
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for picture in reader.page.locator("article img").all():
        picture.scroll_into_view_if_needed()
        assert picture.get_attribute("alt").strip()
        reader.page.wait_for_function(
            "picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle()
        )
    reader.page.evaluate("window.scrollTo(0, 0)")
    reader.photograph(f"{name.removesuffix('.html').replace('/', '_')}_{size[0]}")
    assert not reader.complaints


def test_formulas_are_set(reader):
    reader.open(FORMULAS)
    reader.page.locator("mjx-container").first.wait_for()
    reader.page.wait_for_function(
        "document.querySelectorAll('mjx-container').length >= document.querySelectorAll('.math').length"
    )
    assert reader.page.locator("mjx-merror").count() == 0
    assert not reader.complaints


def test_search_finds_the_coefficient(reader):
    reader.open("index.html")
    field_ = reader.page.locator(".sidebar-search")
    field_.fill("coefficient")
    field_.press("Enter")
    results = reader.page.locator("#search-results ul.search li a")
    results.first.wait_for()
    reader.page.locator(".search-summary", has_text="page").wait_for()
    found = {
        address.split("#")[0].split("?")[0].split("/")[-1] for address in results.evaluate_all("all => all.map(a => a.href)")
    }
    assert "03_coefficient_effects.html" in found
    reader.photograph("search_1280")
    results.first.click()
    reader.page.locator("article h1").first.wait_for()
    assert "coefficient" in reader.page.locator("article").inner_text().lower()
    assert not reader.complaints


def test_dark_is_dark_and_stays_so(reader):
    reader.open(NOTEBOOK)
    light = reader.page.evaluate(BACKGROUND)
    for _ in range(3):  # from the system's choice to light to dark
        if reader.page.locator("body").get_attribute("data-theme") == "dark":
            break
        reader.page.locator(".theme-toggle-content button").click()
    dark = reader.page.evaluate(BACKGROUND)
    assert min(light) > 200 and max(dark) < 60
    assert reader.page.evaluate(CONTRAST) > 7
    reader.open(NEXT)
    assert reader.page.evaluate(BACKGROUND) == dark
    reader.page.locator(".cell_output img").first.scroll_into_view_if_needed()
    assert (
        reader.page.locator(".cell_output img").first.evaluate("img => getComputedStyle(img).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    reader.photograph("dark_1280")
    assert not reader.complaints


def test_next_and_previous_follow_the_course(reader):
    reader.open(NOTEBOOK)
    reader.page.locator("a.next-page").click()
    reader.page.wait_for_url(f"**/{NEXT}")
    reader.page.locator("a.prev-page").click()
    reader.page.wait_for_url(f"**/{NOTEBOOK}")


def test_a_telephone_opens_the_contents(reader):
    reader.open("index.html", PHONE)
    link = reader.page.get_by_role("link", name="03 Coefficient effects", exact=True)
    assert not link.is_visible() or link.bounding_box()["x"] < 0
    reader.page.locator(".nav-overlay-icon").click()
    reader.page.wait_for_function("link => link.getBoundingClientRect().x >= 0", arg=link.element_handle())
    reader.photograph("contents_390")
    link.click()
    reader.page.wait_for_url("**/notebooks/03_coefficient_effects.html")


def test_a_link_to_a_heading_reaches_it(reader):
    reader.open(f"{NOTEBOOK}#Map-of-the-course")
    reader.page.wait_for_function("Math.abs(document.getElementById('Map-of-the-course').getBoundingClientRect().top) < 200")


def test_the_front_page_leads_to_the_model_in_the_browser(reader):
    reader.open("index.html")
    reader.page.get_by_role("link", name="Try it in your browser").last.click()
    frame = reader.page.frame_locator("iframe.try")
    frame.locator("h1").first.wait_for()
    reader.photograph("try_1280")


@pytest.mark.parametrize("session", range(1, 6))
def test_each_slide_of_a_deck_fits(reader, session):
    """At the size that slides are made for."""
    reader.open(f"class/slides/session_{session}.html", (1280, 720))
    reader.page.wait_for_function("window.Reveal && Reveal.isReady()")
    slides = reader.page.evaluate("Reveal.getTotalSlides()")
    assert slides >= 5
    for number in range(slides):
        width, height = reader.page.evaluate(
            "(({scrollWidth, scrollHeight}) => [scrollWidth, scrollHeight])(Reveal.getCurrentSlide())"
        )
        assert width <= 1280 and height <= 720, f"slide {number + 1} needs {width} x {height}"
        reader.page.evaluate("Reveal.next()")
    assert not reader.complaints


@pytest.mark.parametrize(
    "module",
    ["", ".attacks", ".theory", ".study", ".course", ".unlearning.baselines", ".unlearning.successors"],
    ids=lambda name: f"rmu_lab{name}",
)
def test_every_public_name_is_in_the_reference(address, module):
    inventory = pytest.importorskip("sphinx.util.inventory").InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="")
    listed = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    package = importlib.import_module(f"rmu_lab{module}")
    # What is no class and no function, such as ATTACKS, has no docstring, and stands in the module's own words.
    described = {name for name in package.__all__ if callable(getattr(package, name))}
    assert described and not {name for name in described if not {f"rmu_lab{module}.{name}", f"rmu_lab.{name}"} & listed}

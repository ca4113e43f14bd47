"""The notebooks as they are committed, opened in JupyterLab: links to headings, pictures' texts, and nothing to save."""

import platform
import shutil
import time

import pytest
from nbformat import NO_CONVERT, read

from rmu_lab.course.editions import notebooks_folder
from tests.browser.jupyterlab import (
    LAB_SECONDS,
    NOTEBOOK,
    browser_page,
    choose,
    chromium,
    open_notebook,
    running_lab,
    screenshot,
)

LEADS_TO = ("08_comparing_methods.ipynb", "07_knowledge_recovery.ipynb", "5. Ten attacks and a card")
"""A notebook with a link, the other notebook that it leads to, and the heading there."""


@pytest.fixture(scope="module")
def page():
    with browser_page(chromium()) as page:
        yield page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the notebooks, in which a test may save."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(notebooks_folder(), folder, ignore=shutil.ignore_patterns(".*"))
    return folder


@pytest.fixture(scope="module")
def lab(page, folder, tmp_path_factory):
    with running_lab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield address


IN_VIEW = """([notebook, heading]) => {
    const title = [...document.querySelectorAll(`${notebook} h2`)].find(each => each.textContent.includes(heading));
    const box = title && title.getBoundingClientRect();
    return box && box.top >= 0 && box.bottom <= innerHeight;
}"""


def test_a_link_leads_to_a_heading_of_another_notebook(lab, page):
    """JupyterLab may open a notebook at its top where it is slow to draw it; the next click then leads to the heading."""
    source, target, heading = LEADS_TO
    open_notebook(page, lab, source)
    link = page.locator(f'{NOTEBOOK} a[href*="{target}"][href$="#{heading.replace(" ", "-")}"]').first
    link.click()
    page.locator(f"{NOTEBOOK} h2", has_text=heading).wait_for(timeout=1000 * LAB_SECONDS)
    page.wait_for_timeout(5000)
    if not page.evaluate(IN_VIEW, [NOTEBOOK, heading]):
        page.locator(".lm-TabBar-tab", has=page.get_by_text(source)).last.click()
        link.click()
    page.wait_for_function(IN_VIEW, arg=[NOTEBOOK, heading], timeout=1000 * LAB_SECONDS)
    screenshot(page, "link-to-heading")


def test_pictures_that_are_stored_have_their_text(lab, page):
    """Before anything was run, when JupyterLab trusts nothing in the file."""
    open_notebook(page, lab, "00_start_here.ipynb")
    pictures = page.locator(f"{NOTEBOOK} .jp-OutputArea-output img")
    pictures.first.wait_for()
    stored = str(read(notebooks_folder() / "00_start_here.ipynb", as_version=4)).count("<img ")
    assert pictures.count() == stored
    texts = pictures.evaluate_all("pictures => pictures.map(each => [each.alt, each.naturalWidth, each.clientWidth])")
    assert all(len(alt) > 30 and drawn >= 2 * shown - 1 > 100 for alt, drawn, shown in texts)
    screenshot(page, "00-stored")


@pytest.mark.parametrize("name", ["00_start_here.ipynb", "09_scaling_up.ipynb"])
def test_a_notebook_that_is_opened_and_saved_stays_the_same(lab, page, folder, name):
    path = folder / name
    version = read(path, as_version=NO_CONVERT).metadata.language_info.version
    if version != platform.python_version():
        pytest.skip(f"JupyterLab notes that this Python is not {version}, which ran the notebook")
    before = path.read_bytes()
    open_notebook(page, lab, name)
    assert page.locator(".jp-mod-dirty").count() == 0
    path.unlink()  # what is there in the end was saved
    choose(page, "File", "Save Notebook")
    deadline = time.monotonic() + LAB_SECONDS
    while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    page.wait_for_timeout(500)
    assert path.read_bytes() == before

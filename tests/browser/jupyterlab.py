"""JupyterLab on this machine alone, and what a reader does in it: open a notebook, run it, turn its knobs, look."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
HOW = "pip install 'rmu-lab[browser]' and apt-get install -y chromium; then make browser"
LAB_SECONDS = 120
"""That JupyterLab has to start, and a page of it to be drawn, on a machine with other work."""
CLICK_SECONDS = 30
"""That a thing on a page has to be there and to answer."""
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"
KINDS = ("stderr", "error")
ERRORS = ", ".join(f'{NOTEBOOK} .jp-OutputArea-output[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in KINDS)

QUIET = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are in the page, too
}


def chromium() -> str:
    """The browser's path; a test is skipped, with what to install, if there is none."""
    pytest.importorskip("playwright", reason=f"Playwright is not installed ({HOW})")
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip(f"there is no Chromium ({HOW})")
    return found


@contextmanager
def browser_page(path: str) -> Iterator[Page]:
    """A page of a Chromium without a window; it reaches no other machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox does not work for root, as in containers; it opens pages of this machine only.
        arguments = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
        with playwright.chromium.launch(executable_path=path, args=arguments) as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(1000 * CLICK_SECONDS)
            page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: route.abort())
            yield page


@contextmanager
def running_lab(folder: Path, scratch: Path) -> Iterator[str]:
    """Start JupyterLab on a free port of the loopback address, and give its address with a token.

    Parameters
    ----------
    folder
        that it shows.
    scratch
        empty folder for its settings and records, so that the user's own play no part.
    """
    settings = scratch / "settings"
    for name, values in QUIET.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    token, runtime = secrets.token_hex(16), scratch / "runtime"
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_TOKEN": token,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "workspaces"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    with (scratch / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder}"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"{_address(server, runtime, scratch / 'log')}lab/tree/{{}}?reset&token={token}"
        finally:
            server.send_signal(signal.SIGTERM)  # it ends its kernels
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """The address that a server writes down once it listens."""
    deadline = time.monotonic() + LAB_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())["url"]
            except (ValueError, KeyError):  # it is being written
                pass
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text(errors='replace')[-2000:]}")


# -- what a reader does -----------------------------------------------------------------------------------------------


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook, and wait until its kernel can be used."""
    page.goto(address.format(quote(name)), timeout=1000 * LAB_SECONDS)
    page.locator(f"{NOTEBOOK} .jp-Cell").first.wait_for(timeout=1000 * LAB_SECONDS)
    # The circle beside it is called idle even before a kernel was started, and what is run then asks for one.
    page.locator("#jp-bottom-panel, #jp-main-statusbar").get_by_text(re.compile(r"^Python 3.*\| Idle$")).first.wait_for(
        timeout=1000 * LAB_SECONDS
    )


def choose(page: Page, menu: str, *entries: str) -> None:
    """Choose an entry of a menu."""
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    for entry in entries:  # each but the last opens a menu of its own
        item = page.locator(".lm-Menu-item", has=page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")))
        item.last.click()


def code_cells(page: Page) -> Locator:
    """The code cells of the notebook, from top to bottom."""
    return page.locator(f"{NOTEBOOK} .jp-CodeCell")


def show_sources(page: Page) -> None:
    """Expand all code: a cell that shows a finding hides its source, and its prompt with it."""
    choose(page, "View", "Expand All Code")


def run_all(page: Page, seconds: float) -> None:
    """Run all cells, and wait until the last one is done."""
    show_sources(page)
    choose(page, "Run", "Run All Cells")
    page.wait_for_function(
        """notebook => {
            const cells = [...document.querySelectorAll(`${notebook} .jp-CodeCell`)];
            const idle = document.querySelector(`${notebook} .jp-Notebook-ExecutionIndicator[data-status=idle]`);
            const done = (cell) => /\\[\\d+\\]/.test(cell.querySelector(".jp-InputPrompt").textContent)
                || !cell.querySelector(".cm-content").textContent.trim();
            return idle && cells.length && cells.every(done);
        }""",
        arg=NOTEBOOK,
        timeout=1000 * seconds,
        polling=500,  # else the page asks itself at every frame, and takes the kernel's time
    )


def cell_with(page: Page, words: str) -> Locator:
    """The first code cell in whose source some words stand."""
    return code_cells(page).filter(has=page.locator(".cm-content", has_text=words)).first


def shown_by(cell: Locator) -> str:
    """What a cell's widgets show, texts and the contents of pictures, but for the knobs and what stands beside them."""
    parts = """areas => areas.map(area => {
        const copy = area.cloneNode(true);
        copy.querySelectorAll(".widget-slider, .widget-button, .jupyter-button, input, textarea").forEach(e => e.remove());
        return copy.textContent + [...copy.querySelectorAll("img")].map(image => image.src).join();
    }).join()"""
    return str(cell.locator(".jp-OutputArea-output").evaluate_all(parts))


def changed(cell: Locator, before: str, seconds: float = 60) -> None:
    """Wait until a cell's widgets show something else than before, as `shown_by` gave it, and say no more that they work.

    Raises
    ------
    AssertionError
        if they do not within the time: a generous one, since a model may have to answer.
    """
    deadline = time.monotonic() + seconds
    working = cell.locator("[role=status]", has_text=re.compile(r"^The model is \w+ \.\.\.$"))
    while shown_by(cell) == before or working.count():
        assert time.monotonic() < deadline, f"The widget shows the same after {seconds:g} seconds: {before[:200]}"
        cell.page.wait_for_timeout(200)


def errors(page: Page) -> list[str]:
    """What cells wrote to their error stream: exceptions and warnings."""
    return page.locator(ERRORS).all_inner_texts()


def with_outputs(page: Page) -> list[int]:
    """The code cells, counted from 0, that show an output."""
    shown = """cells => cells.map((cell, index) => cell.querySelector(".jp-OutputArea-child") ? index : -1)"""
    return [index for index in code_cells(page).evaluate_all(shown) if index >= 0]


def widgets_of(cell: Locator) -> Locator:
    """Sliders and buttons that a cell shows."""
    return cell.locator(".jp-OutputArea").locator(".noUi-handle, .widget-button, .jupyter-button, input[type=radio]")


def move_slider(slider: Locator, steps: int) -> str:
    """Move a slider by steps with the arrow keys, as one does without a mouse, and give the value it then shows."""
    slider.focus()
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")
    return slider.get_attribute("aria-valuetext") or ""


def record_prediction(cell: Locator, choice: str | None = None, steps: int = 2) -> None:
    """Record a guess in a cell that calls `predict`: press a choice's button, or move all sliders and press the last."""
    buttons = cell.locator(".jp-OutputArea .widget-button, .jp-OutputArea .jupyter-button")
    if choice is not None:
        buttons.filter(has_text=choice).first.click()
        return
    for slider in cell.locator(".jp-OutputArea .noUi-handle").all():
        move_slider(slider, steps)
    if buttons.count():
        settle(cell.page)
        buttons.last.click()


def settle(page: Page) -> None:
    """Wait until the kernel has heard of a slider: it is told of the last move only when it is done with those before."""
    page.wait_for_timeout(300)
    page.locator(f"{NOTEBOOK} .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()


def use_theme(page: Page, name: str) -> None:
    """Choose a theme, such as "JupyterLab Dark"."""
    choose(page, "Settings", "Theme", name)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
    page.locator("#jupyterlab-splash").wait_for(state="detached")  # the moons that circle over it meanwhile


def screenshot(page: Page, name: str, of: Locator | None = None) -> Path:
    """Store what is seen, or a part of it, below build/screenshots, which git ignores."""
    path = SCREENSHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    shot: Any = page if of is None else of
    shot.screenshot(path=path)
    return path

"""The course in a reader's hands: JupyterLab in a browser (``make browser``; without a browser all of this is skipped)."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rmu_lab.course.editions import notebooks_folder, write_edition
from tests.browser.excerpt import cells_needed
from tests.browser.jupyterlab import (
    NOTEBOOK,
    browser_page,
    cell_with,
    changed,
    chromium,
    code_cells,
    errors,
    move_slider,
    open_notebook,
    record_prediction,
    run_all,
    running_lab,
    screenshot,
    settle,
    shown_by,
    use_theme,
    widgets_of,
    with_outputs,
)
from tests.test_committed import LIVE

START = "00_start_here.ipynb"
FIGURES = f"{NOTEBOOK} .jp-OutputArea-output img"
START_SECONDS = 900
"""That notebook 00 has, on a machine with other work; alone it takes one or two minutes."""

WIDGETS = {
    "01_representations_and_rmu.ipynb": "course.token_colours(",
    "02_confidence_reduction.ipynb": "course.turning_explorer(",
    "03_coefficient_effects.ipynb": "course.toy_rmu(",
    "04_rmu_training.ipynb": "film_slider(",
    "05_adaptive_rmu.ipynb": "course.toy_rmu(",
}
"""A live widget of each lesson, by the call that makes it."""

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
}  # else JupyterLab asks for one
KNOBS = """
import ipywidgets
from IPython.display import display

slider = ipywidgets.IntSlider(value=3, min=0, max=10, description="guess")
button, said = ipywidgets.Button(description="Record"), ipywidgets.Label()
button.on_click(lambda _: setattr(said, "value", f"recorded {slider.value}"))
display(slider, button, said)
"""


@pytest.fixture(scope="module")
def page():
    with browser_page(chromium()) as page:
        yield page


@pytest.fixture(scope="module")
def lab(page, tmp_path_factory):
    """The student edition, in which no cell shows anything before it is run, and a notebook with knobs."""
    folder = tmp_path_factory.mktemp("lab") / "course"
    write_edition(folder, "student")
    cells = [new_markdown_cell("# Knobs"), new_code_cell(KNOBS), new_code_cell("1 / 0")]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "knobs.ipynb")
    for name, call in WIDGETS.items():
        lesson = nbformat.read(folder / name, as_version=4)
        nbformat.write(cells_needed(lesson, call), folder / f"widget_of_{name}")
    with running_lab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield address


def test_knobs_can_be_turned_without_a_mouse(lab, page):
    """What the checks below rest on, on a notebook without a model."""
    open_notebook(page, lab, "knobs.ipynb")
    assert with_outputs(page) == []
    run_all(page, 120)
    assert with_outputs(page) == [0, 1]
    assert len(errors(page)) == 1 and "ZeroDivisionError" in errors(page)[0]
    cell = code_cells(page).first
    assert widgets_of(cell).count() == 2
    assert float(move_slider(widgets_of(cell).first, -2)) == 1
    record_prediction(cell, steps=3)
    cell.get_by_text("recorded 4").wait_for()
    use_theme(page, "JupyterLab Dark")
    assert screenshot(page, "knobs-dark").stat().st_size > 1000
    use_theme(page, "JupyterLab Light")


@pytest.fixture(scope="module")
def start(lab, page):
    """Notebook 00, run from top to bottom."""
    open_notebook(page, lab, START)
    assert with_outputs(page) == []
    run_all(page, START_SECONDS)
    return page


def lesson() -> list:
    return [cell for cell in nbformat.read(notebooks_folder() / START, as_version=4).cells if cell.cell_type == "code"]


def tagged(tag: str) -> list[int]:
    """Code cells of notebook 00 with a tag, counted as in the edition, where one that installs the package comes first."""
    return [1 + place for place, cell in enumerate(lesson()) if tag in cell.metadata.get("tags", [])]


@pytest.mark.slow
def test_every_cell_that_shows_something_shows_it(start):
    expected = {1 + place for place, cell in enumerate(lesson()) if cell.outputs}
    widgets = {1 + place for place, cell in enumerate(lesson()) if LIVE.search(cell.source)}  # not stored
    assert set(with_outputs(start)) == expected | widgets
    assert errors(start) == []
    figures = start.locator(FIGURES)
    assert figures.count() >= 1
    screenshot(start, "00-figure", of=figures.first)


@pytest.mark.slow
def test_pictures_have_text_for_who_cannot_see_them(start):
    assert all(figure.get_attribute("alt") for figure in start.locator(FIGURES).all())


@pytest.mark.slow
def test_a_prediction_is_recorded(start):
    places = tagged("prediction")
    if not places:
        pytest.skip("notebook 00 asks for no prediction yet")
    cell = code_cells(start).nth(places[0])
    if cell.locator(".jp-OutputArea .noUi-handle").count():
        record_prediction(cell)
    else:
        record_prediction(cell, choice="")
    screenshot(start, "00-prediction", of=cell)
    assert errors(start) == []


@pytest.mark.slow
def test_a_slider_changes_the_answers(start):
    cell = cell_with(start, "strength_slider(")
    before, slider = shown_by(cell), cell.locator(".noUi-handle").first
    move_slider(slider, 9)
    changed(cell, before)
    screenshot(start, "00-strength", of=cell)
    assert errors(start) == []


@pytest.mark.slow
def test_it_can_be_read_in_the_dark(start):
    use_theme(start, "JupyterLab Dark")
    screenshot(start, "00-dark")
    assert errors(start) == []
    use_theme(start, "JupyterLab Light")


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_of_each_lesson_answers(lab, page, name):
    """In the cells of the lesson that the widget needs; nbval runs the whole lesson."""
    open_notebook(page, lab, f"widget_of_{name}")
    run_all(page, START_SECONDS)
    cell = cell_with(page, WIDGETS[name])
    before, text = shown_by(cell), cell.locator(".jp-OutputArea textarea, .jp-OutputArea input[type=text]")
    if text.count():
        text.first.fill("The opera opens at nine. Malaria is spread by mosquitoes.")
        widgets_of(cell).last.click()
    else:
        move_slider(cell.locator(".jp-OutputArea .noUi-handle").first, -1)
        settle(page)
        if shown_by(cell) == before:  # it stood at its end
            move_slider(cell.locator(".jp-OutputArea .noUi-handle").first, 1)
    changed(cell, before)
    assert errors(page) == []
    for theme in ("Light", "Dark"):
        use_theme(page, f"JupyterLab {theme}")
        screenshot(page, f"{name[:2]}-widget-{theme.lower()}", of=cell)
    use_theme(page, "JupyterLab Light")

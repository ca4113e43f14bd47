"""Build the course's site: `python docs/build.py [FOLDER]`, by default into build/site. `make site` installs what it needs.

1. The pages, by Sphinx, from the notebooks as they are committed (nothing is executed) and the Markdown beside them.
2. The slides of the class kit, by Sphinx and reveal.js.
3. The page that runs the model in a reader's browser, by `rmu-lab page`.
4. A check that every link leads somewhere, and that no page needs another host.

A warning or a fault of any step is an error.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from check_links import main as check_links

ROOT = Path(__file__).resolve().parents[1]
DECKS = ROOT / "docs" / "class" / "slides"


def sphinx(builder: str, source: Path, settings: Path, target: Path, work: Path, jobs: int = 1) -> None:
    """Run Sphinx anew, with warnings as errors.

    Parameters
    ----------
    builder
        Sphinx's name of the form of the output.
    source
        folder of the sources.
    settings
        folder with the conf.py.
    target
        folder to write to.
    work
        folder for parsed documents.
    jobs
        processes that read and write documents.

    Raises
    ------
    subprocess.CalledProcessError
        if a page has a warning or an error, which Sphinx has printed.
    """
    options = ["-q", "-E", "-W", "--keep-going", "-j", str(jobs), "-b", builder, "-c", str(settings), "-d", str(work)]
    subprocess.run([sys.executable, "-m", "sphinx", *options, str(source), str(target)], check=True)


def build(site: Path) -> int:
    """Build the whole site anew, and check it.

    Parameters
    ----------
    site
        folder to write to; what lies there is removed.

    Returns
    -------
    int
        0 if no link is broken, else 1.

    Raises
    ------
    subprocess.CalledProcessError
        if a step fails; it has said why.
    """
    work = site.with_name(site.name + "-work")
    shutil.rmtree(site, ignore_errors=True)
    sphinx("html", ROOT, ROOT / "docs", site, work / "pages", jobs=2)
    if any(DECKS.glob("*.md")):
        sphinx("revealjs", DECKS, ROOT / "docs" / "slides", site / "class" / "slides", work / "slides")
    page = ["page", "--out", str(site / "page"), "--home", "../index.html"]
    subprocess.run([sys.executable, "-m", "rmu_lab", *page], check=True)
    (site / ".nojekyll").touch()  # or GitHub Pages leaves out folders that start with an underscore
    return check_links(str(site))


if __name__ == "__main__":
    try:
        sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()))
    except subprocess.CalledProcessError as error:
        sys.exit(f"The site is not built: {error.cmd[2]} ended with {error.returncode}, and what it printed says why.")

"""MathJax from a package, so that a reader without a network sees formulas too. Only what pages load is copied."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx

LOADED = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")
"""The renderer, the extensions that it loads when a formula needs one, and its fonts."""


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy MathJax beside the pages."""
    if error:
        return
    spec = find_spec("sphinx-mathjax-offline")
    source = Path(spec.submodule_search_locations[0], "static", "mathjax")
    for name in LOADED:
        target = Path(app.outdir, "_static", "mathjax", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / name, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

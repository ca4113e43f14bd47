"""How Sphinx builds the slides of the class kit: one reveal.js deck for each file of `docs/class/slides`.

A link `[notebook 05](course:notebooks/05_adaptive_rmu.html)` leads to a page of the site. No other host is asked for
anything: reveal.js comes with sphinx-revealjs, MathJax as on the site.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_extensions"))

project = "rmu-lab"
language = "en"
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_revealjs", "offline_mathjax"]
root_doc = "session_1"
include_patterns = ["*.md"]
suppress_warnings = ["toc.not_included"]  # each deck stands alone
nitpicky = True

myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "dollarmath"]
myst_url_schemes = {"http": None, "https": None, "mailto": None, "course": "../../{{path}}#{{fragment}}"}

html_copy_source = False
html_favicon = "../_static/favicon.svg"
revealjs_style_theme = "white"
revealjs_use_section_ids = True
revealjs_static_path = ["../_static"]
revealjs_css_files = ["slides.css"]
revealjs_script_conf = {"width": 1280, "height": 720, "hash": True, "slideNumber": "c/t", "transition": "none"}
revealjs_script_plugins = [
    {"src": "revealjs/plugin/notes/notes.js", "name": "RevealNotes"},
    {"src": "revealjs/plugin/highlight/highlight.js", "name": "RevealHighlight"},
]

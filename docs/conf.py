"""How Sphinx builds the course's site: from the repository's own files, as they are committed.

The sources lie where the repository keeps them (`notebooks/`, `docs/`, `README.md`, ...), so that a link between two
files means the same on the site, in JupyterLab and on a code host. `make site` builds everything; `docs/build.py` says how.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_extensions"))

# Where the repository is published, as OWNER/NAME. GitHub's workflows set GITHUB_REPOSITORY. Unset, the site has no
# links to edit a page, or to open a notebook on Colab or Binder.
REPOSITORY = os.environ.get("RMU_LAB_REPOSITORY") or os.environ.get("GITHUB_REPOSITORY") or ""

project = "rmu-lab"
author = "The rmu-lab authors"
copyright = "The rmu-lab authors, Apache-2.0"
version = release = metadata.version("rmu-lab")
language = "en"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "repository_pages",
    "notebook_pictures",
    "offline_mathjax",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
root_doc = "README"
include_patterns = ["*.md", "notebooks/**", "docs/**", "data/README.md", "benchmarks/*.md"]
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "rmu_lab",
    "tests",
    "docs/_*",
    "docs/slides",
    "docs/class/slides",  # a build of its own, see docs/slides/conf.py
    "**/.ipynb_checkpoints",
]
templates_path = ["_templates"]
nitpicky = True
# Names of other packages are not looked up: that would need the network. Types in signatures may be internal ones.
nitpick_ignore_regex = [("py:.*", r"(?!rmu_lab\b).*"), ("py:class", ".*")]
default_role = "code"

# Markdown, as JupyterLab reads it.
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "repository_pages.heading_id"
myst_dmath_double_inline = True

# Notebooks: their committed outputs, never executed here.
nb_execution_mode = "off"
nb_render_markdown_format = "gfm"
nb_ipywidgets_js = {}  # widgets need a kernel; their state is not stored, and the library would come from another host
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True

# Docstrings.
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autosummary_generate = False
numpydoc_show_class_members = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

SIDEBAR = {
    "color-sidebar-link-text": "var(--color-foreground-primary)",
    "color-sidebar-link-text--top-level": "var(--color-foreground-primary)",
}
html_theme = "furo"
html_title = "rmu-lab"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#a34700", "color-brand-content": "#a34700"} | SIDEBAR,
    "dark_css_variables": {"color-brand-primary": "#f3a65a", "color-brand-content": "#f3a65a"} | SIDEBAR,
}
html_context = {"repository": REPOSITORY, "launch_branch": "student"}
if REPOSITORY:
    html_theme_options |= {"source_repository": f"https://github.com/{REPOSITORY}/", "source_branch": "main"}
copybutton_exclude = ".linenos, .gp, .go"

"""Alternative texts of figures: Jupyter keeps them in an output's metadata, where Sphinx does not look."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path, PurePosixPath

import nbformat
from docutils import nodes
from sphinx.application import Sphinx


def descriptions(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return the alternative text of each picture of a notebook, by the picture's SHA-256.

    Parameters
    ----------
    notebook
        with its outputs.

    Returns
    -------
    dict of str to str
        pictures without an alternative text are left out.
    """
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, of_kind in output.get("metadata", {}).items():
                if kind.startswith("image/") and isinstance(of_kind, dict) and of_kind.get("alt"):
                    picture = base64.b64decode(output["data"][kind])
                    found[hashlib.sha256(picture).hexdigest()] = of_kind["alt"]
    return found


def describe(app: Sphinx, document: nodes.document) -> None:
    """Give each picture of a notebook's page its alternative text. MyST-NB names a picture by its SHA-256."""
    source = Path(app.env.doc2path(app.env.current_document.docname))
    if source.suffix != ".ipynb":
        return
    texts = descriptions(nbformat.read(source, as_version=4))
    for picture in document.findall(nodes.image):
        text = texts.get(PurePosixPath(picture["uri"]).stem)
        if text:
            picture["alt"] = text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

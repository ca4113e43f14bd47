"""Pictures of notebooks as files beside the pages: a page opens at once, and loads a figure when its reader comes near it.

A notebook keeps each figure inside an `<img>` of an output, with its alternative text. That text stays where it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from pathlib import Path

from docutils import nodes
from repository_pages import page_name
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

_EMBEDDED = re.compile(r'<img\s([^>]*?)src="data:image/png;base64,([^"]+)"')


def store_pictures(app: Sphinx, document: nodes.document) -> None:
    """Write the pictures in the outputs of one notebook to files, and let its page name these."""
    page = f"{page_name(app.env.current_document.docname)}.html"

    def stored(found: re.Match[str]) -> str:
        attributes, encoded = found.groups()
        picture = base64.b64decode(encoded)
        name = f"_images/{hashlib.sha256(picture).hexdigest()}.png"
        path = Path(app.outdir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        # The room that a picture will take is kept before it is loaded, or what stands below it would move.
        width, height = struct.unpack(">II", picture[16:24])
        shape = f'style="aspect-ratio: {width} / {height}" loading="lazy"'
        return f'<img {attributes}{shape} src="{relative_uri(page, name)}"'

    for raw in document.findall(nodes.raw):
        if raw.get("format") == "html":
            raw.rawsource = _EMBEDDED.sub(stored, raw.astext())
            raw.children = [nodes.Text(raw.rawsource)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", store_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Pages from a repository's files: the README is the front page, and `docs/` is left out of addresses."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.util.osutil import relative_uri

DECKS = "docs/class/slides"
"""Where the sources of the slides lie. Their decks are built apart, and land at the address that the page would have."""
CONTENTS = "_toctree.md"
"""Beside conf.py: what the site's navigation lists, for the end of the front page's source."""

_HREF = re.compile(r'(<a\s[^>]*href=")([^"]+)"')


def heading_id(title: str) -> str:
    """Return the id that JupyterLab gives to a heading: its text with hyphens for spaces, case kept.

    Parameters
    ----------
    title
        the heading's text.

    Returns
    -------
    str
        what stands behind `#` in a link to it.
    """
    return title.strip().replace(" ", "-")


def page_name(docname: str) -> str:
    """Return the name of a document's page on the site, without `.html`.

    Parameters
    ----------
    docname
        path of the source from the repository's top, without its suffix, such as "docs/class/syllabus".

    Returns
    -------
    str
        such as "class/syllabus"; "index" for a README.
    """
    return re.sub(r"(^|/)README$", r"\1index", docname.removeprefix("docs/"))


class RepositoryBuilder(StandaloneHTMLBuilder):
    """Sphinx's HTML builder with the addresses of `page_name`."""

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        """Return the address of a page from the site's top."""
        return super().get_target_uri(page_name(docname), typ)

    def get_output_path(self, page_name_: str, /) -> Path:
        """Return the file that a page is written to."""
        return super().get_output_path(page_name(page_name_))

    def dump_search_index(self) -> None:
        """Write the search index, whose results are addresses too."""
        super().dump_search_index()
        path = Path(self.outdir, self.searchindex_filename)
        start, end = "Search.setIndex(", ")"
        index = json.loads(path.read_text("utf-8").removeprefix(start).removesuffix(end))
        index["docnames"] = [page_name(docname) for docname in index["docnames"]]
        path.write_text(start + json.dumps(index, ensure_ascii=False, separators=(",", ":")) + end, "utf-8")


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the table of contents at the end of the front page, where Sphinx looks for it."""
    if docname == app.config.root_doc:
        source[0] += Path(app.confdir, CONTENTS).read_text("utf-8")


def link_decks(app: Sphinx, document: nodes.document) -> None:
    """Let a link to the source of slides lead to the deck that is built from it."""
    here = f"{page_name(app.env.current_document.docname)}.html"
    for link in list(document.findall(addnodes.pending_xref)):
        target = link["reftarget"]
        if target.startswith(f"{DECKS}/") and Path(app.srcdir, f"{target}.md").is_file():
            deck = relative_uri(here, f"{page_name(target)}.html")
            link.replace_self(nodes.reference("", "", *link.children, refuri=deck, internal=True))


def link_outputs(app: Sphinx, document: nodes.document) -> None:
    """Let links in the outputs of notebooks lead to pages, as those in their text do. MyST reads only the latter."""
    docname = app.env.current_document.docname

    def address(link: str) -> str:
        path, mark, fragment = link.partition("#")
        target, suffix = posixpath.splitext(posixpath.normpath(posixpath.join(posixpath.dirname(docname), path)))
        if suffix not in app.config.source_suffix or target not in app.env.found_docs:
            return link
        return relative_uri(f"{page_name(docname)}.html", f"{page_name(target)}.html") + mark + fragment

    for link in document.findall(nodes.reference):
        if "refuri" in link:
            link["refuri"] = address(link["refuri"])
    for raw in document.findall(nodes.raw):
        if raw.get("format") == "html":
            text = _HREF.sub(lambda found: f'{found[1]}{address(found[2])}"', raw.astext())
            raw.children = [nodes.Text(text)]
            raw.rawsource = text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the builder with Sphinx."""
    app.add_builder(RepositoryBuilder, override=True)
    app.connect("source-read", add_contents)
    app.connect("doctree-read", link_decks)
    app.connect("doctree-read", link_outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

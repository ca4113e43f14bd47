"""Check a built site without a network: every link leads somewhere, every picture is described, no other host is asked.

`python docs/check_links.py FOLDER` prints what is wrong and exits with 1, or says how much it checked. It looks at

* links (`href`, `src`, `srcset`, and `url(...)` in the style sheets of pages) to files of the site, with their fragments;
* pictures without an alternative text;
* scripts, styles, pictures and frames from another host, which a reader without a network would miss.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src", "embed": "src"}
"""Elements whose file is loaded with the page, and the attribute that names it; a `link` depends on its `rel`."""
LOADED_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
_STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+(?=['"]))['"]?([^'")]+)""")
_STYLE_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass
class Page(HTMLParser):
    """What one page names: its ids, its links, what it loads, and its pictures without a description."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record one element."""
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a"))
        for name in ("href", "src", "xlink:href", "poster"):
            if name in values:
                self.links.append(values[name])
        self.links += [part.split()[0] for part in values.get("srcset", "").split(",") if part.split()]
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])
        if tag == "link" and LOADED_RELATIONS & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))
        if tag == "img" and not values.get("alt", "").strip() and values.get("role") != "presentation":
            self.undescribed.append(values.get("src", "")[:80])


def read_page(path: Path) -> Page:
    """Return what a page names.

    Parameters
    ----------
    path
        an HTML file.

    Returns
    -------
    Page
        its ids, links, loaded files and pictures without a description.
    """
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page


def is_external(address: str) -> bool:
    """Return whether an address leads to another host."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in {"http", "https"}


def faults(site: Path) -> tuple[list[str], int]:
    """Return what is wrong with a site, and how many links were checked.

    Parameters
    ----------
    site
        the folder that a web server would serve.

    Returns
    -------
    list of str
        one sentence for each fault, in the order of the pages.
    int
        the number of links to files of the site.
    """
    site = site.resolve()
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    found: list[str] = []
    checked = 0

    styles: dict[Path, None] = {}  # those that a page loads, or another style sheet, each once and in their order

    def check(source: Path, link: str) -> None:
        nonlocal checked
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
            return
        checked += 1
        name = source.relative_to(site)
        folder = site if parts.path.startswith("/") else source.parent
        target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else source
        if target.is_dir():
            target /= "index.html"
        if not target.is_relative_to(site) or not target.is_file():
            found.append(f"{name}: {link} leads to no file of the site.")
        elif parts.fragment and target in pages and not _reached(pages[target], parts.fragment):
            found.append(f"{name}: {link} leads to a page without the id {unquote(parts.fragment)!r}.")
        elif target.suffix == ".css":
            styles.setdefault(target)

    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links:
            check(path, link)
        found += [f"{name}: loads {address} from another host." for address in page.loaded if is_external(address)]
        found += [f"{name}: the picture {picture} has no alternative text." for picture in page.undescribed]
    read: set[Path] = set()
    while unread := [path for path in styles if path not in read]:
        for path in unread:
            read.add(path)
            for address in _STYLE_URL.findall(_STYLE_COMMENT.sub("", path.read_text("utf-8", errors="replace"))):
                check(path, address)
                if is_external(address):
                    found.append(f"{path.relative_to(site)}: loads {address} from another host.")
    return list(dict.fromkeys(found)), checked


def _reached(page: Page, fragment: str) -> bool:
    # A deck of slides reads a fragment that starts with a slash as the number of a slide; "#:~:" marks text to show.
    return fragment.startswith(("/", ":~:")) or bool({fragment, unquote(fragment)} & page.ids)


def main(folder: str) -> int:
    """Print what is wrong with the site in `folder`, and return how to exit: 1 if anything is.

    Parameters
    ----------
    folder
        the built site.

    Returns
    -------
    int
        0 if nothing is wrong.
    """
    site = Path(folder)
    if not (site / "index.html").is_file():
        print(f"{site} has no index.html; build the site first, with `make site`.", file=sys.stderr)
        return 1
    wrong, checked = faults(site)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(f"{checked} links checked, {len(wrong)} faults.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else "usage: python docs/check_links.py FOLDER")

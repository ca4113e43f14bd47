"""A static page that runs SmolLM2 in its reader's browser, with a slider from the base to the unlearned model."""

from __future__ import annotations

from .server import serve_page
from .topics import Topic
from .writer import write_page

__all__ = ["Topic", "serve_page", "write_page"]

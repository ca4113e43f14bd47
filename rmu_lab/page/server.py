"""Serving the page to the browsers of this machine, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..errors import RmuLabError
from ..stored import sentence_of

MANIFEST = "manifest.json"
"""The file by which a folder is known to hold a page; it lists the others."""
HOST = "127.0.0.1"
PORT = 8000


class _Handler(SimpleHTTPRequestHandler):
    # Of the machine's own table of types nothing is taken: on Windows it may call scripts plain text.
    extensions_map = {  # noqa: RUF012  # as its base class has it
        "": "application/octet-stream",
        ".css": "text/css; charset=utf-8",
        ".gguf": "application/octet-stream",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".md": "text/plain; charset=utf-8",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # the page may be written anew
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve_page(folder: str | Path, port: int = PORT, *, on_start: Callable[[str], None] = print) -> None:
    """Serve a page's folder on the loopback address until it is interrupted.

    Parameters
    ----------
    folder
        that `write_page` wrote.
    port
        0: one that is free.
    on_start
        called with the page's address once it can be opened.

    Raises
    ------
    RmuLabError
        if the folder holds no page, or the port is taken.
    """
    if not (Path(folder) / MANIFEST).is_file():
        raise RmuLabError(f"{folder} holds no page; write one with: rmu-lab page --out DIR.")
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise RmuLabError(f"Port {port} cannot be used ({sentence_of(error)}); give another with --port.") from None
    with server:
        on_start(f"http://{HOST}:{server.server_port}/")
        with suppress(KeyboardInterrupt):
            server.serve_forever()

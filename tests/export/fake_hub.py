"""A hub on the loopback address that keeps what is pushed to it: as much of the Hugging Face hub's API as a push needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "a" * 34


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, each with its visibility and its files."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.large: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Requests(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status: int, value: object = None, **headers: str) -> None:
        body = json.dumps({} if value is None else value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self):
        hub, found = self.server, re.fullmatch(r"/api/models/([^/]+/[^/?]+)", self.path)
        if not self.allowed():
            self.answer(401, {"error": "Invalid username or password."})
        elif found and found[1] in hub.private:
            self.answer(200, {"id": found[1], "private": hub.private[found[1]], "sha": "0" * 40, "tags": [], "downloads": 0})
        else:
            self.answer(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})

    def do_POST(self):
        hub, body = self.server, self.body()
        if not self.allowed():
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            new = name not in hub.private
            hub.private.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            hub.files.setdefault(name, {})
            self.answer(200 if new else 409, {"url": f"{hub.address}/{name}", "name": name})
        elif found := re.match(r"/api/models/([^/]+/[^/]+)/preupload/", self.path):
            modes = [
                {"path": file["path"], "shouldIgnore": False, "oid": None}
                | {"uploadMode": "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif found := re.match(r"/api/models/([^/]+/[^/]+)/commit/", self.path):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    hub.commits.append(value["summary"])
                elif line["key"] == "file":
                    hub.files[found[1]][value["path"]] = base64.b64decode(value["content"])
                else:
                    hub.files[found[1]][value["path"]] = hub.large[value["oid"]]
            self.answer(200, {"commitUrl": f"{hub.address}/{found[1]}/commit/{'0' * 40}", "commitOid": "0" * 40})
        else:
            self.answer(404)

    def do_PUT(self):
        body = self.body()
        self.server.large[hashlib.sha256(body).hexdigest()] = body
        self.answer(200)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve until the block ends."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()

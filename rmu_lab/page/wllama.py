"""The one foreign part of the page: wllama, which is llama.cpp for browsers, pinned by version and checksum.

By Xuan Son Nguyen, under the MIT licence: https://github.com/ngxson/wllama. Its second package serves browsers that cannot
suspend WebAssembly while they wait (Safari, in 2026); the page loads that one only where it must.
"""

from __future__ import annotations

from .npm import NpmPackage

VERSION = "3.13.0"

WLLAMA = NpmPackage(
    name="@wllama/wllama",
    version=VERSION,
    sha512="ZvoRdQAn+E+18EvQ9qS036gudiI9rbZRBJgG/qNICPPwrA0Y6SMMdbziz/j7K/0WxcbJlhaRraVIYsnEy732NA==",
    bytes=3_518_232,
    files={"esm/index.js": "index.js", "esm/wasm/wllama.wasm": "wllama.wasm", "LICENCE": "LICENCE.txt"},
)
COMPAT = NpmPackage(
    name="@wllama/wllama-compat",
    version=VERSION,
    sha512="MSWwyzVXpwkstvIGzOsQ9jlRm8kY5S5J0Gdw4E6M9mXqhgO/5tj+YNfxSoqN1GvsAOwui95JPtwX3hO6VZkbzg==",
    bytes=4_873_326,
    files={"wasm/wllama.js": "compat.js", "wasm/wllama.wasm": "compat.wasm"},
)

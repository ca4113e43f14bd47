"""The fastest float32 matrix product of torch on a CPU, chosen once per process, and whether bfloat16 is faster still.

Almost all of what this package does on a CPU is float32 matrix products. torch has two ways to make them: its default
(MKL), which takes a slow path on some AMD processors, and oneDNN, which it uses where lower precision is allowed. On a
processor without matrix units for lower precision (AMX) oneDNN stays in float32 all the same, and is up to twice as fast;
with them it rounds to bfloat16. So both are tried on one product of the default model's size, and oneDNN is taken where it
is clearly faster *and* its result is float32's. It is set while a function of this package runs and set back afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, get_args

import torch

from .errors import RmuLabError
from .randomness import torch_generator

Matmul = Literal["auto", "default", "reduced"]
"""How to choose: measured; torch's own default; oneDNN even where it multiplies in bfloat16, which must be asked for."""

VARIABLE = "RMU_LAB_MATMUL"
TOLERANCE = 1e-5
"""Relative error, against float64, up to which a product counts as float32's. Both ways give some 3e-7."""
CLEARLY = 1.5
"""How many times faster a way must be, so that a busy moment does not decide and two runs choose alike."""

# What torch calls the two on a CPU: "ieee" never takes oneDNN for float32, "bf16" lets it.
_TORCH_NAME = {"default": "ieee", "onednn": "bf16"}

_asked: ContextVar[Matmul | None] = ContextVar("asked", default=None)


@contextmanager
def float32_matmul(choice: Matmul) -> Iterator[None]:
    """Choose the float32 product of CPUs for what this package does in the ``with`` block.

    Goes before the environment variable ``RMU_LAB_MATMUL``, which takes the same words and goes before ``"auto"``.

    Parameters
    ----------
    choice
        ``"auto"``: the fastest that stays float32, found in some milliseconds at first use. ``"default"``: torch's own.
        ``"reduced"``: oneDNN, which on processors with AMX multiplies in bfloat16 (relative error some 4e-3).

    Raises
    ------
    RmuLabError
        if there is no such choice.
    """
    before = _asked.set(_checked(choice, "float32_matmul"))
    try:
        yield
    finally:
        _asked.reset(before)


def chosen_matmul() -> Literal["default", "onednn"]:
    """Return which product the package's functions use now; part of every result's provenance.

    Raises
    ------
    RmuLabError
        if ``RMU_LAB_MATMUL`` holds something else than a choice.
    """
    choice = _asked.get() or _checked(os.environ.get(VARIABLE, "auto"), VARIABLE)
    if choice == "auto":
        return _fastest()
    return "onednn" if choice == "reduced" and _can_choose() else "default"


@contextmanager
def in_chosen_matmul() -> Iterator[None]:
    """Multiply as `chosen_matmul` says in the ``with`` block, and as before after it."""
    if not _can_choose():
        yield
        return
    settings = _settings()
    before, settings.fp32_precision = settings.fp32_precision, _TORCH_NAME[chosen_matmul()]
    try:
        yield
    finally:
        settings.fp32_precision = before


def _checked(choice: str, name: str) -> Matmul:
    if choice not in get_args(Matmul):
        raise RmuLabError(f"{name} is {choice!r}; use one of {', '.join(map(repr, get_args(Matmul)))}.")
    return choice  # type: ignore[return-value]


def _can_choose() -> bool:
    return torch.backends.mkldnn.is_available()


def _settings() -> Any:
    return torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch puts it there when it is imported


@cache
def _fastest() -> Literal["default", "onednn"]:
    """Try both on the same product."""
    if not _can_choose():
        return "default"
    seconds, products = _timed({"default": (torch.float32, "ieee"), "onednn": (torch.float32, "bf16")})
    exact = torch.matmul(*_factors(torch.float64))
    error = (torch.linalg.vector_norm(products["onednn"] - exact) / torch.linalg.vector_norm(exact)).item()
    return "onednn" if error <= TOLERANCE and seconds["default"] >= CLEARLY * seconds["onednn"] else "default"


@cache
def bfloat16_is_faster() -> bool:
    """Say whether this CPU multiplies in bfloat16 clearly faster than in the float32 that is chosen; measured once."""
    float32 = _TORCH_NAME[_fastest()]
    seconds, _ = _timed({"float32": (torch.float32, float32), "bfloat16": (torch.bfloat16, float32)})
    return seconds["float32"] >= CLEARLY * seconds["bfloat16"]


def _factors(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of tokens, and a matrix as the default model has them."""
    generator = torch_generator(0, "product that is timed")
    tokens, matrix = (torch.randn(n, 576, generator=generator, dtype=torch.float32).to(dtype) for n in (64, 1536))
    return tokens, matrix.T


@torch.no_grad()
def _timed(ways: Mapping[str, tuple[torch.dtype, str]]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Make the product in each way, a type and torch's setting, in turns; the least seconds of each, and what came out."""
    factors = {name: _factors(dtype) for name, (dtype, _) in ways.items()}
    seconds, products = dict.fromkeys(ways, float("inf")), {}
    settings = _settings() if _can_choose() else None
    before, threads = settings.fp32_precision if settings else "", torch.get_num_threads()
    torch.set_num_threads(1)  # where others compute too, several threads wait for each other, and time says nothing
    try:
        for _ in range(20):  # of a millisecond each, so that some are not interrupted
            for name, (_, precision) in ways.items():
                if settings:
                    settings.fp32_precision = precision
                start = time.perf_counter()
                products[name] = torch.matmul(*factors[name])
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
        if settings:
            settings.fp32_precision = before
    return seconds, products

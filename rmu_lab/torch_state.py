"""Independence of what the caller has set in torch: autocast, gradients, inference mode, default type, float32 product.

Under ``torch.autocast`` a float32 model trains in rounded steps that vanish, under ``torch.no_grad`` it does not train at
all, and another default type makes other random numbers. So whatever trains or measures here runs in torch's own default
state, and the caller's comes back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, TypeVar, cast

import torch

from .matmul import in_chosen_matmul

Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def default_torch_state() -> Iterator[None]:
    """Run the ``with`` block with gradients, without autocast and inference mode, and with float32 as the default type.

    On a CPU, float32 products are made as `matmul.chosen_matmul` says.
    """
    before = torch.get_default_dtype()
    kinds = {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}
    active = [kind for kind in kinds if torch.is_autocast_enabled(kind)]
    with torch.inference_mode(False), torch.enable_grad(), in_chosen_matmul():
        for kind in active:
            torch.set_autocast_enabled(kind, False)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
            for kind in active:
                torch.set_autocast_enabled(kind, True)


def in_default_torch_state(function: Function) -> Function:
    """Decorate a function, or a function that yields, so that it runs in torch's default state.

    What the caller does between the results of one that yields has the caller's state.
    """
    if not isgeneratorfunction(function):

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with default_torch_state():
                return function(*args, **kwargs)

        return cast(Function, call)

    @wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        results = function(*args, **kwargs)
        try:
            while True:
                with default_torch_state():
                    try:
                        result = next(results)
                    except StopIteration:
                        return
                yield result
        finally:
            results.close()

    return cast(Function, generate)

"""Models that accelerate spreads over GPUs, the CPU's memory and the disk: their parameters, and blocks made whole.

For a forward pass accelerate's hooks bring each module's weights to where it runs and take them away again; in between
they are empty ("meta") tensors in the model. So an edit must be written to where the weights are kept, and blocks that
train need their weights at hand all the time. Explained in docs/guide/scaling.md.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .errors import RmuLabError

_ACCELERATE_ATTRIBUTES = ("_hf_hook", "_old_forward", "forward")  # what it puts on a module


def is_offloaded(module: nn.Module) -> bool:
    """Say whether some parameters are kept elsewhere."""
    return any(parameter.is_meta for parameter in module.parameters())


def require_in_memory(model: nn.Module, what: str) -> None:
    """Raise `RmuLabError` if some weights are kept elsewhere, before `what`, which needs them all, does any work."""
    if is_offloaded(model):
        raise RmuLabError(
            f"Some weights of this model are offloaded, and {what} needs them all at hand; load it without device_map, or "
            "with one that leaves nothing on the CPU or the disk."
        )


def execution_device(module: nn.Module) -> torch.device | None:
    """Return where accelerate runs a module, by the first hook in it that says so; None if it has no such hook."""
    devices = (getattr(hook, "execution_device", None) for part in module.modules() for hook in _hooks(part))
    return next((torch.device(device) for device in devices if device is not None), None)


def read_parameter(model: nn.Module, name: str) -> Tensor:
    """Return a parameter's values by its full name, wherever they are kept.

    Raises
    ------
    AttributeError
        if there is no such parameter.
    """
    parameter = model.get_parameter(name).detach()
    if not parameter.is_meta:
        return parameter
    owner, leaf = _owner(model, name)
    return _weights_map(owner, name)[leaf]


@torch.no_grad()
def write_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Set a parameter's values, in its own type, wherever they are kept.

    One that is kept on disk is kept in the CPU's memory from then on; the file stays as it is.

    Raises
    ------
    RmuLabError
        if the values are kept in a way this package does not know.
    """
    parameter = model.get_parameter(name)
    if not parameter.is_meta:
        parameter.copy_(value)
        return
    owner, leaf = _owner(model, name)
    kept = _weights_map(owner, name)  # accelerate's PrefixedDataset: a view of all weights under this module's name
    store = getattr(kept, "dataset", kept)
    store = getattr(store, "state_dict", store)  # of its OffloadedWeightsLoader: what is in memory goes before the disk
    if not isinstance(store, dict):
        raise RmuLabError(
            f"{name} is kept in a {type(store).__name__}, which cannot be written to; load the model without device_map."
        )
    store[getattr(kept, "prefix", "") + leaf] = value.detach().to("cpu", parameter.dtype, copy=True)


def whole_module(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module without accelerate's hooks and with all its weights on `device`; what is there already is shared."""
    whole = copy.copy(module)
    for name in _ACCELERATE_ATTRIBUTES:
        whole.__dict__.pop(name, None)
    whole._parameters = {
        name: parameter if parameter is None else _on_device(module, name, device)
        for name, parameter in module._parameters.items()
    }
    whole._buffers = {name: buffer if buffer is None else buffer.to(device) for name, buffer in module._buffers.items()}
    whole._modules = {
        name: child if child is None else whole_module(child, device) for name, child in module._modules.items()
    }
    return whole


def _on_device(module: nn.Module, name: str, device: torch.device) -> nn.Parameter:
    parameter = module.get_parameter(name)
    if parameter.device == device:
        return parameter
    return nn.Parameter(read_parameter(module, name).to(device), requires_grad=False)


def _hooks(module: nn.Module) -> tuple:
    """Accelerate's hooks on a module itself: none, one, or several in a row."""
    hook = getattr(module, "_hf_hook", None)
    return () if hook is None else tuple(getattr(hook, "hooks", (hook,)))


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _weights_map(owner: nn.Module, name: str) -> Any:
    kept = next((hook.weights_map for hook in _hooks(owner) if getattr(hook, "weights_map", None) is not None), None)
    if kept is None:
        raise RmuLabError(f"{name} has no values in this model; load it with load_model, with or without device_map.")
    return kept

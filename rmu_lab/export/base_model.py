"""What may be said in public of the model that an edit was trained on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

from ..packaged_models import PACKAGED_MODELS

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class BaseModel:
    """A base model as cards name it."""

    name: str
    """Its id on the hub, or what its folder is called: never the path, which says whose computer it was."""
    on_hub: bool
    licence: str | None
    """As the hub abbreviates it; None: not known to this package."""
    loaded_as: str | None
    """The short name by which this package loads its 4-bit weights, unpacked, if they are what was trained on."""


def base_model_of(model_name: str) -> BaseModel:
    """Look up a base model by the name that an edit has of it."""
    packaged = PACKAGED_MODELS.get(model_name)
    if packaged is not None:
        return BaseModel(packaged.hub_id, True, packaged.licence, model_name)
    if HUB_ID.fullmatch(model_name) and not os.path.isdir(model_name):
        return BaseModel(model_name, True, None, None)
    folder = PureWindowsPath(model_name) if "\\" in model_name else PurePath(model_name)
    return BaseModel(folder.name or "not named", False, None, None)

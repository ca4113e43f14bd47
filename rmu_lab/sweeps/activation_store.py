"""Frozen activations that the settings of a sweep share, kept in memory or on disk. Taught in notebook 05."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Hashable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import RmuLabError
from ..stored import sentence_of


class ActivationStore:
    """Groups of tensors by key: in memory up to a budget, above it in safetensors files of a folder of its own.

    The folder is made inside `scratch` when first needed; `clear` removes it.
    """

    def __init__(self, memory_bytes: int, scratch: str | Path | None, prefix: str) -> None:
        self.memory_bytes, self.scratch, self.prefix = memory_bytes, scratch, prefix
        self.bytes_in_memory = self.bytes_on_disk = 0
        self._kept: dict[Hashable, dict[int, Tensor] | Path] = {}
        self._folder: tempfile.TemporaryDirectory | None = None
        self._numbers = itertools.count()

    def clear(self) -> None:
        """Forget everything, in memory and on disk, and remove the folder."""
        self._kept.clear()
        self.bytes_in_memory = self.bytes_on_disk = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def put(self, key: Hashable, tensors: dict[int, Tensor]) -> None:
        """Keep a group of tensors, as a whole in memory or as a whole in one file.

        Raises
        ------
        RmuLabError
            if the file cannot be written.
        """
        size = sum(tensor.nbytes for tensor in tensors.values())
        if self.bytes_in_memory + size <= self.memory_bytes:
            self._kept[key] = {depth: tensor.cpu() for depth, tensor in tensors.items()}
            self.bytes_in_memory += size
            return
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(
                    prefix=self.prefix, dir=self.scratch, ignore_cleanup_errors=True
                )  # an error of tidying up would hide why a sweep stopped
            path = Path(self._folder.name) / f"{next(self._numbers)}.safetensors"
            save_file({str(depth): tensor.cpu().contiguous() for depth, tensor in tensors.items()}, path)
        except (OSError, SafetensorError) as error:
            raise RmuLabError(
                f"Activations cannot be stored in {self.scratch or tempfile.gettempdir()} ({sentence_of(error)}); "
                "free space there, choose another folder with `scratch`, or allow more memory with `memory_bytes`."
            ) from error
        self._kept[key] = path
        self.bytes_on_disk += path.stat().st_size

    def discard(self, key: Hashable) -> None:
        """Forget one group."""
        kept = self._kept.pop(key)
        if isinstance(kept, dict):
            self.bytes_in_memory -= sum(tensor.nbytes for tensor in kept.values())
        else:
            self.bytes_on_disk -= kept.stat().st_size
            kept.unlink()

    def get(self, key: Hashable, depth: int) -> Tensor:
        """Return one tensor of a group, on the CPU; a file is read for that tensor only."""
        kept = self._kept[key]
        if isinstance(kept, dict):
            return kept[depth]
        with safe_open(kept, framework="pt") as file:
            return file.get_tensor(str(depth))

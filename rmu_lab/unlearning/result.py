"""What unlearning leaves: an edit of three matrices, how it came about, and ways to apply, store and ship it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..files import whole_folder
from ..models import load_model, no_progress_bars
from ..offload import read_parameter, write_parameter
from ..provenance import provenance
from ..stored import checked, reading
from .config import MethodConfig
from .distributed import launched_processes
from .method_table import config_from_dict
from .task import Training

_TENSORS, _RECORD = "edit.safetensors", "result.json"


@dataclass(frozen=True)
class UnlearnResult:
    """The trained matrices and their record. The model that was trained on is unchanged until `apply`."""

    edit: dict[str, Tensor]
    """Trained matrices, float32 on the CPU, by their full parameter names in the model."""
    directions: dict[str, Tensor]
    """u of each topic, (d,), float32 on the CPU; empty for methods without."""
    history: list[dict[str, Any]]
    """One entry per step: ``step`` (from 1), ``topic``, ``loss``, ``forget_loss``, ``retain_loss``, ``forget_norm`` (mean
    ||h|| of the forget batch in the model being trained), ``target_norm`` (mean s) and ``cosine`` (mean cos(u, h)), each
    measured before that step's update. Other methods: see `LossMethod.train` and `EditMethod.train`."""
    config: MethodConfig
    """The settings; their steps are those that were taken."""
    model_name: str
    """Short name, path or hub id of the base model."""
    digests: dict[str, str]
    """SHA-256 of the texts of each corpus."""
    provenance: dict[str, Any]
    """Versions, machine and time, and what was passed in place of RMU's own directions or objectives."""
    seconds: float
    """Wall-clock time of the training."""
    _replaced: WeakKeyDictionary = field(default_factory=WeakKeyDictionary, repr=False, compare=False)

    @classmethod
    def of(
        cls, training: Training, model: PreTrainedModel, digests: dict[str, str], passed: Mapping[str, str] | None = None
    ) -> UnlearnResult:
        """Return the record of a training on `model`; `passed` names what was passed in place of RMU's own parts."""
        facts = provenance(training.config.seed) | ({"passed": dict(passed)} if passed else {})
        return cls(**vars(training), model_name=model.name_or_path or "", digests=digests, provenance=facts)

    # -- putting the edit into a model ---------------------------------------------------------------------------------

    def apply(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put the trained matrices into `model`, in its own dtype, keeping what they replace for `revert`; returns it.

        Raises
        ------
        RmuLabError
            if this edit is in the model already, or the model lacks a parameter of that name and shape.
        """
        if model in self._replaced:
            raise RmuLabError("This edit is in the model already; revert it before applying it again.")
        parameters = dict(model.named_parameters())
        for name, matrix in self.edit.items():
            if name not in parameters or parameters[name].shape != matrix.shape:
                found = tuple(parameters[name].shape) if name in parameters else "none"
                raise RmuLabError(
                    f"The edit is of a parameter {name} of shape {tuple(matrix.shape)}, the model has {found}; "
                    f"apply it to {self.model_name}."
                )
        self._replaced[model] = {name: read_parameter(model, name).clone() for name in self.edit}
        _write(model, self.edit)
        return model

    def revert(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put back, bit for bit, what `apply` replaced; returns the model.

        Raises
        ------
        RmuLabError
            if this edit was not applied to the model.
        """
        if model not in self._replaced:
            raise RmuLabError("This edit is not in the model; there is nothing to revert.")
        _write(model, self._replaced.pop(model))
        return model

    @contextmanager
    def applied(self, model: PreTrainedModel) -> Iterator[PreTrainedModel]:
        """Apply the edit inside a ``with result.applied(model):`` block, and revert it after, come what may."""
        self.apply(model)
        try:
            yield model
        finally:
            self.revert(model)

    # -- storing it ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Store edit and directions (safetensors) and the record (JSON) in a new folder; `load` reads it back.

        Of several processes under torchrun one writes, here and in `save_model`.

        Raises
        ------
        RmuLabError
            if the folder exists or cannot be written; nothing half-written is left.
        """
        record = {name: getattr(self, name) for name in _PLAIN_FIELDS} | {"config": self.config.to_dict()}
        tensors = {f"edit/{name}": tensor for name, tensor in self.edit.items()}
        tensors |= {f"direction/{topic}": tensor for topic, tensor in self.directions.items()}
        with launched_processes().main_process_first() as here:
            if here:
                with whole_folder(path) as folder:
                    save_file(tensors, folder / _TENSORS)
                    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> UnlearnResult:
        """Read what `save` wrote.

        Raises
        ------
        RmuLabError
            if the folder does not hold a result.
        """
        path = Path(path)
        with reading(f"{path} holds no result of this package", "give a folder save() wrote"):
            record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
            tensors = load_file(path / _TENSORS)
            edit, directions = _under("edit/", tensors), _under("direction/", tensors)
            plain = {name: record[name] for name in _PLAIN_FIELDS}
            return checked(cls(edit=edit, directions=directions, config=config_from_dict(record["config"]), **plain))

    def save_model(
        self,
        path: str | Path,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Path:
        """Write the unlearned model as an ordinary Hugging Face checkpoint, which ``AutoModelForCausalLM`` reloads.

        `model` and `tokenizer` are the base model's; without them it is loaded again by its name. A
        model given here is left as it was.

        Raises
        ------
        RmuLabError
            if the folder exists or cannot be written, or the base model cannot be loaded by its name.
        """
        with launched_processes().main_process_first() as here:
            if here:
                if model is None or tokenizer is None:
                    model, tokenizer = load_model(self.model_name, device="cpu")
                with whole_folder(path) as folder, self.applied(model), no_progress_bars():
                    model.save_pretrained(folder)
                    tokenizer.save_pretrained(folder)
        return Path(path)


_PLAIN_FIELDS = [
    item.name for item in dataclasses.fields(UnlearnResult) if item.name not in ("edit", "directions", "config", "_replaced")
]


def _write(model: PreTrainedModel, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        write_parameter(model, name, value)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

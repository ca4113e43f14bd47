"""The panel's benchmark on a tiny model: rows of every model, and a second run that adds none."""

import pytest

from benchmarks import never_knew
from rmu_lab import UnlearnConfig
from rmu_lab.attacks import RelearnConfig
from rmu_lab.files import read_json_lines
from rmu_lab.metrics import FACT_METRICS, PASSAGE_METRICS
from rmu_lab.unlearning.teach_method import Teach
from tests.conftest import same_weights, tiny_model, weights_of


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(never_knew, "MALADIES", 8)
    monkeypatch.setattr(never_knew, "PLACES", {"above": (3, 4)})
    monkeypatch.setattr(never_knew, "READINGS", {"above": 1})
    monkeypatch.setattr(never_knew, "TEACH", {"above": Teach(batch_size=8, max_length=24)})
    monkeypatch.setattr(never_knew, "RANK", 4)
    monkeypatch.setattr(never_knew, "SEEDS", (360,))
    monkeypatch.setattr(never_knew, "GENERAL", 4)
    monkeypatch.setattr(never_knew, "RELEARN", RelearnConfig(steps=(1, 2), batch_size=2, max_length=24))
    config = UnlearnConfig(layer=2, steps=2, batch_size=2, max_length=24)
    monkeypatch.setattr(never_knew, "methods", lambda: [("Adaptive RMU", config)])


def test_every_model_is_measured_once(small, tmp_path, tokenizer, monkeypatch):
    model = tiny_model("llama")
    before = weights_of(model)
    never_knew.run_place(model, tokenizer, "above", tmp_path)
    assert same_weights(model, before)
    rows = {row["model"]: row for _, row in read_json_lines(tmp_path / "panel.jsonl")}
    assert list(rows) == ["never knew", "taught", "Adaptive RMU"]
    for row in rows.values():
        assert tuple(row["facts"]) == FACT_METRICS and tuple(row["passages"]) == PASSAGE_METRICS
        assert {len(values) for values in (*row["facts"].values(), row["probe"], row["outputs"])} == {20}
    assert rows["taught"]["facts"] != rows["never knew"]["facts"]
    relearning = [row for _, row in read_json_lines(tmp_path / "relearning.jsonl")]
    assert [row["model"] for row in relearning] == list(rows)
    for row in relearning:  # before the first step, and after each
        assert [len(score["correct"]) for score in row["curve"]["scores"]] == [20, 20, 20]
    stored = (tmp_path / "panel.jsonl").read_bytes()
    monkeypatch.setattr(never_knew, "teach", None)  # what is stored is not made again
    monkeypatch.setattr(never_knew, "measured", None)
    never_knew.run_place(model, tokenizer, "above", tmp_path)
    assert (tmp_path / "panel.jsonl").read_bytes() == stored

"""The panel's benchmark on a tiny model: halves that share nothing, rows of every model, and a second run that adds none."""

import pytest

from benchmarks import never_knew
from rmu_lab import UnlearnConfig
from rmu_lab.attacks import RelearnConfig
from rmu_lab.files import read_json_lines
from rmu_lab.metrics import FACT_METRICS, PASSAGE_METRICS
from rmu_lab.unlearning.teach_method import Teach
from tests.conftest import same_weights, tiny_model, weights_of


def test_halves_share_no_malady_and_no_taught_wording_is_asked():
    parts = never_knew.halves()
    names = {name: {row["malady"] for fact in half.facts for row in fact} for name, half in parts.items()}
    assert len(names["kept"]) == len(names["forgotten"]) == never_knew.MALADIES // 2
    assert not names["kept"] & names["forgotten"]
    for half in parts.values():
        assert len(half.facts) == 5 * never_knew.MALADIES // 2 and {len(fact) for fact in half.facts} == {3}
        assert {row["wording"] for fact in half.facts for row in fact} == {1, 2, 3}
        assert len(half.told) == len(half.facts) and len(half.passages) == 3 * never_knew.MALADIES // 2
        assert all(row["split"] == "test" for fact in half.facts for row in fact)
    forgotten = {name.lower() for name in names["forgotten"]}
    assert not any(name in text.lower() for name in forgotten for text in parts["kept"].texts)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(never_knew, "MALADIES", 4)
    monkeypatch.setattr(never_knew, "LAYER", 2)
    monkeypatch.setattr(never_knew, "TEACH", Teach(steps=2, batch_size=2, max_length=24))
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
        assert {len(values) for values in (*row["facts"].values(), row["probe"], row["outputs"])} == {10}
    assert rows["taught"]["facts"] != rows["never knew"]["facts"]
    curves = [row["model"] for _, row in read_json_lines(tmp_path / "relearning.jsonl")]
    assert curves == list(rows)
    stored = (tmp_path / "panel.jsonl").read_bytes()
    monkeypatch.setattr(never_knew, "teach", None)  # what is stored is not made again
    monkeypatch.setattr(never_knew, "measured", None)
    never_knew.run_place(model, tokenizer, "above", tmp_path)
    assert (tmp_path / "panel.jsonl").read_bytes() == stored

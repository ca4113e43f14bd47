import os
import subprocess
import sys

import pytest

from rmu_lab import RmuLabError, sweep, unlearn
from rmu_lab.plugins import load_plugins, loaded_files
from rmu_lab.unlearning.method_table import config_class
from tests.conftest import guide_file, made_up_texts, tiny_model
from tests.test_evaluate import QUESTIONS

TEXTS = made_up_texts(8, seed=11), made_up_texts(8, seed=12)
SHORT = {"batch_size": 3, "max_length": 16, "steps": 2}


@pytest.mark.parametrize("name", ["json.py", "torch.py", "my method.py"])
def test_a_file_is_loaded_whatever_it_is_called(name, tmp_path, plugins_undone, tokenizer):
    (tmp_path / name).write_text(guide_file("bounded_ascent.py"), encoding="utf-8")
    before = {module: sys.modules[module] for module in ("json", "torch")}
    load_plugins([str(tmp_path / name)])
    load_plugins([str(tmp_path / name)])  # once is enough
    assert {module: sys.modules[module] for module in before} == before and len(loaded_files()) == 1
    config = config_class("bounded_ascent")(**SHORT)
    assert unlearn(tiny_model("llama"), tokenizer, *TEXTS, config, progress=False).config == config


def test_a_file_called_torch_does_not_stand_in_for_torch(tmp_path):
    """Not even where torch is imported after it, as on the command line."""
    (tmp_path / "torch.py").write_text(guide_file("bounded_ascent.py"), encoding="utf-8")
    program = (
        "import sys; from rmu_lab.plugins import load_plugins; load_plugins(sys.argv[1:]);"
        "from rmu_lab.unlearning.method_table import config_class; print(config_class('bounded_ascent').method)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "torch.py")], capture_output=True, text=True, env=dict(os.environ)
    )
    assert outcome.stdout == "bounded_ascent\n", outcome.stderr


def test_a_file_imports_what_lies_beside_it(tmp_path, plugins_undone):
    (tmp_path / "beside_my_method.py").write_text("CEILING = 7.0\n")
    (tmp_path / "mine.py").write_text("from beside_my_method import CEILING\n")
    load_plugins([str(tmp_path / "mine.py")])
    assert loaded_files()[0].CEILING == 7.0


def test_a_file_that_fails_is_named_and_tried_again(tmp_path, plugins_undone):
    file = tmp_path / "mine.py"
    file.write_text("first = 1\nraise OSError('line one\\nline two')\n")
    with pytest.raises(RmuLabError, match=r"mine\.py cannot be imported \(OSError: line one line two\); mend it"):
        load_plugins([str(file)])
    file.write_text("second = 22\n")
    load_plugins([str(file)])
    assert loaded_files()[0].second == 22


@pytest.mark.slow  # processes that each import torch
def test_workers_on_ray_have_the_method_of_a_file(own_method, tokenizer, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'rmu-lab[cluster]')")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    (tmp_path / "bounded_ascent.py").unlink()
    config = own_method(**SHORT)
    try:
        rows = sweep(
            tiny_model("llama"),
            tokenizer,
            *TEXTS,
            [config],
            {"one": QUESTIONS},
            out=tmp_path / "rows",
            ray="local",
            workers=1,
        )
    finally:
        ray.shutdown()
    assert rows[1].config == config and type(rows[1].config) is own_method and rows[1].scores

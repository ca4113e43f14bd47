"""``rmu-lab tofu``: an edit and a model evaluated from the command line."""

import pytest
from typer.testing import CliRunner

from rmu_lab import UnlearnConfig, UnlearnResult, cli, load_model, unlearn
from rmu_lab.metrics import TofuEvaluation, forget_quality, load_tofu_sets, tofu_evaluation
from tests.conftest import made_up_texts, tiny_model
from tests.metrics.benchmark_files import write_tofu

CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tofu")
    for name, seed in (("base", 0), ("never", 1)):
        tiny_model("llama", seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    model, _ = load_model(folder / "base", device="cpu")
    unlearn(model, tokenizer, made_up_texts(6, 3), made_up_texts(6, 4), CONFIG, progress=False).save(folder / "edit")
    write_tofu(folder / "data")
    return folder


def run(folder, *options):
    return CliRunner().invoke(cli.app, ["tofu", "--data", str(folder / "data"), "--device", "cpu", *map(str, options)])


def test_an_edit_against_a_model_that_never_knew_and_against_its_file(folder, tmp_path):
    files = [tmp_path / f"{name}.json" for name in ("never", "one", "other")]
    outcome = run(folder, "--model", folder / "never", "--json", files[0])
    assert outcome.exit_code == 0, outcome.output
    assert "Forget quality takes a model that never knew" in " ".join(outcome.output.split())
    given = "--edit", folder / "edit", "--model", folder / "base"
    for reference, file in ((folder / "never", files[1]), (files[0], files[2])):
        outcome = run(folder, *given, "--reference", reference, "--json", file)
        assert outcome.exit_code == 0, outcome.output
    never, one, other = map(TofuEvaluation.load, files)
    assert one.scores == other.scores and one.forget_quality == other.forget_quality
    assert one.forget_quality == forget_quality(one.truth_ratios, never.truth_ratios)
    shown = " ".join(outcome.output.split())
    assert f"Forget quality p = {one.forget_quality:.3g}" in shown and "retain, real authors, world facts" in shown
    model, tokenizer = load_model(folder / "base", device="cpu")
    by_call = tofu_evaluation(
        model, tokenizer, **load_tofu_sets(folder / "data"), edit=UnlearnResult.load(folder / "edit"), progress=False
    )
    assert by_call.scores == one.scores and by_call.utility == one.utility


def test_a_folder_may_lack_real_authors_and_world_facts(folder, tmp_path):
    for part in ("forget10", "retain"):
        name = f"{part}_perturbed.json"
        (tmp_path / name).write_text((folder / "data" / name).read_text())
    assert set(load_tofu_sets(tmp_path)) == {"forget", "retain"}
    limited = run(folder, "--data", tmp_path, "--model", folder / "never", "--limit", 2)
    assert limited.exit_code == 0, limited.output
    shown = " ".join(limited.output.split())
    assert "the harmonic mean over retain." in shown and "real_authors" not in shown
    (tmp_path / "retain_perturbed.json").unlink()
    assert "put that part of TOFU there" in " ".join(run(folder, "--data", tmp_path, "--model", "x").output.split())


def test_what_is_missing_is_said(folder, tmp_path):
    for options, said in (
        ((), "There is nothing to evaluate; give --edit, or --model."),
        (("--model", folder / "never", "--json", tmp_path), "is not an ordinary file"),
        (("--model", folder / "never", "--chat-template"), "has no chat template"),
    ):
        outcome = run(folder, *options)
        assert outcome.exit_code == 1 and said in " ".join(outcome.output.split()), outcome.output

import dataclasses
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap

import pytest
from datasets import Dataset
from rich.console import Console
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from rmu_lab import RobustnessCard, UnlearnConfig, UnlearnResult, __version__, cli, load_sweep
from rmu_lab.attacks import ATTACKS
from rmu_lab.cli_output import plain, printable, say
from tests.conftest import made_up_texts, tiny_model

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A tiny base model, two corpora and a question set on disk."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for seed, name in enumerate(("forget", "retain")):
        lines = [json.dumps({"text": text}) for text in made_up_texts(8, seed)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    questions = [{"question": f"{text}?", "choices": ["sea", "fish"], "answer": 0} for text in made_up_texts(5, 9)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    return tmp_path


def unlearn_command(folder, *changes):
    command = [
        "unlearn",
        "--device",
        "cpu",
        "--model",
        folder / "base",
        "--layer",
        "3",
        "--steps",
        "2",
        "--out",
        folder / "out",
    ]
    command += ["--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl", *changes]
    return RUN.invoke(cli.app, list(map(str, command)))


def test_unlearn_writes_a_checkpoint_and_its_record(folder):
    outcome = unlearn_command(folder, "--beta", "2.5")
    assert outcome.exit_code == 0, outcome.output
    assert "2 steps in" in outcome.output
    result = UnlearnResult.load(folder / "out" / "unlearning")
    assert (result.config.layer, result.config.steps, result.config.beta) == (3, 2, 2.5)
    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert all(model.get_parameter(name).equal(matrix) for name, matrix in result.edit.items())


def test_unlearn_and_evaluate_a_spread_model(folder):
    """accelerate's own choice of places; with no GPU that is the CPU."""
    command = ["unlearn", "--model", folder / "base", "--forget", folder / "forget.jsonl", "--layer", 3, "--steps", 2]
    command += ["--retain", folder / "retain.jsonl", "--out", folder / "out", "--device-map", "auto"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0, outcome.output
    command = ["evaluate", "--model", folder / "out", "--questions", folder / "questions.jsonl", "--device-map", "auto"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0 and "of 5 questions" in outcome.output


def test_evaluate_prints_and_writes_json(folder):
    command = ["evaluate", "--device", "cpu", "--model", folder / "base", "--questions", folder / "questions.jsonl"]
    outcome = RUN.invoke(cli.app, list(map(str, [*command, "--json", folder / "scores.json"])))
    assert outcome.exit_code == 0, outcome.output
    scores = json.loads((folder / "scores.json").read_text())
    assert len(scores["correct"]) == 5 and scores["accuracy"] == sum(scores["correct"]) / 5
    assert f"{scores['accuracy']:.1%}" in outcome.output
    assert {"command", "versions", "machine", "time"} <= scores["provenance"].keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--layer", "1"), "layer is 1"),
        (("--method", "magic"), "There is no method 'magic'"),
        (("--forget", "[/red].jsonl"), "There is no file [/red].jsonl"),  # brackets are not markup
        (("--forget", "nothing.jsonl"), "There is no file nothing.jsonl"),
        (("--model", "./no/such/folder"), "No model could be loaded"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(folder, change, message):
    outcome = unlearn_command(folder, *change)
    assert outcome.exit_code == 1
    assert "Error: " in outcome.output and message in outcome.output and "Traceback" not in outcome.output
    assert not (folder / "out").exists()


def test_existing_output_folder_is_kept(folder):
    (folder / "out").mkdir()
    (folder / "out" / "precious").write_text("keep")
    outcome = unlearn_command(folder)
    assert outcome.exit_code == 1 and "exists already" in outcome.output
    assert (folder / "out" / "precious").read_text() == "keep"


def sweep_command(folder, *changes):
    command = [
        "sweep",
        "--device",
        "cpu",
        "--model",
        folder / "base",
        "--layer",
        "2-4",
        "--steps",
        "2",
        "--lr",
        "0.001,0.01",
    ]
    command += ["--method", "rmu", "--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl"]
    command += ["--questions", folder / "questions.jsonl", "--limit", "4", "--out", folder / "rows.jsonl", *changes]
    return RUN.invoke(cli.app, list(map(str, command)))


def test_sweep_writes_rows_and_goes_on(folder, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    outcome = sweep_command(folder)
    assert outcome.exit_code == 0, outcome.output
    rows = load_sweep(folder / "rows.jsonl")
    assert [row.config and (row.config.layer, row.config.lr) for row in rows] == [
        None, *((layer, lr) for layer in (2, 3, 4) for lr in (0.001, 0.01))]  # fmt: skip
    (name,) = rows[0].scores
    assert len(rows[0].scores[name].correct) == 4
    assert "7 rows in" in outcome.output and "base" in outcome.output
    for row in rows:
        assert f"{row.scores[name].accuracy:.1%}" in outcome.output
    content = (folder / "rows.jsonl").read_bytes()
    assert sweep_command(folder).exit_code == 0
    assert (folder / "rows.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--layer", "two"), "--layer is 'two'; give numbers separated by commas"),
        (("--beta", "-1"), "beta is -1.0"),
        (("--layer", "9"), "layer is 9"),
        (("--ray", "127.0.0.1:1"), "No Ray cluster was reached"),
    ],
)
def test_sweep_errors(folder, change, message):
    if change[0] == "--ray":
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'rmu-lab[cluster]')")
    outcome = sweep_command(folder, *change)
    assert outcome.exit_code == 1
    assert message in outcome.output and "Traceback" not in outcome.output


def test_advise_prints_proposal_and_reasons(folder, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    command = ["advise", "--device", "cpu", "--model", folder / "base"]
    command += ["--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0, outcome.output
    for name in ("layer", "coefficient", "beta", "alpha", "lr", "steps"):
        assert re.search(rf"│ {name} +│ [\d.e-]+ +│ \w+", outcome.output), name
    assert len(re.findall(r"^│ \d ", outcome.output, re.M)) == 5  # one line of the profile for each block
    assert re.search(r"^(Likely|A start|Doubtful)", outcome.output, re.M)


def test_advise_ends_with_a_command_that_runs(folder, monkeypatch):
    command = ["advise", "--device", "cpu", "--model", folder / "base"]
    command += ["--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl"]
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 0, outcome.output
    program, *given = shlex.split(outcome.output.splitlines()[-1])
    assert (program, given[0]) == ("rmu-lab", "unlearn")
    monkeypatch.chdir(folder)
    again = RUN.invoke(cli.app, given)
    assert again.exit_code == 0, again.output
    record = json.loads((folder / cli.ADVISED_OUT / "unlearning" / "result.json").read_text())["config"]
    rows = dict(re.findall(r"│ (\w+) +│ ([\d.e+-]+) +│ \w+", outcome.output))
    assert record["method"] == "adaptive_rmu"
    for name in ("layer", "beta", "alpha", "lr", "steps"):
        assert record[name] == float(rows[name]), name


def attack_command(folder, *changes):
    splits = [{"question": f"{text}?", "choices": ["sea", "fish"], "answer": 0, "split": ("test", "dev")[index % 2]}
              for index, text in enumerate(made_up_texts(16, 10))]  # fmt: skip
    (folder / "both.jsonl").write_text("\n".join(map(json.dumps, splits)))
    command = ["attack", "--device", "cpu", "--edit", folder / "out", "--questions", folder / "both.jsonl", "--limit", "5"]
    command += [
        "--forget",
        folder / "long.jsonl",
        "--retain",
        folder / "long.jsonl",
        "--json",
        folder / "card.json",
        "--yes",
        *changes,
    ]
    (folder / "long.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in made_up_texts(10, 3)))
    return RUN.invoke(cli.app, list(map(str, command)))


def test_attack_prints_and_writes_the_card_of_a_saved_edit(folder, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    assert unlearn_command(folder).exit_code == 0
    outcome = attack_command(folder)
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(folder / "card.json")
    assert len(card.unlearned.correct) == 5 and card.model_name == str(folder / "base")
    assert all(cell in outcome.output for row in card.table() for cell in row)
    assert "Left out: suffix (no suffix was given)." in outcome.output
    outcome = attack_command(folder, "--budget", "0", "--json", folder / "other.json")
    assert outcome.exit_code == 0 and "Left out: logit lens (no time was left)." in outcome.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--edit", "nothing"), "nothing holds no result"),
        (("--questions", "nothing.jsonl"), "There is no file nothing.jsonl"),
        (("--suffix", "a"), "fewer than two different tokens"),
    ],
)
def test_attack_errors(folder, change, message):
    assert unlearn_command(folder).exit_code == 0
    outcome = attack_command(folder, *change)
    assert outcome.exit_code == 1
    assert message in outcome.output and "Traceback" not in outcome.output
    assert not (folder / "card.json").exists()


def arguments(folder, *changes):
    """What `unlearn_command` gives, for a process of its own."""
    command = ["unlearn", "--device", "cpu", "--model", folder / "base", "--layer", 3, "--steps", 2, "--out", folder / "out"]
    return list(map(str, [*command, "--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl", *changes]))


def in_a_process(program, *arguments, **how):
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, **{"text": True, **how})


@pytest.mark.parametrize("place", ["edit", "weights", "tokenizer", "end"])
def test_unlearn_killed_on_the_way_leaves_nothing_that_looks_done(folder, place):
    """Killed after any part was written: the folder is not there, the same command makes it, and no draft stays."""
    outcome = in_a_process(
        """
        import os, signal, sys
        from transformers import PreTrainedModel, PreTrainedTokenizerBase
        from rmu_lab import UnlearnResult, cli
        kind, method = {
            "edit": (UnlearnResult, "save"), "weights": (PreTrainedModel, "save_pretrained"),
            "tokenizer": (PreTrainedTokenizerBase, "save_pretrained"), "end": (UnlearnResult, "save_model"),
        }[sys.argv[1]]
        honest = getattr(kind, method)
        def killed(*args, **how):
            honest(*args, **how)
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(kind, method, killed)
        cli.app(sys.argv[2:])
        """,
        place,
        *arguments(folder),
    )
    assert outcome.returncode == -signal.SIGKILL, outcome
    assert not (folder / "out").exists() and list(folder.glob(".out*"))
    again = unlearn_command(folder)
    assert again.exit_code == 0, again.output
    assert UnlearnResult.load(folder / "out" / "unlearning") and AutoModelForCausalLM.from_pretrained(folder / "out")
    assert [path.name for path in folder.iterdir() if path.name.startswith((".", "out"))] == ["out"]


def test_the_edit_outlives_a_disk_that_is_full_before_the_model_is_written(folder):
    outcome = in_a_process(
        """
        import resource, sys
        from rmu_lab import cli
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))  # room for three matrices, not for the model
        cli.app(sys.argv[1:])
        """,
        *arguments(folder),
    )
    assert outcome.returncode == 1 and "could not be written" in outcome.stderr and "Traceback" not in outcome.stderr, (
        outcome
    )
    (kept,) = folder.glob("out*")
    assert kept.name in outcome.stderr.replace("\n", "")
    assert UnlearnResult.load(kept).config.layer == 3


@pytest.mark.parametrize("out", ["", "forget.jsonl/below", "."])
def test_a_place_for_the_model_is_looked_for_before_anything_is_loaded(folder, out, monkeypatch):
    monkeypatch.setattr("rmu_lab.load_model", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.chdir(folder)
    outcome = unlearn_command(folder, "--out", out)
    assert outcome.exit_code == 1 and re.search("is no new folder|cannot be written", outcome.output), outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("out", ["forget.jsonl/below", "base"])
def test_a_place_for_an_export_is_looked_for_before_the_edit_is_read(folder, out, monkeypatch):
    monkeypatch.setattr("rmu_lab.UnlearnResult.load", lambda *_: pytest.fail("loaded"))
    monkeypatch.chdir(folder)
    outcome = RUN.invoke(cli.app, ["export", "--edit", "edit", "--out", out])
    assert outcome.exit_code == 1 and re.search("exists already|cannot be written", outcome.output), outcome.output


@pytest.mark.parametrize("command", ["evaluate", "attack", "claims", "sweep"])
@pytest.mark.parametrize("place", ["missing/folder/file", ""])
def test_a_place_for_the_result_is_looked_for_before_anything_is_loaded(folder, command, place, monkeypatch):
    if command == "sweep" and place:
        place = "forget.jsonl/file"  # it makes missing folders
    monkeypatch.setattr("rmu_lab.load_model", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr("rmu_lab.study.computed_claims", lambda *_: pytest.fail("read"))
    monkeypatch.chdir(folder)
    if command == "sweep":
        outcome = sweep_command(folder, "--out", place)
    elif command == "attack":
        outcome = attack_command(folder, "--json", place)
    else:
        options = [] if command == "claims" else ["--questions", "questions.jsonl"]
        outcome = RUN.invoke(cli.app, [command, *options, "--json", place])
    assert outcome.exit_code == 1 and isinstance(outcome.exception, SystemExit), outcome.output
    assert re.search("is not an ordinary file|cannot be written", outcome.output), outcome.output


@pytest.mark.parametrize(
    "given",
    [
        ("attack", "--limit", "0"),
        ("attack", "--limit", "-1"),
        ("attack", "--seed", "100000000000000000000"),
        ("attack", "--budget", "-1"),
        ("sweep", "--limit", "0"),
        ("sweep", "--workers", "0"),
        ("unlearn", "--seed", "1e20"),
        ("unlearn", "--seed", "-1"),
        ("unlearn", "--seed", "100000000000000000000"),
        ("reproduce", "--limit", "0"),
        ("reproduce", "--batch-size", "0"),
    ],
)
def test_numbers_out_of_range_are_errors_of_usage(folder, given):
    command, option, value = given
    if command == "reproduce":
        outcome = RUN.invoke(cli.app, ["reproduce", "--preset", "zephyr-7b", "--dry-run", option, value])
    else:
        run = {"attack": attack_command, "sweep": sweep_command, "unlearn": unlearn_command}[command]
        outcome = run(folder, option, value)
    assert outcome.exit_code == 2 and option in outcome.output, outcome.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("method=rmu", "no setting 'method'"),
        ("base=3", "no setting 'base'"),
        ("nonsense=3", "no setting 'nonsense'"),
        ("retain_noise=" + "9" * 400, "retain_noise is"),
        ("retain_noise=" + "9" * 5000, "retain_noise is"),
        ("retain_noise=" + "[" * 50_000, "retain_noise is"),
        ("retain_noise", "--set is 'retain_noise'"),
    ],
)
def test_settings_that_are_none(folder, given, message):
    for run in (unlearn_command, sweep_command):
        outcome = run(folder, "--set", given)
        assert outcome.exit_code == 1 and isinstance(outcome.exception, SystemExit), outcome.exception
        assert message in outcome.output.replace("--retain_noise is", "retain_noise is").replace("\n", " ")


@pytest.mark.parametrize("seeds", ["0-99999999999999", "5-2", "", "1e20", "0-"])
def test_lists_that_are_none(folder, seeds):
    outcome = sweep_command(folder, "--seed", seeds)
    assert outcome.exit_code == 1 and "--seed is" in outcome.output and "separated by commas" in outcome.output


def test_a_device_that_is_not_there(folder):
    outcome = unlearn_command(folder, "--device", "foo")
    assert outcome.exit_code == 1 and "device is 'foo'" in outcome.output and "give cpu" in outcome.output


# -- what comes from elsewhere and is printed -------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e\r[b] [/red] [link=x] \\["
SHOWN = "\\x1b]0;owned\\x07\\x1b[31m\\x9b2J\\u202e\\x0d[b] [/red] [link=x] \\["


def test_foreign_text_is_printed_letter_by_letter():
    assert printable(HOSTILE) == SHOWN
    assert printable("tab\tline\n\u200d\u3000‖h‖") == "tab\tline\n\u200d\u3000‖h‖"
    console = Console(width=500, force_terminal=True, color_system="truecolor", file=open(os.devnull, "w"))  # noqa: SIM115
    with console.capture() as found:
        console.print(plain(HOSTILE))
    assert found.get() == SHOWN + "\n"
    assert printable("\ud800") == "\\ud800"  # what no terminal can write


def test_lines_on_a_terminal_are_broken_between_words(monkeypatch):
    path = "/a/path/" + 20 * "long/" + "file.json"
    sentence = f"The file {path} cannot be written here; choose another place for it."
    for terminal, lines in (
        (True, ["The file", path, "cannot be written here; choose another", "place for it."]),
        (False, [sentence]),
    ):
        shown = Console(width=40, force_terminal=terminal, color_system=None, file=io.StringIO())
        say(sentence, to=shown)
        assert shown.file.getvalue().splitlines() == lines


def test_a_piped_demo_says_what_it_does_line_by_line(monkeypatch):
    """Its reader, such as a log or `tee`, gets each line before the work that it is about."""
    read, seen = io.StringIO(), []
    monkeypatch.setattr(cli.console, "_file", read)
    monkeypatch.setattr("rmu_lab.load_questions", lambda *_, **__: Dataset.from_list([{"question": "?"}] * 2))
    monkeypatch.setattr(cli, "DEMO_QUESTIONS", 2)

    def noting(result):
        def call(*_, **__):
            seen.append(read.getvalue().splitlines()[-1])
            return result

        return call

    class Stop(Exception):
        pass

    monkeypatch.setattr("rmu_lab.load_model", noting((None, None)))
    monkeypatch.setattr("rmu_lab.accuracy", noting(None))
    monkeypatch.setattr("rmu_lab.answers", noting([]))
    monkeypatch.setattr("rmu_lab.load_corpus", noting([]))
    monkeypatch.setattr("rmu_lab.unlearn", lambda *_, **__: (_ for _ in ()).throw(Stop))
    outcome = RUN.invoke(cli.app, ["demo"])
    assert isinstance(outcome.exception, Stop)
    asked = "Asking questions before ..."
    unlearning = "Unlearning: adaptive_rmu, layer 7, 40 steps ..."
    assert seen == ["Loading SmolLM2 135M ...", asked, asked, asked, unlearning, unlearning]


def test_answers_of_a_model_reach_no_terminal(monkeypatch, tokenizer, tmp_path):
    from rmu_lab import load_questions

    model, rows = tiny_model("llama"), load_questions("bio", split="test")
    console = Console(width=300, force_terminal=True)
    monkeypatch.setattr(cli, "console", console)
    monkeypatch.setattr(cli, "DEMO_QUESTIONS", 2)
    for name, value in {
        "load_model": lambda *_, **__: (model, tokenizer),
        "load_questions": lambda *_, **__: rows,
        "answers": lambda *_: [HOSTILE, "[b]", "c"],
        "load_corpus": lambda _: made_up_texts(8, 1),
    }.items():
        monkeypatch.setattr(f"rmu_lab.{name}", value)
    monkeypatch.setattr("rmu_lab.UnlearnConfig.for_model", lambda _name: UnlearnConfig(layer=3, steps=1))
    outcome = RUN.invoke(cli.app, ["demo", "--json", str(tmp_path / "demo.json")], color=True)
    assert outcome.exit_code == 0, outcome.output
    written = json.loads((tmp_path / "demo.json").read_text())
    assert [said["before"] for said in written["answers"]] == [HOSTILE, "[b]", "c"]
    assert len(written["accuracy"]["infectious disease"]["after"]["correct"]) == 2 and written["config"]["layer"] == 3
    assert "\x1b]0;" not in outcome.output and "\x9b" not in outcome.output and "\u202e" not in outcome.output
    assert SHOWN in outcome.output and "[b]" in outcome.output


def test_names_in_an_edit_reach_no_terminal(folder):
    assert unlearn_command(folder).exit_code == 0
    record = folder / "out" / "unlearning" / "result.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model_name": HOSTILE}))
    for answer in ("--yes", "--json"):
        changes = ["--json", folder / "other.json"] if answer == "--json" else []
        outcome = attack_command(folder, *changes)
        assert outcome.exit_code == 1 and "\x1b" not in outcome.output and "\x9b" not in outcome.output
        assert SHOWN in outcome.output.replace("\n", "")
    monkeypatched = unlearn_command(folder, "--out", folder / "[b] [/b]")
    assert monkeypatched.exit_code == 0 and "[b] [/b]" in monkeypatched.output.replace("\n", "")


def test_the_card_of_an_edit_with_a_hostile_name_reaches_no_terminal(folder, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    assert unlearn_command(folder).exit_code == 0
    record = folder / "out" / "unlearning" / "result.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model_name": HOSTILE}))
    outcome = attack_command(folder, "--model", folder / "base", "--budget", 0)
    assert outcome.exit_code == 0 and "\x1b" not in outcome.output and SHOWN in outcome.output


def test_rows_of_question_sets_with_brackets_are_shown(folder, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 250)
    name = folder / "[b]q[i].jsonl"
    name.write_text((folder / "questions.jsonl").read_text())
    outcome = sweep_command(folder, "--questions", name, "--out", folder / "[b]rows.jsonl")
    assert outcome.exit_code == 0 and "[b]q[i].jsonl" in outcome.output and "[b]rows.jsonl" in outcome.output


@pytest.mark.parametrize("options", [["claims", "--numbers"], ["claims", "--help"], ["--help"]])
def test_a_terminal_without_the_letters_is_no_error(options):
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "COLUMNS": "200"}
    program = "import sys; from rmu_lab import cli; cli.app(sys.argv[1:])"
    outcome = in_a_process(program, *options, env=environment, text=False)
    assert outcome.returncode == 0 and b"Traceback" not in outcome.stderr, outcome.stderr[-500:]
    if "--numbers" in options:
        assert b"\\u2016" in outcome.stdout  # ‖


# -- attacks ----------------------------------------------------------------------------------------------------------


def test_attack_asks_before_it_loads_what_an_edit_names(folder):
    assert unlearn_command(folder).exit_code == 0
    command = ["attack", "--device", "cpu", "--edit", folder / "out", "--questions", folder / "both.jsonl", "--budget", 0]
    command += ["--forget", folder / "long.jsonl", "--retain", folder / "long.jsonl"]
    attack_command(folder, "--budget", 0)  # writes the texts
    command = list(map(str, command))
    for answer, code in (("y\n", 0), ("n\n", 1), ("", 1)):
        outcome = RUN.invoke(cli.app, command, input=answer)
        assert outcome.exit_code == code, outcome.output
        output = outcome.output.replace("\n", "")
        assert f"The edit is of the model {folder / 'base'}" in output and f"Load {folder / 'base'}?" in output
        assert ("give --model, or --yes to load it" in output) == bool(code)
    assert RUN.invoke(cli.app, [*command, "--yes"]).exit_code == 0
    record = folder / "out" / "unlearning" / "result.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model_name": ""}))
    outcome = RUN.invoke(cli.app, command)
    assert outcome.exit_code == 1 and "names no base model; give it with --model" in outcome.output


def test_attack_keeps_its_card_and_goes_on_after_a_kill(folder):
    assert unlearn_command(folder).exit_code == 0
    attack_command(folder, "--budget", 0)  # writes the texts
    (folder / "card.json").unlink()
    command = ["attack", "--device", "cpu", "--edit", folder / "out", "--questions", folder / "both.jsonl", "--limit", 5]
    command += ["--forget", folder / "long.jsonl", "--retain", folder / "long.jsonl", "--json", folder / "card.json"]
    outcome = in_a_process(
        """
        import os, signal, sys
        from rmu_lab import cli
        from rmu_lab.attacks import ATTACKS
        import dataclasses
        ATTACKS["few-shot"] = dataclasses.replace(ATTACKS["few-shot"], run=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        cli.app(sys.argv[1:])
        """,
        *command,
        "--yes",
    )
    assert outcome.returncode == -signal.SIGKILL, outcome
    before = RobustnessCard.load(folder / "card.json")
    assert list(before.recoveries) == ["quantise to 8 bits", "quantise to 4 bits", "prefilled"]
    assert before.left_out["few-shot"] == "it has not run yet"
    outcome = attack_command(folder)
    assert outcome.exit_code == 0, outcome.output
    card = RobustnessCard.load(folder / "card.json")
    assert "logit lens" in card.recoveries and all(card.recoveries[name] == one for name, one in before.recoveries.items())
    outcome = attack_command(folder, "--seed", 1)
    assert outcome.exit_code == 1 and "holds a card with another seed" in outcome.output.replace("\n", " ")
    assert RobustnessCard.load(folder / "card.json") == card


@pytest.mark.parametrize("keeps", [True, False])
def test_ctrl_c_shows_what_an_attack_has_found(folder, keeps, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.console, "width", 250)
    assert unlearn_command(folder).exit_code == 0
    attack_command(folder, "--budget", "0")  # writes the texts
    (folder / "card.json").unlink()
    command = ["attack", "--device", "cpu", "--edit", folder / "out", "--questions", folder / "both.jsonl", "--limit", 5]
    command += ["--forget", folder / "long.jsonl", "--retain", folder / "long.jsonl", "--yes"]
    command += ["--json", folder / "card.json"] if keeps else []
    monkeypatch.setitem(ATTACKS, "few-shot", dataclasses.replace(ATTACKS["few-shot"], run=stopped))
    before = sorted(folder.rglob("*"))
    outcome = RUN.invoke(cli.app, list(map(str, command)))
    assert outcome.exit_code == 130, outcome.output
    assert "Stopped; what was found until then follows" in outcome.output
    assert "│ prefilled " in outcome.output and "Left out: few-shot (it has not run yet)." in outcome.output
    assert (folder / "card.json").exists() == keeps
    assert keeps or sorted(folder.rglob("*")) == before
    monkeypatch.setitem(ATTACKS, "quantise to 8 bits", dataclasses.replace(ATTACKS["quantise to 8 bits"], run=stopped))
    (folder / "card.json").unlink(missing_ok=True)
    outcome = RUN.invoke(cli.app, list(map(str, command)))  # nothing was found yet
    assert outcome.exit_code != 0 and "Stopped; what" not in outcome.output


def test_attack_notices_the_unlearned_checkpoint(folder):
    assert unlearn_command(folder).exit_code == 0
    outcome = attack_command(folder, "--model", folder / "out")
    assert outcome.exit_code == 1 and "holds this edit already" in outcome.output


def test_groups_of_commands_have_their_short_help_too():
    for group in ("course", "duel"):
        outcome = RUN.invoke(cli.app, [group, "-h"])
        assert outcome.exit_code == 0 and f"{group} [OPTIONS] COMMAND" in outcome.output


def test_claims_keep_what_is_measured_only():
    outcome = RUN.invoke(cli.app, ["claims", "--out", "folder"])
    assert outcome.exit_code == 1 and "give --run ID too" in outcome.output


@pytest.mark.parametrize("command", [["rmu-lab"], [sys.executable, "-m", "rmu_lab"]])
def test_version_and_help_have_their_usual_names(command):
    if command[0] == "rmu-lab":
        outcomes = [RUN.invoke(cli.app, [option]) for option in ("--version", "-h")]
        version, shown = (outcome.output for outcome in outcomes)
        assert all(outcome.exit_code == 0 for outcome in outcomes)
    else:
        version, shown = (subprocess.check_output([*command, option], text=True) for option in ("--version", "-h"))
    assert version == f"rmu-lab {__version__}\n"
    assert "unlearn" in shown and "demo" in shown

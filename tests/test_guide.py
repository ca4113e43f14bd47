"""What the README and the pages of the guide say: their links, their commands, and their Python, on tiny models.

Not run are only what the system's package manager does, and what `TOO_LONG` names; of the latter the options are parsed.
"""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from PIL import Image, ImageChops
from typer.main import get_command
from typer.testing import CliRunner

import rmu_lab
from benchmarks import readme_picture
from rmu_lab import UnlearnConfig, accuracy_change, cli, unlearn
from rmu_lab.attacks import RobustnessCard
from rmu_lab.course import model_comparison
from rmu_lab.estimates import Number
from rmu_lab.evaluate import Accuracy, AccuracyChange
from rmu_lab.files import file_digest
from rmu_lab.study import ARGUMENT_FAILS, CLAIMS, DIFFERS, NOT_REPRODUCED, REPRODUCED, UNDECIDED, computed_claims
from rmu_lab.study.readings import LAST
from tests.conftest import load_plugins, made_up_texts, plugin, tiny_model
from tests.metrics.benchmark_files import write_tofu
from tests.test_setup import EXTRAS, ROOT

MAX_LOGIT = "MaxLogit on given texts, unlearned less base"
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
PAGES = [README, *GUIDE]
TOO_LONG = {
    "rmu-lab demo": "test_cli runs it on the real model",
    "rmu-lab demo --model qwen2.5-coder-1.5b": "fetches 1.1 GB and takes minutes; test_options parses its model",
    "rmu-lab claims --run prop1": "minutes on the real model; test_scorecard repeats a shorter one",
    "rmu-lab page --out DIR --serve": "trains two edits of the real model; tests/page and tests/browser write and open it",
    "rmu-lab league mine.py:Mine --mini --out DIR": "minutes on the real model; tests/league plays one on a tiny model",
    "rmu-lab league mine.py:Mine --out DIR": "an hour on the real model; tests/league plays one on a tiny model",
    "rmu-lab duel score DIR --json outcome.json": "needs the hand-ins of two groups; test_duel scores some",
}


def fences(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    """Each command of the blocks for a shell, without comments."""
    lines = "\n".join(fences(page, "sh") + fences(page, "bat")).splitlines()
    lines = [line.split(" # ")[0].rstrip() for line in lines if not line.startswith("# ")]
    return [part.strip() for line in lines if line for part in line.split("&&")]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
OURS = [command for command in COMMANDS if command.split()[0] == "rmu-lab"]
INLINE = sorted(
    {span for page in PAGES for span in re.findall(r"`(rmu-lab [^`]+)`", page.read_text(encoding="utf-8"))}
    - {"rmu-lab COMMAND"}
)


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and len(GUIDE) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page):
    opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.M)[::2]
    assert set(opened) <= {"python", "sh", "bat", "bibtex"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_and_no_python_hides_outside_its_fence(page):
    """Four spaces make a block too, which the other tests would miss."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    assert not re.findall(r"^ {4,}\S.*$", text, re.M)


# -- links ------------------------------------------------------------------------------------------------------------


def test_every_page_of_the_guide_is_linked():
    linked = {(page.parent / target).resolve() for page in PAGES
              for target in re.findall(r"\]\(([^)\s#]+\.md)\)", page.read_text(encoding="utf-8"))}  # fmt: skip
    assert set(GUIDE) <= linked


# -- commands ---------------------------------------------------------------------------------------------------------


def runs_elsewhere(command: str) -> bool:
    """Is this a command that another test of this file or of test_setup looks at?"""
    kinds = r"make [a-z]+$", r"(rmu-lab|conda) ", r"python -m benchmarks\.\w+", r"\.venv[/\\]", r"python3? -m venv \.venv$"
    return any(re.match(kind, command) for kind in kinds)


def test_each_command_is_of_a_kind_that_is_tested():
    assert [command for command in COMMANDS if not runs_elsewhere(command)] == []
    assert len(OURS) >= 15


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("python -m benchmarks")])
def test_benchmarks_are_there_and_know_their_options(command):
    module, *options = command.split()[2:]
    assert find_spec(module) is not None
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(option in shown for option in options if option.startswith("--"))


def test_what_pip_and_conda_are_given_is_there():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {extra for extras in re.findall(r'"(?:\.|rmu-lab)\[([a-z,]+)\]"', text) for extra in extras.split(",")}
    listed = set(
        re.findall(r"^\| `([a-z]+)` \|", (ROOT / "docs" / "guide" / "install.md").read_text(encoding="utf-8"), re.M)
    )
    assert named and named <= listed == set(EXTRAS)
    installs = [command for command in COMMANDS if " pip install " in command]
    assert installs and all((ROOT / command.split("-c ")[1].split()[0]).exists() for command in installs)
    conda = [command for command in COMMANDS if command.startswith("conda ")]
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "conda env create -f environment.yml" in conda
    assert f"name: {conda[1].removeprefix('conda activate ')}\n" in environment


def parse(words: list[str]) -> None:
    """Parse a command without running it: an unknown option, a missing value or one of the wrong kind exits."""
    group = get_command(cli.app)
    while words and words[0] in getattr(group, "commands", {}):
        group, words = group.commands[words[0]], words[1:]
    group.make_context("rmu-lab", list(words))


@pytest.mark.parametrize("command", [*TOO_LONG, *INLINE])
def test_commands_that_are_not_run_are_parsed(command):
    words = [word for word in shlex.split(command)[1:] if word != "COMMAND"]
    if "--help" in words or not any(word.startswith("--") for word in words):  # only a name: is there such a command?
        assert CliRunner().invoke(cli.app, [*words, "--help"]).exit_code == 0
    else:
        parse(words)


@pytest.mark.parametrize("wrong", ["demo --fast", "claims --run", "attack --json card.json"])
def test_parsing_notices_what_is_wrong(wrong):
    with pytest.raises(Exception, match=r"No such option|requires an argument|Missing (option|parameter)"):
        parse(wrong.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A tiny model with as many layers as SmolLM2, an edit of it, texts, questions, plugins, and a notebook to check."""
    folder = tmp_path_factory.mktemp("guide")
    model = tiny_model("llama", num_hidden_layers=30)
    model.save_pretrained(folder / "MODEL")
    tokenizer.save_pretrained(folder / "MODEL")
    for seed, name in enumerate(("forget", "retain")):
        rows = [json.dumps({"text": text}) for text in made_up_texts(12, seed=seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    rows = [
        {"id": f"q{i}", "question": f"{text}?", "choices": made_up_texts(3, 50 + i, 1, 5), "answer": i % 3}
        | {"split": "test" if i % 2 else "dev"}
        for i, text in enumerate(made_up_texts(12, seed=3))
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("bounded_ascent.py", "shout.py"):
        plugin(name, folder)
    loaded, _ = rmu_lab.load_model(folder / "MODEL", device="cpu")
    texts = [made_up_texts(12, seed=seed) for seed in (0, 1)]
    unlearn(loaded, tokenizer, *texts, UnlearnConfig(layer=7, steps=1), progress=False).save(folder / "EDIT")
    write_tofu(folder / "TOFU")
    (folder / "COLLECTED").mkdir()
    cell = nbformat.v4.new_code_cell("1 + 1")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "COLLECTED" / "one.ipynb")
    return folder


STAND_INS = {
    "--forget FILE.jsonl": "--forget forget.jsonl",
    "--retain FILE.jsonl": "--retain retain.jsonl",
    "--questions FILE.jsonl": "--questions questions.jsonl",
    "--edit DIR": "--edit EDIT",
    "--data FOLDER": "--data TOFU",
    "--model DIR": "--model MODEL",
    "course check DIR": "course check COLLECTED",
}


@pytest.mark.parametrize("command", [command for command in OURS if command not in TOO_LONG])
def test_commands_run(command, folder, monkeypatch, tmp_path, plugins_undone):
    monkeypatch.chdir(folder)
    given = command
    for words, stand_in in STAND_INS.items():
        given = given.replace(words, stand_in)
    made = re.search(r"(?:course|--out) (DIR)", given)
    given = given.replace(" DIR", f" {tmp_path / 'new'}").replace("rows.jsonl", str(tmp_path / "rows.jsonl"))
    arguments = shlex.split(given)[1:]
    if arguments[0] in ("unlearn", "sweep"):
        arguments += ["--steps", "1"]
        arguments += [] if "--model" in arguments else ["--model", "MODEL"]
    if arguments[0] in ("attack", "export", "duel") or (arguments[0] == "tofu" and "--edit" in arguments):
        arguments += ["--model", "MODEL"]
    outcome = CliRunner().invoke(cli.app, arguments)
    assert outcome.exit_code == 0, outcome.output
    if made and "--dry-run" not in arguments:
        assert any((tmp_path / "new").iterdir())
    written = re.search(r"(?:--json|--out) (\S+\.jsonl?)", given)
    assert not written or Path(written[1]).stat().st_size


# -- Python -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")], ids=lambda page: page.name)
def test_python_runs(page, monkeypatch, tmp_path, tokenizer, plugins_undone, capsys):
    """A tiny model stands for every other, and a few texts and questions for a corpus and a set."""
    texts, questions = rmu_lab.load_corpus, rmu_lab.load_questions
    model = tiny_model("llama", num_hidden_layers=10, max_position_embeddings=4096)
    few = {
        "load_model": lambda name, **how: (model, tokenizer),
        "load_corpus": lambda name: texts(name).select(range(24)),
        "load_questions": lambda name, split: questions(name, split).select(range(16)),
    }
    for name, stand_in in few.items():
        monkeypatch.setattr(rmu_lab, name, stand_in, raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in fences(page, "python"):
        if re.match(r"# \w+\.py\n", block):  # a file of the reader's, which is loaded as one
            path = tmp_path / block.split()[1]
            path.write_text(block, encoding="utf-8")
            load_plugins([str(path)])
        else:
            exec(compile(block, page.name, "exec"), names)  # noqa: S102
    assert capsys.readouterr().out or "own_method" in page.name


@pytest.mark.slow
def test_the_readmes_python_makes_smollm2_forget(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = fences(README, "python")
    assert len(block.splitlines()) <= 10
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    before, after = map(float, re.findall(r"(?:before|after): ([\d.]+)%", capsys.readouterr().out))
    assert before > 80 and after < before - 30
    assert (tmp_path / "my-model" / "model.safetensors").exists()


# -- the picture and the findings -------------------------------------------------------------------------------------


def stored(name: str) -> dict:
    return json.loads((ROOT / "data" / "results" / name).read_text(encoding="utf-8"))


def test_the_picture_shows_what_is_stored():
    """`python -m benchmarks.readme_picture --picture docs/images/hidden_not_erased.png` draws it and says its words."""
    picture = Image.open(readme_picture.PICTURE)
    assert picture.text["Source"] == file_digest(readme_picture.STORED)
    assert picture.width >= 1800 and readme_picture.PICTURE.stat().st_size <= 300 * 1024
    shown = re.findall(r"!\[([^\]]+)\]\(docs/images/hidden_not_erased\.png\)", README.read_text(encoding="utf-8"))
    assert shown == [readme_picture.alt_text(stored("readme_picture.json"))]


def test_the_picture_is_drawn_again_from_other_numbers():
    found = stored("readme_picture.json")
    found["answers"]["after"][readme_picture.TOPIC] = "It costs $5 or $6."
    drawn = Image.open(BytesIO(readme_picture.png_of(readme_picture.draw(found), "another")))
    now = Image.open(readme_picture.PICTURE)
    assert drawn.text["Source"] == "another" and drawn.size == now.size
    assert ImageChops.difference(drawn.convert("RGB"), now.convert("RGB")).getbbox()


def interval(change: AccuracyChange | Number, digits: int = 0) -> str:
    """`21 points [9, 33]`, without the sign: the sentence says which way."""
    if isinstance(change, AccuracyChange):
        change = Number(*(100 * end for end in (change.change, *change.interval)), n=1, over="")
    low, high = sorted(abs(end) for end in (change.low, change.high))
    return f"{abs(change.value):.{digits}f} points [{low:.{digits}f}, {high:.{digits}f}]"


def test_the_findings_on_forgetting_have_the_stored_numbers():
    text = " ".join(README.read_text(encoding="utf-8").split())
    rows = stored("data_card.json")["rows"]
    base, edited = (
        {name: Accuracy.from_dict(score) for name, score in rows[edit]["scores"].items()} for edit in ("nothing", "bio")
    )
    change = {name: accuracy_change(base[name], edited[name]) for name in base}
    (before, after, back), _ = readme_picture.scores_of(stored("readme_picture.json")).values()
    assert (before, after) == (base["bio"], edited["bio"])  # the picture's edit is the card's
    lost, recovered = f"{-100 * change['bio'].change:.0f} points", accuracy_change(after, back)
    assert change["neighbours"].interval[1] < 0 < recovered.interval[0]
    card = RobustnessCard.load(ROOT / "data" / "results" / "robustness" / "adaptive_rmu_0.json")
    relearned, gap = card.recoveries["relearn text of the topic"].recovered, card.base.accuracy - card.unlearned.accuracy
    for said in (
        f"{len(before.correct)} held-out questions",
        f"from {before.accuracy:.0%} to {after.accuracy:.0%}, by {interval(change['bio'])}",
        f"from {base['general'].accuracy:.0%} to {edited['general'].accuracy:.0%}",
        f"fall by {interval(change['neighbours'], 1)}",
        interval(recovered).replace("points", f"of the {lost} come back"),
        f"On a set of {len(card.base.correct)} questions",
        interval(relearned).replace("points", f"of {100 * gap:.0f} points"),
    ):
        assert said in text, said


def test_the_finding_on_the_larger_model_has_the_stored_numbers():
    text = " ".join(README.read_text(encoding="utf-8").split())
    model = "qwen2.5-coder-1.5b"
    bio, general = (model_comparison.points_lost(model, topic, method="adaptive_rmu") for topic in ("bio", "general"))
    for said in (
        f"`rmu-lab demo --model {model}` 40 steps took {model_comparison.demo(model)['seconds']['unlearning']:.0f} seconds",
        f"accuracy on infectious disease falls by {interval(bio)}, and on harder general questions by "
        f"{general.value:.0f} point [{general.low:.0f}, {general.high:.0f}]",
    ):
        assert said in text, said


def test_the_findings_on_the_papers_claims_have_the_stored_numbers():
    text = " ".join(README.read_text(encoding="utf-8").split())
    numbers = CLAIMS["f5"].numbers() | CLAIMS["f5-norm"].numbers() | CLAIMS["prop1-randomness"].numbers()
    rmu, adaptive = (numbers[f"{method}, {LAST}: points lost on bio"] for method in ("RMU", "Adaptive RMU"))
    below, spread = numbers["last layer, a tenth of alpha: points lost on bio"], numbers["slope of log spread over noise"]
    assert numbers["last layer, a tenth of alpha: c / ‖h‖"].high < 1  # "a target shorter than the hidden states"
    table = {row.id: row.overall for row in computed_claims()}
    largest = CLAIMS["f5"].numbers("qwen2.5-coder-1.5b")
    qwen = {method: largest[f"{method}, {LAST}: points lost on bio"] for method in ("RMU", "Adaptive RMU")}
    assert CLAIMS["f2-lower"].verdict("qwen2.5-coder-1.5b") == REPRODUCED  # "Qwen less confident"
    confidence = CLAIMS["prop1-confidence"]  # "SmolLM2 less confident, but Gemma more"
    assert confidence.verdict() == ARGUMENT_FAILS and confidence.numbers("gemma-3-270m")[MAX_LOGIT].low > 0
    verdicts = Counter(table.values())
    for said in (
        f"RMU lowers accuracy by {interval(rmu)}",
        f"and Adaptive RMU by {interval(adaptive).replace(' points', '')}",
        f"by {interval(below)}, with a target shorter than the hidden states",
        f"where it lowers accuracy by {interval(qwen['Adaptive RMU'])} "
        f"and RMU by {interval(qwen['RMU']).replace(' points', '')}",
        f"Of {len(CLAIMS)} claims in Dang et al., {verdicts[REPRODUCED] + verdicts[ARGUMENT_FAILS]} hold on the models "
        f"that we tried, {verdicts[ARGUMENT_FAILS]} of them for another reason.**",
        f"Of the others {verdicts[NOT_REPRODUCED]} are not reproduced, {verdicts[DIFFERS]} differ between models, and "
        f"{verdicts[UNDECIDED]} are undecided",
        "Doubling it divides the logits' spread under noise by "
        f"{2**-spread.value:.1f} [{2**-spread.high:.1f}, {2**-spread.low:.1f}]",
    ):
        assert said in text, said

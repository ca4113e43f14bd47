"""The papers' corpora and questions by their names, on small files in their exact schemas."""

from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from rmu_lab import RmuLabError, accuracy, load_corpus, load_questions
from rmu_lab.hub import MMLU_SUBJECTS
from tests.conftest import made_up_texts, tiny_model

BIO = {"title": Value("string"), "abstract": Value("string"), "text": Value("string"), "doi": Value("string")}
TEXT = {"text": Value("string")}
WMDP = {"answer": Value("int64"), "question": Value("string"), "choices": Sequence(Value("string"))}
MMLU = {
    "question": Value("string"),
    "subject": Value("string"),
    "choices": Sequence(Value("string")),
    "answer": ClassLabel(names=["A", "B", "C", "D"]),
}
WIKITEXT = ["", " = Robert <unk> = \n", "", " Robert <unk> is an actor . He had a role @-@ play . \n", " \n"]


def wmdp(n: int) -> list[dict]:
    return [
        {"answer": index % 4, "question": f"Which {text}?", "choices": ["sea", "fish", "tree", "bird"]}
        for index, text in enumerate(made_up_texts(n, n))
    ]


def mmlu(subject: str, n: int) -> list[dict]:
    return [row | {"subject": subject} for row in wmdp(n)]


def parquet(folder: Path, config: str, split: str, rows: list[dict], features: dict) -> None:
    """Put rows where the hub's repositories have them: CONFIG/SPLIT-00000-of-00001.parquet, and a card that says so."""
    where = folder / config
    where.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=Features(features)).to_parquet(where / f"{split}-00000-of-00001.parquet")
    configs = "".join(
        f"- config_name: {path.name}\n  data_files:\n"
        + "".join(
            f"  - split: {file.name.split('-')[0]}\n    path: {path.name}/{file.name}\n" for file in sorted(path.iterdir())
        )
        for path in sorted(folder.iterdir())
        if path.is_dir()
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Clones of all the repositories in one folder."""
    bio = [{"title": "T", "abstract": "A", "text": text, "doi": "10.1/1"} for text in made_up_texts(5, 1)]
    parquet(tmp_path / "wmdp-bio-forget-corpus", "default", "train", bio, BIO)
    for config, seed in (("cyber-forget-corpus", 2), ("cyber-retain-corpus", 3), ("bio-retain-corpus", 4)):
        parquet(tmp_path / "wmdp-corpora", config, "train", [{"text": text} for text in made_up_texts(5, seed)], TEXT)
    for split, rows in (("test", WIKITEXT), ("train", ["other \n"])):
        parquet(tmp_path / "wikitext", "wikitext-2-raw-v1", split, [{"text": text} for text in rows], TEXT)
    for config, n in (("wmdp-bio", 6), ("wmdp-cyber", 7), ("wmdp-chem", 4)):
        parquet(tmp_path / "wmdp", config, "test", wmdp(n), WMDP)
    for config, rows in (("virology", mmlu("virology", 4)), ("all", mmlu("virology", 4) + mmlu("anatomy", 2))):
        for split in ("test", "validation", "dev"):
            parquet(tmp_path / "mmlu", config, split, rows[:3] if split == "dev" else rows, MMLU)
    return tmp_path


def test_corpora(copies):
    bio = load_corpus("wmdp-bio", data=copies)
    assert bio["text"][:] == made_up_texts(5, 1) and bio.column_names == ["title", "abstract", "text", "doi"]
    assert load_corpus("bio-forget-corpus", data=copies)["text"][:] == made_up_texts(5, 1)
    assert load_corpus("wmdp-cyber", data=copies)["text"][:] == made_up_texts(5, 2)
    assert load_corpus("wmdp-cyber", data=copies, subset="cyber-retain-corpus")["text"][:] == made_up_texts(5, 3)
    # Empty lines are left out; headings are passages as they stand in the file.
    assert load_corpus("wikitext", data=copies)["text"][:] == [WIKITEXT[1], WIKITEXT[3]]
    assert load_corpus("wikitext", data=copies, split="train")["text"][:] == ["other \n"]


def test_corpora_as_files(tmp_path):
    """As the project that published them hands them out, one object a line."""
    (tmp_path / "bio-forget-corpus.jsonl").write_text('{"title": "T", "abstract": "A", "text": "one", "doi": "d"}\n')
    (tmp_path / "wikitext.jsonl").write_text('{"text": ""}\n{"text": " = H = \\n"}\n')
    assert load_corpus("wmdp-bio", data=tmp_path)["text"][:] == ["one"]
    assert load_corpus("wikitext", data=tmp_path)["text"][:] == [" = H = \n"]
    with pytest.raises(RmuLabError, match="is a file, which has no subsets and splits"):
        load_corpus("wmdp-bio", data=tmp_path, split="train")


@pytest.mark.parametrize(
    ("name", "count"), [("wmdp-bio", 6), ("wmdp_cyber", 7), ("mmlu", 6), ("mmlu/virology", 4), ("mmlu_virology", 4)]
)
def test_questions(copies, tokenizer, name, count):
    questions = load_questions(name, data=copies)
    assert {"question", "choices", "answer"} <= set(questions.column_names) and len(questions) == count
    assert questions["answer"][:4] == [0, 1, 2, 3]
    score = accuracy(tiny_model("llama"), tokenizer, questions, progress=False)
    assert len(score.correct) == count


def test_other_splits_and_subjects(copies):
    assert len(load_questions("mmlu", "dev", data=copies)) == 3
    assert set(load_questions("mmlu", data=copies)["subject"]) == {"virology", "anatomy"}
    assert len(load_questions(copies / "wmdp", subset="wmdp-chem")) == 4  # a copy by its path
    with pytest.raises(RmuLabError, match="MMLU has no subject 'virologi'; use one of abstract_algebra"):
        load_questions("mmlu/virologi", data=copies)
    with pytest.raises(RmuLabError, match='Unknown split "train"'):
        load_questions("wmdp-bio", "train", data=copies)


def test_the_subjects_are_lm_evals():
    tasks = pytest.importorskip("lm_eval.tasks")
    files = (Path(tasks.__file__).parent / "mmlu" / "default").glob("mmlu_*.yaml")
    assert {file.stem.removeprefix("mmlu_") for file in files} == set(MMLU_SUBJECTS)


def test_questions_that_cannot_be_asked_are_left_out_with_a_warning(tmp_path):
    rows = wmdp(4)
    rows[2]["choices"] = ["sea", "sea", "tree", "bird"]
    parquet(tmp_path / "wmdp", "wmdp-bio", "test", rows, WMDP)
    with pytest.warns(UserWarning, match=r"1 of 4 questions of wmdp-bio are left out, .* different strings.* \(row 2\)"):
        assert len(load_questions("wmdp-bio", data=tmp_path)) == 3
    for row in rows:
        row["question"] = ""
    parquet(tmp_path / "bad" / "wmdp", "wmdp-bio", "test", rows, WMDP)
    with pytest.raises(RmuLabError, match="'wmdp-bio' holds no questions"):
        load_questions("wmdp-bio", data=tmp_path / "bad")


def test_all_that_the_hub_says_is_shown(monkeypatch, tmp_path):
    """The first lines of its errors are often empty words; what was wrong stands below."""
    said = "An error occurred while generating the dataset\n\nTraceback:\nValueError: the column choices is missing.\n"
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(ValueError(said)))
    for load, name in ((load_questions, "wmdp-bio"), (load_corpus, "someone/texts"), (load_corpus, tmp_path)):
        with pytest.raises(RmuLabError, match=r"\(An error occurred while .*: the column choices is missing\); "):
            load(name)


@pytest.mark.parametrize(
    ("load", "name", "asked"),
    [
        (load_corpus, "wmdp-bio", ("cais/wmdp-bio-forget-corpus", None, "train")),
        (load_corpus, "wmdp-cyber", ("cais/wmdp-corpora", "cyber-forget-corpus", "train")),
        (load_corpus, "wikitext", ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")),
        (load_questions, "wmdp-bio", ("cais/wmdp", "wmdp-bio", "test")),
        (load_questions, "mmlu", ("cais/mmlu", "all", "test")),
        (load_questions, "mmlu_high_school_biology", ("cais/mmlu", "high_school_biology", "test")),
    ],
)
def test_without_a_copy_the_hub_is_asked(monkeypatch, tmp_path, load, name, asked):
    found = []

    def load_dataset(*args, **kwargs):
        found.append((*args, kwargs["split"]))
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (tmp_path / name.split("/")[0]).mkdir()  # a folder of that name in the working folder is something else
    monkeypatch.chdir(tmp_path)
    how = r"gated: log in \(hf auth login\), ask on its page" if asked[0].endswith("bio-forget-corpus") else "hub must be"
    with pytest.raises(RmuLabError, match=rf"{how}.*https://huggingface\.co/datasets/{asked[0]}; or put .*\.jsonl"):
        load(name)
    assert found == [asked]

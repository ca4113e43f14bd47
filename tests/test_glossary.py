"""The glossary's links and headings lead somewhere, on GitHub and in JupyterLab alike."""

import re

import nbformat

from tests.test_notebooks import FOLDER, NOTEBOOKS

TEXT = (FOLDER / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^## (.+)$", TEXT, re.M)
IDS = {term.replace(" ", "-") for term in TERMS}


def test_headings_give_the_same_id_everywhere():
    """GitHub makes ids lower case, JupyterLab does not; each program treats other characters in its own way."""
    assert [term for term in TERMS if not re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", term)] == []
    assert sorted(TERMS) == TERMS and len(set(TERMS)) == len(TERMS)


def test_every_term_names_the_notebook_that_teaches_it():
    for entry in TEXT.split("\n## ")[1:]:
        targets = re.findall(r"\]\(([^)]+)\)", entry)
        assert targets and all((FOLDER / target).exists() for target in targets), entry


def test_what_notebooks_link_to_is_there():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for target in re.findall(r"\]\((?:\.\./)?glossary\.md#([^)]+)\)", cell.source):
                assert target in IDS, f"{path.name}: {target}"

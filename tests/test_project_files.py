"""What people and machines read of the repository itself: notes for contributors, forms of issues, workflows."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import rmu_lab
from rmu_lab.study.stored_table import stored_claims

ROOT = Path(__file__).parents[1]
PAGES = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/PULL_REQUEST_TEMPLATE.md"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    named = re.findall(r"`((?:rmu_lab|tests|benchmarks|data|docs|notebooks)/[\w./]*)`", text)
    missing = [name for name in [*links, *named] if not (ROOT / name.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_make_knows_what_is_named(page):
    targets = set(re.findall(r"^([a-z][a-z ]*):", (ROOT / "Makefile").read_text(), re.M))
    targets = {one for line in targets for one in line.split()}
    named = re.findall(r"(?:^|`)make ([a-z]+(?: [a-z]+)*)", (ROOT / page).read_text(encoding="utf-8"), re.M)
    assert {one for words in named for one in words.split()} <= targets


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+\.\d+\.\d+) \((unreleased|\d{4}-\d\d-\d\d)\)$", text, re.M)
    assert [name for name, _ in versions] == [rmu_lab.__version__, "0.1.0"]
    kinds = re.findall(r"^### (.+)$", text, re.M)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_forms_of_issues_have_what_github_asks_for(form):
    plain = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert set(plain) == {"blank_issues_enabled"}
        return
    assert plain["name"] and plain["description"]
    ids = [part["id"] for part in plain["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    for part in plain["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown")
        attributes = part["attributes"]
        assert attributes["value"] if part["type"] == "markdown" else attributes["label"]
        if part["type"] == "dropdown":
            assert len(attributes["options"]) == len(set(attributes["options"])) > 1
    assert any(part.get("validations", {}).get("required") for part in plain["body"])


def test_the_form_about_claims_names_one_that_exists():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "claim.yml").read_text(encoding="utf-8")
    (name,) = re.findall(r"such as ([\w-]+),", text)
    assert name in [claim.id for claim in stored_claims() or ()]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights_and_an_end(workflow):
    plain = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert "permissions" in plain and "write" not in plain["permissions"].values()
    for name, job in plain["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            assert "pull_request_target" not in str(step)
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_the_workflow_of_tests_does_what_ci_does_on_every_python():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert {"run": ".ci/run"} in jobs["everything"]["steps"] and (ROOT / ".ci" / "run").stat().st_mode & 0o111
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert jobs["versions"]["strategy"]["matrix"]["python"] == re.findall(r'Python :: (3\.\d+)"', pyproject)


def test_only_the_upload_may_prove_who_it_is():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert (publish["environment"], publish["needs"]) == ("pypi", "build")
    assert not any("run" in step or "checkout" in step["uses"] for step in publish["steps"])  # it runs nothing of ours


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_workflows_run_is_shell(workflow):
    for job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                subprocess.run(["bash", "-n", "-c", step["run"]], check=True)  # noqa: S607


def test_make_lab_is_rooted_at_the_top_and_opens_the_first_notebook():
    """From `notebooks/` JupyterLab would not show `data/` and the README, to which notebooks link."""
    shown = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    (line,) = [line for line in shown.splitlines() if "jupyter" in line]
    root, notebook = re.search(r'--ServerApp.root_dir="([^"]+)" (\S+)$', line).groups()
    assert Path(root) == ROOT and (ROOT / notebook).is_file() and notebook.startswith("notebooks/00_")


def test_commands_of_stored_results_name_no_folder_of_one_machine():
    stored = [path for path in (ROOT / "data").rglob("*.json*") if "command" in path.read_text(encoding="utf-8")]
    assert len(stored) > 20
    named = {}
    for path in stored:
        commands = re.findall(r'"command": "((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))
        if absolute := [command for command in commands if re.search(r"(?:^|[ =])(?:/|~|[A-Z]:\\)", command)]:
            named[path.name] = absolute[0]
    assert named == {}

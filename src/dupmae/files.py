"""Writing a file or a folder whole or not at all.

`write_text`, `write_json`, `new_file` and `new_folder` write under a temporary name beside the final one,
flush to disk, and rename when everything is there. `read_json`, `sha256`, `training_folder`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dupmae.errors import DupmaeError

# Empty file that says a folder was written here, so that writing it again may replace what it holds.
MARKER = ".dupmae"
LEFTOVER = re.compile(r"\..+\.(\d+)\.(?:tmp|old)")
# A line of figures for each step, or each few, in the folder of a training.
LOG = "log.jsonl"
# Behind the name of what is trained, in that of the folder with its log and checkpoints.
TRAINING = "-training"


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends well.

    Raises:
        DupmaeError: when the file system refuses (disk full, no permission). Nothing is left behind.
    """
    final = Path(path).resolve()
    temporary = _temporary(final)
    try:
        with _refusals(Path(path), final, temporary):
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            os.replace(temporary, final)
            _sync(final.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes `path` when the block ends well.

    A folder written this way before is replaced, an empty one filled; any other is left alone.

    Raises:
        DupmaeError: when `path` is a file or holds other people's files, or the file system refuses (disk
            full, no permission). Nothing is left behind, and an older folder stays as it was.
    """
    final = Path(path).resolve()
    temporary = _temporary(final)
    try:
        with _refusals(Path(path), final, temporary):
            _check_replaceable(final, Path(path))
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            (temporary / MARKER).touch()
            for inner in (*temporary.rglob("*"), temporary):
                _sync(inner)
            _replace_folder(temporary, final)
            _sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def training_folder(out: Path) -> Path:
    """Where log and checkpoints of the training are whose result is the folder `out`."""
    return out.with_name(out.name + TRAINING)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def _refusals(path: Path, final: Path, temporary: Path) -> Iterator[None]:
    """Tell a refused write in one line; an error about a file elsewhere is not ours to explain."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):
            place = Path(error.filename).resolve()
            if not (final.is_relative_to(place) or place.is_relative_to(temporary)):
                raise
        reason = error.strerror or str(error)
        fix = "free some space or choose another place"
        raise DupmaeError(f"cannot write: {reason}", where=path, fix=fix) from error


def _check_replaceable(final: Path, path: Path) -> None:
    if final.exists() and not final.is_dir():
        raise DupmaeError("is a file, a folder is to be written", where=path, fix="choose another name")
    if final.is_dir() and not (final / MARKER).exists() and any(final.iterdir()):
        raise DupmaeError("holds files of something else", where=path, fix="choose a new folder or empty this one")


def _replace_folder(temporary: Path, path: Path) -> None:
    """Rename over an existing folder: the old one steps aside first, since a rename needs an empty target.

    A crash between the two renames leaves no folder under the name, never half of one.
    """
    if not path.exists():
        os.replace(temporary, path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk: a rename is only as safe as what it points to."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(path: Path) -> None:
    """Delete a folder so that half of it is never seen under its name."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in a folder under their temporary names."""
    for path in folder.glob(".*"):
        process = LEFTOVER.fullmatch(path.name)
        if process is None or _is_running(int(process[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole; returns its path."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write JSON whole (sorted keys are not forced: order is part of readability); returns its path."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def json_line(value: Any) -> str:
    """A value as one line of a JSON lines file."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        DupmaeError: when the file is missing, cannot be read or is not JSON (naming the line).
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        raise DupmaeError(f"cannot read: {error.strerror}", where=path, fix="check the path") from None
    except UnicodeDecodeError as error:
        raise DupmaeError(f"not UTF-8: {error.reason}", where=path, fix="mend or remove it") from None
    except json.JSONDecodeError as error:
        raise DupmaeError(f"not JSON: {error.msg}", where=path, line=error.lineno, fix="mend or remove it") from None


def sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

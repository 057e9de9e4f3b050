"""Writing a file or a folder whole or not at all, and nobody else's files lost.

`new_file`, `write_text`, `write_json` and `new_folder` write under a temporary name beside the final one, flush to
disk, and rename when everything is there. `check_folder` and `check_files` say whether a folder may be replaced,
and whether it holds what was written. `remove_folder`, `remove_leftovers`, `read_json`,
`read_typed`, `read_side_file`, `sha256`, `training_folder`, `cache_folder`.

A temporary name is `.NAME.PROCESS.tmp`, and `.NAME.PROCESS.old` for a folder that steps aside for its successor.
Those of a process that is gone are cleared when NAME is written again.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from dupmae.console import logger
from dupmae.errors import DupmaeError

T = TypeVar("T")
# In every folder that is written as a whole: what kind it is, and the names of its files, some with their SHA-256.
MARKER = ".dupmae"
# In the place of a name: all files of the folder, since they come and go and only its own are ever deleted.
EVERY = "*"
TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.(tmp|old)")
# A line of figures for each step, or each few, in the folder of a training.
LOG = "log.jsonl"
# Behind the name of what is trained, in that of the folder with its log and checkpoints.
TRAINING = "-training"
FREE_SPACE = "free some space or choose another place"
# `renameat2`: paths from the working directory, and both names change places at once (linux/fs.h).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends well.

    Raises:
        DupmaeError: when the file system refuses (disk full, no permission). Nothing is left behind.
    """
    final = resolved(Path(path))
    temporary = _temporary(final)
    try:
        with _refusals(Path(path), final, temporary):
            final.parent.mkdir(parents=True, exist_ok=True)
            _clear(final)
            yield temporary
            _sync(temporary)
            os.replace(temporary, final)
            _sync(final.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def new_folder(path: str | Path, kind: str, *, checked: Sequence[str] = (), every: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes `path` when the block ends well.

    A folder of the same kind that holds what was written here and nothing else is replaced, an empty one filled.

    Args:
        kind: what the folder is, with its article: "an index".
        checked: names of files in it whose SHA-256 is kept for `check_files`; absent ones do not matter.
        every: whether all files that will ever be in the folder are its own.

    Raises:
        DupmaeError: as for `check_folder`, or when the file system refuses (disk full, no permission).
            Nothing is left behind, and an older folder stays as it was.
    """
    final = resolved(Path(path))
    temporary = _temporary(final)
    try:
        with _refusals(Path(path), final, temporary):
            _clear(final)
            check_folder(path, kind)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            mark(temporary, kind, checked=checked, every=every)
            for inner in (*temporary.rglob("*"), temporary):
                _sync(inner)
            _replace_folder(temporary, final)
            _sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: str | Path, kind: str | None = None) -> None:
    """Refuse before the work what writing a folder would refuse after it.

    Args:
        kind: of a folder that is replaced as a whole, as for `new_folder`; None: files are written into the folder.

    Raises:
        DupmaeError: when `path` is a file, or what is to be replaced is a mount point, or a folder of another kind or
            with files that were not written as a part of it.
    """
    path, final = Path(path), resolved(Path(path))
    if final.exists() and not final.is_dir():
        raise DupmaeError("is a file, a folder is to be written", where=path, fix="choose another name")
    if kind is None:
        return
    if os.path.ismount(final):
        raise DupmaeError("is a mount point, which no folder can replace", where=path, fix="name a folder in it")
    if not final.is_dir() or not any(final.iterdir()):
        return
    fix = "choose a new folder or empty this one"
    written = _marked(final)
    if written is None:
        raise DupmaeError("holds files of something else", where=path, fix=fix)
    if written["kind"] != kind:
        raise DupmaeError(f"holds {written['kind']}, where {kind} is to be written", where=path, fix=fix)
    foreign = [] if EVERY in written["files"] else sorted(_names(final) - set(written["files"]))
    if foreign:
        more = f" and {len(foreign) - 1} more" if foreign[1:] else ""
        fix = "move them, or choose a new folder"
        raise DupmaeError(f"holds {foreign[0]}{more}, which would be lost", where=path, fix=fix)


def mark(folder: Path, kind: str, *, checked: Sequence[str] = (), every: bool = False) -> None:
    """Note the kind of a folder and that the files in it now are its own."""
    names = [EVERY] if every else sorted(_names(folder))
    files = {name: sha256(folder / name) if name in checked else None for name in names}
    (folder / MARKER).write_text(json.dumps({"kind": kind, "files": files}, indent=1) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Refuse a folder whose checked files are not what was written; one that came without its marker passes.

    Raises:
        DupmaeError: when such a file is missing or differs.
    """
    for name, expected in (_marked(folder) or {"files": {}})["files"].items():
        if expected is not None and (not (folder / name).is_file() or sha256(folder / name) != expected):
            state = "is not what was written" if (folder / name).exists() else "is missing"
            fix = f"write or copy the folder again; delete {MARKER} in it if the file was changed on purpose"
            raise DupmaeError(state, where=folder / name, fix=fix)


def _marked(folder: Path) -> dict[str, Any] | None:
    """What the marker of a folder says; None where there is none, or it is none of this version."""
    try:
        told = json.loads((folder / MARKER).read_bytes())
        kind, files = told["kind"], dict(told["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {"kind": str(kind), "files": files}


def _names(folder: Path) -> set[str]:
    """Every file and link below a folder, and every empty folder, less the marker."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir())]
    return {path.relative_to(folder).as_posix() for path in paths} - {MARKER}


def cache_folder() -> Path:
    """$DUPMAE_CACHE, or ~/.cache/dupmae."""
    named = os.environ.get("DUPMAE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "dupmae"


def training_folder(out: Path) -> Path:
    """Where log and checkpoints of the training are whose result is the folder `out`."""
    return out.with_name(out.name + TRAINING)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def resolved(path: Path) -> Path:
    """The absolute path behind all links.

    Raises:
        DupmaeError: where they lead in a circle.
    """
    try:
        return path.resolve()
    except (RuntimeError, OSError):
        raise DupmaeError("is a loop of links", where=path, fix="choose another name") from None


@contextmanager
def _refusals(path: Path, final: Path, temporary: Path) -> Iterator[None]:
    """Tell a refused write in one line; an error about a file elsewhere is not ours to explain."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):
            place = Path(os.path.abspath(error.filename))
            if not (final.is_relative_to(place) or place.is_relative_to(temporary)):
                raise
        reason = error.strerror or str(error)
        raise DupmaeError(f"cannot write: {reason}", where=path, fix=FREE_SPACE) from error


def _replace_folder(temporary: Path, path: Path) -> None:
    """Put a folder in the place of another.

    Where names cannot change places at once the old folder steps aside, and a kill between the two renames leaves
    none under the name: the next writer of that name puts the old one back first.
    """
    if not path.exists():
        os.replace(temporary, path)
        return
    if _exchange(temporary, path):
        shutil.rmtree(temporary, ignore_errors=True)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places at once; false where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk: a rename is only as safe as what it points to."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(path: Path) -> None:
    """Delete a folder so that half of it is never seen under its name."""
    aside = _temporary(path)
    os.replace(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in a folder under their temporary names, and put back what stepped aside."""
    for path in sorted(folder.glob(".*")):
        _remove_leftover(path)


def _clear(final: Path) -> None:
    """The same for the temporary names of one file or folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(final.parent)):
            match = TEMPORARY.fullmatch(name)
            if match is not None and match[1] == final.name:
                _remove_leftover(final.parent / name)


def _remove_leftover(path: Path) -> None:
    match = TEMPORARY.fullmatch(path.name)
    if match is None or _is_running(int(match[2])):
        return
    final = path.with_name(match[1])
    if match[3] == "old" and not final.exists():
        os.replace(path, final)
    elif path.is_dir():
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
    path, fix = Path(path), "mend or remove it"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        raise DupmaeError(f"cannot read: {error.strerror}", where=path, fix="check the path") from None
    except UnicodeDecodeError as error:
        raise DupmaeError(f"not UTF-8: {error.reason}", where=path, fix=fix) from None
    except json.JSONDecodeError as error:
        raise DupmaeError(f"not JSON: {error.msg}", where=path, line=error.lineno, fix=fix) from None
    except (ValueError, RecursionError):
        # An integer of thousands of digits, or brackets within brackets without end.
        raise DupmaeError("not JSON that can be read: too long a number or too deep", where=path, fix=fix) from None


def read_typed(path: Path, kind: type[T], *, fix: str) -> T:
    """Read JSON as a dataclass or another type, every field checked.

    Args:
        fix: what helps where the file is something else.

    Raises:
        DupmaeError: as `read_json`, and for a field that is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    value = read_json(path)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"{place}: {first['msg']}" if place else first["msg"]
        raise DupmaeError(problem, where=path, fix=fix) from None


def read_side_file(path: Path) -> dict[str, Any]:
    """An object of JSON that only saves work: nothing, with a warning, when it is damaged."""
    if not path.exists():
        return {}
    try:
        value = read_json(path)
    except DupmaeError as error:
        logger.warning(f"{error.where}: {error.problem}; it counts as absent")
        return {}
    if not isinstance(value, dict):
        logger.warning(f"{path}: holds no object; it counts as absent")
        return {}
    return value


def sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

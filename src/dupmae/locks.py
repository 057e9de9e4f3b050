"""One process on one output: `locked`."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import cache_folder, resolved


@contextmanager
def locked(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keep the other processes of this machine from writing `path` until the block ends.

    The lock is a file in the cache folder, so that nothing is left beside `path`; without such a folder there is none.

    Args:
        wait: for the end of another process that has it, instead of refusing.

    Raises:
        DupmaeError: when another process has it and `wait` is false.
    """
    final = resolved(Path(path))
    file = cache_folder() / "locks" / hashlib.sha256(os.fsencode(final)).hexdigest()[:32]
    handle = _lock(file, Path(path), wait)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                file.unlink()
            os.close(handle)


def _lock(file: Path, path: Path, wait: bool) -> int | None:
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None
        try:
            _take(handle, path, wait)
            if os.path.samestat(os.fstat(handle), os.stat(file)):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        except DupmaeError:
            os.close(handle)
            raise
        except FileNotFoundError:
            pass
        except OSError:
            # A file system without locks.
            os.close(handle)
            return None
        # Whoever held it deleted the file between our opening and locking it.
        os.close(handle)


def _take(handle: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = os.read(handle, 20).decode(errors="replace")
        if not wait:
            fix = "wait for its end, or choose another out"
            raise DupmaeError(f"is being written by process {process}", where=path, fix=fix) from None
        logger.info(f"{path}: waiting for process {process}, which is writing it")
        fcntl.flock(handle, fcntl.LOCK_EX)

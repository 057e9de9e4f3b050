"""Where the official files of a suite lie in a folder, and what is said when they do not.

`find_all` gives the files in the order they were asked for; `File` describes one of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dupmae.errors import DupmaeError

# The official archives unpack to folders in folders.
DEEPEST = 4


@dataclass(frozen=True, slots=True)
class File:
    """An official file.

    Attributes:
        names: the official name, then others it goes by; a name may begin with folders.
        holds: what is in it, with the official count, such as `6,980 queries`.
    """

    names: tuple[str, ...]
    holds: str

    def __str__(self) -> str:
        return f"{self.names[0]}: {self.holds}"


class Folder:
    """The files below a folder.

    Raises:
        DupmaeError: when there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            problem = "is a file, a folder is wanted" if path.exists() else "no such folder"
            raise DupmaeError(problem, where=path, fix="name the folder with the suite's files")
        self._files = sorted(_below(path, DEEPEST), key=lambda file: (len(file.parts), file))

    def find(self, file: File) -> Path | None:
        """The file under one of its names, perhaps with `.gz` behind it; the one least deep in the folder."""
        for name in file.names:
            wanted = Path(name).parts
            zipped = (*wanted[:-1], f"{wanted[-1]}.gz")
            for there in self._files:
                parts = there.relative_to(self.path).parts
                if parts[-len(wanted) :] in (wanted, zipped):
                    return there
        return None

    def find_all(self, suite: str, files: Sequence[File]) -> list[Path]:
        """All files of a suite.

        Raises:
            DupmaeError: when one is missing, naming all that the suite reads.
        """
        found = [self.find(file) for file in files]
        missing = [file.names[0] for file, path in zip(files, found, strict=True) if path is None]
        if missing:
            raise DupmaeError(f"has no {', no '.join(missing)}", where=self.path, fix=reads(suite, files))
        return [path for path in found if path is not None]


def reads(suite: str, files: Sequence[File]) -> str:
    """What a suite reads, in one line."""
    return f"{suite} reads, plain or with .gz: {'; '.join(map(str, files))}"


def refuse_count(path: Path, what: str, found: int, official: int) -> None:
    """Refuse data that is not whole.

    Raises:
        DupmaeError: when the numbers differ.
    """
    if found != official:
        fix = "fetch the file again, or give official=false to measure on what there is"
        raise DupmaeError(f"has {found:,} {what}, officially {official:,}", where=path, fix=fix)


def _below(folder: Path, depth: int) -> list[Path]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file():
                found.append(folder / entry.name)
            elif depth > 1 and entry.is_dir():
                found += _below(folder / entry.name, depth - 1)
    return found

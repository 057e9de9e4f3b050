"""The Python sources that an interpreter can import, found without following any loop.

`default_roots`, `find_sources`, `Source`.
"""

from __future__ import annotations

import os
import stat
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# A source of 10 MB is generated data, and its syntax tree alone would take half a gigabyte.
SIZE_LIMIT = 10_000_000
# The standard library's folder holds the site-packages of the base interpreter, which a virtual environment
# does not see; a site-packages folder is searched only when it is itself one of the roots.
NOT_ENTERED = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: where it is, its dotted module name, bytes and modification time (ns)."""

    path: str
    module: str
    size: int
    modified: int


def default_roots() -> list[Path]:
    """The standard library and site-packages folders of the running interpreter."""
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return list(dict.fromkeys(Path(paths[name]) for name in names))


def find_sources(roots: Sequence[Path]) -> tuple[list[Source], Counter[str]]:
    """Find every readable `.py` file under the roots, in the order of roots and names.

    Returns:
        The sources, and how many entries were skipped as `broken_links`, `too_large` or `unreadable`.
    """
    skipped: Counter[str] = Counter()
    entered: set[tuple[int, int]] = set()
    sources = [source for root in roots for source in _walk(str(root), _package(root), entered, skipped)]
    return sources, skipped


def _package(root: Path) -> str:
    """What module names below a root begin with: a package names itself, a folder of packages is nameless."""
    return f"{root.resolve().name}." if (root / "__init__.py").exists() else ""


def _walk(folder: str, package: str, entered: set[tuple[int, int]], skipped: Counter[str]) -> Iterator[Source]:
    """Sources below one folder; `entered` holds the inodes of folders seen, so links cannot loop."""
    try:
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in entered:
            return
        entered.add((place.st_dev, place.st_ino))
        names = sorted(os.listdir(folder))
    except OSError:
        skipped["unreadable"] += 1
        return
    for name in names:
        path = os.path.join(folder, name)
        found = _status(path, skipped)
        if found is None:
            continue
        if stat.S_ISDIR(found.st_mode):
            if name not in NOT_ENTERED:
                yield from _walk(path, f"{package}{name}.", entered, skipped)
        elif name.endswith(".py") and stat.S_ISREG(found.st_mode):
            if found.st_size >= SIZE_LIMIT:
                skipped["too_large"] += 1
                continue
            module = package.removesuffix(".") if name == "__init__.py" else package + name.removesuffix(".py")
            yield Source(path, module, found.st_size, found.st_mtime_ns)


def _status(path: str, skipped: Counter[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        skipped["broken_links" if os.path.islink(path) else "unreadable"] += 1
        return None

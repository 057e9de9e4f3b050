"""The files of an index: segments that are written once, and manifests that say which of them it consists of.

    lock                      held by the one writer
    manifest-00000003.json    the newest version, and one before it
    segments/NAME/            arrays, documents.arrow, and segment.json with size and SHA-256 of each file

A version counts once its manifest stands under its final name: everything it names was flushed to disk before.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import MARKER, mark, new_folder, read_json, remove_folder, remove_leftovers, sha256, write_json
from dupmae.search.filters import Mask
from dupmae.search.segment import REBUILD, Segment
from dupmae.search.snapshot import Snapshot

KIND = "an index"
SEGMENTS, CONTENTS, LOCK = "segments", "segment.json", "lock"
MANIFEST = re.compile(r"manifest-(\d{8,})\.json")
Model = TypeVar("Model", bound=BaseModel)

KEPT = 2
"""Manifests kept: the newest, and what is left when that is damaged."""
# What an index of the first format had under this name.
OLD_SETTINGS = "settings.json"


class Entry(BaseModel):
    """A segment of a version.

    Attributes:
        name: of its folder.
        sha256: of its `segment.json`, which has those of the other files.
        deleted: the passages that are gone, as bits, packed (zlib) and in base64; "" for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[0-9a-f]{32}$")
    passages: int = Field(ge=1)
    sha256: str
    deleted: str = ""


class Manifest(BaseModel):
    """A version of an index.

    Attributes:
        retriever: how to encode queries: `path` of its folder, relative to the index, and its files' SHA-256s.
        int8: whether new segments keep dense vectors in 8 bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["dupmae-index"] = "dupmae-index"
    version: Literal[2] = 2
    number: int = Field(ge=0)
    dimensions: int = Field(ge=0)
    vocabulary: int = Field(ge=0)
    int8: bool = False
    retriever: dict[str, str] = {}
    segments: list[Entry] = []


class Contents(BaseModel):
    """What `segment.json` says: the size and SHA-256 of each file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    passages: int = Field(ge=1)
    files: dict[str, tuple[int, str]]


class Store:
    """An index folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Segment] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer of the folder, which is made where it is missing.

        Raises:
            DupmaeError: when another process writes it, it is of an older version, or holds something else.
        """
        new = not self.folder.exists()
        self._claim()
        with (self.folder / LOCK).open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(handle.fileno()), os.stat(self.folder / LOCK)):
                    raise BlockingIOError
            except (BlockingIOError, FileNotFoundError):
                fix = "wait until it is done"
                raise DupmaeError("another process is writing this index", where=self.folder, fix=fix) from None
            try:
                yield
            finally:
                if new and not self.numbers() and not any((self.folder / SEGMENTS).glob("*")):
                    shutil.rmtree(self.folder, ignore_errors=True)

    def _claim(self) -> None:
        _refuse_old(self.folder)
        if os.path.ismount(self.folder):
            if not any(self.folder.iterdir()):
                mark(self.folder, KIND, every=True)
        elif not (self.folder / LOCK).exists():
            with new_folder(self.folder, KIND, every=True) as folder:
                (folder / LOCK).touch()
        if not (self.folder / LOCK).exists() and any(name != MARKER for name in os.listdir(self.folder)):
            fix = "choose a new folder or empty this one"
            raise DupmaeError("holds files of something else", where=self.folder, fix=fix)

    def numbers(self) -> list[int]:
        """Numbers of the manifests that are there, the newest first."""
        if not self.folder.is_dir():
            return []
        found = (MANIFEST.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def newest(self) -> tuple[Manifest, Snapshot]:
        """The newest version that is whole; a damaged newer one is stepped over with a warning.

        Raises:
            DupmaeError: when there is no index, or no version of it is whole.
        """
        while True:
            numbers, first = self.numbers(), None
            for number in numbers:
                try:
                    manifest = self._read(number)
                    return manifest, self._snapshot(manifest)
                except DupmaeError as error:
                    first = first or error
                    if self._path(number).exists():
                        logger.warning(f"version {number} cannot be used, the one before it is opened: {error}")
            # A reader that is overtaken by two commits finds its manifest's segments gone, and newer ones there.
            if self.numbers() != numbers:
                continue
            if first is None:
                raise _no_index(self.folder)
            raise first

    def _path(self, number: int) -> Path:
        return self.folder / f"manifest-{number:08d}.json"

    def _read(self, number: int) -> Manifest:
        file = self._path(number)
        content = read_json(file)
        body = content.get("manifest") if isinstance(content, dict) else None
        if body is None or content.get("sha256") != _digest(body):
            raise DupmaeError("damaged: its checksum differs", where=file, fix=REBUILD)
        manifest = _checked(Manifest, body, file)
        if manifest.number != number:
            raise DupmaeError(f"damaged: is version {manifest.number}", where=file, fix=REBUILD)
        return manifest

    def _snapshot(self, manifest: Manifest) -> Snapshot:
        segments = tuple(self._segment(entry, manifest.vocabulary) for entry in manifest.segments)
        for segment, entry in zip(segments, manifest.segments, strict=True):
            if segment.dense.shape[1] != manifest.dimensions:
                problem = f"damaged: {segment.dense.shape[1]} dimensions instead of {manifest.dimensions}"
                raise DupmaeError(problem, where=self._home(entry.name), fix=REBUILD)
        deleted = tuple(_mask(entry, self._path(manifest.number)) for entry in manifest.segments)
        return Snapshot(manifest.number, manifest.dimensions, manifest.vocabulary, segments, deleted)

    def _home(self, name: str) -> Path:
        return self.folder / SEGMENTS / name

    def _segment(self, entry: Entry, vocabulary: int) -> Segment:
        """Open a segment, once; sizes of its files are checked, their contents are `verify`'s."""
        segment = self._open.get(entry.name)
        if segment is None:
            contents = self._contents(entry.name, entry.sha256)
            segment = Segment.load(self._home(entry.name), contents.passages, vocabulary)
            self._open[entry.name] = segment
        return segment

    def _contents(self, name: str, digest: str | None = None) -> Contents:
        """What a segment's files should be, their sizes checked; `digest`: of the file that says it."""
        home = self._home(name)
        try:
            if digest not in (None, sha256(home / CONTENTS)):
                raise DupmaeError("damaged: its checksum differs", where=home / CONTENTS, fix=REBUILD)
        except FileNotFoundError:
            raise DupmaeError("no such file in the index", where=home / CONTENTS, fix=REBUILD) from None
        contents = _checked(Contents, read_json(home / CONTENTS), home / CONTENTS)
        for file, (size, _) in contents.files.items():
            try:
                found = (home / Path(file).name).stat().st_size
            except FileNotFoundError:
                raise DupmaeError("no such file in the index", where=home / file, fix=REBUILD) from None
            if found != size:
                problem = f"damaged: has {found:,} bytes instead of {size:,}"
                raise DupmaeError(problem, where=home / file, fix=REBUILD)
        return contents

    def reopen(self, name: str, vocabulary: int) -> Segment | None:
        """A segment that an earlier, unfinished build left whole; None when there is none."""
        if not (self._home(name) / CONTENTS).is_file():
            return None
        try:
            self._verify(name)
            segment = Segment.load(self._home(name), self._contents(name).passages, vocabulary)
        except DupmaeError as error:
            logger.warning(f"made again: {error}")
            return None
        self._open[name] = segment
        return segment

    def write(self, name: str, segment: Segment) -> Segment:
        """Write a segment under its name, flushed to disk, and give it mapped from there.

        Raises:
            DupmaeError: when the file system refuses; nothing is left behind.
        """
        with new_folder(self._home(name), "a segment of an index") as folder:
            segment.save(folder)
            files = {file.name: (file.stat().st_size, sha256(file)) for file in sorted(folder.iterdir())}
            write_json(folder / CONTENTS, Contents(passages=len(segment), files=files).model_dump())
        self._open[name] = Segment.load(self._home(name), len(segment), segment.vocabulary)
        return self._open[name]

    def commit(self, snapshot: Snapshot, record: dict[str, str], *, int8: bool) -> None:
        """Make a version the newest; it counts when this returns."""
        entries = [
            self._entry(segment, mask) for segment, mask in zip(snapshot.segments, snapshot.deleted, strict=True)
        ]
        body = Manifest(
            number=snapshot.number,
            dimensions=snapshot.dimensions,
            vocabulary=snapshot.vocabulary,
            int8=int8,
            retriever=record,
            segments=entries,
        ).model_dump(mode="json")
        write_json(self._path(snapshot.number), {"sha256": _digest(body), "manifest": body})
        self._collect()

    def _entry(self, segment: Segment, mask: Mask | None) -> Entry:
        deleted = "" if mask is None else base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()
        digest = sha256(self._home(segment.name) / CONTENTS)
        return Entry(name=segment.name, passages=len(segment), sha256=digest, deleted=deleted)

    def _collect(self) -> None:
        """Delete what no kept version has; a reader keeps the files it has mapped."""
        kept: list[Manifest] = []
        for number in self.numbers():
            try:
                manifest = self._read(number) if len(kept) < KEPT else None
            except DupmaeError:
                manifest = None
            if manifest is None:
                with suppress(OSError):
                    self._path(number).unlink()
            else:
                kept.append(manifest)
        names = {entry.name for manifest in kept for entry in manifest.segments}
        for path in (self.folder / SEGMENTS).glob("[0-9a-f]*"):
            if path.name not in names:
                remove_folder(path)
        self._open = {name: segment for name, segment in self._open.items() if name in names}
        for folder in (self.folder, self.folder / SEGMENTS):
            remove_leftovers(folder)

    def verify(self, manifest: Manifest) -> None:
        """Compare the contents of every file with their checksums.

        Raises:
            DupmaeError: naming the first file that differs.
        """
        for entry in manifest.segments:
            self._verify(entry.name, entry.sha256)

    def _verify(self, name: str, digest: str | None = None) -> None:
        for file, (_, expected) in self._contents(name, digest).files.items():
            if sha256(self._home(name) / file) != expected:
                raise DupmaeError("damaged: its checksum differs", where=self._home(name) / file, fix=REBUILD)


def _refuse_old(folder: Path) -> None:
    """Refuse a folder of the first format in one clear line.

    Raises:
        DupmaeError: when it is one.
    """
    if (folder / OLD_SETTINGS).is_file() and (folder / "term_offsets.npy").is_file():
        problem = "an index of an older version, which this one cannot read"
        raise DupmaeError(problem, where=folder, fix="delete the folder and build it again with `dupmae index`")


def _no_index(folder: Path) -> DupmaeError:
    _refuse_old(folder)
    if (folder / SEGMENTS).is_dir():
        return DupmaeError("the index was never finished", where=folder, fix="give the command that began it again")
    problem = "not an index (it has no manifest)" if folder.is_dir() else "no such index folder"
    return DupmaeError(problem, where=folder, fix="make one with `dupmae index`")


def _checked(kind: type[Model], content: Any, file: Path) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise DupmaeError(f"cannot be used: {name}: {first['msg']}", where=file, fix=REBUILD) from None


def _mask(entry: Entry, file: Path) -> Mask | None:
    if not entry.deleted:
        return None
    try:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(entry.deleted)), np.uint8)
    except (ValueError, zlib.error) as error:
        raise DupmaeError(f"damaged: {error}", where=file, fix=REBUILD) from None
    if len(bits) != -(-entry.passages // 8):
        raise DupmaeError("damaged: deletions of another size", where=file, fix=REBUILD)
    return np.unpackbits(bits, count=entry.passages).astype(np.bool_)


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""Tokenised records on disk: Arrow IPC files, memory-mapped.

A folder holds `manifest.json`, `shard-00000.arrow` and so on, and `tokenizer/`. Each record is one row:
`input_ids` list<int32> and `word_starts` list<uint8>, specials included in both.
`write_shards`, `Shards`, `Manifest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from dupmae.console import progress
from dupmae.corpus.pieces import Cutter
from dupmae.corpus.tokenizers import fingerprint, load_tokenizer
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, read_json, sha256, write_json

VERSION = 1
MANIFEST = "manifest.json"
# Texts tokenised at once: enough to feed every core, and a record batch stays far below 2**31 tokens.
BATCH_TEXTS = 1024
FIELDS: list[pa.Field[Any]] = [
    pa.field("input_ids", pa.list_(pa.int32())),
    pa.field("word_starts", pa.list_(pa.uint8())),
]
SCHEMA = pa.schema(FIELDS)

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]
Record = tuple[Ids, Flags]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of records."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder holds.

    Attributes:
        records: number of records.
        tokens: tokens of all records, specials included.
        dropped: texts, or pieces of long texts, left out because they have too few ordinary tokens.
        max_length: most tokens of a record, specials included.
        tokenizer: fingerprint of the tokenizer.
        shards: the files, in order.
        version: of this format.
    """

    records: int
    tokens: int
    dropped: int
    max_length: int
    tokenizer: str
    shards: list[ShardFile]
    version: int = VERSION


def write_shards(
    out: Path,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    shard_records: int,
) -> Manifest:
    """Tokenise texts into a shard folder, whole.

    Texts longer than `max_length` tokens, specials included, are cut at word starts into pieces of about equal
    length. Text that spells a special token, such as `[MASK]`, is taken as ordinary text.

    Raises:
        DupmaeError: when no text has enough tokens, or the file system refuses.
    """
    cutter = Cutter(tokenizer, max_length)
    with new_folder(out) as folder:
        shards = list(_write_files(folder, _records(cutter, texts), shard_records))
        if not shards:
            problem = f"no text has {cutter.fewest} tokens or more ({cutter.dropped} dropped)"
            raise DupmaeError(problem, where=out, fix="give longer texts")
        manifest = Manifest(
            records=sum(shard.records for shard in shards),
            tokens=cutter.tokens,
            dropped=cutter.dropped,
            max_length=max_length,
            tokenizer=fingerprint(tokenizer),
            shards=shards,
        )
        tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / MANIFEST, asdict(manifest))
    return manifest


def _records(cutter: Cutter, texts: Iterable[str]) -> Iterator[Record]:
    waiting = iter(texts)
    with progress("tokenising", None, "texts") as bar:
        while batch := list(islice(waiting, BATCH_TEXTS)):
            yield from cutter.cut(batch)
            bar.advance(len(batch))


def _write_files(folder: Path, records: Iterator[Record], shard_records: int) -> Iterator[ShardFile]:
    batch = list(islice(records, min(shard_records, BATCH_TEXTS)))
    number = 0
    while batch:
        path, written = folder / f"shard-{number:05d}.arrow", 0
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            while batch:
                writer.write_batch(_arrow(batch))
                written += len(batch)
                batch = list(islice(records, min(shard_records - written, BATCH_TEXTS)))
        yield ShardFile(path.name, written, path.stat().st_size, sha256(path))
        batch = list(islice(records, min(shard_records, BATCH_TEXTS)))
        number += 1


def _arrow(records: list[Record]) -> pa.RecordBatch:
    ends = np.cumsum([0] + [len(ids) for ids, _ in records], dtype=np.int32)
    ids = np.concatenate([ids for ids, _ in records])
    starts = np.concatenate([starts for _, starts in records]).view(np.uint8)
    offsets = pa.array(ends, pa.int32())
    columns = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in (ids, starts)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class _Block:
    """One record batch as views of the mapped file: record i is [ends[i], ends[i + 1])."""

    ends: Ids
    ids: Ids
    starts: Flags


class Shards:
    """The records of a shard folder, read from memory-mapped files; opened with `Shards.open`.

    Attributes:
        path: the folder.
        manifest: what it holds.
        lengths: tokens of each record, int32 [N].
    """

    def __init__(self, path: Path, manifest: Manifest, blocks: list[_Block]) -> None:
        self.path, self.manifest, self._blocks = path, manifest, blocks
        self.lengths: Ids = np.concatenate([np.diff(block.ends) for block in blocks])
        self._first = np.cumsum([0] + [len(block.ends) - 1 for block in blocks])

    @classmethod
    def open(cls, path: str | Path) -> Shards:
        """Map the shards of a folder.

        Raises:
            DupmaeError: when the folder or the manifest is missing or damaged, or a shard is missing or has
                another size than the manifest says.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        return cls(path, manifest, [block for shard in manifest.shards for block in _map(path, shard)])

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path alone, so that loader workers map the files themselves."""
        return Shards.open, (self.path,)

    def get(self, indices: NDArray[np.integer[Any]]) -> list[Record]:
        """The records at `indices`, in that order: read-only (input_ids int32 [L], word_starts bool [L])."""
        places = np.searchsorted(self._first, indices, side="right") - 1
        return [
            self._record(self._blocks[place], int(index - self._first[place]))
            for index, place in zip(indices, places, strict=True)
        ]

    @staticmethod
    def _record(block: _Block, row: int) -> Record:
        here = slice(block.ends[row], block.ends[row + 1])
        return block.ids[here], block.starts[here]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the records.

        Raises:
            DupmaeError: when it is missing, damaged, or not the one the manifest names.
        """
        tokenizer = load_tokenizer(self.path / "tokenizer")
        if fingerprint(tokenizer) != self.manifest.tokenizer:
            raise _damaged(self.path / "tokenizer", "not the tokenizer that made these shards")
        return tokenizer

    def verify(self) -> None:
        """Read every byte and compare it with the manifest.

        Raises:
            DupmaeError: when a shard's SHA-256 differs.
        """
        for shard in self.manifest.shards:
            if sha256(self.path / shard.name) != shard.sha256:
                raise _damaged(self.path / shard.name, "its bytes are not those that were written")


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        problem = f"has no {MANIFEST}" if path.is_dir() else "no such folder"
        raise DupmaeError(problem, where=path, fix="name a folder written by dupmae prepare")
    try:
        values = read_json(file)
        manifest = Manifest(**{**values, "shards": [ShardFile(**shard) for shard in values["shards"]]})
    except (TypeError, KeyError):
        raise _damaged(file, "not a manifest of shards") from None
    if manifest.version != VERSION:
        raise _damaged(file, f"format {manifest.version}, this program reads {VERSION}")
    if not manifest.shards:
        raise _damaged(file, "names no shards")
    return manifest


def _map(folder: Path, shard: ShardFile) -> list[_Block]:
    path = folder / shard.name
    if not path.is_file():
        raise _damaged(path, "the shard is missing")
    size = path.stat().st_size
    if size != shard.bytes:
        raise _damaged(path, f"has {size:,} bytes, the manifest says {shard.bytes:,}")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return [_block(reader.get_batch(number)) for number in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, f"not an Arrow file: {error}") from error


def _block(batch: pa.RecordBatch) -> _Block:
    ids, starts = cast(Any, batch.column(0)), cast(Any, batch.column(1))
    return _Block(ids.offsets.to_numpy(), ids.values.to_numpy(), starts.values.to_numpy().view(np.bool_))


def _damaged(path: Path, problem: str) -> DupmaeError:
    return DupmaeError(problem, where=path, fix="run dupmae prepare again")

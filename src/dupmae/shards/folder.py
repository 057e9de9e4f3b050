"""Tokenised records on disk: Arrow IPC files, memory-mapped.

A folder holds `manifest.json`, `shard-00000.arrow` and so on, `by_length.npy` and `tokenizer/`. Each record is one
row: `input_ids` list<int32> and `word_starts` list<uint8>, specials included in both. `Shards`, `Manifest`.
"""

from __future__ import annotations

import hashlib
import mmap
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from dupmae.errors import DupmaeError
from dupmae.files import read_json, read_typed, sha256
from dupmae.shards.lengths import LengthIndex, open_index
from dupmae.shards.tokenizers import fingerprint, load_tokenizer
from dupmae.shards.workers import usable_cores

VERSION = 2
MANIFEST = "manifest.json"
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
    """One file with something for each of its records."""

    name: str
    records: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, records: int) -> ShardFile:
        """Describe a file just written."""
        return cls(path.name, records, path.stat().st_size, sha256(path))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder holds.

    Attributes:
        records: number of records.
        tokens: tokens of all records, specials included.
        texts: texts that were read.
        dropped: texts, or pieces of long texts, left out because they have too few ordinary tokens.
        max_length: most tokens of a record, specials included.
        text: `articles` split into sentences, or `passages` kept whole.
        tokenizer: fingerprint of the tokenizer.
        lengths: (length, number of records of that length), rising.
        shards: the files, in order.
        by_length: the file of record numbers in the order of their lengths.
        version: of this format.
    """

    records: int
    tokens: int
    texts: int
    dropped: int
    max_length: int
    text: str
    tokenizer: str
    lengths: list[tuple[int, int]]
    shards: list[ShardFile]
    by_length: ShardFile
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """Of the records: the same for folders with the same ones in the same files, wherever they lie."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Block:
    """One record batch as views of the mapped file: record i is [ends[i], ends[i + 1])."""

    ends: Ids
    ids: Ids
    starts: Flags


class Shards:
    """The records of a shard folder, read from memory-mapped files; opened with `Shards.open`.

    Attributes:
        path: the folder.
        manifest: what it holds.
        index: the records by length.
    """

    def __init__(self, path: Path, manifest: Manifest, blocks: list[Block], index: LengthIndex) -> None:
        self.path, self.manifest, self.index, self._blocks = path, manifest, index, blocks
        self._first = np.cumsum([0] + [len(block.ends) - 1 for block in blocks])

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Shards:
        """Map the shards of a folder.

        Args:
            verify: read every byte and compare it with the checksums; otherwise only the sizes are compared.

        Raises:
            DupmaeError: when the folder or the manifest is missing, damaged or of another format, or a file is
                missing or not what the manifest says.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        files = [*manifest.shards, manifest.by_length]
        for file in files:
            _check_size(path / file.name, file)
        if verify:
            with ThreadPoolExecutor(usable_cores()) as threads:
                list(threads.map(lambda file: _check_bytes(path / file.name, file), files))
        blocks = [block for shard in manifest.shards for block in map_blocks(path / shard.name)]
        return cls(path, manifest, blocks, open_index(path / manifest.by_length.name, manifest.lengths))

    def __len__(self) -> int:
        return self.manifest.records

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path alone, so that loader workers map the files themselves."""
        return _reopened, (self.path,)

    @cached_property
    def lengths(self) -> Ids:
        """Tokens of each record, int32 [N]; held in memory, unlike all else."""
        return np.concatenate([np.diff(block.ends) for block in self._blocks])

    def get(self, indices: NDArray[np.integer]) -> list[Record]:
        """The records at `indices`, in that order: read-only (input_ids int32 [L], word_starts bool [L])."""
        places = np.searchsorted(self._first, indices, side="right") - 1
        return [
            self._record(self._blocks[place], int(index - self._first[place]))
            for index, place in zip(indices, places, strict=True)
        ]

    @staticmethod
    def _record(block: Block, row: int) -> Record:
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


def _reopened(path: Path) -> Shards:
    return Shards.open(path, verify=False)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        problem = f"has no {MANIFEST}" if path.is_dir() else "no such folder"
        raise DupmaeError(problem, where=path, fix="name a folder written by dupmae prepare")
    values = read_json(file)
    if not isinstance(values, dict) or "version" not in values:
        raise _damaged(file, "not a manifest of shards")
    if values["version"] != VERSION:
        raise _damaged(file, f"format {values['version']}, this program reads {VERSION}")
    manifest = read_typed(file, Manifest, fix="run dupmae prepare again")
    files = [*manifest.shards, manifest.by_length]
    if not manifest.shards:
        raise _damaged(file, "names no shards")
    if any(Path(shard.name).name != shard.name for shard in files):
        raise _damaged(file, "names a file outside its folder")
    counts = {manifest.records, sum(shard.records for shard in manifest.shards), sum(n for _, n in manifest.lengths)}
    longest = max((length for length, _ in manifest.lengths), default=0)
    if len(counts) > 1 or longest > manifest.max_length or min(min(pair) for pair in manifest.lengths) < 1:
        raise _damaged(file, "its numbers contradict each other")
    return manifest


def _check_size(path: Path, file: ShardFile) -> None:
    if not path.is_file():
        raise _damaged(path, "the file is missing")
    size = path.stat().st_size
    if size != file.bytes:
        raise _damaged(path, f"has {size:,} bytes, the manifest says {file.bytes:,}")


def _check_bytes(path: Path, file: ShardFile) -> None:
    if sha256(path) != file.sha256:
        raise _damaged(path, "its bytes are not those that were written")


def map_blocks(path: Path) -> list[Block]:
    """Map a shard file: its record batches, without reading them.

    Raises:
        DupmaeError: when it is not an Arrow file of records.
    """
    with path.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    if sys.platform != "win32":
        # Batches read records from all over: reading ahead would fetch a hundred times what is used.
        mapped.madvise(mmap.MADV_RANDOM)
    try:
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        return [_block(reader.get_batch(number)) for number in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, f"not an Arrow file: {error}") from error


def _block(batch: pa.RecordBatch) -> Block:
    ids, starts = cast(Any, batch.column(0)), cast(Any, batch.column(1))
    return Block(ids.offsets.to_numpy(), ids.values.to_numpy(), starts.values.to_numpy().view(np.bool_))


def arrow_batch(lengths: NDArray[np.integer], ids: Ids, starts: Flags) -> pa.RecordBatch:
    """Records of these lengths [R], one after another in `ids` and `starts` [T], as a record batch."""
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.int32())
    columns = [pa.ListArray.from_arrays(ends, pa.array(values)) for values in (ids, starts.view(np.uint8))]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _damaged(path: Path, problem: str) -> DupmaeError:
    return DupmaeError(problem, where=path, fix="run dupmae prepare again")

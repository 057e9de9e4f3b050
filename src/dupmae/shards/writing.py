"""Texts to a shard folder, streamed: `write_shards`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from dupmae.console import progress
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, write_json
from dupmae.shards.folder import MANIFEST, SCHEMA, Manifest, ShardFile, arrow_batch, map_blocks
from dupmae.shards.lengths import write_index
from dupmae.shards.pieces import Cutter, Pieces
from dupmae.shards.tokenizers import fingerprint
from dupmae.shards.workers import ordered_map

# What a worker gets at once: some twentieths of a second of work. Four times as much is a tenth slower, since the
# tokenizer's output then falls out of the cache.
CHUNK_CHARACTERS, CHUNK_TEXTS = 1 << 17, 1024
# 10^8 records are then 12,000 record batches, which are mapped in a second; each stays below 2^31 tokens.
BLOCK_RECORDS = 8192
INDEX = "by_length.npy"


def write_shards(
    out: Path,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    shard_records: int,
    text: Literal["articles", "passages"] = "articles",
    language: str = "en",
    workers: int = 1,
) -> Manifest:
    """Tokenise texts into a shard folder, whole; its bytes do not depend on the number of workers.

    Text that spells a special token, such as `[MASK]`, is taken as ordinary text. Memory does not grow with the
    number of texts.

    Args:
        max_length: most tokens of a record, specials included.
        text: `articles` are split into sentences, and a record holds as many of them as fit, all of one article;
            `passages` are records as they are. What is too long is cut at word starts into about equal parts.
        language: of the articles, an ISO 639 code.
        workers: processes that tokenise; 1: this one.

    Raises:
        DupmaeError: when no text has enough tokens, or the file system refuses.
    """
    cutter = Cutter(tokenizer, max_length, language if text == "articles" else None)
    counted = _Counted(max_length)
    with new_folder(out, "shards") as folder:
        pieces = counted.all(ordered_map(cutter, _chunks(texts), workers))
        shards = list(_write_files(folder, _Stock(pieces), shard_records))
        if not shards:
            problem = f"no text has {cutter.fewest} tokens or more ({counted.dropped} dropped)"
            raise DupmaeError(problem, where=out, fix="give longer texts")
        blocks = (np.diff(block.ends) for shard in shards for block in map_blocks(folder / shard.name))
        write_index(folder / INDEX, counted.lengths, blocks)
        records = int(counted.lengths.sum())
        manifest = Manifest(
            records=records,
            tokens=int(counted.lengths @ np.arange(max_length + 1)),
            texts=counted.texts,
            dropped=counted.dropped,
            max_length=max_length,
            text=text,
            tokenizer=fingerprint(tokenizer),
            lengths=[(int(length), int(counted.lengths[length])) for length in np.flatnonzero(counted.lengths)],
            shards=shards,
            by_length=ShardFile.of(folder / INDEX, records),
        )
        tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / MANIFEST, asdict(manifest))
    return manifest


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS or len(chunk) >= CHUNK_TEXTS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Counted:
    """Counts what passes: records of each length, texts, pieces dropped."""

    def __init__(self, max_length: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(max_length + 1, dtype=np.int64)
        self.texts, self.dropped = 0, 0

    def all(self, stream: Iterable[Pieces]) -> Iterator[Pieces]:
        with progress("tokenising", None, "texts") as bar:
            for pieces in stream:
                self.lengths += np.bincount(pieces.lengths, minlength=len(self.lengths))
                self.texts += pieces.texts
                self.dropped += pieces.dropped
                bar.advance(pieces.texts)
                yield pieces


class _Stock:
    """Hands a stream of pieces out in portions of a wanted number of records."""

    def __init__(self, stream: Iterator[Pieces]) -> None:
        self._stream, self._waiting = stream, [_joined([])]

    def take(self, records: int) -> Pieces:
        """The next `records` records, or as many as there are."""
        have = sum(map(len, self._waiting))
        while have < records and (pieces := next(self._stream, None)) is not None:
            self._waiting.append(pieces)
            have += len(pieces)
        whole = _joined(self._waiting)
        end = int(whole.lengths[:records].sum())
        self._waiting = [Pieces(whole.lengths[records:], whole.ids[end:], whole.starts[end:])]
        return Pieces(whole.lengths[:records], whole.ids[:end], whole.starts[:end])


def _joined(pieces: list[Pieces]) -> Pieces:
    return Pieces(
        np.concatenate([np.empty(0, dtype=np.int64), *(piece.lengths for piece in pieces)]),
        np.concatenate([np.empty(0, dtype=np.int32), *(piece.ids for piece in pieces)]),
        np.concatenate([np.empty(0, dtype=np.bool_), *(piece.starts for piece in pieces)]),
    )


def _write_files(folder: Path, stock: _Stock, shard_records: int) -> Iterator[ShardFile]:
    number = 0
    while block := stock.take(min(shard_records, BLOCK_RECORDS)):
        path, written = folder / f"shard-{number:05d}.arrow", 0
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            while block:
                writer.write_batch(arrow_batch(block.lengths, block.ids, block.starts))
                written += len(block)
                block = stock.take(min(shard_records - written, BLOCK_RECORDS))
        yield ShardFile.of(path, written)
        number += 1

"""What is written at once: blocks of documents with their vectors, their names, and what can be wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded
from dupmae.search.documents import Document
from dupmae.search.filters import Mask
from dupmae.search.segment import Segment
from dupmae.search.snapshot import live

PATH = "path"
"""Key of the record that holds the retriever's folder, relative to the index; the others are SHA-256s."""
# Passages of a segment: what is encoded, and lost by a kill, at once. 384 dimensions and 140 terms take 90 MB.
SEGMENT = 1 << 16

Block = tuple[list[Document], Callable[[], Encoded]]


class Encoder(Protocol):
    """What an index needs of a `Retriever`."""

    tokenizer: Any
    folder: Path | None

    @property
    def dimensions(self) -> int:
        """Width of the dense part."""
        ...

    @property
    def vocabulary(self) -> int:
        """Width of the sparse part."""
        ...

    def passage_batches(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> Iterator[Encoded]:
        """Vectors in the order of the texts."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Vectors of queries."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """What tells one retriever from another."""
        ...


def encoding(retriever: Encoder, documents: Sequence[Document], batch_tokens: int | None) -> Callable[[], Encoded]:
    """The vectors of a block, made when they are asked for."""
    texts = [document.content for document in documents]
    return lambda: Encoded.concatenate(list(retriever.passage_batches(texts, batch_tokens=batch_tokens)))


def paired(
    documents: Iterator[Document], batches: Iterable[Encoded], segment: int, widths: tuple[int, int]
) -> Iterator[Block]:
    """Blocks of about `segment` documents and the vectors that come in batches.

    Raises:
        ValueError: batches of other widths, or documents and vectors that differ in number.
    """
    held: list[Encoded] = []

    def block() -> Block:
        vectors = Encoded.concatenate(held)
        some = list(islice(documents, len(vectors)))
        if len(some) != len(vectors):
            raise ValueError(f"{len(vectors)} vectors for the last {len(some)} documents")
        return some, lambda: vectors

    for batch in batches:
        if (batch.dense.shape[1], batch.sparse.shape[1]) != widths:
            raise ValueError(f"expected widths {widths}, not {batch.dense.shape[1]} and {batch.sparse.shape[1]}")
        held.append(batch)
        if sum(map(len, held)) >= segment:
            yield block()
            held = []
    if sum(map(len, held)):
        yield block()
    if next(documents, None) is not None:
        raise ValueError("more documents than vectors")


def merged(parts: Sequence[tuple[Segment, Mask | None]]) -> Iterator[Block]:
    """Blocks of `SEGMENT` documents from what is left of some segments."""
    held: list[tuple[Segment, Any]] = []
    pieces = [
        (segment, rows) for segment, gone in parts for rows in np.array_split(live(segment, gone), _pieces(segment))
    ]
    for segment, rows in pieces:
        if held and sum(len(inside) for _, inside in held) + len(rows) > SEGMENT:
            yield _block(held)
            held = []
        held.append((segment, rows))
    if any(len(rows) for _, rows in held):
        yield _block(held)


def _pieces(segment: Segment) -> int:
    return -(-len(segment) // SEGMENT)


def _block(held: Sequence[tuple[Segment, Any]]) -> Block:
    documents = [document for segment, rows in held for document in segment.documents(rows)]
    vectors = Encoded.concatenate([segment.vectors(rows) for segment, rows in held])
    return documents, lambda: vectors


def record_of(retriever: Encoder, folder: Path) -> dict[str, str]:
    """What the index remembers of its retriever."""
    fingerprint = retriever.fingerprint()
    assert retriever.folder is not None, "fingerprint() refuses a retriever without a folder"
    if retriever.folder.resolve().is_relative_to(folder.resolve()):
        raise DupmaeError("the index would replace its own retriever", where=folder, fix="choose another folder")
    # A relative path keeps its meaning when the run's folder is moved or copied as a whole.
    return {PATH: Path(os.path.relpath(retriever.folder.resolve(), folder.resolve())).as_posix(), **fingerprint}


def content_name(documents: Iterable[Document], record: Mapping[str, str], int8: bool) -> str:
    """A segment's name: what is in it, so that what an interrupted build wrote is found again."""
    # Vectors without a retriever to tell them by may be any: such a segment is always made anew.
    salt = "" if record else os.urandom(16).hex()
    digest = hashlib.sha256(json.dumps([salt, int8, dict(record)], sort_keys=True).encode())
    for document in documents:
        fields = [document.id, document.title, document.text, dict(document.metadata)]
        digest.update(json.dumps(fields, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def refuse_duplicates(ids: Iterable[str]) -> None:
    """Refuse an id that comes twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DupmaeError("an id comes twice", where=name, fix="give each document its own id")
        seen.add(name)


def refuse_shared(segments: Sequence[Segment]) -> None:
    """Refuse an id that stands in two segments."""
    if len(segments) < 2:
        return
    hashes = np.sort(np.concatenate([segment.id_hashes for segment in segments]))
    doubtful = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if doubtful:
        rows = [
            segment.ids[int(position)].as_py()
            for segment in segments
            for number, position in zip(segment.id_hashes.tolist(), segment.id_positions.tolist(), strict=True)
            if number in doubtful
        ]
        refuse_duplicates(rows)

"""A corpus of any size, encoded shard by shard and searched shard by shard, in memory that does not grow with it.

`survey` refuses a corpus that is not whole; `encode_corpus` writes a folder of indexes, each whole or not at all, and
goes on where it was stopped. The shards of a folder are those of one retriever and one corpus, by the folder's name.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dupmae.console import logger, progress, track
from dupmae.corpus.beir import Passage
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import Collection, document_name
from dupmae.evaluation.runs import refuse_ids
from dupmae.files import read_json, remove_leftovers, write_json
from dupmae.retriever.vectors import Encoded
from dupmae.search.index import Index
from dupmae.search.snapshot import Snapshot
from dupmae.search.store import Store

FINISHED = "shards.json"


class Encoder(Protocol):
    """What is needed of a retriever to encode a corpus."""

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


@dataclass(frozen=True)
class Shards:
    """An encoded corpus.

    Attributes:
        starts: place of each shard's first passage in the corpus, and the number of all passages.
        documents: as many as passages, unless documents have several.
        missing: judged documents that the corpus lacks.
        encoded: passages that were encoded by this call, in `seconds`; the rest was there.
    """

    folder: Path
    starts: NDArray[np.int64]
    documents: int
    missing: int
    encoded: int = 0
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def passages(self) -> int:
        """Number of passages."""
        return int(self.starts[-1])

    def open(self, number: int) -> Snapshot:
        """One shard, opened for search."""
        return Index.open(_shard(self.folder, number)).snapshot


@dataclass(frozen=True)
class Survey:
    """What a first look at a corpus tells; `own` is what is left out of the rankings."""

    documents: int
    passages: int
    missing: int
    own: OwnDocuments


def survey(collection: Collection, *, official: bool) -> Survey:
    """Go through a corpus once, before hours are spent on it.

    Takes 8 bytes of memory a document, for a hash of its id.

    Raises:
        DupmaeError: for a damaged file, an id that comes twice, no documents, a number of documents that is not the
            official one although `official` asks for it, and relevant documents that are missing from a corpus
            without the official number.
    """
    relevant = {name for grades in collection.qrels.values() for name, grade in grades.items() if grade > 0}
    own = OwnDocuments(collection.queries if collection.drops_own else {}, collection.qrels)
    hashes, passages = array("Q"), 0
    refuse_ids(collection.queries, "query", collection.corpus)
    for parts in track(collection.stream(), "reading", unit=collection.unit):
        name = document_name(collection, parts[0].id)
        hashes.append(_hash(name))
        relevant.discard(name)
        passages += len(parts)
        refuse_ids((name,), "document", collection.corpus)
        own.add(parts)
    count = len(hashes)
    whole = count == collection.documents
    where = collection.corpus
    if not count:
        raise DupmaeError("holds no passages", where=where, fix="fetch the file again")
    if official and collection.documents is not None and not whole:
        problem = f"has {count:,} {collection.unit}, officially {collection.documents:,}"
        fix = "fetch the file again, or give official=false to measure on what there is"
        raise DupmaeError(problem, where=where, fix=fix)
    if not _distinct(np.frombuffer(hashes, dtype=np.uint64)):
        raise DupmaeError("an id comes twice", where=where, fix="give each passage its own id")
    if relevant and not whole:
        problem = f"lacks {len(relevant):,} relevant {collection.unit}, first {min(relevant)}"
        raise DupmaeError(problem, where=where, fix="fetch the whole corpus")
    if relevant:
        logger.warning("%s: lacks %d relevant %s", where, len(relevant), collection.unit)
    return Survey(count, passages, len(relevant), own)


def encode_corpus(
    folder: Path,
    collection: Collection,
    encoder: Encoder,
    *,
    record: Mapping[str, str],
    found: Survey,
    block: int,
    batch_tokens: int | None = None,
) -> Shards:
    """Encode what is not encoded yet; memory holds one shard's texts.

    A shard holds whole documents, `block` passages or a document more. What a killed run left whole is kept, and
    since shards are encoded one by one, the vectors are those of a run that was never stopped.

    Args:
        folder: for the shards of this retriever, corpus and block alone.
        record: what the indexes remember of the retriever.
        found: what `survey` told of this collection; another suite may have encoded the same corpus, which says
            nothing of what these queries ask for.

    Raises:
        DupmaeError: when the file system refuses.
    """
    if (folder / FINISHED).is_file():
        return Shards(folder, np.array(read_json(folder / FINISHED)), found.documents, found.missing)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    starts, encoded, begin = [0], 0, time.perf_counter()
    with progress("encoding", found.passages, "passages") as bar:
        for number, passages in enumerate(blocks(collection, block)):
            shard = _shard(folder, number)
            starts.append(starts[-1] + len(passages))
            if not Store(shard).numbers():
                Index.from_vectors(
                    passages,
                    encoder.passage_batches([passage.content for passage in passages], batch_tokens=batch_tokens),
                    dimensions=encoder.dimensions,
                    vocabulary=encoder.vocabulary,
                    path=shard,
                    record=record,
                )
                encoded += len(passages)
                logger.info(f"shard {number + 1}: {starts[-1]:,} of {found.passages:,} passages")
            bar.advance(len(passages))
    write_json(folder / FINISHED, starts)
    seconds = time.perf_counter() - begin
    return Shards(folder, np.array(starts), found.documents, found.missing, encoded, seconds)


def blocks(collection: Collection, block: int) -> Iterator[list[Passage]]:
    """The corpus in pieces of whole documents."""
    held: list[Passage] = []
    for parts in collection.stream():
        held += parts
        if len(held) >= block:
            yield held
            held = []
    if held:
        yield held


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}"


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _distinct(hashes: NDArray[np.uint64]) -> bool:
    ordered = np.sort(hashes)
    return not bool((ordered[1:] == ordered[:-1]).any())

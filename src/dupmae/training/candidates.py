"""The best passages of a corpus that are no positives, found block by block in memory that does not grow with it.

`best_negatives` goes through the corpus once to know the positives' texts, and once a block at a time; `Ranker` is
what ranks a block: BM25, or a retriever whose block is an index on disk for as long as it is searched.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dupmae.console import track
from dupmae.corpus.beir import Passage, duplicate
from dupmae.corpus.training_data import TrainingData, blank
from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.search.bm25 import BM25
from dupmae.search.index import Index
from dupmae.search.topk import MERGED, NOTHING, merge_topk

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Ranker(Protocol):
    """Ranks passages for a fixed set of queries."""

    def count(self, passages: Sequence[str]) -> None:
        """Look at a block before any is ranked."""
        ...

    def rank(self, passages: Sequence[Passage], k: int) -> Found:
        """Positions in the block [Q, k], -1 where there are too few, and scores [Q, k], best first."""
        ...


class BM25Ranker:
    """Ranks by BM25."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._bm25 = BM25.of_queries(queries)

    def count(self, passages: Sequence[str]) -> None:
        """Add a block to the statistics."""
        self._bm25.count(passages)

    def rank(self, passages: Sequence[Passage], k: int) -> Found:
        """The passages that share a word with a query."""
        return self._bm25.search_block([passage.content for passage in passages], k)


class RetrieverRanker:
    """Ranks by a retriever's score; memory holds the queries' vectors."""

    def __init__(self, retriever: Retriever, queries: Sequence[str], *, batch_tokens: int | None = None) -> None:
        self._retriever, self._batch_tokens = retriever, batch_tokens
        self._queries = retriever.encode_queries(queries, batch_tokens=batch_tokens)

    def count(self, passages: Sequence[str]) -> None:
        """A retriever needs no statistics."""

    def rank(self, passages: Sequence[Passage], k: int) -> Found:
        """The passages with the largest score; from a retriever without a dense part those with any."""
        found = Index.build(self._retriever, passages, batch_tokens=self._batch_tokens).snapshot.nearest(
            self._queries, k
        )
        if self._retriever.dimensions == 0:
            found.positions[found.scores <= 0] = NOTHING
        return found.positions, found.scores


@dataclass(frozen=True)
class Candidates:
    """The best passages of each query that are no positives.

    Attributes:
        positions: [Q, depth], place in the corpus, best first; -1 past the last.
        scores: [Q, depth] float32.
        ids: the ids of the corpus by place.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    ids: pa.ChunkedArray[Any]

    def of(self, query: int) -> tuple[list[str], list[float]]:
        """Passage ids and scores of one query, best first."""
        kept = self.positions[query] != NOTHING
        names = self.ids.take(pa.array(self.positions[query][kept])).to_pylist()
        return [str(name) for name in names], self.scores[query][kept].tolist()


def best_negatives(data: TrainingData, ranker: Ranker, depth: int, *, block: int = 100_000) -> Candidates:
    """The `depth` best passages of every query, less its positives, its own document, their copies, and blanks.

    Of passages with equal texts only the best placed one counts. The result does not depend on `block`.

    Args:
        data: its queries are those of the ranker, in the same order.
        block: passages held at a time.

    Raises:
        DupmaeError: for a positive that is unknown or blank, or an id that comes twice.
    """
    ids, forbidden = _survey(data, ranker, block)
    queries = len(data.queries)
    kept = _Kept.empty(queries, depth)
    blocks = -(-len(ids) // block)
    start = 0
    for passages in track(_blocks(data, block), "mining", blocks, "blocks"):
        hashes = _hashes(passage.content for passage in passages)
        usable = _usable(passages, hashes)
        excluded = _excluded(hashes[usable], forbidden)
        most = max((len(names) for names in excluded.values()), default=0)
        if len(usable):
            found = ranker.rank([passages[place] for place in usable], min(depth + most, len(usable)))
            kept.merge(found, usable + start, hashes[usable], excluded)
        start += len(passages)
    return Candidates(kept.positions, kept.scores, ids)


def _blocks(data: TrainingData, block: int) -> Iterator[list[Passage]]:
    stream = (passage for _, passage in data.passages())
    while passages := list(islice(stream, block)):
        yield passages


def _survey(data: TrainingData, ranker: Ranker, block: int) -> tuple[pa.ChunkedArray[Any], dict[int, list[int]]]:
    """Ids of all passages, and for each text that is no negative of some queries (by hash) those queries."""
    wanted: dict[str, list[int]] = {}
    for row, query in enumerate(data.queries):
        for name in data.positives[query]:
            wanted.setdefault(name, []).append(row)
    own, rows = data.own_documents, {query: row for row, query in enumerate(data.queries)}
    forbidden: dict[int, list[int]] = {}
    chunks, seen = [], set()
    stream = iter(track(data.passages(), "reading", unit="passages"))
    while numbered := list(islice(stream, block)):
        texts = [passage.content for _, passage in numbered]
        ranker.count(texts)
        chunks.append(pa.array([passage.id for _, passage in numbered], pa.string()))
        for (line, passage), text in zip(numbered, texts, strict=True):
            if mine := own.queries(passage):
                forbidden.setdefault(_hash(text), []).extend(rows[query] for query in mine)
            if passage.id in wanted:
                if not text:
                    raise blank(passage.id, data.file, line)
                seen.add(passage.id)
                forbidden.setdefault(_hash(text), []).extend(wanted[passage.id])
    missing = next((name for name in wanted if name not in seen), None)
    if missing is not None:
        raise data.unknown(missing)
    ids = pa.chunked_array(chunks, pa.string())
    if pc.count_distinct(ids).as_py() < len(ids):
        raise _first_duplicate(data)
    return ids, forbidden


def _first_duplicate(data: TrainingData) -> DupmaeError:
    seen: set[str] = set()
    for line, passage in data.passages():
        if passage.id in seen:
            return duplicate(passage.id, data.file, line)
        seen.add(passage.id)
    raise AssertionError("there is none")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    return np.frombuffer(array("Q", map(_hash, texts)), dtype=np.uint64)


def _usable(passages: Sequence[Passage], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of the passages with a text, the first of those with the same."""
    first = np.sort(np.unique(hashes, return_index=True)[1])
    return np.array([place for place in first if passages[place].content], dtype=np.int64)


def _excluded(hashes: NDArray[np.uint64], forbidden: dict[int, list[int]]) -> dict[int, list[int]]:
    """By query the hashes of this block's texts that answer it."""
    found: dict[int, list[int]] = {}
    for text in hashes.tolist():
        for query in forbidden.get(text, ()):
            found.setdefault(query, []).append(text)
    return found


@dataclass(frozen=True)
class _Kept:
    """The best so far of each query: places in the corpus, scores and hashes of the texts, all [Q, depth]."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    hashes: NDArray[np.uint64]

    @staticmethod
    def empty(queries: int, depth: int) -> _Kept:
        shape = (queries, depth)
        return _Kept(np.full(shape, NOTHING), np.full(shape, -np.inf, np.float32), np.zeros(shape, np.uint64))

    def merge(
        self, found: Found, places: NDArray[np.int64], hashes: NDArray[np.uint64], excluded: dict[int, list[int]]
    ) -> None:
        """Take in what a block has; `places` and `hashes` are those of its passages."""
        for start in range(0, len(self.positions), MERGED):
            rows = slice(start, start + MERGED)
            columns, scores = found[0][rows], found[1][rows]
            empty = columns == NOTHING
            texts = hashes[columns]
            for row in range(len(columns)):
                answers: Any = excluded.get(start + row)
                if answers:
                    empty[row] |= np.isin(texts[row], np.array(answers, np.uint64))
            scores = np.where(empty, -np.inf, scores)
            self._sort(rows, np.where(empty, NOTHING, places[columns]), scores, texts)

    def _sort(
        self,
        rows: slice,
        positions: NDArray[np.int64],
        scores: NDArray[np.float32],
        hashes: NDArray[np.uint64],
    ) -> None:
        depth = self.positions.shape[1]
        scores, positions, hashes = merge_topk(
            (self.scores[rows], self.positions[rows], self.hashes[rows]), (scores, positions, hashes), 2 * depth
        )
        for row in range(len(positions)):
            _, first = np.unique(hashes[row][positions[row] != NOTHING], return_index=True)
            chosen = np.sort(first)[:depth]
            start = (rows.start or 0) + row
            self.positions[start], self.scores[start] = NOTHING, -np.inf
            self.positions[start, : len(chosen)] = positions[row, chosen]
            self.scores[start, : len(chosen)] = scores[row, chosen]
            self.hashes[start, : len(chosen)] = hashes[row, chosen]

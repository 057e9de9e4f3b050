"""Searching an encoded corpus shard by shard, and the rankings that come of it.

`search` gives a `Ranking`; `answered` says which of its passages hold an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dupmae.console import track
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.evaluation.benchmarks.answers import holds_answer, joined
from dupmae.evaluation.benchmarks.collections import Collection, document_name
from dupmae.evaluation.benchmarks.sharded import Shards
from dupmae.retriever.vectors import Encoded, Floats
from dupmae.search.snapshot import PARTS, Part, Snapshot
from dupmae.search.topk import NOTHING, TopK

# Passages looked at for each document wanted, to begin with.
PASSAGES_A_DOCUMENT = 4
TEXTS = 10_000

Places = NDArray[np.int64]
"""Places in the corpus, -1 for none."""


class Ranking(Mapping[str, dict[str, float]]):
    """Query id -> {document id -> score}, best first, as arrays: a million results take 20 MB.

    Attributes:
        queries: their ids.
        places: the passage that gave each score, [Q, k].
        scores: [Q, k], falling.
    """

    def __init__(self, queries: Sequence[str], places: Places, scores: Floats, depth: int, own: OwnDocuments) -> None:
        self.queries, self.places, self.scores = list(queries), places, scores
        self._depth, self._own = depth, own
        self._rows = {name: row for row, name in enumerate(self.queries)}
        self._known = np.unique(places[places != NOTHING])
        self._names: pa.Array[Any] = pa.array([], pa.string())

    def name(self, shards: Shards, collection: Collection) -> None:
        """Look up the ids of all that was found."""
        chunks = []
        for number, inside in _by_shard(shards, self._known):
            ids = shards.open(number).ids(self._known[inside] - shards.starts[number])
            chunks.append(pa.array([document_name(collection, name) for name in ids], pa.string()))
        self._names = pa.concat_arrays(chunks) if chunks else self._names

    def names(self, query: str) -> list[str]:
        """Document ids of a query's results, in the order of `places`."""
        places = self.places[self._rows[query]]
        rows = np.searchsorted(self._known, places[places != NOTHING])
        return [str(name) for name in self._names.take(pa.array(rows)).to_pylist()]

    def __getitem__(self, query: str) -> dict[str, float]:
        names = self.names(query)
        scores = self.scores[self._rows[query], : len(names)].tolist()
        return self._own.ranked(query, dict(zip(names, scores, strict=True)), self._depth)

    def __iter__(self) -> Iterator[str]:
        return iter(self.queries)

    def __len__(self) -> int:
        return len(self.queries)


def search(
    shards: Shards,
    collection: Collection,
    queries: Encoded,
    depth: int,
    *,
    own: OwnDocuments | None = None,
    part: Part = "hybrid",
    positive: bool,
) -> Ranking:
    """The `depth` best documents of every query of the collection; earlier ones first where scores are equal.

    The result does not depend on how the corpus is cut into shards.

    Args:
        queries: vectors of the collection's queries, in order.
        own: what is left out of the rankings; None: nothing.
        positive: whether a score must be above 0, since a sparse vector that shares nothing scores 0.
    """
    own = own or OwnDocuments({})
    wanted = depth + own.most
    best = TopK(len(queries), wanted)
    for number in track(range(len(shards)), "searching", len(shards), "shards"):
        index = shards.open(number)
        if collection.grouped:
            found, values = _best_documents(index, collection, queries, wanted, part)
        else:
            nearest = index.nearest(queries, wanted, weights=PARTS[part])
            found, values = nearest.positions, nearest.scores
        if positive:
            found[values <= 0] = NOTHING
        found[found != NOTHING] += shards.starts[number]
        best.add(found, values)
        del index
    ranking = Ranking(list(collection.queries), best.positions, best.scores, depth, own)
    ranking.name(shards, collection)
    return ranking


def answered(shards: Shards, ranking: Ranking, answers: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    """Whether each place of a ranking holds an answer of its query, [Q, k]; texts are read shard by shard."""
    wanted = [[joined(answer) for answer in answers[query]] for query in ranking.queries]
    hits = np.zeros(ranking.places.shape, dtype=np.bool_)
    for number in track(range(len(shards)), "matching answers", len(shards), "shards"):
        start, stop = shards.starts[number : number + 2]
        rows, columns = np.nonzero((ranking.places >= start) & (ranking.places < stop))
        found = ranking.places[rows, columns] - start
        # By place, so that each text is read and cut into words once.
        order = np.argsort(found, kind="stable")
        index = shards.open(number)
        for first in range(0, len(order), TEXTS):
            some = order[first : first + TEXTS]
            texts = dict.fromkeys(found[some].tolist(), "")
            for place in texts:
                texts[place] = joined(index.document(place).text)
            for row, column, place in zip(rows[some], columns[some], found[some].tolist(), strict=True):
                hits[row, column] = holds_answer(texts[place], wanted[row])
        del index
    return hits


def _by_shard(shards: Shards, places: Places) -> Iterator[tuple[int, slice]]:
    """Which of some rising places are in which shard."""
    bounds = np.searchsorted(places, shards.starts)
    for number in range(len(shards)):
        if bounds[number] < bounds[number + 1]:
            yield number, slice(int(bounds[number]), int(bounds[number + 1]))


def _best_documents(
    index: Snapshot, collection: Collection, queries: Encoded, depth: int, part: Part
) -> tuple[Places, Floats]:
    """For each query the best passage of each of the `depth` best documents of a shard.

    A list of the best passages with `depth` documents in it has the best passage of the `depth` best documents, so
    the search is only repeated, twice as deep, for queries whose list has fewer.
    """
    names = [document_name(collection, name) for name in index.ids(np.arange(len(index)))]
    changes = [before != after for before, after in pairwise(names)]
    documents = np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)
    wanted = min(depth, int(documents[-1]) + 1)
    places = np.full((len(queries), wanted), NOTHING, np.int64)
    scores = np.full((len(queries), wanted), -np.inf, np.float32)
    open_rows, deep = np.arange(len(queries)), min(len(index), PASSAGES_A_DOCUMENT * depth)
    while len(open_rows):
        some = Encoded(queries.dense[open_rows], queries.sparse[open_rows])
        nearest = index.nearest(some, deep, weights=PARTS[part])
        short = []
        for row, line, found in zip(open_rows, nearest.scores, nearest.positions, strict=True):
            _, first = np.unique(documents[found], return_index=True)
            if len(first) < wanted and deep < len(index):
                short.append(row)
                continue
            kept = np.sort(first)[:wanted]
            places[row, : len(kept)], scores[row, : len(kept)] = found[kept], line[kept]
        open_rows, deep = np.array(short, dtype=np.int64), min(len(index), 2 * deep)
    return places, scores

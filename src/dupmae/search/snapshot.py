"""One version of an index, which never changes: its segments, what is deleted in them, and exact search over both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded, Floats
from dupmae.search.documents import Document
from dupmae.search.filters import Filter, Mask, check_filter, passing
from dupmae.search.segment import WINDOW, Segment
from dupmae.search.topk import Positions, TopK

# Queries scored together: dense rows and postings are read once a block.
BLOCK = 16
Weights = tuple[float, float]
Part = Literal["hybrid", "dense", "sparse"]
PARTS: dict[Part, Weights] = {"hybrid": (1.0, 1.0), "dense": (1.0, 0.0), "sparse": (0.0, 1.0)}
"""Weights that make the score the sum of both parts, or one of them."""


@dataclass(frozen=True)
class Snapshot:
    """An immutable version of an index; any number of threads may search it.

    A passage's position is its segment's first position plus its place in the segment, deleted ones counted.

    Attributes:
        number: rises with every commit.
        deleted: for each segment which passages are gone, or None.
    """

    number: int
    dimensions: int
    vocabulary: int
    segments: tuple[Segment, ...] = ()
    deleted: tuple[Mask | None, ...] = ()

    def __len__(self) -> int:
        gone = sum(int(mask.sum()) for mask in self.deleted if mask is not None)
        return int(self.starts[-1]) - gone

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First position of each segment, and the number of all."""
        return np.cumsum([0, *map(len, self.segments)])

    @property
    def fields(self) -> set[str]:
        """Names of the fields of metadata that documents have."""
        return set().union(*(segment.fields for segment in self.segments))

    def nearest(self, queries: Encoded, k: int, *, weights: object = None, filter: Filter | None = None) -> TopK:
        """The k passages with the largest score, exactly, for each query, lower positions first among equals.

        score = a x q.dense . p.dense + b x q.sparse . p.sparse (DupMAE, equation 12, for a = b = 1).

        Args:
            queries: [Q, d'] and [Q, |V|].
            weights: (a, b) for all queries, or a pair for each; None: 1 and 1.
            filter: what passages must be (`dupmae.search.filters`).

        Raises:
            DupmaeError: k below 1, a filter that cannot be understood, or queries of another width.
        """
        if k < 1:
            raise DupmaeError(f"{k} passages asked for", where="k", fix="ask for at least 1")
        widths, own = (queries.dense.shape[1], queries.sparse.shape[1]), (self.dimensions, self.vocabulary)
        if widths != own:
            problem = f"queries have widths {widths}, the index has {own}"
            raise DupmaeError(problem, fix="search with the retriever that built the index")
        queries = weighted(queries, weights)
        hidden = self._hidden(filter)
        best = TopK(len(queries), min(k, max(1, len(self))))
        for start in range(0, len(queries), BLOCK):
            rows = slice(start, start + BLOCK)
            block = TopK(min(BLOCK, len(queries) - start), best.scores.shape[1])
            self._search(queries.rows(start, start + BLOCK), block, hidden)
            best.scores[rows], best.positions[rows] = block.scores, block.positions
        return best

    def _search(self, queries: Encoded, best: TopK, hidden: Sequence[Mask | None]) -> None:
        columns = queries.sparse.tocsc()
        terms = np.flatnonzero(np.diff(columns.indptr))
        weights = np.ascontiguousarray(columns[:, terms].toarray().T)
        for segment, first, mask in zip(self.segments, self.starts.tolist(), hidden, strict=False):
            for window in range(segment.windows):
                scores = segment.scores(window, queries, terms, weights)
                start = window * WINDOW
                if mask is not None:
                    scores[:, mask[start : start + scores.shape[1]]] = -np.inf
                best.add_block(first + start, scores)

    def _hidden(self, given: Filter | None) -> list[Mask | None]:
        """For each segment which passages are deleted or do not pass the filter."""
        if given is None:
            return list(self.deleted)
        check_filter(given, self.fields)
        masks: list[Mask | None] = []
        for segment, gone in zip(self.segments, self.deleted, strict=True):
            kept = passing(given, segment.table)
            masks.append(~kept if gone is None else ~kept | gone)
        return masks

    def explain(self, query: Encoded, position: int) -> tuple[float, list[tuple[int, float]]]:
        """The dense share of one query's score for a passage, and its terms with what each adds, largest first."""
        segment, local = self._place(position)
        return segment.explain(query, local)

    def document(self, position: int) -> Document:
        """The document at a position."""
        segment, local = self._place(position)
        return segment.documents([local])[0]

    def documents(self) -> Iterator[Document]:
        """Every document that is not deleted, by position."""
        for segment, gone in zip(self.segments, self.deleted, strict=True):
            yield from segment.documents(live(segment, gone))

    def ids(self, positions: Positions) -> list[str]:
        """The ids of some passages."""
        names = np.empty(len(positions), object)
        numbers = np.searchsorted(self.starts, positions, side="right") - 1
        for number in np.unique(numbers).tolist():
            inside = numbers == number
            local = pa.array(positions[inside] - self.starts[number])
            names[inside] = self.segments[number].ids.take(local).to_pylist()
        return names.tolist()

    def find(self, name: str) -> int | None:
        """The position of the passage with an id; None when there is none."""
        for segment, gone, first in zip(self.segments, self.deleted, self.starts.tolist(), strict=False):
            for local in segment.find(name):
                if gone is None or not gone[local]:
                    return int(first) + local
        return None

    def without(self, positions: Iterable[int]) -> Snapshot:
        """A version that lacks some passages; segments without any passage left are gone from it."""
        masks = [None if mask is None else mask.copy() for mask in self.deleted]
        for position in positions:
            number = int(np.searchsorted(self.starts, position, side="right")) - 1
            mask = masks[number]
            if mask is None:
                masks[number] = mask = np.zeros(len(self.segments[number]), np.bool_)
            mask[position - self.starts[number]] = True
        kept = [(s, mask) for s, mask in zip(self.segments, masks, strict=True) if mask is None or not mask.all()]
        return replace(self, segments=tuple(s for s, _ in kept), deleted=tuple(mask for _, mask in kept))

    def having(self, segments: Sequence[Segment]) -> Snapshot:
        """A version with some segments more."""
        deleted = (*self.deleted, *(None for _ in segments))
        return replace(self, segments=(*self.segments, *segments), deleted=deleted)

    def size_bytes(self, part: Part = "hybrid") -> int:
        """Bytes of the vectors: both parts, or one."""
        return sum(segment.size_bytes(part) for segment in self.segments)

    def _place(self, position: int) -> tuple[Segment, int]:
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.segments[number], int(position - self.starts[number])


def weighted(queries: Encoded, weights: object) -> Encoded:
    """Queries with their parts multiplied by weights.

    Raises:
        DupmaeError: weights that are no finite pair, or not one for each query.
    """
    if weights is None:
        return queries
    pairs: Floats
    try:
        pairs = np.asarray(weights, np.float32)
        pairs = np.broadcast_to(pairs, (len(queries), 2)) if pairs.shape[-1:] == (2,) else pairs * np.nan
    except (TypeError, ValueError):
        pairs = np.full((1, 2), np.nan, np.float32)
    if not np.isfinite(pairs).all():
        raise DupmaeError("need a pair of numbers, or one for each query", where="weights", fix="give (1.0, 0.5)")
    sparse = queries.sparse.multiply(pairs[:, 1:]).tocsr()
    sparse.eliminate_zeros()
    return Encoded(queries.dense * pairs[:, :1], sparse)


def live(segment: Segment, gone: Mask | None) -> NDArray[np.int64]:
    """Positions in a segment of what is not deleted."""
    return np.arange(len(segment)) if gone is None else np.flatnonzero(~gone)

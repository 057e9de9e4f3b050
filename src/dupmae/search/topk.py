"""The k largest scores: of one row, of a block of rows, and of lists found one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupmae.retriever.vectors import Floats

NOTHING = -1
"""Position that fills the places past the last result; its score is -inf."""

# Rows merged at once: the arrays of 4,096 queries and 1,000 candidates take 80 MB.
MERGED = 4096

Positions = NDArray[np.int64]


def topk_row(positions: NDArray[Any], scores: Floats, k: int) -> tuple[NDArray[Any], Floats]:
    """The `k` largest scores [n] with their positions [n], best first; the lower position first among equals."""
    if len(scores) > k:
        # Every entry tied with the last place stays in, so that position alone decides between equals.
        kept = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        positions, scores = positions[kept], scores[kept]
    order = np.lexsort((positions, -scores))[:k]
    return positions[order], scores[order]


def merge_topk(kept: tuple[NDArray[Any], ...], new: tuple[NDArray[Any], ...], k: int) -> tuple[NDArray[Any], ...]:
    """The `k` best columns of two sets of lists, best first; what was kept stays in front among equals.

    Args:
        kept: scores [Q, n], then arrays [Q, n] that go with them.
        new: the same, [Q, m]; the scores may come in any order.
    """
    parts = []
    for start in range(0, max(1, len(kept[0])), MERGED):
        rows = slice(start, start + MERGED)
        joined = [np.concatenate([a[rows], b[rows]], axis=1) for a, b in zip(kept, new, strict=True)]
        order = np.argsort(-joined[0], axis=1, kind="stable")[:, :k]
        parts.append([np.take_along_axis(array, order, axis=1) for array in joined])
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


class TopK:
    """The `k` best passages of every query over all blocks seen; the earlier block first among equals.

    Attributes:
        scores: [Q, k] float32, best first; -inf past the last.
        positions: [Q, k] int64; `NOTHING` past the last.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.scores: Floats = np.full((queries, k), -np.inf, np.float32)
        self.positions: Positions = np.full((queries, k), NOTHING, np.int64)

    def add(self, positions: NDArray[Any], scores: Floats) -> None:
        """Take in lists [Q, m]; a position of `NOTHING` is no result."""
        scores = np.where(positions == NOTHING, np.float32(-np.inf), scores)
        k = self.scores.shape[1]
        self.scores, self.positions = merge_topk((self.scores, self.positions), (scores, positions), k)

    def add_block(self, first: int, scores: Floats) -> None:
        """Take in the scores [Q, n] of the passages from position `first` on; -inf is no result.

        Blocks come in order of position: what only equals the kth score then loses to it.
        """
        k = self.scores.shape[1]
        for row, threshold in enumerate(self.scores[:, -1]):
            better = np.flatnonzero(scores[row] > threshold)
            if len(better):
                found, values = topk_row(better, scores[row][better], k)
                joined = np.concatenate([self.scores[row], values])
                order = np.argsort(-joined, kind="stable")[:k]
                self.positions[row] = np.concatenate([self.positions[row], found + first])[order]
                self.scores[row] = joined[order]

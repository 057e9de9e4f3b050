"""BM25 over a corpus that does not fit into memory: statistics in one pass, scores block by block in a second.

The same formula, words and order as `search.bm25`, whose index holds all postings. Here memory holds the queries'
words and one block of passages, since a word that no query has never adds to a score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from dupmae.corpus.terms import terms
from dupmae.search.bm25 import BLOCK, NO_PASSAGE, best

# Those of bm25s, which `search.bm25` takes over.
K1, B = 1.5, 0.75


class BlockedBM25:
    """BM25 of a fixed set of queries; `count` every block of the corpus first, then `search` any of them."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._vocabulary: dict[str, int] = {}
        for word in (word for query in terms(queries) for word in query):
            self._vocabulary.setdefault(word, len(self._vocabulary))
        self._queries = self._counts(queries)[0]
        self._documents = np.zeros(len(self._vocabulary), dtype=np.int64)
        self._passages = self._length = 0

    def count(self, passages: Sequence[str]) -> None:
        """Add a block to the statistics: in how many passages each word is, and how long passages are."""
        counts, lengths = self._counts(passages)
        self._documents += np.bincount(counts.indices, minlength=len(self._vocabulary))
        self._passages, self._length = self._passages + len(passages), self._length + int(lengths.sum())

    def search(self, passages: Sequence[str], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The `k` best passages of a block for every query, best first; ties go to the earlier passage.

        Returns:
            Positions in the block and scores, both [Q, k]; places left over hold `NO_PASSAGE` and score 0.
        """
        weights = self._weights(passages)
        positions = np.full((self._queries.shape[0], k), NO_PASSAGE, dtype=np.int64)
        scores = np.zeros(positions.shape, dtype=np.float32)
        for start in range(0, len(positions), BLOCK):
            found = self._queries[start : start + BLOCK] @ weights
            for row in range(found.shape[0]):
                span = slice(found.indptr[row], found.indptr[row + 1])
                places, values = best(found.indices[span], found.data[span], k)
                positions[start + row, : len(places)] = places
                scores[start + row, : len(values)] = values
        return positions, scores

    def _weights(self, passages: Sequence[str]) -> csr_array:
        """What each word adds to a passage's score (Lucene's BM25), [vocabulary, n]."""
        counts, lengths = self._counts(passages)
        idf = np.log1p((self._passages - self._documents + 0.5) / (self._documents + 0.5))
        rows = np.repeat(np.arange(len(passages)), np.diff(counts.indptr))
        norms = K1 * (1 - B + B * lengths * self._passages / max(1, self._length))
        values = idf[counts.indices] * counts.data / (counts.data + norms[rows])
        matrix = csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
        return matrix.T.tocsr()

    def _counts(self, texts: Sequence[str]) -> tuple[csr_array, npt.NDArray[np.int64]]:
        """How often each word of the queries is in each text, [n, vocabulary], and the texts' lengths in words."""
        words = terms(texts)
        known = [Counter(self._vocabulary[word] for word in text if word in self._vocabulary) for text in words]
        bounds = np.cumsum([0, *map(len, known)])
        columns = np.fromiter((word for text in known for word in text), dtype=np.int64, count=bounds[-1])
        data = np.fromiter((count for text in known for count in text.values()), dtype=np.float32, count=bounds[-1])
        matrix = csr_array((data, columns, bounds), shape=(len(texts), len(self._vocabulary)))
        return matrix, np.array([len(text) for text in words], dtype=np.int64)

"""BM25: the lexical baseline and the source of hard negatives.

The formula is that of bm25s (Lucene's, k1 1.5, b 0.75). Scoring is one sparse matrix product for a block of
queries, where bm25s loops over the terms of one query.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dupmae.corpus.terms import terms
from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Floats
from dupmae.search.topk import NOTHING, topk_row

# A block of scores is held at once: 256 queries that each match 10,000 passages take 20 MB.
BLOCK = 256
K1, B = 1.5, 0.75


class BM25:
    """BM25 over passages: held in memory, or block by block for a fixed set of queries.

    `BM25(passages)` holds the postings of all passages. A corpus larger than memory is gone through twice: with
    `BM25.of_queries(queries)`, `count` every block, then `search_block` any of them; memory holds the queries'
    words and one block, since a word that no query has never adds to a score.

    Words are those of `dupmae.corpus.terms`.

    Raises:
        DupmaeError: when no passage has a word to index.
    """

    _queries: csr_array
    _index: csr_array

    def __init__(self, passages: Sequence[str]) -> None:
        words = terms(passages)
        self._begin(words)
        if not self._vocabulary:
            raise DupmaeError("no passage has a word to index", fix="give passages with text")
        counted = self._counts(words)
        self._add(*counted)
        self._index = self._weights(*counted)

    @classmethod
    def of_queries(cls, queries: Sequence[str]) -> BM25:
        """BM25 of a fixed set of queries, to be searched block by block."""
        bm25, words = cls.__new__(cls), terms(queries)
        bm25._begin(words)
        bm25._queries = bm25._counts(words)[0]
        return bm25

    def _begin(self, words: Sequence[Sequence[str]]) -> None:
        distinct = dict.fromkeys(chain.from_iterable(words))
        self._vocabulary = {word: number for number, word in enumerate(distinct)}
        self._documents = np.zeros(len(self._vocabulary), dtype=np.int64)
        self._passages = self._length = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the postings (weights, passage numbers, offsets) and of the vocabulary's text."""
        postings = self._index.data.nbytes + self._index.indices.nbytes + self._index.indptr.nbytes
        return int(postings) + sum(len(word.encode()) for word in self._vocabulary)

    def count(self, passages: Sequence[str]) -> None:
        """Add a block to the statistics: in how many passages each word is, and how long passages are."""
        self._add(*self._counts(terms(passages)))

    def _add(self, counts: csr_array, lengths: NDArray[np.int64]) -> None:
        self._documents += np.bincount(counts.indices, minlength=len(self._vocabulary))
        self._passages, self._length = self._passages + len(lengths), self._length + int(lengths.sum())

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.int64], Floats]:
        """The `k` best passages of each query, best first; ties go to the earlier passage.

        Returns:
            Passage numbers and scores, both [Q, k]. Only passages that share a word with the query are
            results; places left over hold -1 and score 0.
        """
        return _best(self._counts(terms(queries))[0], self._index, k)

    def search_block(self, passages: Sequence[str], k: int) -> tuple[NDArray[np.int64], Floats]:
        """As `search`, of the fixed queries, with positions in one block of the corpus."""
        return _best(self._queries, self._weights(*self._counts(terms(passages))), k)

    def _weights(self, counts: csr_array, lengths: NDArray[np.int64]) -> csr_array:
        """What each word adds to a passage's score, [vocabulary, n]."""
        idf = np.log1p((self._passages - self._documents + 0.5) / (self._documents + 0.5))
        rows = np.repeat(np.arange(len(lengths)), np.diff(counts.indptr))
        norms = K1 * (1 - B + B * lengths * self._passages / max(1, self._length))
        values = idf[counts.indices] * counts.data / (counts.data + norms[rows])
        matrix = csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
        return matrix.T.tocsr()

    def _counts(self, words: Sequence[Sequence[str]]) -> tuple[csr_array, NDArray[np.int64]]:
        """How often each known word is in each text, [n, vocabulary], and the texts' lengths in words."""
        lengths = np.array([len(text) for text in words], dtype=np.int64)
        columns = np.fromiter((self._vocabulary.get(word, -1) for text in words for word in text), np.int32)
        known = columns >= 0
        rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[known]
        shape = (len(lengths), len(self._vocabulary))
        matrix = csr_array((np.ones(len(rows), np.float32), (rows, columns[known])), shape=shape)
        matrix.sum_duplicates()
        return matrix, lengths


def _best(queries: csr_array, weights: csr_array, k: int) -> tuple[NDArray[np.int64], Floats]:
    positions = np.full((queries.shape[0], k), NOTHING, dtype=np.int64)
    scores = np.zeros((queries.shape[0], k), dtype=np.float32)
    for start in range(0, queries.shape[0], BLOCK):
        products = queries[start : start + BLOCK] @ weights
        for row in range(products.shape[0]):
            span = slice(products.indptr[row], products.indptr[row + 1])
            found, values = topk_row(products.indices[span], products.data[span], k)
            positions[start + row, : len(found)] = found
            scores[start + row, : len(values)] = values
    return positions, scores

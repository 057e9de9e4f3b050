"""Vectors and an encoder for the tests of search: words are terms, so that a text's vectors are known."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from dupmae.retriever.vectors import Encoded
from dupmae.search.documents import Document
from dupmae.search.index import Index
from tests.reference import scoring

WIDTH, TERMS = 4, 50


def encoded(dense: np.ndarray, sparse: np.ndarray) -> Encoded:
    return Encoded(dense.astype(np.float32), csr_array(sparse.astype(np.float32)))


def random_vectors(rng: np.random.Generator, rows: int, width: int, terms: int, *, grid: bool) -> Encoded:
    """Vectors with empty rows; on a coarse grid sums are exact in any order and ties are common."""
    dense, sparse = rng.normal(size=(rows, width)), rng.exponential(size=(rows, terms))
    if grid:
        dense, sparse = rng.integers(-2, 3, (rows, width)) / 2, rng.integers(0, 3, (rows, terms)) / 2
    sparse = sparse * (rng.random((rows, terms)) < 0.4) * (rng.random((rows, 1)) < 0.8)
    return encoded(dense.astype(np.float16), sparse.astype(np.float16))


def indexed(vectors: Encoded, path: Path | None = None, *, batch: int = 3, **given: Any) -> Index:
    return Index.from_vectors(
        [Document(f"p{n}", f"title {n}", f"text {n} ünïcode", {"n": n}) for n in range(len(vectors))],
        (vectors.rows(start, start + batch) for start in range(0, len(vectors), batch)),
        dimensions=vectors.dense.shape[1],
        vocabulary=vectors.sparse.shape[1],
        path=path,
        **given,
    )


def brute_force(query: Encoded, passages: Encoded, a: float = 1.0, b: float = 1.0) -> list[float]:
    """The score of one query for every passage, from the definition."""
    words, query_dense = query.sparse.toarray()[0].tolist(), query.dense[0].tolist()
    pairs = zip(passages.dense.tolist(), passages.sparse.toarray().tolist(), strict=True)
    return [
        a * scoring.dense_score(query_dense, dense) + b * scoring.sparse_score(words, terms) for dense, terms in pairs
    ]


class _Tokens:
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f"t{term}" for term in ids]


class WordEncoder:
    """Each word is a term by its hash; the dense part is a hash of the text, on a grid so that sums are exact."""

    def __init__(self, folder: Path | None = None, *, dimensions: int = WIDTH) -> None:
        self.tokenizer: Any = _Tokens()
        self.folder = folder
        self.dimensions, self.vocabulary = dimensions, TERMS
        self.encoded = 0

    def fingerprint(self) -> dict[str, str]:
        return {"model": "words"}

    def passage_batches(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> Iterator[Encoded]:
        for start in range(0, len(texts), 7):
            batch = texts[start : start + 7]
            self.encoded += len(batch)
            yield self.encode_queries(batch)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        dense, sparse = np.zeros((len(texts), self.dimensions)), np.zeros((len(texts), TERMS))
        for row, text in enumerate(texts):
            numbers = zlib.crc32(text.encode("utf-8", "surrogatepass"))
            dense[row] = [(numbers >> 3 * place) % 5 / 2 - 1 for place in range(self.dimensions)]
            for word in text.split():
                sparse[row, zlib.crc32(word.encode("utf-8", "surrogatepass")) % TERMS] += 0.5
        return encoded(dense, sparse)

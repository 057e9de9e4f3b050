"""Sentences as vectors for tasks without queries and passages: similarity and classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.retriever.vectors import Floats, Sparse
from dupmae.search.snapshot import Part


class Texts:
    """Sentences encoded once each, as passages, white space between words made one space.

    The weights of the score's parts, which queries carry, go by their roots to both sides here, so that the inner
    product of two sentences is a x dense + b x sparse, the same whichever comes first.

    Raises:
        DupmaeError: when the retriever lacks the part that is asked for.
    """

    def __init__(self, retriever: Retriever, texts: Sequence[str], part: Part, batch_tokens: int | None = None) -> None:
        kept = dict.fromkeys(_plain(text) for text in texts)
        encoded = retriever.encode_passages(list(kept), batch_tokens=batch_tokens)
        a, b = retriever.encoder.log_scales.detach().exp().sqrt().tolist()
        # An aggregated vector is dense as a whole.
        single = retriever.dimensions == 0 or not encoded.sparse.nnz
        if part != "hybrid" and (retriever.dimensions == 0 if part == "dense" else not encoded.sparse.nnz):
            raise DupmaeError(f"the retriever has no {part} part", where="part", fix="part=hybrid is all it has")
        self._rows = {text: row for row, text in enumerate(kept)}
        self._dense: Floats = encoded.dense * np.float32(1.0 if single else a)
        self._sparse: Sparse = encoded.sparse * np.float32(1.0 if single else b)
        self._part = part

    def features(self, texts: Sequence[str]) -> Floats | Sparse:
        """One vector a text, [n, d] or a sparse matrix."""
        rows = [self._rows[_plain(text)] for text in texts]
        dense, sparse = self._dense[rows], self._sparse[rows]
        if self._part == "dense" or not self._sparse.nnz:
            return dense
        if self._part == "sparse" or not dense.shape[1]:
            return sparse
        joined: Sparse = csr_array(hstack([csr_array(dense), sparse], format="csr", dtype=np.float32))
        return joined

    def cosines(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of each pair, [n]; 0 where a vector is 0."""
        ours, theirs = (csr_array(self.features(texts)).astype(np.float64) for texts in (left, right))
        products = ours.multiply(theirs).sum(axis=1)
        norms = np.sqrt(ours.power(2).sum(axis=1) * theirs.power(2).sum(axis=1))
        cosines: NDArray[np.float64] = np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0)
        return cosines


def _plain(text: str) -> str:
    return " ".join(text.split())

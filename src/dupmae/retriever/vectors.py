"""The vectors of a batch of texts: a dense part and a sparse vocabulary part, scored as one inner product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

Floats = NDArray[np.float32]
Sparse = csr_array[np.float32, tuple[int, int]]


@dataclass(frozen=True, repr=False)
class Encoded:
    """n texts as vectors in R^{d' + |V|} (DupMAE, equations 10-12), the parts' weights already folded in.

    Either part may be empty: `dense` of width 0, or `sparse` without a stored value.

    Args:
        dense: [n, d'] float32.
        sparse: [n, |V|] float32.

    Raises:
        ValueError: when the shapes or types do not fit together.
    """

    dense: Floats
    sparse: Sparse

    def __post_init__(self) -> None:
        if self.dense.ndim != 2 or self.sparse.ndim != 2:
            raise ValueError(f"both parts need two axes: dense {self.dense.shape}, sparse {self.sparse.shape}")
        if self.dense.shape[0] != self.sparse.shape[0]:
            raise ValueError(f"dense has {self.dense.shape[0]} rows, sparse has {self.sparse.shape[0]}")
        if self.dense.dtype != np.float32 or self.sparse.dtype != np.float32:
            raise ValueError(f"both parts must be float32: dense {self.dense.dtype}, sparse {self.sparse.dtype}")

    def __len__(self) -> int:
        return int(self.dense.shape[0])

    def __repr__(self) -> str:
        stored = f"{self.sparse.nnz / max(len(self), 1):.0f} of {self.sparse.shape[1]:,} terms each"
        return f"Encoded({len(self)} texts, {self.dense.shape[1]} dimensions, {stored})"

    def rows(self, start: int, stop: int) -> Encoded:
        """The texts from `start` up to `stop`."""
        return Encoded(self.dense[start:stop], self.sparse[start:stop])

    @staticmethod
    def concatenate(batches: Sequence[Encoded]) -> Encoded:
        """All texts of several batches (at least one) in their order."""
        dense = np.concatenate([batch.dense for batch in batches])
        return Encoded(dense, vstack([batch.sparse for batch in batches], format="csr", dtype=np.float32))

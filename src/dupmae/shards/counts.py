"""How often the tokens of texts stand in them: `count_tokens`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TokenCounts(NamedTuple):
    """The distinct ordinary tokens of texts, in rows that are filled up with zeros.

    Attributes:
        terms: int64 [B, C].
        times: float32 [B, C], how often each stands in its text; 0 where the row is filled up.
        lengths: float32 [B], ordinary tokens of each text.
    """

    terms: NDArray[np.int64]
    times: NDArray[np.float32]
    lengths: NDArray[np.float32]

    def rows(self, rows: NDArray[np.integer]) -> TokenCounts:
        """Those of some texts, as wide as the longest row of them."""
        terms, times, lengths = (part[rows] for part in self)
        width = int((times > 0).sum(1).max(initial=0))
        return TokenCounts(terms[:, :width], times[:, :width], lengths)


def count_tokens(ids: NDArray[np.int64], lengths: NDArray[np.int64], special: NDArray[np.int64]) -> TokenCounts:
    """Count the tokens of each text.

    Args:
        ids: [T], the tokens of all texts, one after another.
        lengths: [B], tokens of each text.
        special: [S], ids that do not count.
    """
    rows = np.repeat(np.arange(len(lengths)), lengths)
    ordinary = ~np.isin(ids, special)
    rows, ids = rows[ordinary], ids[ordinary]
    width = int(ids.max(initial=0)) + 1
    pairs, times = np.unique(rows * width + ids, return_counts=True)
    owners, terms = np.divmod(pairs, width)
    distinct = np.bincount(owners, minlength=len(lengths))
    columns = np.arange(len(owners)) - np.repeat(distinct.cumsum() - distinct, distinct)
    shape = (len(lengths), int(distinct.max(initial=0)))
    counted = TokenCounts(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.float32),
        np.bincount(rows, minlength=len(lengths)).astype(np.float32),
    )
    counted.terms[owners, columns] = terms
    counted.times[owners, columns] = times
    return counted

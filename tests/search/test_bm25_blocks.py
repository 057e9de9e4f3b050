"""BM25 block by block ranks as the index that holds everything, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from dupmae.search.bm25 import BM25, NO_PASSAGE
from dupmae.search.bm25_blocks import BlockedBM25
from tests.reference.tiny import sentences

PASSAGES = [*sentences(90), "", "of the", "parser parser parser rows", "something else entirely"]
QUERIES = ["the parser reads rows", "rows rows bytes", "nowhere to be found", "", *sentences(6)]


@pytest.mark.parametrize("block", [7, 40, 1000])
def test_blocks_score_as_the_whole(block: int) -> None:
    blocked = BlockedBM25(QUERIES)
    blocks = [PASSAGES[start : start + block] for start in range(0, len(PASSAGES), block)]
    for part in blocks:
        blocked.count(part)
    expected = np.zeros((len(QUERIES), len(PASSAGES)))
    positions, scores = BM25(PASSAGES).search(QUERIES, len(PASSAGES))
    for row in range(len(QUERIES)):
        kept = positions[row] != NO_PASSAGE
        expected[row, positions[row][kept]] = scores[row][kept]
    found = np.zeros_like(expected)
    for number, part in enumerate(blocks):
        positions, scores = blocked.search(part, len(part))
        for row in range(len(QUERIES)):
            kept = positions[row] != NO_PASSAGE
            found[row, number * block + positions[row][kept]] = scores[row][kept]
            assert (np.diff(scores[row][kept]) <= 0).all()
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_fewer_are_the_best_of_all() -> None:
    blocked = BlockedBM25(QUERIES)
    blocked.count(PASSAGES)
    all_positions, all_scores = blocked.search(PASSAGES, len(PASSAGES))
    positions, scores = blocked.search(PASSAGES, 5)
    np.testing.assert_array_equal(positions, all_positions[:, :5])
    np.testing.assert_array_equal(scores, all_scores[:, :5])

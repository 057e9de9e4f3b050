"""The part weights' ratio goes as far as the better part deserves, and every rank down to the tenth counts."""

from __future__ import annotations

import torch
from torch import Tensor

from dupmae.training.calibration import best_ratio

QUERIES, PASSAGES = 60, 200


def noise(seed: int) -> Tensor:
    return torch.randn(QUERIES, PASSAGES, generator=torch.Generator().manual_seed(seed))


def with_positives_at(ranks: Tensor, seed: int) -> Tensor:
    """Noise [Q, P] in which the positive of each query, in the column of its number, has a rank (counted from 1)."""
    scores = noise(seed)
    rows = torch.arange(QUERIES)
    scores[rows, rows] = float("-inf")
    ordered = scores.sort(1, descending=True).values
    lower = ordered[rows, ranks - 1]
    upper = torch.where(ranks > 1, ordered[rows, (ranks - 2).clamp(min=0)], lower + 1)
    scores[rows, rows] = (lower + upper) / 2
    return scores


def ratio(dense: Tensor, sparse: Tensor) -> float:
    """The ratio that is chosen, in units of the one that gives both parts the same spread."""
    ignored = torch.zeros(QUERIES, PASSAGES, dtype=torch.bool)
    chosen = best_ratio(dense, sparse, torch.arange(QUERIES), ignored)
    return chosen * float(dense.std()) / float(sparse.std())


def test_ranks_down_to_the_tenth_count() -> None:
    """One part has every positive at rank 9, the other a quarter of them at rank 1 and the rest out of sight."""
    steady = with_positives_at(torch.full((QUERIES,), 9), 0)
    seldom = with_positives_at(torch.where(torch.arange(QUERIES) < QUERIES // 8, 1, 150), 1)
    assert ratio(steady, seldom) > 2.5
    assert ratio(seldom, steady) < 0.4
